"""A server's view: requests that join and leave between rounds."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixkit._validation import check_integer

from .._validation import check_seed
from ..processors import LogitsFunction, PerRow
from ..verification.sources import GeneratorSource, Seed
from .decoder import SpeculativeDecoder
from .histories import Histories
from .prompts import check_vocabulary, split_prompts
from .rounds import as_rounds
from .scoring import as_chain, reads_no_history
from .state import DecodingState
from .statistics import Statistics
from .stopping import Stop, StopCondition, as_stop
from .target import Target

__all__ = ["DecodingSession", "Emission"]


@dataclass(frozen=True)
class Emission:
    """What a step gave one request.

    Attributes:
        request: Number of the request, as `DecodingSession.add` returned it.
        tokens: Its new tokens ``(n,)``, at least one.
        is_done: Whether these are its last: it has left the session.
        stopped: Whether it ended with an end-of-sequence token or a stop condition, and not for its length.
    """

    request: int
    tokens: Tensor
    is_done: bool
    stopped: bool


@dataclass
class _Request:
    """A request that is being decoded."""

    number: int
    ids: Tensor
    num_prompt: int
    max_new_tokens: int
    generator: torch.Generator | None
    processors: LogitsFunction | None
    stop: StopCondition | None

    @property
    def is_new(self) -> bool:
        return len(self.ids) == self.num_prompt

    @property
    def remaining(self) -> int:
        return self.max_new_tokens - (len(self.ids) - self.num_prompt)


class _EachOwn(StopCondition):
    """A stop condition, or none, for each row; each is shown its row alone."""

    def __init__(self, stops: list[StopCondition | None]) -> None:
        self.stops = stops

    def is_met(self, histories: Histories) -> Tensor:
        met = []
        for row, origin in enumerate(histories.origin.tolist()):
            stop = self.stops[origin]
            alone = Histories.plain(
                histories.ids[row, None, : int(histories.lengths[row])], histories.lengths[row, None]
            )
            met.append(stop is not None and bool(stop.is_met(alone)[0]))
        return torch.tensor(met)


class DecodingSession:
    """Decodes requests that come and go, a round at a time (continuous batching).

    Every request has settings and a generator of its own; it gets the tokens that `SpeculativeDecoder.decode` would
    give it alone with that generator, as far as the models' logits do not depend on the batch. A model with a cache
    reads the prompts that are new in a call of their own.

    Args:
        decoder: Models, verifier, and the settings of requests that have none. While the session lasts, no other
            decoding may use its models' caches.

    Raises:
        TypeError: If ``decoder`` is no `SpeculativeDecoder`.
        ValueError: If its drafts read hidden states.

    Example:
        >>> import torch
        >>> from samplers import SpeculativeDecoder
        >>> bigram = torch.tensor([[0.1, 0.9, 0.0], [0.0, 0.1, 0.9], [0.9, 0.0, 0.1]]).log()
        >>> session = DecodingSession(SpeculativeDecoder(lambda ids: bigram[ids], lambda ids: bigram[ids]))
        >>> first = session.add([0], max_new_tokens=3, generator=0)
        >>> [len(emission.tokens) for emission in session.step()]
        [3]
        >>> session.requests
        []
    """

    def __init__(self, decoder: SpeculativeDecoder) -> None:
        if not isinstance(decoder, SpeculativeDecoder):
            raise TypeError(f"decoder must be a SpeculativeDecoder, got {type(decoder).__name__}")
        if decoder.drafter.hidden_layers:
            raise ValueError(f"decoder must draft without hidden states in a session, got {decoder.drafter!r}")
        self.decoder = decoder
        self._active: list[_Request] = []
        self._statistics = Statistics.zeros(0, decoder.drafter.draft_length)
        self._count = 0
        self._vocab_size: int | None = None
        decoder.target.reset()
        decoder.target.watch(())
        decoder.drafter.reset()

    @property
    def requests(self) -> list[int]:
        """Numbers of the requests that go on."""
        return [request.number for request in self._active]

    def add(
        self,
        prompt: Any,
        *,
        max_new_tokens: int,
        generator: Seed | None = None,
        processors: LogitsFunction | None = None,
        stop: StopCondition | Stop | None = None,
    ) -> int:
        """Let a request join at the next step.

        Args:
            prompt: Token ids ``(n,)``, a list or a tensor.
            max_new_tokens: Most tokens to add, at least 1.
            generator: A generator or a seed, or None for torch's default generator.
            processors: A processor of the target's logits; None for that of the decoder.
            stop: As in `SpeculativeDecoder.decode`.

        Returns:
            The request's number.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If the prompt is empty or ``max_new_tokens`` below 1.
        """
        (ids,) = split_prompts([prompt])
        check_integer("max_new_tokens", max_new_tokens, low=1)
        own = None if generator is None else check_seed(generator)
        chosen = None if processors is None else as_chain(processors)
        self._active.append(_Request(self._count, ids, len(ids), max_new_tokens, own, chosen, as_stop(stop)))
        self._statistics = self._statistics.joined(Statistics.zeros(1, self.decoder.drafter.draft_length))
        self._count += 1
        return self._count - 1

    def remove(self, request: int) -> None:
        """Let a request leave before its end.

        Raises:
            ValueError: If no such request goes on.
        """
        if request not in self.requests:
            raise ValueError(f"request must be one that goes on, of {self.requests}, got {request}")
        self._keep([one.number != request for one in self._active])

    def _keep(self, kept: list[bool]) -> None:
        self._active = [one for one, is_kept in zip(self._active, kept, strict=True) if is_kept]
        self._statistics = self._statistics.rows(torch.tensor(kept, dtype=torch.bool).nonzero()[:, 0])

    @torch.no_grad()
    def step(self) -> list[Emission]:
        """Decode one round of every request; those that are new get their first token too.

        Returns:
            New tokens of each request, in the order in which they joined; nothing if there are no requests.
        """
        if not self._active:
            return []
        decoder, active = self.decoder, self._active
        processors = self._processors()
        target = Target(decoder.target, processors, decoder.vocab_size)
        state = DecodingState(
            [one.ids for one in active],
            torch.tensor([one.remaining for one in active]),
            decoder.eos,
            decoder.pad_token_id,
            None,
            _EachOwn([one.stop for one in active]) if any(one.stop for one in active) else None,
        )
        source = GeneratorSource([one.generator for one in active], len(active), active[0].ids.device)
        self._begin(target, state, source)
        rows = state.active()
        if rows.numel() > 0 and self._vocab_size is not None:
            rounds = as_rounds(target, decoder.drafter_for(processors), decoder.verifier, self._vocab_size)
            limits = decoder.limits(state.remaining[rows], self._statistics, rows).to(active[0].ids.device)
            outcome, lengths = rounds.run(state.histories(rows), limits, source.rows(rows), False)
            self._statistics.record(rows, outcome, lengths)
            state.extend(rows, outcome.tokens)
        return self._emit(state)

    def _begin(self, target: Target, state: DecodingState, source: GeneratorSource) -> None:
        """Draw the first token of the new requests; the others are scored with them, so that their cache is kept."""
        new = torch.tensor([one.is_new for one in self._active]).nonzero()[:, 0]
        if new.numel() == 0:
            return
        scored = target.of_rows(state.histories(torch.arange(len(self._active))))
        prompts = [one.ids for one in self._active if one.is_new]
        check_vocabulary(prompts, self.decoder.eos, max(scored.logits.shape[-1], self.decoder.vocab_size or 0))
        there = new.to(scored.logits.device)
        part = scored._replace(
            logits=scored.logits[there], histories=scored.histories.rows(there), prefixes=scored.prefixes[there]
        )
        outcome, self._vocab_size = target.draw(part, source.rows(new))
        state.extend(new, outcome.tokens)

    def _processors(self) -> LogitsFunction:
        """Return one processor for all requests, if they share one that needs no history, else one for each."""
        own, common = [one.processors for one in self._active], self.decoder.processors
        if reads_no_history(common) and all(one is None for one in own):
            return common
        return PerRow([common if one is None else one for one in own])

    def _emit(self, state: DecodingState) -> list[Emission]:
        """Take the new tokens over, and let the requests that are done leave."""
        emissions, remaining = [], state.remaining.tolist()
        for row, one in enumerate(self._active):
            ids = state.ids[row, : int(state.lengths[row])].clone()
            emissions.append(Emission(one.number, ids[len(one.ids) :], remaining[row] == 0, bool(state.stopped[row])))
            one.ids = ids
        self._keep([left > 0 for left in remaining])
        return emissions
