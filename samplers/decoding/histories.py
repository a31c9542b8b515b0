"""The tokens that condition what comes next."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..verification.paths import paths


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
    """

    ids: Tensor
    lengths: Tensor
    padding: Tensor
    origin: Tensor
    batch: int
    pad_token_id: int = 0
    eos: Tensor | None = None

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
        )

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
        none = torch.zeros_like(tokens, dtype=torch.bool)
        return none if self.eos is None else torch.isin(tokens, self.eos.to(tokens.device))

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
