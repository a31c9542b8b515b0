"""Speculative decoding inside ``model.generate``."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.generation import EosTokenCriteria, GenerateDecoderOnlyOutput, MaxLengthCriteria

from ...decoding import Decoding, SpeculativeDecoder, StopCondition
from ...decoding.histories import Histories
from ...processors import Chain, LogitsFunction, Temperature
from ...verification.sources import Randomness
from ...verification.tree import TreeVerifier
from ...verification.verifier import Verifier
from .requests import check_inputs, check_request, end_tokens, pad_token, user_cache
from .scorers import as_cached_scorer, with_cache
from .warpers import translate


class Criteria(StopCondition):
    """Stopping criteria of transformers, which are shown what they would see there: a row for each row of the batch.

    Args:
        criteria: A ``StoppingCriteriaList``.
        input_ids: Prompts ``(B, L)``, left-padded.
    """

    def __init__(self, criteria: Any, input_ids: Tensor) -> None:
        self.criteria, self.input_ids = criteria, input_ids

    def is_met(self, histories: Histories) -> Tensor:
        """Call the criteria with all rows that are equally long, padding included; others repeat one of them."""
        met = torch.zeros(len(histories), dtype=torch.bool, device=histories.ids.device)
        for part in histories.lined_up(histories.lengths[:, None]):
            ids = part.ids.clone()
            ids[:, : self.input_ids.shape[1]] = self.input_ids[part.origin][part.slot]
            met[part.row] = self.criteria(ids, None).bool().to(met.device)[part.origin]
        return met


def as_condition(criteria: Any, input_ids: Tensor) -> Criteria | None:
    """Return the criteria that the loop does not see to itself; None if there are none."""
    left = [one for one in criteria or [] if not isinstance(one, MaxLengthCriteria | EosTokenCriteria)]
    return Criteria(type(criteria)(left), input_ids) if left else None


def speculative_generate(
    model: Any,
    input_ids: Tensor,
    logits_processor: Any = None,
    stopping_criteria: Any = None,
    generation_config: Any = None,
    *,
    draft: Any = None,
    verifier: Verifier | TreeVerifier | None = None,
    num_drafts: int | None = None,
    draft_length: int | None = None,
    draft_processors: LogitsFunction | Sequence[LogitsFunction] | None = None,
    generator: Randomness = None,
    on_tokens: Callable[[int, Tensor], None] | None = None,
    on_statistics: Callable[[Any], None] | None = None,
    streamer: Any = None,
    **model_kwargs: Any,
) -> Any:
    """Decode speculatively inside generate: ``model.generate(ids, custom_generate=speculative_generate, draft=...)``.

    Temperature, truncation and other processors, stopping criteria, ``max_new_tokens``, ``eos_token_id`` and
    ``pad_token_id`` are those that ``generate`` was called with; with ``do_sample=False`` decoding is greedy. The
    arguments below go to ``generate`` as well, but for ``streamer``: transformers keeps it to itself, so it is given by
    ``custom_generate=functools.partial(speculative_generate, streamer=streamer)``.

    Args:
        model: The target.
        input_ids: Prompts ``(B, L)``, left-padded.
        logits_processor: The processors that ``generate`` prepared.
        stopping_criteria: The criteria that ``generate`` prepared; each is checked after every token, and sees the
            prompts with their padding.
        generation_config: The settings that ``generate`` prepared.
        draft: A causal model of transformers, a sequence of them, a `Drafter`, a `SampledTree` or a `TopTree`.
        verifier: The rule; by default what suits the drafts, as in `SpeculativeDecoder`.
        num_drafts: Drafts a round ``m``, by default one of each model.
        draft_length: Longest draft ``t``, 5 by default.
        draft_processors: Processor of the draft models, or a sequence of one a draft; by default that of the target.
        generator: One generator or seed, a sequence of one (or None) for each row, or None for torch's default
            generator.
        on_tokens: Called with a row and its new tokens as soon as they are known.
        on_statistics: Called with the `Statistics` at the end.
        streamer: A streamer of transformers, for one prompt; it is given the prompt, every token and the end.
        **model_kwargs: What else ``generate`` passes: the prompts' ``attention_mask``, and ``past_key_values``, a
            ``DynamicCache`` of the beginning of the prompts, which holds all but the last token at the end.

    Returns:
        Prompts and new tokens ``(B, L + n)``, right-padded; with ``return_dict_in_generate``, transformers' output with
        ``sequences``, the ``scores`` if ``output_scores`` is asked for (0 for the padding token after the end of a row,
        others -inf there), and ``past_key_values`` if a cache was given.

    Raises:
        TypeError: If ``draft`` is the name of a model.
        ValueError: If ``draft`` is missing; if something is asked for that is not done here, such as beams, other kinds
            of caches, hidden states, inputs besides ids; or if a processor keeps a state of its own, such as a cache
            for guidance without a prompt: a processor must be a function of the ids and scores it is given, for drafts
            are processed ahead.
    """
    check_request(draft, generation_config, streamer, input_ids)
    check_inputs(model_kwargs, input_ids)
    processors = [translate(processor) for processor in logits_processor or []]
    if not generation_config.do_sample:
        processors.append(Temperature(0))
    target = as_cached_scorer(model)
    mask, cache = model_kwargs.get("attention_mask"), user_cache(target, model_kwargs, input_ids)
    decoder = SpeculativeDecoder(
        target,
        with_cache(draft),
        verifier,
        num_drafts=num_drafts,
        draft_length=draft_length,
        processors=Chain(*processors),
        draft_processors=draft_processors,
        eos_token_id=end_tokens(model, generation_config),
        pad_token_id=pad_token(generation_config),
    )
    if streamer is not None:
        streamer.put(input_ids.cpu())  # the first that a streamer is given is the prompt
    result = decoder.decode(
        input_ids,
        max_new_tokens=generation_config.max_length - input_ids.shape[1],
        attention_mask=mask,
        generator=generator,
        on_tokens=with_streamer(on_tokens, streamer),
        stop=as_condition(stopping_criteria, input_ids),
        return_logits=bool(generation_config.output_scores),
    )
    if streamer is not None:
        streamer.end()
    if on_statistics is not None:
        on_statistics(result.statistics)
    if cache is not None:
        cache.take(result)
    return as_output(result, input_ids, generation_config, cache)


def with_streamer(on_tokens: Callable[[int, Tensor], None] | None, streamer: Any) -> Any:
    """Return a function of a row and its tokens that calls both."""
    if streamer is None:
        return on_tokens

    def both(row: int, tokens: Tensor) -> None:
        if on_tokens is not None:
            on_tokens(row, tokens)
        for token in tokens.split(1):  # one at a time, as transformers does
            streamer.put(token)

    return both


def as_output(result: Decoding, input_ids: Tensor, generation_config: Any, cache: Any) -> Any:
    """Return ids ``(B, L + n)``, or transformers' output of them."""
    sequences = torch.cat((input_ids, result.tokens.to(input_ids)), dim=1)
    if not generation_config.return_dict_in_generate:
        return sequences
    scores = as_scores(result, pad_token(generation_config)) if generation_config.output_scores else None
    past = None if cache is None else cache.cache
    return GenerateDecoderOnlyOutput(sequences=sequences, scores=scores, past_key_values=past)


def as_scores(result: Decoding, pad_token_id: int) -> tuple[Tensor, ...]:
    """Scores ``(B, v)`` of each new token; after the end of a row those that emit padding."""
    rows = result.logits or []
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-torch.inf)
    beyond = torch.arange(padded.shape[1]) >= result.lengths[:, None]
    padded[..., pad_token_id].masked_fill_(beyond.to(padded.device), 0.0)
    return tuple(padded.unbind(1))
