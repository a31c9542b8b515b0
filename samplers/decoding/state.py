"""The sequences that are being decoded."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .histories import Histories
from .statistics import Statistics

OnTokens = Callable[[int, Tensor], None]
"""Called with a row and its new tokens ``(n,)`` as soon as they are known."""

Stop = Callable[[Tensor], bool]
"""Called with a history ``(1, n)`` after each new token; true ends the row."""


@dataclass(frozen=True)
class Decoding:
    """What a decoder returns.

    Attributes:
        tokens: New tokens ``(B, n)``, each row right-padded with the padding token.
        lengths: Number of new tokens ``(B,)``.
        stopped: Whether a row ended with an end-of-sequence token or a stop condition, and not for its length ``(B,)``.
        sequences: Prompt and new tokens of each row, a list of ``(n_b,)``.
        statistics: Block efficiency, acceptance by position, target calls.
    """

    tokens: Tensor
    lengths: Tensor
    stopped: Tensor
    sequences: list[Tensor]
    statistics: Statistics


class DecodingState:
    """Buffers of the rows, and which of them go on.

    Args:
        prompts: Prompts, each ``(n_b,)``.
        max_new_tokens: Most tokens to add to a row.
        eos: Tokens that end a row.
        pad_token_id: What pads.
        on_tokens: Called with every row's new tokens.
        stop: Ends rows; None for never.
    """

    def __init__(
        self,
        prompts: list[Tensor],
        max_new_tokens: int,
        eos: frozenset[int],
        pad_token_id: int,
        on_tokens: OnTokens | None,
        stop: Stop | None,
    ) -> None:
        self.max_new_tokens, self.pad_token_id = max_new_tokens, pad_token_id
        self.eos = torch.tensor(sorted(eos), dtype=torch.long)
        self.on_tokens, self.stop = on_tokens, stop
        self.prompt_lengths = torch.tensor([len(prompt) for prompt in prompts])
        self.lengths = self.prompt_lengths.clone()
        width = int(self.lengths.max()) + max_new_tokens
        self.ids = torch.zeros(len(prompts), width, dtype=torch.long, device=prompts[0].device)
        for row, prompt in enumerate(prompts):
            self.ids[row, : len(prompt)] = prompt
        self.stopped = torch.zeros(len(prompts), dtype=torch.bool)

    @property
    def remaining(self) -> Tensor:
        """Tokens that each row may still get ``(B,)``; 0 where it has stopped."""
        left = self.max_new_tokens - (self.lengths - self.prompt_lengths)
        return left.masked_fill(self.stopped, 0)

    def active(self) -> Tensor:
        """Indices ``(r,)`` of the rows that go on."""
        return (self.remaining > 0).nonzero()[:, 0]

    def histories(self, rows: Tensor) -> Histories:
        """Return the rows ``rows (r,)`` as they stand."""
        device = self.ids.device
        padding = (self.prompt_lengths.max() - self.prompt_lengths).to(device)
        origin, batch = torch.arange(len(self.ids), device=device), len(self.ids)
        eos = self.eos.to(device)
        everything = Histories(self.ids, self.lengths.to(device), padding, origin, batch, self.pad_token_id, eos)
        return everything.rows(rows.to(device))

    def extend(self, rows: Tensor, tokens: Tensor) -> None:
        """Append the tokens ``(r, n)``, each row up to its first -1, its length limit or its end."""
        tokens, step = tokens.cpu(), torch.arange(tokens.shape[1])
        counts = torch.minimum((tokens >= 0).sum(-1), self.remaining[rows])
        is_end = torch.isin(tokens, self.eos) & (step < counts[:, None])
        counts = torch.where(is_end.any(-1), is_end.to(torch.uint8).argmax(-1) + 1, counts)
        row, column = (step < counts[:, None]).nonzero(as_tuple=True)
        self.ids[rows[row], self.lengths[rows[row]] + column] = tokens[row, column].to(self.ids.device)
        self.stopped[rows] = is_end.any(-1)
        if self.stop is not None:
            counts = self._stop(rows, counts, self.stop)
        if self.on_tokens is not None:
            for index, new, count in zip(rows.tolist(), tokens, counts.tolist(), strict=True):
                self.on_tokens(index, new[:count])
        self.lengths[rows] += counts

    def _stop(self, rows: Tensor, counts: Tensor, stop: Stop) -> Tensor:
        """Ask the stop condition after each of the ``counts (r,)`` new tokens; return how many are left."""
        left = counts.clone()
        for index, (row, start) in enumerate(zip(rows.tolist(), self.lengths[rows].tolist(), strict=True)):
            for count in range(1, int(counts[index]) + 1):
                if stop(self.ids[row : row + 1, : start + count]):
                    left[index], self.stopped[row] = count, True
                    break
        return left

    def result(self, statistics: Statistics) -> Decoding:
        """Return what was decoded."""
        lengths = self.lengths - self.prompt_lengths
        sequences = [ids[:length].clone() for ids, length in zip(self.ids, self.lengths.tolist(), strict=True)]
        tokens = torch.nn.utils.rnn.pad_sequence(
            [row[start:] for row, start in zip(sequences, self.prompt_lengths.tolist(), strict=True)],
            batch_first=True,
            padding_value=self.pad_token_id,
        )
        return Decoding(tokens, lengths, self.stopped, sequences, statistics)
