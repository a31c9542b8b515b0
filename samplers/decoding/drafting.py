"""What proposes drafts, and the distribution they were drawn from."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixkit._validation import check_integer

from ..processors import Chain, LogitsFunction, Processor
from ..verification.shared_prefix import leaders, share_rows
from ..verification.sources import RandomSource
from .histories import Histories
from .scoring import (
    Model,
    Scorer,
    as_chain,
    as_scorer,
    at_least_float32,
    fit_vocabulary,
    model_name,
    process,
)


@dataclass(frozen=True)
class Drafts:
    """Proposed continuations, padded to the drafter's ``draft_length`` ``t``.

    Attributes:
        tokens: Token ids ``(R, m, t)``; 0 in the padding.
        logits: Logits ``(R, m, t, v)`` of exactly the distribution that each token was drawn from, or None for drafts
            that were not drawn.
        lengths: Draft lengths ``(R, m)``.
    """

    tokens: Tensor
    logits: Tensor | None
    lengths: Tensor


class Drafter(ABC):
    """Proposes ``num_drafts`` continuations of at most ``draft_length`` tokens of every history."""

    num_drafts: int = 1
    draft_length: int
    with_replacement: bool = True
    has_different_laws: bool = False
    """Whether the drafts are known to be drawn from laws that differ."""

    @abstractmethod
    def propose(self, histories: Histories, limits: Tensor, vocab_size: int, source: RandomSource) -> Drafts:
        """Propose drafts.

        Args:
            histories: The rows ``(R, L)``.
            limits: Longest draft that each row can use ``(R,)``, in ``0..draft_length``.
            vocab_size: Number of tokens ``v`` of the target.
            source: Where all randomness comes from.
        """

    def inherit(self, processors: LogitsFunction) -> "Drafter":
        """Return a drafter with the target's processors, if it has any use for them and none of its own."""
        return self

    def reset(self) -> None:  # noqa: B027  a drafter without a cache has nothing to forget
        """Forget what was cached: a new batch begins."""


def one_or_each(value: Any, num_drafts: int, name: str) -> list[Any]:
    """Return ``[value]`` for a single value, and a sequence of ``num_drafts`` values as a list."""
    if callable(value) or not isinstance(value, Sequence):
        return [value]
    if len(value) != num_drafts:
        raise ValueError(f"{name} must have one entry for each of num_drafts={num_drafts} drafts, got {len(value)}")
    return list(value)


def is_readable(histories: Histories, scorers: Sequence[Scorer]) -> Tensor:
    """Rows ``(R,)`` all of whose tokens every scorer can read, as far as it is known."""
    known = [scorer.num_readable for scorer in scorers if scorer.num_readable is not None]
    inside = torch.arange(histories.ids.shape[1], device=histories.ids.device) < histories.lengths[:, None]
    is_strange = histories.ids >= min(known) if known else torch.zeros_like(inside)
    return ~(is_strange & inside).any(-1)


def is_ours(processor: LogitsFunction) -> bool:
    """Whether a processor is all of this package, so that its representation tells it from others."""
    return isinstance(processor, Processor) and not (isinstance(processor, Chain) and processor.needs_history)


def draw(probs: Tensor, source: RandomSource) -> tuple[Tensor, Tensor]:
    """Draw a token of each draft ``(R, m)`` from ``probs (R, m, v)``; all could be drawn ``(R, m)``."""
    tokens = torch.stack([source.choose(law) for law in probs.unbind(1)], dim=1)
    return tokens, torch.ones_like(tokens, dtype=torch.bool)


def draw_distinct(probs: Tensor, source: RandomSource) -> tuple[Tensor, Tensor]:
    """Draw tokens ``(R, m)`` one after another without replacement, and say which could be drawn ``(R, m)``.

    All drafts of a row have the distribution of the first in ``probs (R, m, v)``. A distribution of fewer than ``m``
    tokens runs out: the entries after its last token are 0 and not drawn.
    """
    left = probs[:, 0].clone()
    tokens = torch.zeros(probs.shape[:2], dtype=torch.long, device=probs.device)
    is_drawn = torch.zeros_like(tokens, dtype=torch.bool)
    for draft in range(probs.shape[1]):
        row = (left > 0).any(-1).nonzero()[:, 0]
        if row.numel() == 0:
            break
        is_drawn[row, draft] = True
        tokens[row, draft] = source.rows(row).choose(left[row])
        left[row, tokens[row, draft]] = 0.0
    return tokens, is_drawn


