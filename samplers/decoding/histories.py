"""The tokens that condition what comes next."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ..verification.paths import paths


class LinedUp(NamedTuple):
    """Positions whose histories are equally long, at most one of each row of the batch.

    Attributes:
        row: Row ``(e,)`` of each of the positions.
        column: Column ``(e,)`` of each.
        origin: Row of the batch ``(e,)`` that each belongs to.
        slot: For each row of the batch ``(batch,)`` which of the positions stands there; the first where there is none.
        ids: What is shown ``(batch, length)``.
    """

    row: Tensor
    column: Tensor
    origin: Tensor
    slot: Tensor
    ids: Tensor


@dataclass(frozen=True)
class Histories:
    """Rows of token ids, right-padded.

    Attributes:
        ids: Token ids ``(R, L)``; what lies beyond a row's length is padding and never read.
        lengths: Number of tokens in each row ``(R,)``, at least 1.
        padding: How many padding tokens to put before each row ``(R,)`` when it is shown to a processor that reads the
            history, so that rows whose prompts differ in length line up, as Hugging Face's processors expect.
        origin: Row of the batch ``(R,)``, in ``0..batch-1``, that each row belongs to.
        batch: Number of rows of the whole batch.
        pad_token_id: The padding token that processors see.
        eos: Tokens that end a row ``(e,)``, or None for none.
        hidden: The target's hidden states ``(R, L, d)`` of the tokens of each row but its last, for drafters that ask
            for them; None for others.
    """

    ids: Tensor
    lengths: Tensor
    padding: Tensor
    origin: Tensor
    batch: int
    pad_token_id: int = 0
    eos: Tensor | None = None
    hidden: Tensor | None = None

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]]) -> "Histories":
        """Return prompts as the rows of a batch.

        Example:
            >>> Histories.of([[1, 2, 3], [4]]).padding
            tensor([0, 2])
        """
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        width = int(lengths.max())
        ids = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts])
        return cls(ids, lengths, width - lengths, torch.arange(len(prompts)), len(prompts))

    @classmethod
    def plain(cls, ids: Tensor, lengths: Tensor) -> "Histories":
        """Return the rows ``(R, L)`` of a batch without padding before them."""
        return cls(ids, lengths, torch.zeros_like(lengths), torch.arange(len(ids), device=ids.device), len(ids))

    def __len__(self) -> int:
        return self.ids.shape[0]

    def rows(self, index: Tensor) -> "Histories":
        """Return the rows ``index (S,)``, without columns that no row uses."""
        lengths = self.lengths[index]
        width = int(lengths.max()) if len(lengths) else 0
        return replace(
            self,
            ids=self.ids[index, :width],
            lengths=lengths,
            padding=self.padding[index],
            origin=self.origin[index],
            hidden=None if self.hidden is None else self.hidden[index, :width],
        )

    @cached_property
    def width(self) -> int:
        """Number of columns that a row uses."""
        return int(self.lengths.max()) if len(self) else 0

    def trimmed(self) -> Tensor:
        """Return the ids ``(R, width)`` without columns that no row uses."""
        return self.ids if self.ids.shape[1] == self.width else self.ids[:, : self.width]

    def with_room(self, count: int, room: int) -> "Histories":
        """Return every row ``count`` times in a row, in a buffer of its own with columns for ``room`` more tokens."""
        ids = self.ids.new_zeros(len(self), count, self.width + room)
        ids[:, :, : self.width] = self.trimmed()[:, None]
        if count == 1:
            return replace(self, ids=ids[:, 0], hidden=None)
        parts = (part.repeat_interleave(count) for part in (self.lengths, self.padding, self.origin))
        lengths, padding, origin = parts
        return replace(self, ids=ids.flatten(0, 1), lengths=lengths, padding=padding, origin=origin, hidden=None)

    def append(self, tokens: Tensor, counts: Tensor | int) -> "Histories":
        """Write ``tokens (R, n)`` behind each row, of which ``counts (R,)`` count; this buffer must have room."""
        if tokens.shape[1] > 0:
            column = self.lengths[:, None]
            if tokens.shape[1] > 1:
                column = column + torch.arange(tokens.shape[1], device=column.device)
            self.ids.scatter_(1, column, tokens)
        return replace(self, lengths=self.lengths + counts)

    def repeat(self, count: int) -> "Histories":
        """Return every row ``count`` times in a row ``(R * count, L)``."""
        return self.rows(torch.arange(len(self), device=self.ids.device).repeat_interleave(count))

    def extend(self, tokens: Tensor, counts: Tensor) -> "Histories":
        """Append the first ``counts (R,)`` of ``tokens (R, n)`` to each row."""
        size = tokens.shape[-1]
        ids = torch.nn.functional.pad(self.ids, (0, size))
        ids.scatter_(1, self.lengths[:, None] + torch.arange(size, device=ids.device), tokens)
        lengths = self.lengths + counts
        return replace(self, ids=ids[:, : int(lengths.max())], lengths=lengths)

    def is_end(self, tokens: Tensor) -> Tensor:
        """Say which tokens end a row."""
        if self.eos is None or self.eos.numel() == 0:
            return torch.zeros_like(tokens, dtype=torch.bool)
        return torch.isin(tokens, self.eos.to(tokens.device))

    @property
    def has_ends(self) -> bool:
        """Whether any token ends a row."""
        return self.eos is not None and self.eos.numel() > 0

    def along(self, tokens: Tensor, parents: Tensor, sizes: Tensor, count: int) -> "Histories":
        """Return ``count`` rows for each, ``(R * count, L)``, with the paths down to nodes of a tree appended.

        Nothing is appended where a path holds a token that ends a row: what follows is never read.

        Args:
            tokens: Token of each node ``(R, n)``.
            parents: Parent of each node ``(n,)``, -1 for the root.
            sizes: Number of nodes of each row ``(R,)``; to padding beyond them nothing is appended.
            count: How many of the root and the nodes, the last ones.
        """
        path, depth = paths(parents)
        is_real = torch.arange(len(depth), device=depth.device) <= sizes[:, None]
        counts, drafted = torch.where(is_real, depth, 0)[:, -count:], tokens[:, path[-count:]]
        inside = torch.arange(drafted.shape[-1], device=depth.device) < counts[..., None]
        counts = counts.masked_fill((self.is_end(drafted) & inside).any(-1), 0)
        return self.repeat(count).extend(drafted.flatten(0, 1), counts.flatten())

    def shown(self, index: Tensor, length: int) -> Tensor:
        """Return the first ``length`` ids ``(S, length)`` of the rows ``index (S,)``, their padding included."""
        position = torch.arange(length, device=self.ids.device) - self.padding[index, None]
        ids = self.ids[index].gather(1, position.clamp(0, self.ids.shape[1] - 1))
        return ids.masked_fill(position < 0, self.pad_token_id)

    def lined_up(self, prefixes: Tensor) -> Iterator[LinedUp]:
        """Group prefixes of lengths ``(R, c)``, one for each row of the batch, for functions that expect such rows."""
        shown = prefixes + self.padding[:, None]
        for length in shown.unique().tolist():  # positions whose histories are equally long go together
            row, column = (shown == length).nonzero(as_tuple=True)
            for entry in split_by_origin(self.origin[row]):
                origin = self.origin[row[entry]]
                slot = torch.zeros(self.batch, dtype=torch.long, device=row.device)
                slot[origin] = torch.arange(len(entry), device=row.device)
                yield LinedUp(row[entry], column[entry], origin, slot, self.shown(row[entry][slot], length))


def split_by_origin(origin: Tensor) -> list[Tensor]:
    """Split indices of ``origin (n,)`` into groups in which no origin occurs twice.

    Example:
        >>> split_by_origin(torch.tensor([0, 1, 0]))
        [tensor([0, 1]), tensor([2])]
    """
    ordered, order = origin.sort(stable=True)
    begin = torch.searchsorted(ordered, ordered)  # where the run of each origin begins
    occurrence = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device) - begin)
    counts = torch.bincount(occurrence).tolist()
    return list(occurrence.argsort(stable=True).split(counts))
