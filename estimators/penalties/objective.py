"""Any objective with a penalty subtracted."""

import copy
from functools import partial

import torch
from torch import Tensor

from mixkit.mixture import MixtureOfExperts

from ..autograd import AutogradObjective, maximise
from ..linalg import solve_ascent
from ..linear.design import Scaling
from ..linear.laplace import LaplaceObjective
from ..newton import Ascent
from ..objective import Evaluation, Objective, UserMap
from .base import Penalty, PenaltyView

__all__ = ["PenalizedObjective"]

_LARGEST_MOVE = 5.0  # in units of standardised covariates, per M-step
_LBFGS_TOLERANCE = 1e-6
_SHRINKING = 60


class PenalizedObjective(Objective):
    r"""The total log-likelihood less a penalty; everything else is the wrapped objective's.

    An EM iteration maximises the penalised expected log-likelihood by one Newton step, with the Hessian of the complete
    data where the objective knows it (Lange 1995, JRSS B 57, 425-437), else of the observed. The certificate of
    convergence and the Hessian behind standard errors are those of the penalised function; ``scores`` are those of the
    log-likelihood alone.

    Args:
        base: the log-likelihood.
        penalty: what to subtract.
        model: the model of ``base``.

    Raises:
        TypeError: if ``penalty`` is none.
        ValueError: for Laplace experts with linear medians, whose log-likelihood has kinks.
    """

    def __init__(self, base: Objective, penalty: Penalty, model: MixtureOfExperts) -> None:
        if not isinstance(penalty, Penalty):
            raise TypeError(f"penalty must be an estimators.penalties.Penalty, got {type(penalty).__name__}")
        if isinstance(base, LaplaceObjective):
            raise ValueError("penalty needs experts whose log-density has two derivatives, got LaplaceExperts")
        self.base, self.penalty = base, penalty
        self._model = copy.deepcopy(model).to(torch.float64).eval()
        self.data, self.n, self.num_features = base.data, base.n, base.num_features
        self.num_params, self.lower, self.total_weight = base.num_params, base.lower, base.total_weight
        x, y, weight = base.data
        x = model.covariates(x)
        self._scaling = Scaling.of(x, y, weight, scale_response=y.ndim == 2)
        self._quadratic = [self._derivatives(theta, r) for r, theta in self._origins()] if penalty.is_quadratic else []

    def _origins(self) -> list[tuple[int, Tensor]]:
        zero = self.lower.new_zeros(self.num_params)
        return [(r, zero) for r in range(len(self.data.x))]

    @property
    def is_by_autograd(self) -> bool:
        """Whether the wrapped objective climbs by L-BFGS when it has too many parameters for a Hessian."""
        return isinstance(self.base, AutogradObjective)

    def log_likelihood(self, theta: Tensor) -> Tensor:
        """The log-likelihood without the penalty, ``(r, s)``."""
        return self.base.value(theta)

    def _log_prior(self, vector: Tensor, index: int) -> Tensor:
        """Minus the penalty at one vector ``(P,)``."""
        x, _, weight = self.data
        x = self._model.covariates(x)
        return -self.penalty.value(
            PenaltyView(
                parameters=self.base.parameters(vector, index),
                model=self._model,
                x=x[index],
                weight=torch.ones_like(x[index, :, 0]) if weight is None else weight[index],
                x_std=self._scaling.x_std[index],
                y_std=self._scaling.y_std[index],
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
        cells = [[self._derivatives(vector, r) for vector in row] for r, row in enumerate(theta)]
        return Evaluation(*(torch.stack([torch.stack([cell[i] for cell in row]) for row in cells]) for i in range(3)))

    def _prior_value(self, theta: Tensor) -> Tensor:
        if self._quadratic:
            return self._prior(theta).value
        with torch.no_grad():
            return torch.stack([torch.stack([self._log_prior(v, r) for v in row]) for r, row in enumerate(theta)])

    def value(self, theta: Tensor) -> Tensor:
        """Penalised log-likelihood ``(r, s)``."""
        return self.base.value(theta) + self._prior_value(theta)

    def evaluate(self, theta: Tensor) -> Evaluation:
        """Penalised log-likelihood with gradient and Hessian."""
        return _sum(self.base.evaluate(theta), self._prior(theta))

    def scores(self, theta: Tensor) -> Tensor:
        """Gradient of each observation's log-likelihood, ``(n, P)``, without the penalty."""
        return self.base.scores(theta)

    def shares(self, theta: Tensor) -> Tensor:
        """Total responsibility of each expert, ``(r, s, k)``."""
        return self.base.shares(theta)

    def em_step(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """One E-step and penalised M-step; where there are too many parameters for a Hessian the vectors stay."""
        complete = getattr(self.base, "complete", None)
        if complete is None and self.num_params > self.largest_hessian:
            return self.value(theta), theta
        at = _sum((complete or self.base.evaluate)(theta), self._prior(theta))
        step = solve_ascent(at.gradient, at.hessian).nan_to_num(0.0).clamp(-_LARGEST_MOVE, _LARGEST_MOVE)
        return at.value, self.project(theta + step)

    largest_hessian: int = 400

    def blend(self, theta: Tensor, candidate: Tensor, fraction: float) -> Tensor:
        """Shorten the whole step."""
        return theta + fraction * (candidate - theta)

    def from_responsibilities(self, responsibilities: Tensor) -> Tensor:
        """The wrapped objective's start, drawn to where the penalty is finite."""
        return self._allowed(self.base.from_responsibilities(responsibilities))

    def _allowed(self, theta: Tensor) -> Tensor:
        """Each vector halved until its penalty is finite: at zero all experts have equal weights."""
        for _ in range(_SHRINKING):
            bad = ~torch.isfinite(self._prior_value(theta))
            if not bool(bad.any()):
                break
            theta = self.project(torch.where(bad.unsqueeze(-1), 0.5 * theta, theta))
        return theta

    def climb(self, theta: Tensor, max_iter: int) -> Ascent:
        """L-BFGS on the penalised log-likelihood, for models too large for Hessians."""
        if not isinstance(self.base, AutogradObjective):
            raise TypeError(f"only objectives by autograd climb by L-BFGS, got {type(self.base).__name__}")
        base, ends = self.base, torch.empty_like(theta)

        def total(vector: Tensor, index: int) -> Tensor:
            return base._total(vector, index) + self._log_prior(vector, index)

        gradient = torch.empty_like(theta)
        for r in range(len(theta)):
            for s in range(theta.shape[1]):
                ends[r, s] = maximise(partial(total, index=r), theta[r, s], self.lower, max_iter)
                leaf = ends[r, s].detach().clone().requires_grad_()
                (gradient[r, s],) = torch.autograd.grad(total(leaf, r), leaf)
        value = self.value(ends)
        converged = gradient.abs().amax(-1) < _LBFGS_TOLERANCE * self.n
        evaluation = Evaluation(value, gradient, value.new_empty((*value.shape, 0, 0)))
        return Ascent(ends, value, torch.full_like(value, torch.nan), converged, max_iter, evaluation)

    def read(self, model: MixtureOfExperts) -> Tensor:
        """The parameter vectors ``(r, 1, P)`` of a model, drawn to where the penalty is finite."""
        theta = self.base.read(model)
        return self._allowed(theta.expand(len(self.data.x), -1, -1).clone())

    def parameters(self, theta: Tensor, index: int = 0) -> dict[str, Tensor]:
        """The model's parameters by name."""
        return self.base.parameters(theta, index)

    def carry(self, theta: Tensor, source: Objective) -> Tensor:
        """The parameters here that mean what ``theta`` means to ``source``."""
        inner = source.base if isinstance(source, PenalizedObjective) else source
        return self._allowed(self.base.carry(theta, inner))

    def user_map(self) -> UserMap:
        """That of the wrapped objective."""
        return self.base.user_map()

    def compact(self) -> "PenalizedObjective":
        """A copy that wraps a compact objective."""
        twin = copy.copy(self)
        twin.base = self.base.compact()
        return twin

    def project(self, theta: Tensor) -> Tensor:
        """``theta`` with every parameter raised to its lower bound."""
        return self.base.project(theta)


def _sum(first: Evaluation, second: Evaluation) -> Evaluation:
    return Evaluation(*(a + b for a, b in zip(first, second, strict=True)))