class SampledDrafts(Drafter):
    """Drafts sampled token by token from one model, or each from a model of its own.

    The logits returned are those that were sampled from, after the processors: the verifier needs no other.

    Args:
        models: A scorer or causal model, or a sequence of ``num_drafts`` of them. Several drafts of one model are
            better given as the one model: they are then scored in one batch.
        num_drafts: Number of drafts ``m``.
        draft_length: Longest draft ``t``.
        processors: A processor ``(input_ids, scores) -> scores`` of the draft's logits, or a sequence of
            ``num_drafts`` of them (say, one temperature a draft); None for that of the target.
        with_replacement: Whether drafts are drawn independently; else the first tokens of the drafts differ, drawn
            one after another without replacement, for verifiers that are made for it.

    Raises:
        ValueError: If a sequence does not have one entry a draft, or if drafts that differ in distribution are to be
        drawn
            without replacement.

    Example:
        >>> import torch
        >>> from samplers import SpeculativeDecoder, Temperature, WeightedVerifier
        >>> bigram = torch.tensor([[0.1, 0.9, 0.0], [0.0, 0.1, 0.9], [0.9, 0.0, 0.1]]).log()
        >>> heats = [Temperature(1.0), Temperature(2.0)]
        >>> drafts = SampledDrafts(lambda ids: bigram[ids], 2, draft_length=3, processors=heats)
        >>> decoder = SpeculativeDecoder(lambda ids: bigram[ids], drafts, WeightedVerifier(levels=64))
        >>> decoder.decode([[0]], max_new_tokens=9, generator=0).tokens.shape
        torch.Size([1, 9])
    """

    def __init__(
        self,
        models: Scorer | Model | Sequence[Scorer | Model],
        num_drafts: int = 1,
        draft_length: int = 5,
        processors: LogitsFunction | Sequence[LogitsFunction] | None = None,
        with_replacement: bool = True,
    ) -> None:
        self.num_drafts = check_integer("num_drafts", num_drafts, low=1)
        self.draft_length = check_integer("draft_length", draft_length, low=1)
        self.with_replacement = with_replacement
        self.scorers = [as_scorer(model) for model in one_or_each(models, num_drafts, "models")]
        self.processors = [as_chain(one) for one in one_or_each(processors, num_drafts, "processors")]
        self.has_own_processors = processors is not None
        if not with_replacement and len(self.scorers) + len(self.processors) > 2:
            raise ValueError("with_replacement must be True for drafts of different models or processors, got False")
        own = {id(getattr(scorer, "model", scorer)) for scorer in self.scorers}
        known = {repr(one) for one in self.processors if is_ours(one)}
        self.has_different_laws = len(own) > 1 or len(known) > 1

    def __repr__(self) -> str:
        names = ", ".join(model_name(scorer) for scorer in self.scorers)
        return f"SampledDrafts([{names}], num_drafts={self.num_drafts}, draft_length={self.draft_length})"

    def inherit(self, processors: LogitsFunction) -> "SampledDrafts":
        """Return drafts with the target's processors, if these have none of their own."""
        if self.has_own_processors:
            return self
        drafts = copy(self)
        drafts.processors = [processors]
        return drafts

    def reset(self) -> None:
        """Reset every scorer."""
        for scorer in self.scorers:
            scorer.reset()

    def propose(self, histories: Histories, limits: Tensor, vocab_size: int, source: RandomSource) -> Drafts:
        """Sample drafts as long as each row allows, or until a token that ends the row."""
        tokens = limits.new_zeros(len(histories), self.num_drafts, self.draft_length)
        limits = limits.where(is_readable(histories, self.scorers), 0)
        lengths = limits[:, None].repeat(1, self.num_drafts)
        laws = [torch.zeros(len(histories), self.num_drafts, vocab_size, device=limits.device)] * self.draft_length
        for position in range(int(lengths.max())):
            rows = (lengths.amax(-1) > position).nonzero()[:, 0]
            if rows.numel() == 0:
                break
            going = lengths[rows] > position
            law = self._law(histories.rows(rows), tokens[rows, :, :position], going, vocab_size)
            laws[position] = law.new_zeros((len(histories), *law.shape[1:])).index_put((rows,), law)
            probs = law.softmax(-1, dtype=torch.promote_types(law.dtype, torch.float32))
            is_free = position > 0 or self.with_replacement
            drawn, is_drawn = (draw if is_free else draw_distinct)(probs, source.rows(rows))
            tokens[rows, :, position] = drawn.where(going, 0)
            left, ends = lengths[rows].masked_fill(~is_drawn, 0), going & is_drawn & histories.is_end(drawn)
            lengths[rows] = left.masked_fill(ends, position + 1)
        return Drafts(tokens, torch.stack(laws, dim=2), lengths)

    def _law(self, histories: Histories, drafted: Tensor, going: Tensor, vocab_size: int) -> Tensor:
        """Logits ``(R, m, v)`` after the tokens ``drafted (R, m, position)`` so far.

        Drafts that do not go on ``(R, m)`` have the distribution of their history, which is not read.
        """
        if drafted.shape[-1] == 0 and len(self.scorers) == len(self.processors) == 1:
            law = self._process(0, histories, self._score(0, histories, vocab_size))
            return law[:, None].expand(-1, self.num_drafts, -1)
        counts = going.long() * drafted.shape[-1]
        rows = histories.repeat(self.num_drafts).extend(drafted.flatten(0, 1), counts.flatten())
        raw = self._for_each(self.scorers, len(rows), lambda i, part: self._score(i, rows.rows(part), vocab_size))
        law = self._for_each(self.processors, len(rows), lambda i, part: self._process(i, rows.rows(part), raw[part]))
        law = law.unflatten(0, (-1, self.num_drafts))
        if len(self.scorers) + len(self.processors) > 2:
            return law
        leader = leaders(drafted, counts)[..., -1:]
        return share_rows(law[:, :, None], leader)[:, :, 0]

    def _for_each(self, members: Sequence, num_rows: int, function: Callable[[int, Tensor], Tensor]) -> Tensor:
        """Apply a function of a member and its rows: all of the ``R * m`` rows, or every ``m``-th with one a draft."""
        index = torch.arange(num_rows)
        if len(members) == 1:
            return function(0, index)
        return torch.stack([function(i, index[i :: self.num_drafts]) for i in range(len(members))], 1).flatten(0, 1)

    def _score(self, member: int, histories: Histories, vocab_size: int) -> Tensor:
        logits = self.scorers[member].scores(histories.ids, histories.lengths, 1)[:, 0]
        return fit_vocabulary(at_least_float32(logits), vocab_size)

    def _process(self, member: int, histories: Histories, logits: Tensor) -> Tensor:
        return process(self.processors[member], logits[:, None], histories, histories.lengths[:, None])[:, 0]
