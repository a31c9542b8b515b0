"""The decoding loop."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mixkit._validation import check_integer

from ..processors import LogitsFunction
from ..verification.sources import Randomness, RandomSource, as_source
from ..verification.tree import TreeVerifier
from ..verification.verifier import Verifier
from .defaults import default_verifier
from .drafting import Drafter, SampledDrafts
from .hidden import HiddenStates
from .lengths import DraftLength, check_chosen
from .prompts import check_eos, check_vocabulary, split_prompts
from .proposer import Proposer
from .rounds import as_rounds
from .scoring import Model, Scorer, as_chain, as_scorer, model_name, split_greedy
from .state import Decoding, DecodingState, OnTokens, Trace
from .statistics import Statistics
from .stopping import Stop, StopCondition, as_stop
from .target import Target
from .tree import TreeDrafter


class SpeculativeDecoder:
    """Repeats a verifier until every row is done: the output follows the target distribution exactly.

    The target reads the prompts and gives the first token of each row. Then, round after round, the drafter proposes,
    the target scores all proposals in one call, and the verifier says what is kept. The target distribution is that of
    the target's logits after ``processors``; the verifier is given the draft logits after their processors, which is
    the distribution the drafts were drawn from. A draft vocabulary of another size is cut or padded with probability
    zero. Logits of half precision are processed and verified in float32.

    Args:
        target: Causal model ``ids (R, L) -> logits (R, L, v)``, or a `Scorer`, such as one with a cache.
        drafts: A model or a sequence of models to sample drafts from, a `Drafter`, a `SampledTree` or a `TopTree`.
        verifier: The rule, a `TreeVerifier` for a tree; by default what suits the drafts (`default_verifier`).
        num_drafts: Drafts a round ``m``, by default one of each model; only for drafts sampled from models.
        draft_length: Longest draft ``t``, 5 by default; only for drafts sampled from models.
        processors: A processor ``(input_ids, scores) -> scores`` of the target's logits, such as a `Chain`.
        draft_processors: The same for the draft models, or a sequence of one a draft; by default that of the target. A
            `SampledTree` or a `Drafter` has its own.
        eos_token_id: Token or tokens that end a row.
        pad_token_id: What pads the output.
        vocab_size: Number of tokens that may be decoded, if the target's logits are padded past it.
        draft_lengths: Chooses the longest draft of each row in each round, up to that of the drafts (the depth of a
            tree), such as `ExpectedGain`; None for always as long as possible.

    Raises:
        TypeError: If an argument has the wrong type, such as a class where an instance is wanted.
        ValueError: If the verifier does not take so many drafts, drafts drawn in this way, or drafts of different
            models or processors; if a setting of drafts is given twice, here and in ``drafts``.

    Example:
        >>> import torch
        >>> from samplers.decoding import SpeculativeDecoder
        >>> bigram = torch.tensor([[0.1, 0.9, 0.0], [0.0, 0.1, 0.9], [0.9, 0.0, 0.1]]).log()
        >>> decoder = SpeculativeDecoder(lambda ids: bigram[ids], lambda ids: bigram[ids], draft_length=3)
        >>> out = decoder.decode([[0]], max_new_tokens=9, generator=torch.Generator().manual_seed(0))
        >>> out.tokens.shape, out.statistics.block_efficiency  # the draft is the target: all is accepted
        (torch.Size([1, 9]), 4.0)
    """

    def __init__(
        self,
        target: Scorer | Model,
        drafts: Drafter | TreeDrafter | Scorer | Model | Sequence[Scorer | Model],
        verifier: Verifier | TreeVerifier | None = None,
        *,
        num_drafts: int | None = None,
        draft_length: int | None = None,
        processors: LogitsFunction | None = None,
        draft_processors: LogitsFunction | Sequence[LogitsFunction] | None = None,
        eos_token_id: int | Sequence[int] | None = None,
        pad_token_id: int = 0,
        vocab_size: int | None = None,
        draft_lengths: DraftLength | None = None,
    ) -> None:
        self.target = as_scorer(target)
        default = default_verifier(drafts, num_drafts, draft_processors) if verifier is None else verifier
        self.verifier = check_verifier(default)
        self.processors = as_chain(processors)
        settings = {"num_drafts": num_drafts, "draft_length": draft_length, "draft_processors": draft_processors}
        self._drafts = check_fit(self.verifier, as_drafter(drafts, self.verifier, settings))
        self.drafter = self.drafter_for(self.processors)
        self.eos = check_eos(eos_token_id)
        self.pad_token_id = check_integer("pad_token_id", pad_token_id)
        if draft_lengths is not None and not isinstance(draft_lengths, DraftLength):
            raise TypeError(f"draft_lengths must be a DraftLength or None, got {type(draft_lengths).__name__}")
        self.draft_lengths = draft_lengths
        self.vocab_size = None if vocab_size is None else check_integer("vocab_size", vocab_size, low=1)

    def drafter_for(self, processors: LogitsFunction) -> Any:
        """Return what proposes drafts for a target with the given processors."""
        drafter = self._drafts.inherit(processors)
        return drafter.without_laws() if split_greedy(processors)[1] else drafter

    def __repr__(self) -> str:
        settings = {"processors": self.processors, "eos_token_id": sorted(self.eos), "vocab_size": self.vocab_size}
        shown = "".join(f", {name}={value!r}" for name, value in settings.items())
        return f"SpeculativeDecoder({model_name(self.target)}, {self.drafter!r}, {self.verifier!r}{shown})"

    @torch.no_grad()
    def decode(
        self,
        input_ids: Any,
        *,
        max_new_tokens: int,
        attention_mask: Tensor | None = None,
        generator: Randomness = None,
        on_tokens: OnTokens | None = None,
        stop: StopCondition | Stop | None = None,
        return_log_probs: bool = False,
        return_logits: bool = False,
    ) -> Decoding:
        """Decode.

        Args:
            input_ids: Prompts: ids ``(B, L)``, or a list of ``B`` prompts of any lengths, each at least 1.
            max_new_tokens: Most tokens to add to a row, at least 1.
            attention_mask: Mask ``(B, L)`` of the tokens of padded prompts (padding on either side).
            generator: One generator or seed, a sequence of one (or None) for each row (then a row's tokens do not
                depend on the rest of the batch as far as the models' logits do not), or None for torch's default
                generator. A `RandomSource` is taken too.
            on_tokens: Called with a row and its new tokens as soon as they are known.
            stop: Called with a history ``(1, n)`` after each new token; true ends the row there. A `StopCondition` is
                taken too.
            return_log_probs: Whether to return the log-probability of each new token under the target distribution.
            return_logits: Whether to return the target's processed logits that each new token was drawn from, and the
                log-probabilities.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If a prompt is empty, if a token of a prompt or ``eos_token_id`` is not in the target's
                vocabulary, or if the logits of a model hold NaN or +inf.
        """
        prompts = split_prompts(input_ids, attention_mask)
        check_integer("max_new_tokens", max_new_tokens, low=1)
        randomness = as_source(generator, len(prompts), prompts[0].device)
        state = DecodingState(prompts, max_new_tokens, self.eos, self.pad_token_id, on_tokens, as_stop(stop))
        statistics = Statistics.zeros(len(prompts), self.drafter.draft_length)
        trace = Trace(len(prompts), return_logits) if return_log_probs or return_logits else None
        self.target.reset()
        self.drafter.reset()
        layers = self.drafter.hidden_layers
        self.target.watch(layers)
        vocab_size = self._first(state, prompts, randomness, trace)
        hidden = HiddenStates(state.ids.shape, state.prompt_lengths, self.target.hidden) if layers else None
        target = Target(self.target, self.processors, self.vocab_size)
        rounds = as_rounds(target, self.drafter, self.verifier, vocab_size, hidden)
        while (rows := state.active()).numel() > 0:
            source = randomness if len(rows) == len(prompts) else randomness.rows(rows)
            limits = self.limits(state.remaining[rows], statistics, rows).to(prompts[0].device)
            outcome, lengths = rounds.run(state.histories(rows), limits, source, trace is not None)
            statistics.record(rows, outcome, lengths)
            counts = state.extend(rows, outcome.tokens)
            if trace is not None:
                trace.record(rows, outcome, counts)
        return state.result(statistics, trace)

    def limits(self, remaining: Tensor, statistics: Statistics, rows: Tensor) -> Tensor:
        """Longest draft of each row ``(r,)``: what it has room for, and what is chosen before the round begins."""
        limits = (remaining - 1).clamp(max=self.drafter.draft_length)
        if self.draft_lengths is None:
            return limits
        return torch.minimum(limits, check_chosen(self.draft_lengths.choose(statistics.copy(), rows), rows))

    def _first(self, state: DecodingState, prompts: list[Tensor], source: RandomSource, trace: Trace | None) -> int:
        """Read the prompts and draw a token of each row from the target; return the vocabulary's size."""
        target, rows = Target(self.target, self.processors, self.vocab_size), state.active()
        scored = target.of_rows(state.histories(rows))
        check_vocabulary(prompts, self.eos, max(scored.logits.shape[-1], self.vocab_size or 0))
        outcome, vocab_size = target.draw(scored, source)
        counts = state.extend(rows, outcome.tokens)
        if trace is not None:
            trace.record(rows, outcome, counts)
        return vocab_size


def as_drafter(drafts: Any, verifier: Verifier | TreeVerifier, settings: dict[str, Any]) -> Any:
    """Return what proposes drafts: as it is, or `SampledDrafts` of models; refuse settings that would not be used."""
    if isinstance(drafts, Proposer):
        for name, value in settings.items():
            if value is not None and value != getattr(drafts, name, None):
                raise ValueError(f"{name} must be None where a {type(drafts).__name__} has its own, got {value!r}")
        return drafts
    if isinstance(verifier, TreeVerifier):
        return drafts
    num_drafts, draft_length = settings["num_drafts"], settings["draft_length"]
    if num_drafts is None:
        num_drafts = 1 if callable(drafts) or not isinstance(drafts, Sequence) else len(drafts)
    return SampledDrafts(
        drafts,
        num_drafts,
        5 if draft_length is None else draft_length,
        settings["draft_processors"],
        verifier.with_replacement,
    )


def check_verifier(verifier: Any) -> Verifier | TreeVerifier:
    """Return a verifier, refuse its class and anything else."""
    if isinstance(verifier, Verifier | TreeVerifier):
        return verifier
    got = f"the class {verifier.__name__}" if isinstance(verifier, type) else type(verifier).__name__
    raise TypeError(f"verifier must be an instance of Verifier or TreeVerifier, got {got}")


def check_fit(verifier: Verifier | TreeVerifier, drafter: Any) -> Any:
    """Return the drafter if the verifier is made for its drafts."""
    if isinstance(verifier, TreeVerifier) or isinstance(drafter, TreeDrafter):
        return check_tree_fit(verifier, drafter)
    most = verifier.max_drafts
    if most is not None and drafter.num_drafts > most:
        raise ValueError(f"num_drafts must be at most {most} for {verifier!r}, got {drafter.num_drafts}")
    if drafter.with_replacement != verifier.with_replacement and drafter.num_drafts > 1:
        raise ValueError(
            f"drafts must be drawn {'with' if verifier.with_replacement else 'without'} replacement for {verifier!r}, "
            f"got a drafter with with_replacement={drafter.with_replacement}"
        )
    if verifier.identical_drafts and drafter.has_different_laws:
        raise ValueError(f"drafts must have one model and one processor for {verifier!r}, got several: {drafter!r}")
    return drafter


def check_tree_fit(verifier: Verifier | TreeVerifier, tree: Any) -> TreeDrafter:
    """Return the tree if the verifier is a `TreeVerifier` of a rule for as many siblings, drawn with replacement."""
    if not (isinstance(verifier, TreeVerifier) and isinstance(tree, TreeDrafter)):
        raise ValueError(
            "a TreeVerifier and a SampledTree or TopTree must go together, got "
            f"{type(verifier).__name__} and {type(tree).__name__}"
        )
    rule = verifier.rule
    if tree.num_siblings is None:
        return tree
    if not rule.with_replacement:
        raise ValueError(f"drafts must be drawn without replacement for {rule!r}, got a tree of independent siblings")
    if rule.max_drafts is not None and tree.num_siblings > rule.max_drafts:
        raise ValueError(f"branching must be at most {rule.max_drafts} for {rule!r}, got {tree!r}")
    return tree
