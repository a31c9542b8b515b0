"""One position of a verification: the distributions and the drafted tokens that compete there."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


def first_true(mask: Tensor) -> Tensor:
    """Index of the first True in the last dimension (0 where there is none)."""
    return mask.to(torch.uint8).argmax(-1)


def compute_dtype(logits: Tensor, *, precise: bool) -> torch.dtype:
    """The dtype to verify in: float64 when asked or given, else float32 at least."""
    return torch.float64 if precise or logits.dtype == torch.float64 else torch.float32


@dataclass(frozen=True)
class Decision:
    """The output tokens of a node ``(r,)`` and the probability of the last accept test ``(r,)``.

    A token that equals one of the active drafts' tokens is accepted, however it came about.
    """

    token: Tensor
    probability: Tensor


class Node:
    """The distributions at one position of ``r`` rows, turned into probabilities when first asked for.

    Args:
        target_logits: Logits of the target distribution ``(r, v)``.
        draft_logits: Logits of the drafts' distributions ``(r, m, v)``, or ``(r, 1, v)`` for one shared by all drafts.
        tokens: Drafted tokens ``(r, m)``.
        active: Drafts that compete here ``(r, m)``, at least one a row.
        precise: Whether to compute in float64 (else in float32 unless the logits are float64).

    Example:
        >>> import torch
        >>> laws = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[[0.9, 0.1]]]).log()
        >>> Node(*laws, torch.tensor([[0, 1]]), torch.tensor([[True, True]])).draft
        tensor([[0.9000, 0.1000]], dtype=torch.float64)
    """

    def __init__(
        self, target_logits: Tensor, draft_logits: Tensor, tokens: Tensor, active: Tensor, *, precise: bool = True
    ):
        self.target_logits, self.draft_logits = target_logits, draft_logits
        self.tokens, self.active = tokens, active
        self.dtype = compute_dtype(target_logits, precise=precise)

    def take(self, rows: Tensor) -> "Node":
        """Return the node of the rows ``(s,)`` alone, in ascending order."""
        if rows.numel() == self.num_rows:
            return self
        parts = (part[rows] for part in (self.target_logits, self.draft_logits, self.tokens, self.active))
        return Node(*parts, precise=self.dtype == torch.float64)

    @property
    def num_rows(self) -> int:
        """Number of rows ``r``."""
        return self.tokens.shape[0]

    @property
    def num_drafts(self) -> int:
        """Number of drafts ``m``, active or not."""
        return self.tokens.shape[1]

    @cached_property
    def num_active(self) -> Tensor:
        """Number of active drafts ``(r,)``."""
        return self.active.sum(-1)

    @cached_property
    def first(self) -> Tensor:
        """Index ``(r,)`` of the first active draft."""
        return first_true(self.active)

    @cached_property
    def target(self) -> Tensor:
        """Target probabilities ``(r, v)``."""
        return self.target_logits.softmax(-1, dtype=self.dtype)

    @cached_property
    def drafts(self) -> Tensor:
        """Probabilities of each draft ``(r, m, v)``; rows of drafts that are not active are zero."""
        probs = self.draft_logits.softmax(-1, dtype=self.dtype).expand(-1, self.num_drafts, -1)
        return probs if self.active.all() else torch.where(self.active[..., None], probs, 0.0)

    def law(self, i: int, rows: Tensor) -> Tensor:
        """Probabilities ``(s, v)`` of draft ``i`` in the rows ``(s,)``."""
        column = min(i, self.draft_logits.shape[1] - 1)
        logits = self.draft_logits[:, column]
        return (logits if rows.numel() == self.num_rows else logits[rows]).softmax(-1, dtype=self.dtype)

    @cached_property
    def draft(self) -> Tensor:
        """Probabilities of the first active draft ``(r, v)``, which stands for all where drafts are identical."""
        if self.draft_logits.shape[1] == 1:
            return self.draft_logits[:, 0].softmax(-1, dtype=self.dtype)
        rows = torch.arange(self.num_rows, device=self.first.device)
        return self.draft_logits[rows, self.first].softmax(-1, dtype=self.dtype)
