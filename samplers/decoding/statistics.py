"""What a person wants to know about a decoding."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .outcome import Outcome


@dataclass(frozen=True)
class Statistics:
    """Counts over the verifications of a decoding, one row a sequence.

    Attributes:
        target_calls: Verifications, each one call of the target ``(B,)``; the call that reads the prompt is not
            counted.
        emitted: Tokens that the verifications returned ``(B,)``, before any was cut at an end of sequence.
        offered: Verifications that reached each position of the drafts ``(B, t)``.
        accepted: Verifications that accepted a drafted token at each position ``(B, t)``.

    Example:
        >>> from samplers import SpeculativeDecoder
        >>> law = torch.tensor([0.5, 0.5]).log()
        >>> decoder = SpeculativeDecoder(lambda ids: law.expand(*ids.shape, 2), lambda ids: law.expand(*ids.shape, 2))
        >>> out = decoder.decode([[0]], max_new_tokens=7, generator=0)  # one token from the prompt, then one block
        >>> out.statistics.block_efficiency, out.statistics.acceptance_by_position
        (6.0, tensor([1., 1., 1., 1., 1.]))
    """

    target_calls: Tensor
    emitted: Tensor
    offered: Tensor
    accepted: Tensor

    @classmethod
    def zeros(cls, batch: int, draft_length: int) -> "Statistics":
        """Return the statistics of nothing."""
        rows, positions = torch.zeros(batch, dtype=torch.long), torch.zeros(batch, draft_length, dtype=torch.long)
        return cls(rows, rows.clone(), positions, positions.clone())

    def copy(self) -> "Statistics":
        """Return the counts as they stand."""
        return Statistics(*(part.clone() for part in (self.target_calls, self.emitted, self.offered, self.accepted)))

    def rows(self, index: Tensor) -> "Statistics":
        """Return the counts of the rows ``index (s,)``."""
        return Statistics(*(part[index] for part in (self.target_calls, self.emitted, self.offered, self.accepted)))

    def joined(self, other: "Statistics") -> "Statistics":
        """Return the counts of these rows and of the other's after them."""
        pairs = (
            (self.target_calls, other.target_calls),
            (self.emitted, other.emitted),
            (self.offered, other.offered),
            (self.accepted, other.accepted),
        )
        return Statistics(*(torch.cat(pair) for pair in pairs))

    def record(self, rows: Tensor, outcome: Outcome, lengths: Tensor) -> None:
        """Count one verification of some rows, in place.

        Args:
            rows: Indices ``(r,)``.
            outcome: What it came to.
            lengths: Longest draft of each row ``(r,)``.
        """
        rows, accepted = rows.cpu(), outcome.num_accepted.cpu()[:, None]
        position = torch.arange(self.offered.shape[-1])
        self.target_calls[rows] += 1
        self.emitted[rows] += accepted[:, 0] + 1
        self.offered[rows] += (position <= accepted) & (position < lengths.cpu()[:, None])
        self.accepted[rows] += position < accepted

    @property
    def block_efficiency(self) -> float:
        """Tokens per target call, over all rows; NaN before the first."""
        calls = int(self.target_calls.sum())
        return int(self.emitted.sum()) / calls if calls else float("nan")

    @property
    def acceptance_by_position(self) -> Tensor:
        """Share ``(t,)`` of the verifications that reached a position which accepted there; NaN if none reached it."""
        return self.accepted.sum(0) / self.offered.sum(0)
