"""What proposes drafts, and the distribution they were drawn from."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from mixkit._validation import check_integer

from ..processors import LogitsFunction
from ..verification.sources import RandomSource
from .histories import Histories
from .proposer import LogitsRoom, Proposer
from .scoring import (
    Model,
    Scorer,
    as_chain,
    as_scorer,
    at_least_float32,
    best_tokens,
    fit_vocabulary,
    model_name,
    process,
    reads_no_history,
    sampling_probs,
    split_greedy,
)


@dataclass(frozen=True)
class Drafts:
    """Proposed continuations, padded to the longest, or to any ``t`` up to the drafter's ``draft_length``.

    Attributes:
        tokens: Token ids ``(R, m, t)``; any in the padding.
        logits: Logits ``(R, m, t, v)`` of exactly the distribution that each token was drawn from, or None for drafts
            that were not drawn, and where they are not asked for (`Drafter.without_laws`). Not read in the padding,
            nor after the round.
        lengths: Draft lengths ``(R, m)``.
    """

    tokens: Tensor
    logits: Tensor | None
    lengths: Tensor


class Drafter(Proposer):
    """Proposes ``num_drafts`` continuations of at most ``draft_length`` tokens of every history.

    Attributes:
        num_drafts: Number of drafts ``m``.
        with_replacement: Whether drafts are drawn independently.
        has_different_laws: Whether the drafts are known to be drawn from distributions that differ.
    """

    num_drafts: int = 1
    with_replacement: bool = True
    has_different_laws: bool = False

    @abstractmethod
    def propose(self, histories: Histories, limits: Tensor, vocab_size: int, source: RandomSource) -> Drafts:
        """Propose drafts.

        Args:
            histories: The rows ``(R, L)``.
            limits: Longest draft that each row can use ``(R,)``, in ``0..draft_length``.
            vocab_size: Number of tokens ``v`` of the target.
            source: Where all randomness comes from.
        """


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
    if not known or int(histories.ids.max()) < min(known):
        return torch.ones_like(histories.lengths, dtype=torch.bool)
    inside = torch.arange(histories.ids.shape[1], device=histories.ids.device) < histories.lengths[:, None]
    is_strange = histories.ids >= min(known)
    return ~(is_strange & inside).any(-1)


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
            drawn without replacement.

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
        self.inherits_processors = processors is None
        self._keeps_laws, self._is_greedy = True, False
        self._applied = self.processors  # of greedy drafts what comes before the largest is taken
        self._room = LogitsRoom()
        if not with_replacement and len(self.scorers) + len(self.processors) > 2:
            raise ValueError("with_replacement must be True for drafts of different models or processors, got False")
        own = {id(getattr(scorer, "model", scorer)) for scorer in self.scorers}
        known = {repr(one) for one in self.processors if reads_no_history(one)}
        self.has_different_laws = len(own) > 1 or len(known) > 1

    def __repr__(self) -> str:
        names = ", ".join(model_name(scorer) for scorer in self.scorers)
        return f"SampledDrafts([{names}], num_drafts={self.num_drafts}, draft_length={self.draft_length})"

    def use(self, processors: LogitsFunction) -> None:
        """Take one processor for all drafts."""
        self.processors = self._applied = [processors]

    def reset(self) -> None:
        """Reset every scorer, and let the room for logits go."""
        self._room.clear()
        for scorer in self.scorers:
            scorer.reset()

    def without_laws(self) -> Self:
        """Return drafts that keep no logits."""
        drafts = copy(self)
        drafts._keeps_laws = False
        split = [split_greedy(one) for one in self.processors]
        drafts._is_greedy = all(is_greedy for _, is_greedy in split)
        if drafts._is_greedy:
            drafts._applied = [before for before, _ in split]
        return drafts

    def propose(self, histories: Histories, limits: Tensor, vocab_size: int, source: RandomSource) -> Drafts:
        """Sample drafts as long as each row allows, or until a token that ends the row."""
        limits = limits.where(is_readable(histories, self.scorers), 0)
        sampling = _Sampling(self, histories, limits, vocab_size)
        everything = torch.arange(len(histories), device=limits.device)
        is_even = not histories.has_ends and bool((limits == sampling.longest).all())
        for position in range(sampling.longest):
            is_whole = is_even and (self.with_replacement or self.num_drafts == 1)
            rows = everything if is_whole else (sampling.lengths.amax(-1) > position).nonzero()[:, 0]
            if rows.numel() == 0:
                break
            sampling.step(position, rows, source)
        return Drafts(sampling.tokens, sampling.logits, sampling.lengths)

    def _law(self, position: int, histories: Histories, drafted: Histories, vocab_size: int) -> Tensor:
        """Logits ``(R, m, v)`` of the next token after the histories ``(R, L)`` with what was drafted ``(R m, L)``."""
        if position == 0 and self._is_uniform:
            return self._process(0, histories, self._score(0, histories, vocab_size))[:, None]
        if self._is_uniform:
            law = self._process(0, drafted, self._score(0, drafted, vocab_size))
        else:
            raw = self._for_each(self.scorers, drafted, lambda i, part, rows: self._score(i, rows, vocab_size))
            law = self._for_each(self.processors, drafted, lambda i, part, rows: self._process(i, rows, raw[part]))
        return law.unflatten(0, (-1, self.num_drafts))

    @property
    def _is_uniform(self) -> bool:
        """Whether all drafts have one model and one processor."""
        return len(self.scorers) == len(self.processors) == 1

    def _for_each(self, members: Sequence, drafted: Histories, function: Callable[..., Tensor]) -> Tensor:
        """Apply a function of a member and its rows: all of the ``R * m`` rows, or every ``m``-th with one a draft."""
        index = torch.arange(len(drafted), device=drafted.ids.device)
        if len(members) == 1:
            return function(0, index, drafted)
        parts = [index[i :: self.num_drafts] for i in range(len(members))]
        return torch.stack([function(i, part, drafted.rows(part)) for i, part in enumerate(parts)], 1).flatten(0, 1)

    def _score(self, member: int, histories: Histories, vocab_size: int) -> Tensor:
        logits = self.scorers[member].scores(histories.trimmed(), histories.lengths, 1)[:, 0]
        return fit_vocabulary(at_least_float32(logits), vocab_size)

    def _process(self, member: int, histories: Histories, logits: Tensor) -> Tensor:
        return process(self._applied[member], logits[:, None], histories, histories.lengths[:, None])[:, 0]


class _Sampling:
    """What `SampledDrafts` has drawn so far of one round: tokens, lengths, and logits written in place.

    Args:
        drafts: The settings.
        histories: The rows ``(R, L)``.
        limits: Longest draft of each row ``(R,)``.
        vocab_size: Number of tokens ``v``.
    """

    def __init__(self, drafts: SampledDrafts, histories: Histories, limits: Tensor, vocab_size: int) -> None:
        self.drafts, self.histories, self.vocab_size = drafts, histories, vocab_size
        self.longest = int(limits.max())
        count = drafts.num_drafts
        self.rows = histories.with_room(count, self.longest)
        self.lengths = limits[:, None].repeat(1, count)
        self.tokens = limits.new_zeros(len(histories), count, max(self.longest, 1))
        self.logits: Tensor | None = None
        if drafts._keeps_laws and self.longest == 0:
            self.logits = drafts._room.of((*self.tokens.shape, vocab_size), torch.empty(0, device=limits.device))
        self.same = torch.ones(len(histories), count, count, dtype=torch.bool, device=limits.device)

    def step(self, position: int, rows: Tensor, source: RandomSource) -> None:
        """Draw the token at one position of the drafts of ``rows (r,)``."""
        if len(rows) == len(self.lengths):
            histories, drafted, lengths = self.histories, self.rows, self.lengths
        else:
            lengths = self.lengths[rows]
            histories, drafted = self.histories.rows(rows), self.rows.rows(self._drafts_of(rows))
            source = source.rows(rows)
        going = lengths > position
        if self.drafts.num_drafts > 1 and position > 0 and not bool(going.all()):  # an ended draft is not read on
            start = histories.lengths[:, None].expand_as(going).flatten()
            drafted = replace(drafted, lengths=drafted.lengths.where(going.flatten(), start))
        law = self.drafts._law(position, histories, drafted, self.vocab_size)
        drawn, is_drawn = self._draw(position, rows, going, law, source)
        which: Any = slice(None) if len(rows) == len(self.lengths) else rows
        self.tokens[which, :, position] = drawn.where(going, 0) if self.drafts.num_drafts > 1 else drawn
        if self.drafts.num_drafts > 1:
            self.same[which] &= drawn[:, :, None] == drawn[:, None]
        if not self.drafts.with_replacement and position == 0:
            lengths = lengths.masked_fill(~is_drawn, 0)
        if histories.has_ends:
            lengths = lengths.masked_fill(going & is_drawn & histories.is_end(drawn), position + 1)
        if lengths is not self.lengths:
            self.lengths[which] = lengths
        self._append(position)

    def _draw(
        self, position: int, rows: Tensor, going: Tensor, law: Tensor, source: RandomSource
    ) -> tuple[Tensor, Tensor]:
        """Draw tokens ``(r, m)`` from logits ``(r, m or 1, v)``, which are kept; say which could be drawn."""
        drafts = self.drafts
        if position > 0 and drafts._is_uniform and drafts.num_drafts > 1:
            share_in_place(law, self.same[rows], going)
        if drafts._is_greedy:
            return best_tokens(law).expand(-1, drafts.num_drafts), torch.ones_like(going)
        self._keep(position, rows, law)
        probs = sampling_probs(law).expand(-1, drafts.num_drafts, -1)
        is_free = position > 0 or drafts.with_replacement
        return (draw if is_free else draw_distinct)(probs, source)

    def _keep(self, position: int, rows: Tensor, law: Tensor) -> None:
        """Write the logits of one position into their place."""
        if not self.drafts._keeps_laws:
            return
        if self.logits is None:
            self.logits = self.drafts._room.of((*self.tokens.shape, self.vocab_size), law)
        if len(rows) == len(self.lengths):
            self.logits[:, :, position] = law
        else:
            self.logits[rows, :, position] = law.expand(-1, self.tokens.shape[1], -1)

    def _append(self, position: int) -> None:
        """Put the tokens of one position behind the rows of the drafts that have one there."""
        if position + 1 < self.longest:
            counts = (self.lengths > position).flatten().long()
            self.rows = self.rows.append(self.tokens[:, :, position].reshape(-1, 1), counts)

    def _drafts_of(self, rows: Tensor) -> Tensor:
        """Indices ``(r m,)`` of the drafts of rows ``(r,)``."""
        count = self.drafts.num_drafts
        return (rows[:, None] * count + torch.arange(count, device=rows.device)).flatten()


def share_in_place(law: Tensor, same: Tensor, going: Tensor) -> None:
    """Give each draft the row of ``law (R, m, v)`` of the first one that goes on with the same tokens ``(R, m, m)``."""
    leader = (same & going[:, None]).to(torch.uint8).argmax(-1)
    row, draft = (leader != torch.arange(law.shape[1], device=law.device)).nonzero(as_tuple=True)
    if row.numel():
        law[row, draft] = law[row, leader[row, draft]]
