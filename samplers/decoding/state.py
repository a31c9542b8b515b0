"""The sequences that are being decoded."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .histories import Histories
from .outcome import Outcome
from .statistics import Statistics
from .stopping import StopCondition

OnTokens = Callable[[int, Tensor], None]
"""Called with a row and its new tokens ``(n,)`` as soon as they are known."""


@dataclass(frozen=True)
class Decoding:
    """What a decoder returns.

    Attributes:
        tokens: New tokens ``(B, n)``, each row right-padded with the padding token.
        lengths: Number of new tokens ``(B,)``.
        stopped: Whether a row ended with an end-of-sequence token or a stop condition, and not for its length ``(B,)``.
        sequences: Prompt and new tokens of each row, a list of ``(n_b,)``.
        statistics: Block efficiency, acceptance by position, target calls.
        log_probs: Log-probability of each new token under the target distribution ``(B, n)``, 0 in the padding; None
            unless asked for. Of a greedy target that is the distribution before the largest is taken.
        logits: The logits of those distributions, a list of ``(n_b, v)``; None unless asked for.
    """

    tokens: Tensor
    lengths: Tensor
    stopped: Tensor
    sequences: list[Tensor]
    statistics: Statistics
    log_probs: Tensor | None = None
    logits: list[Tensor] | None = None


class Trace:
    """The target's logits, or the log-probabilities alone, of every token that came out.

    Args:
        batch: Number of rows.
        keeps_logits: Whether whole rows of logits are kept.
    """

    def __init__(self, batch: int, keeps_logits: bool) -> None:
        self.keeps_logits = keeps_logits
        self._log_probs: list[list[Tensor]] = [[] for _ in range(batch)]
        self._logits: list[list[Tensor]] = [[] for _ in range(batch)]

    def record(self, rows: Tensor, outcome: Outcome, counts: Tensor) -> None:
        """Record the first ``counts (r,)`` tokens of an outcome of the rows ``(r,)``."""
        if outcome.logits is None:
            raise ValueError("outcome must hold logits to be recorded, got none")
        for index, (row, count) in enumerate(zip(rows.tolist(), counts.tolist(), strict=True)):
            logits, tokens = outcome.logits[index, :count], outcome.tokens[index, :count]
            held = logits.gather(-1, tokens[:, None].to(logits.device))[:, 0]
            self._log_probs[row].append(held - logits.logsumexp(-1))
            if self.keeps_logits:
                self._logits[row].append(logits.clone())

    def log_probs(self) -> Tensor:
        """Return log-probabilities ``(B, n)``, 0 in the padding."""
        return torch.nn.utils.rnn.pad_sequence([torch.cat(row) for row in self._log_probs], batch_first=True)

    def logits(self) -> list[Tensor] | None:
        """Return the logits ``(n_b, v)`` of each row, if they are kept."""
        return [torch.cat(row) for row in self._logits] if self.keeps_logits else None


class DecodingState:
    """Buffers of the rows, and which of them go on.

    Args:
        prompts: Prompts, each ``(n_b,)``.
        max_new_tokens: Most tokens to add to a row, or to each row ``(B,)``.
        eos: Tokens that end a row.
        pad_token_id: What pads.
        on_tokens: Called with every row's new tokens.
        stop: Ends rows; None for never.
    """

    def __init__(
        self,
        prompts: list[Tensor],
        max_new_tokens: int | Tensor,
        eos: frozenset[int],
        pad_token_id: int,
        on_tokens: OnTokens | None,
        stop: StopCondition | None,
    ) -> None:
        self.max_new_tokens = torch.as_tensor(max_new_tokens).expand(len(prompts))
        self.pad_token_id = pad_token_id
        self.eos = torch.tensor(sorted(eos), dtype=torch.long)
        self.on_tokens, self.stop = on_tokens, stop
        self.prompt_lengths = torch.tensor([len(prompt) for prompt in prompts])
        self.lengths = self.prompt_lengths.clone()
        width = int((self.lengths + self.max_new_tokens).max())
        self.ids = torch.zeros(len(prompts), width, dtype=torch.long, device=prompts[0].device)
        for row, prompt in enumerate(prompts):
            self.ids[row, : len(prompt)] = prompt
        self.stopped = torch.zeros(len(prompts), dtype=torch.bool)
        padding, origin = self.prompt_lengths.max() - self.prompt_lengths, torch.arange(len(prompts))
        self._padding, self._origin = padding.to(self.ids.device), origin.to(self.ids.device)
        self._eos_there = self.eos.to(self.ids.device)

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
        return self._histories(rows, self.lengths)

    def _histories(self, rows: Tensor, lengths: Tensor) -> Histories:
        device, batch = self.ids.device, len(self.ids)
        everything = Histories(
            self.ids,
            lengths.to(device, copy=True),
            self._padding,
            self._origin,
            batch,
            self.pad_token_id,
            self._eos_there,
        )
        return everything if len(rows) == batch else everything.rows(rows.to(device))

    def extend(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Append the tokens ``(r, n)``, each row up to its first -1, its length limit or its end; return how many."""
        tokens, step = tokens.cpu(), torch.arange(tokens.shape[1])
        counts = torch.minimum((tokens >= 0).sum(-1), self.remaining[rows])
        if self.eos.numel() > 0:
            is_end = torch.isin(tokens, self.eos) & (step < counts[:, None])
            has_end = is_end.any(-1)
            counts = torch.where(has_end, is_end.to(torch.uint8).argmax(-1) + 1, counts)
            self.stopped[rows] = has_end
        row, column = (step < counts[:, None]).nonzero(as_tuple=True)
        new = tokens[row, column].to(self.ids.device)
        row = rows[row]
        self.ids[row, self.lengths[row] + column] = new
        if self.stop is not None:
            counts = self._stop(rows, counts, self.stop)
        if self.on_tokens is not None:
            for index, part, count in zip(rows.tolist(), tokens, counts.tolist(), strict=True):
                self.on_tokens(index, part[:count])
        self.lengths[rows] += counts
        return counts

    def _stop(self, rows: Tensor, counts: Tensor, stop: StopCondition) -> Tensor:
        """Ask the stop condition after each of the ``counts (r,)`` new tokens; return how many are left."""
        left, lengths = counts.clone(), self.lengths.clone()
        going = torch.ones_like(counts, dtype=torch.bool)
        for count in range(1, int(counts.max()) + 1):
            asked = (going & (counts >= count)).nonzero()[:, 0]
            if asked.numel() == 0:
                break
            lengths[rows[asked]] += 1
            met = asked[stop.is_met(self._histories(rows[asked], lengths)).cpu()]
            left[met], going[met], self.stopped[rows[met]] = count, False, True
        return left

    def result(self, statistics: Statistics, trace: Trace | None = None) -> Decoding:
        """Return what was decoded."""
        lengths = self.lengths - self.prompt_lengths
        sequences = [ids[:length].clone() for ids, length in zip(self.ids, self.lengths.tolist(), strict=True)]
        tokens = torch.nn.utils.rnn.pad_sequence(
            [row[start:] for row, start in zip(sequences, self.prompt_lengths.tolist(), strict=True)],
            batch_first=True,
            padding_value=self.pad_token_id,
        )
        log_probs, logits = (None, None) if trace is None else (trace.log_probs(), trace.logits())
        return Decoding(tokens, lengths, self.stopped, sequences, statistics, log_probs, logits)
