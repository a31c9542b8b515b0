"""The log-likelihood along lines: one of users' parameters held, the others free."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..optimizers.function import Evaluation, SmoothFunction
from ..optimizers.newton import newton_ascent

__all__ = ["Restricted", "Restriction", "climb_restricted"]


class Restriction(SmoothFunction):
    """A log-likelihood with m linear restrictions ``a_i' theta = c_i``, one for each of m parameter vectors.

    One entry of theta, the one with the largest coefficient, is eliminated from each; the other P - 1 are free. To an
    ascent the m vectors look like m data sets with one start each, ``(m, 1, P - 1)``.

    Args:
        objective: of one data set.
        rows: coefficients a, ``(m, P)``.
        levels: right-hand sides c, ``(m,)``.
    """

    def __init__(self, objective: SmoothFunction, rows: Tensor, levels: Tensor) -> None:
        self.objective, self.num_params = objective, objective.num_params - 1
        self._rows, self._levels = rows, levels
        m, size = rows.shape
        pivot = rows.abs().argmax(-1)
        is_free = torch.ones((m, size), dtype=torch.bool, device=rows.device)
        is_free[torch.arange(m, device=rows.device), pivot] = False
        self._positions = is_free.nonzero()[:, 1].reshape(m, size - 1)
        divisor = rows.gather(1, pivot.unsqueeze(-1))
        slopes = -rows.gather(1, self._positions) / divisor
        self._basis = rows.new_zeros((m, size, size - 1))
        self._basis.scatter_(1, self._positions.unsqueeze(1), 1.0)
        self._basis[torch.arange(m, device=rows.device), pivot] = slopes
        self._origin = rows.new_zeros((m, size)).scatter_(1, pivot.unsqueeze(-1), levels.unsqueeze(-1) / divisor)
        self.lower = objective.lower.expand(m, size).gather(1, self._positions).unsqueeze(1)

    def reduce(self, theta: Tensor) -> Tensor:
        """The free entries ``(m, 1, P - 1)`` of vectors ``(m, P)``."""
        return theta.gather(1, self._positions).unsqueeze(1)

    def expand(self, free: Tensor) -> Tensor:
        """Full vectors ``(m, P)`` on the restrictions from free entries ``(m, 1, P - 1)``."""
        return self._origin + (self._basis @ free.mT).squeeze(-1)

    def value(self, theta: Tensor) -> Tensor:
        """Log-likelihood ``(m, 1)`` at free entries ``(m, 1, P - 1)``."""
        return self.objective.value(self.expand(theta)[None]).mT

    def evaluate(self, theta: Tensor) -> Evaluation:
        """Log-likelihood, gradient and Hessian in the free entries."""
        at = self.objective.evaluate(self.expand(theta)[None])
        hessian = self._basis.mT @ at.hessian[0] @ self._basis
        return Evaluation(at.value.mT, at.gradient.transpose(0, 1) @ self._basis, hessian.unsqueeze(1))

    def on_sets(self, sets: Tensor) -> "Restriction":
        """Those of the restrictions at positions ``sets (q,)``."""
        return Restriction(self.objective, self._rows[sets], self._levels[sets])


class Restricted(NamedTuple):
    """Restricted maxima: vectors ``theta (m, P)``, log-likelihoods ``value (m,)``, and whether each was reached."""

    theta: Tensor
    value: Tensor
    converged: Tensor


def climb_restricted(restriction: Restriction, start: Tensor, *, max_iter: int, tol: float) -> Restricted:
    """Maximize under m restrictions from ``start (m, P)``; those that are done leave the work."""
    free = restriction.reduce(start)
    if not restriction.num_params:
        value = restriction.value(free)[:, 0]
        return Restricted(restriction.expand(free), value, torch.isfinite(value))
    ascent = newton_ascent(restriction, free, max_iter=max_iter, tol=tol)
    return Restricted(restriction.expand(ascent.theta), ascent.value[:, 0], ascent.converged[:, 0])
