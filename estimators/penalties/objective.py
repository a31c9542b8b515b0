"""Any objective with a penalty subtracted."""

import copy
from functools import partial
from typing import cast

import torch
from torch import Tensor

from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import records_of

from ..objectives.autograd import AutogradObjective
from ..objectives.softmax_gate.design import Scaling
from ..optimizers.lbfgs import maximize
from ..optimizers.linalg import solve_ascent
from ..optimizers.newton import Ascent
from ..optimizers.objective import Evaluation, Objective
from .base import Penalty, PenaltyView
from .wrapper import Wrapper

__all__ = ["PenalizedObjective"]

_LARGEST_MOVE = 5.0  # in units of standardized covariates, per M-step
_LBFGS_TOLERANCE = 1e-6
_SHRINKING = 60


class PenalizedObjective(Wrapper):
    r"""The total log-likelihood less a penalty; everything else is the wrapped objective's.

    An EM iteration maximizes the penalized expected log-likelihood by one Newton step, with the Hessian of the complete
    data where the objective knows it (Lange 1995, JRSS B 57, 425-437), else of the observed. The certificate of
    convergence and the Hessian behind standard errors are those of the penalized function; ``scores`` are those of the
    log-likelihood alone.

    Args:
        base: the log-likelihood.
        penalty: what to subtract.
        model: the model of ``base``.

    Raises:
        TypeError: if ``penalty`` is none.
    """

    def __init__(self, base: Objective, penalty: Penalty, model: MixtureOfExperts) -> None:
        if not isinstance(penalty, Penalty):
            raise TypeError(f"penalty must be an estimators.penalties.Penalty, got {type(penalty).__name__}")
        super().__init__(base)
        self.penalty = penalty
        self._model = copy.deepcopy(model).to(torch.float64).eval()
        self._records = {record.name: record for record in records_of(self._model)}
        x, y, weight = model.covariates(base.data.x), base.data.y, base.data.weight
        self._scaling = Scaling.of(x, y, weight, scale_response=y.ndim == 2)
        self._y_std = self._scaling.y_std if y.ndim == 2 else y.std(1, correction=0)
        self._quadratic = [self._derivatives(theta, r) for r, theta in self._origins()] if penalty.is_quadratic else []

    def _origins(self) -> list[tuple[int, Tensor]]:
        zero = self.lower.new_zeros(self.num_params)
        return [(r, zero) for r in range(len(self.data.x))]

    largest_hessian: int = 400

    def unfold(self, theta: Tensor) -> Tensor:
        """Each vector halved until its penalty is finite: at zero all experts have equal weights."""
        for _ in range(_SHRINKING):
            bad = ~torch.isfinite(self._prior_value(theta))
            if not bool(bad.any()):
                break
            theta = self.project(torch.where(bad.unsqueeze(-1), 0.5 * theta, theta))
        return theta

    def _log_prior(self, vector: Tensor, index: int) -> Tensor:
        """Minus the penalty at one vector ``(P,)``."""
        data = self.data
        x, weight = self._model.covariates(data.x[index]), data.unit_weight
        x = x if data.unit_rows is None else x[data.unit_rows]
        return -self.penalty.value(
            PenaltyView(
                parameters=self.base.parameters(vector, index),
                model=self._model,
                x=x,
                weight=torch.ones_like(x[:, 0]) if weight is None else weight[index],
                x_std=self._scaling.x_std[index],
                y_std=self._y_std[index],
                known_records=self._records,
            )
        )

    def _derivatives(self, vector: Tensor, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Value, gradient and Hessian of minus the penalty at one vector."""
        with torch.enable_grad():
            leaf = vector.detach().clone().requires_grad_()
            value = self._log_prior(leaf, index)
            if not value.requires_grad:
                zero = torch.zeros_like(vector)
                return value.detach(), zero, torch.diag(zero)
            (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
            if not gradient.requires_grad:
                return value.detach(), gradient.detach(), torch.diag(torch.zeros_like(vector))
            rows = [torch.autograd.grad(entry, leaf, retain_graph=True)[0] for entry in gradient]
        return value.detach(), gradient.detach(), torch.stack(rows)

    def _prior(self, theta: Tensor) -> Evaluation:
        """Minus the penalty at ``theta (r, s, P)``, with derivatives."""
        if self._quadratic:
            value, slope, hessian = (torch.stack(parts) for parts in zip(*self._quadratic, strict=True))
            bent = theta @ hessian
            gradient = slope.unsqueeze(1) + bent
            total = value.unsqueeze(1) + (theta * (slope.unsqueeze(1) + 0.5 * bent)).sum(-1)
            return Evaluation(total, gradient, hessian.unsqueeze(1).expand(*theta.shape, -1))
        cells = [[self._derivatives(vector, r) for vector in row] for r, row in self._by_set(theta)]
        return Evaluation(*(torch.stack([torch.stack([cell[i] for cell in row]) for row in cells]) for i in range(3)))

    def _prior_value(self, theta: Tensor) -> Tensor:
        if self._quadratic:
            return self._prior(theta).value
        with torch.no_grad():
            return torch.stack([torch.stack([self._log_prior(v, r) for v in row]) for r, row in self._by_set(theta)])

    def _by_set(self, theta: Tensor) -> list[tuple[int, Tensor]]:
        """Rows of ``theta (r, s, P)`` with the positions of their data sets; of a single one, which may be any's."""
        return [(r if len(self.data.x) > 1 else 0, row) for r, row in enumerate(theta)]

    def value(self, theta: Tensor) -> Tensor:
        """Penalized log-likelihood ``(r, s)``."""
        return self.base.value(theta) + self._prior_value(theta)

    def evaluate(self, theta: Tensor) -> Evaluation:
        """Penalized log-likelihood with gradient and Hessian."""
        return _sum(self.base.evaluate(theta), self._prior(theta))

    def complete(self, theta: Tensor) -> Evaluation:
        """Value and gradient, with the Hessian of the complete data where the wrapped objective knows it."""
        complete = getattr(self.base, "complete", self.base.evaluate)
        return _sum(complete(theta), self._prior(theta))

    def em_step(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """One E-step and penalized M-step; where there are too many parameters for a Hessian the vectors stay."""
        if self.is_by_autograd and self.num_params > self.largest_hessian:
            return self.value(theta), theta
        at = self.complete(theta)
        step = solve_ascent(at.gradient, at.hessian).nan_to_num(0.0).clamp(-_LARGEST_MOVE, _LARGEST_MOVE)
        return at.value, self.project(theta + step)

    def climb(self, theta: Tensor, max_iter: int) -> Ascent:
        """L-BFGS on the penalized log-likelihood, for models too large for Hessians."""
        if not self.is_by_autograd:
            raise TypeError(f"only objectives by autograd climb by L-BFGS, got {type(self.base).__name__}")
        base, ends = cast(AutogradObjective, self.base), torch.empty_like(theta)

        def total(vector: Tensor, index: int) -> Tensor:
            return base.total(vector, index) + self._log_prior(vector, index)

        gradient = torch.empty_like(theta)
        for r in range(len(theta)):
            for s in range(theta.shape[1]):
                ends[r, s] = maximize(partial(total, index=r), theta[r, s], self.lower, max_iter)
                leaf = ends[r, s].detach().clone().requires_grad_()
                (gradient[r, s],) = torch.autograd.grad(total(leaf, r), leaf)
        value = self.value(ends)
        converged = gradient.abs().amax(-1) < _LBFGS_TOLERANCE * self.total_weight.unsqueeze(-1)
        evaluation = Evaluation(value, gradient, value.new_empty((*value.shape, 0, 0)))
        return Ascent(ends, value, torch.full_like(value, torch.nan), converged, max_iter, evaluation)

    def on_sets(self, sets: Tensor) -> "PenalizedObjective | None":
        """The penalized log-likelihood of some of the data sets, in the same parameters."""
        base = self.base.on_sets(sets)
        if base is None:
            return None
        twin = copy.copy(self)
        twin.base, twin.data, twin.total_weight = base, base.data, base.total_weight
        twin._scaling = Scaling(*(part[sets] for part in self._scaling))
        twin._y_std = self._y_std[sets]
        twin._quadratic = [self._quadratic[r] for r in sets.tolist()] if self._quadratic else []
        return twin


def _sum(first: Evaluation, second: Evaluation) -> Evaluation:
    return Evaluation(*(a + b for a, b in zip(first, second, strict=True)))
