"""Quadratic expansions of the log-likelihood along a stream, summed in epochs of doubling length."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..optimizers.linalg import damped_cholesky
from ..optimizers.objective import Evaluation

__all__ = ["Expansions", "Step"]

_BIAS = 0.3  # standard errors by which the expansions of one epoch may be off before it is left out
_TRUST = 4.0  # squared standard errors, per parameter, that the maximum of the expansions may be away


@dataclass(frozen=True)
class _Epoch:
    """Sums over blocks: Hessians H, ``H theta - gradient``, weight, and weight times theta."""

    hessian: Tensor
    pull: Tensor
    weight: float
    center: Tensor

    def plus(self, other: "_Epoch") -> "_Epoch":
        return _Epoch(
            self.hessian + other.hessian,
            self.pull + other.pull,
            self.weight + other.weight,
            self.center + other.center,
        )


class Step(NamedTuple):
    """A way to the maximum of expansions: its end ``(P,)``, squared length in standard errors, weight of the rows."""

    end: Tensor
    distance: float
    weight: float


@dataclass(frozen=True)
class Expansions:
    """Expansions to second order of the log-likelihoods of blocks, each at its own parameters, summed.

    The maximum of the sum differs from that of the log-likelihood by the error of the expansions, which is of second
    order in the distance from where they were made. So epochs in which the stream was still on its way are left out;
    they are the first ones, and hold few of the rows.

    Attributes:
        epochs: sums over 1, 1, 2, 4, 8, ... blocks.
    """

    epochs: tuple[_Epoch, ...] = ()
    count: int = 0

    def plus(self, theta: Tensor, evaluation: Evaluation, weight: float) -> "Expansions":
        """With the expansion of one more block at ``theta (1, 1, P)``."""
        point, hessian = theta[0, 0], evaluation.hessian[0, 0]
        new = _Epoch(hessian, hessian @ point - evaluation.gradient[0, 0], weight, weight * point)
        starts_epoch = self.count & (self.count - 1) == 0  # 0, 1, 2, 4, 8, ...
        epochs = (*self.epochs, new) if starts_epoch else (*self.epochs[:-1], self.epochs[-1].plus(new))
        return replace(self, epochs=epochs, count=self.count + 1)

    def near(self, theta: Tensor) -> _Epoch | None:
        """The sum of the epochs whose expansions hold at ``theta (P,)``; None if there is none."""
        total, weight = sum(epoch.hessian for epoch in self.epochs), sum(epoch.weight for epoch in self.epochs)
        kept: _Epoch | None = None
        for epoch in self.epochs:
            offset = epoch.center / epoch.weight - theta
            distance = -(offset @ total @ offset) / weight
            if float(epoch.weight * distance) <= _BIAS * (weight * len(theta)) ** 0.5:
                kept = epoch if kept is None else kept.plus(epoch)
        return kept

    def hessian(self) -> Tensor:
        """The Hessian of all rows, ``(P, P)``, from that of the last epochs, which hold at least half of the blocks."""
        last = self.epochs[-2:]
        share = sum(epoch.weight for epoch in last) / sum(epoch.weight for epoch in self.epochs)
        return sum((epoch.hessian for epoch in last[1:]), last[0].hessian) / share

    def maximum(self, theta: Tensor) -> "Step | None":
        """To where the sum of the expansions near ``theta (P,)`` has its maximum; None if it has none within reach."""
        kept = self.near(theta)
        if kept is None:
            return None
        factor, damping = damped_cholesky(-kept.hessian)
        if float(damping) > 0.0:
            return None
        best = torch.cholesky_solve(-kept.pull.unsqueeze(-1), factor).squeeze(-1)
        distance = float((factor.mT @ (best - theta)).square().sum())
        return Step(best, distance, kept.weight) if distance <= _TRUST * len(best) else None
