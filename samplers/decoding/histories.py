"""The tokens that condition what comes next."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Histories:
    """Rows of token ids, right-padded.

    Attributes:
        ids: Token ids ``(R, L)``; what lies beyond a row's length is padding and never read.
        lengths: Number of tokens in each row ``(R,)``, at least 1.
        padding: How many padding tokens to put before each row ``(R,)`` when it is shown to a processor that reads the
            history, so that rows whose prompts differ in length line up, as Hugging Face's processors expect.
        pad_token_id: The padding token.
    """

    ids: Tensor
    lengths: Tensor
    padding: Tensor
    pad_token_id: int = 0

    def __len__(self) -> int:
        return self.ids.shape[0]

    def rows(self, index: Tensor) -> "Histories":
        """Return the rows ``index (S,)``, without columns that no row uses."""
        lengths = self.lengths[index]
        width = int(lengths.max()) if len(lengths) else 0
        return replace(self, ids=self.ids[index, :width], lengths=lengths, padding=self.padding[index])

    def repeat(self, count: int) -> "Histories":
        """Return every row ``count`` times in a row ``(R * count, L)``."""
        return self.rows(torch.arange(len(self), device=self.ids.device).repeat_interleave(count))

    def extend(self, tokens: Tensor, counts: Tensor) -> "Histories":
        """Append the first ``counts (R,)`` of ``tokens (R, n)`` to each row."""
        size = tokens.shape[-1]
        ids = torch.nn.functional.pad(self.ids, (0, size), value=self.pad_token_id)
        ids.scatter_(1, self.lengths[:, None] + torch.arange(size, device=ids.device), tokens)
        lengths = self.lengths + counts
        return replace(self, ids=ids[:, : int(lengths.max())], lengths=lengths)

    def shown(self, index: Tensor, length: int) -> Tensor:
        """Return the first ``length`` ids ``(S, length)`` of the rows ``index (S,)``, their padding included."""
        position = torch.arange(length, device=self.ids.device) - self.padding[index, None]
        ids = self.ids[index].gather(1, position.clamp(0, self.ids.shape[1] - 1))
        return ids.masked_fill(position < 0, self.pad_token_id)
