"""The target: its distribution after drafts, or its best tokens where it is greedy."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..processors import LogitsFunction
from ..verification.shared_prefix import leaders
from ..verification.sources import RandomSource
from .drafting import Drafts
from .histories import Histories
from .outcome import Outcome
from .scoring import (
    Scorer,
    at_least_float32,
    best_tokens,
    fit_vocabulary,
    process,
    sampling_probs,
    split_greedy,
)


class Scored(NamedTuple):
    """Raw logits ``(R, c, v)`` and the lengths ``(R, c)`` of the prefixes of ``histories (R, L)`` that they follow."""

    logits: Tensor
    histories: Histories
    prefixes: Tensor


class Target:
    """A scorer and the processors of its logits: what is to be followed.

    Args:
        scorer: The model.
        processors: A processor of its logits.
        vocab_size: Number of tokens that may be decoded; None for all that the model has.
    """

    def __init__(self, scorer: Scorer, processors: LogitsFunction, vocab_size: int | None) -> None:
        self.scorer, self.processors, self.vocab_size = scorer, processors, vocab_size
        self.before, self.is_greedy = split_greedy(processors)

    def of_rows(self, histories: Histories) -> Scored:
        """Score what follows each row."""
        logits = self.scorer.scores(histories.trimmed(), histories.lengths, 1)
        return Scored(logits, histories, histories.lengths[:, None])

    def of_drafts(self, histories: Histories, drafts: Drafts, limits: Tensor) -> Scored:
        """Score the rows ``(R m, L)`` of all drafts, after every prefix up to the longest draft.

        Args:
            histories: The rows ``(R, L)``.
            drafts: Their drafts.
            limits: Tokens that each row has room for ``(R,)``.
        """
        lengths, num_drafts = drafts.lengths.flatten(), drafts.tokens.shape[1]
        longest = int(lengths.max())
        rows = histories.with_room(num_drafts, longest)
        tokens = drafts.tokens[..., :longest].flatten(0, 1)
        step = torch.arange(longest + 1, device=lengths.device)
        if bool((lengths == longest).all()) or bool(
            (limits >= longest).all()
        ):  # shorter drafts are padded with token 0
            rows = rows.append(tokens, longest)
            logits = self.scorer.scores(rows.trimmed(), rows.lengths, longest + 1)
            used = step.clamp(max=lengths[:, None])
        else:
            rows = rows.append(tokens, lengths)
            logits = self.scorer.scores(rows.trimmed(), rows.lengths, longest + 1)
            used = step.clamp(max=lengths[:, None])
            column = used + (longest - lengths)[:, None]
            logits = logits.gather(1, column[..., None].expand(-1, -1, logits.shape[-1]))
        if histories.has_ends and longest > 0:  # what would follow an end is not asked for, nor read
            last = tokens.gather(1, (lengths - 1).clamp(min=0)[:, None])[:, 0]
            used = used.clamp(max=(lengths - (histories.is_end(last) & (lengths > 0)).long())[:, None])
        start = histories.lengths.repeat_interleave(num_drafts) if num_drafts > 1 else histories.lengths
        return Scored(logits, rows, start[:, None] + used)

    def draw(self, scored: Scored, source: RandomSource) -> tuple[Outcome, int]:
        """Draw a token after each row, or take the best; return the vocabulary's size too."""
        if self.is_greedy:
            best, logits = self.best(scored)
            return Outcome(best, torch.zeros_like(best[:, 0]), torch.zeros_like(best[:, 0]), logits), logits.shape[-1]
        logits = self.law(scored)
        tokens = source.choose(sampling_probs(logits[:, 0]))
        return Outcome(tokens[:, None], torch.zeros_like(tokens), torch.zeros_like(tokens), logits), logits.shape[-1]

    def law(self, scored: Scored) -> Tensor:
        """The target's logits ``(R, c, v)`` at its vocabulary, in float32 at least, after the processors."""
        return process(self.processors, self._fitted(scored), scored.histories, scored.prefixes)

    def best(self, scored: Scored) -> tuple[Tensor, Tensor]:
        """The tokens ``(R, c)`` that a greedy target takes, and the logits ``(R, c, v)`` whose largest they are."""
        logits = process(self.before, self._fitted(scored), scored.histories, scored.prefixes)
        return best_tokens(logits), logits

    def _fitted(self, scored: Scored) -> Tensor:
        return at_least_float32(fit_vocabulary(scored.logits, self.vocab_size))


def share_prefixes(law: Tensor, drafts: Drafts) -> None:
    """Give drafts that share a prefix the logits of the first of them, in place in ``law (R, m, t+1, v)``.

    A model gives rows of one prefix with the noise of their places in the batch; afterwards they are one distribution.
    """
    if law.shape[1] == 1:
        return
    steps = torch.arange(law.shape[2], device=law.device)
    leader = leaders(drafts.tokens, drafts.lengths)[..., : law.shape[2]]
    is_moved = (leader != torch.arange(law.shape[1], device=law.device)[:, None]) & (steps <= drafts.lengths[..., None])
    row, draft, step = is_moved.nonzero(as_tuple=True)
    if row.numel():
        law[row, draft, step] = law[row, leader[row, draft, step], step]
