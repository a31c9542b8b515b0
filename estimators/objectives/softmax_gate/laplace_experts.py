r"""Laplace experts: a log-likelihood with kinks, climbed through the corners where its maxima lie.

Given responsibilities r, the best location of an expert minimizes :math:`\sum_i r_i |y_i - \eta(x_i)|`: a linear
program, whose solution passes through as many observations as it has coefficients. There the log-likelihood has a kink
and no Hessian. So

- an EM iteration takes a step of iteratively reweighted least squares for each location, which never raises that sum
  (Hunter and Lange 2000, JCGS 9, 60-77), and the mean absolute residual for its scale;
- the ascent alternates Newton's method on gate and scales, where the log-likelihood is smooth, with the linear
  programs, keeping a step only if it gains, and lengthening it if it then gains more;
- ``converged`` means that one more Newton step and one more linear program together would gain less than the
  tolerance. The linear program certifies that zero is a subgradient in the locations: no direction ascends;
- standard errors take the expected curvature :math:`1 / s^2` of a component in its location in place of the observed
  one, which is zero almost everywhere; it is the Fisher information of the Laplace law. The sandwich and the outer
  product of the scores need no second derivative in the locations, or only this one.

This holds for softmax gates with linear medians. With other gates, or medians computed by a module, fits climb as those
of other families do, and ``converged`` stays False where they end at a kink.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from mixkit.experts import LaplaceExperts, LocationExperts
from mixkit.experts.base import DensityTerms
from mixkit.mixture import MixtureOfExperts

from ...optimizers.newton import Ascent, newton_ascent
from ...optimizers.objective import Evaluation
from ..packed_symmetric import unpack_symmetric
from .design import Chunk
from .layout import Coefficients, Layout
from .likelihood import Posterior, against, posterior, weighted
from .m_step import ExpertStep, expert_columns, least_squares, register_step
from .objective import LinearObjective
from .tied_step import tied_solution

__all__ = ["LaplaceObjective"]

_SMALLEST_RESIDUAL = 1e-10  # in standard deviations of the response; below it least squares weights rise no more
_NEGLIGIBLE_WEIGHT = 1e-8
_ROUNDS = 200
_LENGTHS = (1.5, 2.0, 4.0, 8.0, 16.0)  # of steps between corners, which alone are those of EM and as slow


class _LaplaceStep(ExpertStep):
    """Least squares with weights r / |residual|, and the mean absolute residual of the old location."""

    is_exact = True

    def __init__(self, shared_scale: bool) -> None:
        self.shared_scale = shared_scale

    def sums(self, chunk: Chunk, state: Posterior, layout: Layout) -> tuple[Tensor, ...]:
        """Reweighted moments x x' and x y, absolute residuals and total weight of every expert."""
        r, terms = weighted(state.responsibilities, chunk), state.terms
        distance = terms.first[1] + 1.0  # |residual| / s, for this less one is the derivative in log s
        residual = 0.5 * distance * torch.exp(-terms.log_prob - distance)  # since log f = -log(2 s) - distance
        reweighted = r / residual.clamp(min=_SMALLEST_RESIDUAL)
        cross = against(reweighted * chunk.y, chunk.design.mT)
        return against(reweighted, chunk.outer), cross, (r * residual).sum(-1), r.sum(-1)

    def update(self, old: Coefficients, sums: tuple[Tensor, ...], layout: Layout) -> Coefficients:
        """One step; an expert without weight keeps its coefficients."""
        moment, cross, distance, total = sums
        gram = unpack_symmetric(moment, layout.width)
        if layout.is_plain:
            solution = least_squares(gram, cross, layout)
        else:
            solution = tied_solution(gram, cross, torch.exp(-old.constants[0]).squeeze(-1), total, old, layout)
        kept = (total > _NEGLIGIBLE_WEIGHT) | (not layout.is_plain)
        if self.shared_scale:
            distance, total = (part.sum(-1, keepdim=True).expand_as(part) for part in (distance, total))
        tiny = torch.finfo(total.dtype).tiny
        log_scale = (distance / total.clamp(min=tiny)).clamp(min=tiny).log()
        scale_kept = (total > _NEGLIGIBLE_WEIGHT).unsqueeze(-1)
        return Coefficients(
            old.gate,
            torch.where(kept.unsqueeze(-1), solution, old.expert),
            [torch.where(scale_kept, log_scale.unsqueeze(-1), old.constants[0])],
        )


