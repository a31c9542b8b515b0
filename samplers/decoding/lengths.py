"""How many tokens to draft for each row, chosen anew in every round."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from mixkit._validation import check_integer, check_positive

from .statistics import Statistics


class DraftLength(ABC):
    """Chooses the longest draft of each row of a round from what earlier rounds accepted.

    The choice is made before anything of the round is drafted or scored. That keeps the output exact: a length that
    looked at the target's logits of the round, or at the drafted tokens it cuts off, would not.
    """

    @abstractmethod
    def choose(self, statistics: Statistics, rows: Tensor) -> Tensor:
        """Return lengths ``(r,)``, at least 0; those above the drafter's ``draft_length`` are cut to it.

        Args:
            statistics: Counts of all rows over the rounds so far.
            rows: The rows ``(r,)`` of this round.
        """


class ExpectedGain(DraftLength):
    r"""The length of the most expected tokens for the time they take, none where drafting does not pay.

    With acceptance :math:`a` of a drafted token and cost :math:`c`, a round of :math:`t` drafted tokens gives
    :math:`(1 - a^{t+1}) / (1 - a)` tokens in the time of :math:`1 + c t` target calls (Leviathan, Kalman and Matias
    2023, arXiv 2211.17192, theorem 3.8); :math:`t` in ``0..longest`` maximizes their ratio. The acceptance of a row is
    its share of accepted tokens so far, with the weight of ``prior_weight`` tokens at ``prior_acceptance``. A row that
    drafts nothing drafts one token every ``retry`` rounds, so that its acceptance can be seen again.

    Args:
        cost: Time of a drafted token as a share of that of a target call, positive.
        longest: Longest draft.
        prior_acceptance: Acceptance to begin with, in ``(0, 1)``.
        prior_weight: Its weight in tokens, positive.
        retry: Rounds between tries of a row that drafts nothing.

    Example:
        >>> gain = ExpectedGain(cost=0.1, longest=8)
        >>> [int(gain.best(torch.tensor(acceptance))) for acceptance in (0.05, 0.3, 0.8, 0.95)]
        [0, 1, 6, 8]
    """

    def __init__(
        self,
        cost: float,
        longest: int = 8,
        prior_acceptance: float = 0.7,
        prior_weight: float = 4.0,
        retry: int = 16,
    ) -> None:
        self.cost = check_positive("cost", cost)
        self.longest = check_integer("longest", longest, low=0)
        self.prior_acceptance = check_positive("prior_acceptance", prior_acceptance)
        if prior_acceptance >= 1:
            raise ValueError(f"prior_acceptance must be in (0, 1), got {prior_acceptance}")
        self.prior_weight = check_positive("prior_weight", prior_weight)
        self.retry = check_integer("retry", retry, low=1)

    def __repr__(self) -> str:
        return f"ExpectedGain(cost={self.cost}, longest={self.longest})"

    def best(self, acceptance: Tensor) -> Tensor:
        """Return the best length ``(...)`` at the given acceptance ``(...)``, the shortest of equals."""
        steps = torch.arange(self.longest + 1, device=acceptance.device)
        tokens = (acceptance.double()[..., None] ** steps).cumsum(-1)
        return (tokens / (1 + self.cost * steps)).argmax(-1)

    def choose(self, statistics: Statistics, rows: Tensor) -> Tensor:
        """Return the best length of each row at its acceptance so far."""
        accepted = statistics.accepted[rows].sum(-1) + self.prior_weight * self.prior_acceptance
        acceptance = accepted / (statistics.offered[rows].sum(-1) + self.prior_weight)
        is_retry = (statistics.target_calls[rows] + 1) % self.retry == 0
        return torch.maximum(self.best(acceptance), is_retry.long().clamp(max=self.longest))


def check_chosen(lengths: Tensor, rows: Tensor) -> Tensor:
    """Return chosen lengths ``(r,)``, if there is one of at least 0 for each row."""
    if not isinstance(lengths, Tensor) or lengths.is_floating_point():
        raise TypeError(f"draft_lengths must choose an integer tensor, got {type(lengths).__name__}")
    if lengths.shape != rows.shape or bool((lengths < 0).any()):
        raise ValueError(
            f"draft_lengths must choose a length of at least 0 for each of {len(rows)} rows, got {lengths.tolist()}"
        )
    return lengths.long().cpu()
