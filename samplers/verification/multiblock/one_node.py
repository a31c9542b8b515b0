"""One node of the two-phase rule: its rows and its plan, without a dimension of nodes."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class NodeRows:
    """The distributions of a node and what is drafted below it.

    Attributes:
        target: Target probabilities ``(v,)``.
        tokens: Tokens of the children.
        draft_of: Maps the place of a child to the probabilities ``(v,)`` that it was drawn from.
        spare: Two rows ``(v,)`` that may be written over.
    """

    target: Tensor
    tokens: list[int]
    draft_of: Callable[[int], Tensor]
    spare: tuple[Tensor, Tensor]

    @cached_property
    def draft(self) -> Tensor:
        """Probabilities ``(v,)`` that the first child was drawn from: all children's, where drafts are identical."""
        return self.draft_of(0)

    @cached_property
    def held(self) -> list[tuple[float, float]]:
        """Target and draft probability of each child's token."""
        at = torch.tensor(self.tokens, device=self.target.device)
        return list(zip(self.target[at].tolist(), self.draft[at].tolist(), strict=True))

    def least(self, of_target: float, of_draft: float, out: Tensor) -> Tensor:
        r"""Masses :math:`\min(c_p \, p(y), c_q \, q(y))`, written to ``out (v,)``."""
        torch.mul(self.target, of_target, out=out)
        other = self.draft if of_draft == 1 else torch.mul(self.draft, of_draft, out=self.spare[1])
        return torch.minimum(out, other, out=out)

    def common(self, of_target: float, of_draft: float) -> float:
        r"""The sum :math:`\sum_y \min(c_p \, p(y), c_q \, q(y))`."""
        return float(self.least(of_target, of_draft, self.spare[0]).sum())


class OnePlan(ABC):
    r"""Plans of one node; see `LevelPlans`, which plans a whole level."""

    @abstractmethod
    def accepted(self, weight: float) -> float:
        """Accepted mass :math:`A(w)`."""

    @abstractmethod
    def budgets(self, weight: float) -> list[float]:
        """Budgets of the children at a weight for which `accepted` was asked: 0 for all but the first of a token."""

    @abstractmethod
    def leftover(self, weight: float) -> Tensor:
        r"""Weights :math:`(w p - a)_+` ``(v,)`` of the token after a stop here."""


class AlonePlan(OnePlan):
    r"""One draft is left: :math:`a = \min(w p, q)`, whatever the rule."""

    def __init__(self, rows: NodeRows):
        self._rows = rows

    def accepted(self, weight: float) -> float:
        """The common mass."""
        return min(self._rows.common(weight, 1.0), weight)

    def budgets(self, weight: float) -> list[float]:
        """The test of one draft."""
        p, q = self._rows.held[0]
        return [min(1.0, weight * p / q) if q > 0 else 0.0]

    def leftover(self, weight: float) -> Tensor:
        """What the draft does not cover."""
        return leftover(self._rows, weight, weight, 1.0)


def leftover(rows: NodeRows, weight: float, of_target: float, of_draft: float) -> Tensor:
    r"""Weights :math:`(w p - \min(c_p p, c_q q))_+` ``(v,)``; the target where nothing is left."""
    taken = rows.least(of_target, of_draft, rows.spare[0])
    left = torch.sub(torch.mul(rows.target, weight, out=rows.spare[1]), taken, out=taken).clamp_min_(0.0)
    return left if float(left.sum()) > 0 else rows.target


def leads(tokens: list[int]) -> list[bool]:
    """Which of the tokens are the first that hold their value.

    Example:
        >>> leads([5, 7, 5])
        [True, True, False]
    """
    return [tokens.index(token) == place for place, token in enumerate(tokens)]