register_step(LaplaceExperts, lambda experts: _LaplaceStep(experts.shared_scale))


class _ExpectedCurvature(LaplaceExperts):
    """Laplace experts with the expected second derivative in the location in place of the observed one."""

    @classmethod
    def of(cls, experts: LocationExperts) -> "_ExpectedCurvature":
        """The same experts; raises ``TypeError`` for those of another family."""
        if not isinstance(experts, LaplaceExperts):
            raise TypeError(f"model.experts must be mixkit.experts.LaplaceExperts, got {type(experts).__name__}")
        twin = cls(experts.predictor, shared_scale=experts.shared_scale)
        twin.log_scale = experts.log_scale
        return twin

    def density_terms(self, y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
        terms = super().density_terms(y, eta, *constants)
        curvature = -torch.exp(-2.0 * constants[0]).expand_as(terms.log_prob)
        return terms._replace(second=[[curvature], terms.second[1]])


class LaplaceObjective(LinearObjective):
    """The objective of Laplace experts with linear predictors; how it is climbed is said at the head of the module.

    Args:
        *arguments: those of :class:`~estimators.objectives.softmax_gate.objective.LinearObjective`.
        **settings: likewise.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.experts = _ExpectedCurvature.of(self.experts)
        places = self.layout.index[self.layout.expert_positions]
        self._locations = places[places < self.num_params].unique()
        self._has_fixed_locations = False

    def _same_family(self, model: MixtureOfExperts) -> LocationExperts:
        return _ExpectedCurvature.of(model.experts)  # type: ignore[arg-type]

    def evaluate(self, theta: Tensor) -> Evaluation:
        """Log-likelihood with gradient and Hessian, the curvature of components in their locations the expected one."""
        at = super().evaluate(theta)
        if self._has_fixed_locations:
            at.gradient[..., self._locations] = 0.0
            at.hessian[..., self._locations] = 0.0
            at.hessian[..., self._locations, :] = 0.0
            at.hessian[..., self._locations, self._locations] = -1.0
        return at

    def ascend(self, theta: Tensor, max_iter: int, tol: float, callback: Callable[[Tensor], None] | None) -> Ascent:
        """Climb from ``theta (r, s, P)``: Newton steps at fixed locations and linear programs in turn."""
        smooth = copy.copy(self)
        smooth._has_fixed_locations = True
        theta, gap = self.project(theta), torch.full(theta.shape[:2], torch.inf, dtype=theta.dtype, device=theta.device)
        iterations = 0
        for _ in range(_ROUNDS):
            end = newton_ascent(smooth, theta, max_iter=max(1, max_iter - iterations), tol=0.5 * tol)
            iterations += end.num_iterations
            candidate, gap = self._corners(end.theta)
            candidate, value = self._extended(end.theta, candidate)
            better = (value > end.value) & (gap > 0.5 * tol)
            theta = torch.where(better.unsqueeze(-1), candidate, end.theta)
            if callback is not None:
                callback(torch.maximum(value, end.value))
            if iterations >= max_iter or not bool(better.any()):
                break
        return self._settled(smooth, theta, gap, tol, iterations)

    def _extended(self, theta: Tensor, candidate: Tensor) -> tuple[Tensor, Tensor]:
        """The step to ``candidate``, or a longer one in its direction where that gains more; and the value there."""
        best, value = candidate, self.value(candidate)
        for length in _LENGTHS:
            trial = self.project(theta + length * (candidate - theta))
            reached = self.value(trial)
            better = reached > value
            best, value = torch.where(better.unsqueeze(-1), trial, best), torch.where(better, reached, value)
        return best, value

    def _settled(self, smooth: "LaplaceObjective", theta: Tensor, gap: Tensor, tol: float, iterations: int) -> Ascent:
        """The end with its certificate; in locations that are certified the gradient is the subgradient zero."""
        end = newton_ascent(smooth, theta, max_iter=0, tol=tol)
        _, gap = self._corners(theta)
        gain = end.predicted_gain + gap
        at = self.evaluate(theta)
        certified = (gap < tol).unsqueeze(-1)
        at.gradient[..., self._locations] = torch.where(certified, 0.0, at.gradient[..., self._locations])
        converged = end.converged & (gain < tol)
        return Ascent(theta, at.value, gain, converged, iterations, at)

    def _corners(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The locations that are best given the responsibilities, and what they gain in expectation, ``(r, s)``."""
        coefficients = self.layout.unpack(theta)
        if not self.layout.is_plain:
            return self._tied_corners(theta, coefficients)
        expert, gap = coefficients.expert.clone(), theta.new_zeros(theta.shape[:2])
        free = expert_columns(self.layout).nonzero().squeeze(-1).cpu().numpy()
        resp = self._responsibilities(coefficients)
        for r, s in np.ndindex(*theta.shape[:2]):
            design, y = self._data_of(r, free)
            for j in range(self.k):
                old = expert[r, s, j, free].cpu().numpy()
                new, gain = _weighted_median(design, y, resp[r, s, j].cpu().numpy(), old)
                expert[r, s, j, free] = torch.as_tensor(new).to(expert)
                gap[r, s] += gain * float(torch.exp(-coefficients.constants[0][r, s, j, 0]))
        return self.project(self.layout.pack(coefficients._replace(expert=expert))), gap

    def _tied_corners(self, theta: Tensor, coefficients: Coefficients) -> tuple[Tensor, Tensor]:
        """The same where experts share coefficients or some are known: one program for all experts of a model."""
        layout, moved, gap = self.layout, theta.clone(), theta.new_zeros(theta.shape[:2])
        expand = layout.expansion()[:, : layout.width]
        used = (expand.abs().sum((0, 1)) > 0).nonzero().squeeze(-1)
        known = layout.unpack(torch.zeros_like(theta)).expert
        share = self._responsibilities(coefficients) * torch.exp(-coefficients.constants[0])
        every = np.arange(layout.width)
        for r, s in np.ndindex(*theta.shape[:2] if len(used) else (0, 0)):
            x, y = self._data_of(r, every)
            rows = [x @ part.cpu().numpy() for part in expand[..., used]]
            rest = [y - x @ part.cpu().numpy() for part in known[r, s]]
            places = layout.num_gate_params + used
            old = theta[r, s, places].cpu().numpy()
            weight = share[r, s].flatten().cpu().numpy()
            new, gap[r, s] = _weighted_median(np.concatenate(rows), np.concatenate(rest), weight, old)
            moved[r, s, places] = torch.as_tensor(new).to(theta)
        return self.project(moved), gap

    def _responsibilities(self, coefficients: Coefficients) -> Tensor:
        """Weighted responsibilities ``(r, s, k, n)``."""
        parts = [
            weighted(posterior(chunk, coefficients, self.layout, self.experts).responsibilities, chunk)
            for chunk in self.design.chunks()
        ]
        return torch.cat(parts, -1)

    def _data_of(self, index: int, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        chunks = list(self.design.chunks())
        design = torch.cat([chunk.design[index] for chunk in chunks], -1).mT[:, free]
        return design.cpu().numpy(), torch.cat([chunk.y[index, 0, 0] for chunk in chunks]).cpu().numpy()


def _weighted_median(
    design: np.ndarray, y: np.ndarray, weight: np.ndarray, old: np.ndarray
) -> tuple[np.ndarray, float]:
    """Coefficients minimizing the sum of weighted absolute residuals, and how much less than that of ``old`` it is.

    The dual linear program: maximize y'd subject to design'd = 0 and -weight <= d <= weight.
    """
    rows = weight > 1e-12 * max(float(weight.max()), 1e-300)
    before = float(weight @ np.abs(y - design @ old))
    if rows.sum() <= design.shape[1]:
        return old, 0.0
    bound = weight[rows] / weight.max()
    result = scipy.optimize.linprog(
        -y[rows], A_eq=design[rows].T, b_eq=np.zeros(design.shape[1]), bounds=np.column_stack([-bound, bound]),
        method="highs",
    )  # fmt: skip
    if result.status != 0:
        return old, 0.0
    new = -np.asarray(result.eqlin.marginals)
    gain = before - float(weight @ np.abs(y - design @ new))
    return (new, gain) if gain > 0.0 else (old, 0.0)
