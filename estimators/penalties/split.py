"""The objective of the lasso, smooth in positive and negative parts; and that of the selected model."""

import torch
from torch import Tensor

from ..optimizers.linalg import solve_ascent
from ..optimizers.objective import Evaluation, Objective, UserMap
from .wrapper import Wrapper

__all__ = ["SelectedObjective", "SplitObjective"]

_LARGEST_MOVE = 5.0


class SplitObjective(Wrapper):
    r"""A log-likelihood less :math:`\sum_i \lambda_i |\theta_i|`, in :math:`\theta_i = \theta_i^+ - \theta_i^-`.

    The vector holds the wrapped one's entries, penalized ones replaced by their positive parts, then the negative
    parts. Where one part is positive the other is reported as pushed against its bound, so that at most one is free.

    Args:
        base: the objective to penalize, in standardized coefficients.
        strengths: lambda of each entry, ``(P,)``; zero for those not penalized.
    """

    def __init__(self, base: Objective, strengths: Tensor) -> None:
        super().__init__(base)
        self.strengths = strengths
        self.penalized = (strengths > 0).nonzero().squeeze(-1)
        self._lambda = strengths[self.penalized]
        self.num_params = base.num_params + len(self.penalized)
        lower = base.lower.clone()
        lower[self.penalized] = 0.0
        self.lower = torch.cat([lower, lower.new_zeros(len(self.penalized))])

    def fold(self, theta: Tensor) -> Tensor:
        """The difference of positive and negative parts."""
        size = self.base.num_params
        folded = theta[..., :size].clone()
        folded[..., self.penalized] -= theta[..., size:]
        return folded

    def unfold(self, theta: Tensor) -> Tensor:
        """Positive and negative parts, of which one is zero."""
        own = theta[..., self.penalized]
        first = theta.clone()
        first[..., self.penalized] = own.clamp(min=0.0)
        return torch.cat([first, (-own).clamp(min=0.0)], -1)

    def _parts(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        return theta[..., self.penalized], theta[..., self.base.num_params :]

    def _penalty(self, theta: Tensor) -> Tensor:
        positive, negative = self._parts(theta)
        return (self._lambda * (positive + negative)).sum(-1)

    def value(self, theta: Tensor) -> Tensor:
        """Penalized log-likelihood ``(r, s)``."""
        return self.base.value(self.fold(theta)) - self._penalty(theta)

    def evaluate(self, theta: Tensor) -> Evaluation:
        """Penalized log-likelihood with gradient and Hessian."""
        return self._split(theta, self.base.evaluate(self.fold(theta)))

    def _split(self, theta: Tensor, at: Evaluation) -> Evaluation:
        positive, negative = self._parts(theta)
        own = at.gradient[..., self.penalized]
        pushed = -(self._lambda + own.abs())
        up, down = own - self._lambda, -own - self._lambda
        gradient = torch.cat([at.gradient, torch.where(positive > 0, pushed, down)], -1)
        gradient[..., self.penalized] = torch.where(negative > 0, pushed, up)
        rows = torch.cat([at.hessian, -at.hessian[..., self.penalized, :]], -2)
        hessian = torch.cat([rows, -rows[..., self.penalized]], -1)
        return Evaluation(at.value - self._penalty(theta), gradient, hessian)

    def em_step(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """One E-step, and one Newton step of the penalized M-step on the entries that no bound holds."""
        folded = self.fold(theta)
        at = self._split(theta, getattr(self.base, "complete", self.base.evaluate)(folded))
        held = (theta <= self.lower) & (at.gradient < 0)
        cut = held.unsqueeze(-1) | held.unsqueeze(-2)
        matrix = torch.where(cut, -torch.diag_embed(held.to(theta.dtype)), at.hessian)
        step = solve_ascent(torch.where(held, 0.0, at.gradient), matrix).clamp(-_LARGEST_MOVE, _LARGEST_MOVE)
        return at.value, self.project(theta + step)

    def project(self, theta: Tensor) -> Tensor:
        """Bounds kept, and of two positive parts the smaller subtracted from both."""
        bounded = torch.maximum(theta, self.lower)
        both = torch.minimum(*self._parts(bounded))
        size = self.base.num_params
        bounded = bounded.clone()
        bounded[..., self.penalized] -= both
        bounded[..., size:] -= both
        return bounded

    def selected(self, theta: Tensor) -> "SelectedObjective":
        """The objective of the model without the slopes that are zero in all of ``theta (r, 1, P)``."""
        folded = self.fold(theta)
        zero = ((folded == 0) & (self.strengths > 0)).flatten(0, 1).all(0)
        return SelectedObjective(self.base, self.strengths, zero, folded.sign())


class SelectedObjective(Wrapper):
    r"""A log-likelihood less :math:`\sum_i \lambda_i |\theta_i|` where some entries are zero for good.

    Args:
        base: the objective that is penalized.
        strengths: lambda of each entry, ``(P,)``.
        zero: which entries are zero, ``(P,)`` bool.
        sign: the signs of the others, ``(r, 1, P)``.
    """

    def __init__(self, base: Objective, strengths: Tensor, zero: Tensor, sign: Tensor) -> None:
        super().__init__(base)
        self.zero, self._slope = zero, strengths * sign
        self.lower = torch.where(zero, 0.0, base.lower)

    @property
    def is_zeroed(self) -> Tensor:
        """Which slopes are zero, ``(P,)`` bool."""
        return self.zero

    def fold(self, theta: Tensor) -> Tensor:
        """The vectors, with the zeros in their places."""
        return torch.where(self.zero, 0.0, theta)

    def unfold(self, theta: Tensor) -> Tensor:
        """Likewise."""
        return self.fold(theta)

    def value(self, theta: Tensor) -> Tensor:
        """Penalized log-likelihood ``(r, s)``."""
        theta = self.fold(theta)
        return self.base.value(theta) - (self._slope * theta).sum(-1)

    def evaluate(self, theta: Tensor) -> Evaluation:
        """Penalized log-likelihood with gradient and Hessian; zeros are pushed against their bound."""
        theta = self.fold(theta)
        at = self.base.evaluate(theta)
        gradient = torch.where(self.zero, -1.0, at.gradient - self._slope)
        return Evaluation(at.value - (self._slope * theta).sum(-1), gradient, at.hessian)

    def em_step(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Nothing: Newton's method has no need of it here."""
        return self.value(theta), theta

    def project(self, theta: Tensor) -> Tensor:
        """``theta`` with bounds kept and zeros in their places."""
        return self.fold(self.base.project(theta))

    def user_map(self) -> UserMap:
        """That of the wrapped objective, in which other parameters do not depend on the zeros."""
        to_user = self.base.user_map()
        if to_user.matrix is None:
            return to_user
        matrix = torch.where(self.zero, torch.diag(to_user.matrix.diagonal()), to_user.matrix)
        return to_user._replace(matrix=matrix)
