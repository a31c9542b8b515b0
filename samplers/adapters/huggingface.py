"""Hugging Face causal models in the decoding loop: their KV cache, and ``model.generate(custom_generate=...)``.

Needs the extra ``mixkit[hf]``. A `KeyValueScorer` keeps the cache of what it has scored and, at each call, keeps of it
what the new rows have in common with the old ones: after a rejection the cache is cropped, the winner's cache serves
all drafts of its row, rows that are done drop out, and every row has a length of its own. A token tree is scored in one
pass, by an attention mask that shows each node its ancestors.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..decoding import Scorer, SpeculativeDecoder
from ..processors import Chain, Epsilon, Eta, LogitsFunction, MinP, Temperature, TopK, TopP, Typical
from ..verification.paths import ancestry, paths
from ..verification.sources import Randomness
from ..verification.verifier import Verifier

try:
    from transformers import DynamicCache, PreTrainedModel
    from transformers.cache_utils import DynamicLayer
    from transformers.generation import GenerateDecoderOnlyOutput
    from transformers.generation import logits_process as theirs
except ImportError as error:  # pragma: no cover
    raise ImportError("samplers.adapters.huggingface needs transformers: pip install mixkit[hf]") from error

__all__ = ["KeyValueScorer", "speculative_generate"]

_MATCH_SIZE = 2**22
"""Token comparisons made at once when rows look for their place in the cache."""


class KeyValueScorer(Scorer):
    """A causal model of transformers that does not compute again what its KV cache holds.

    Rows of different length are kept right-aligned in one cache, with explicit positions and a mask. A sliding window
    is applied by the model's mask: the cache keeps all of a sequence.

    Args:
        model: A causal model of transformers in evaluation mode, whose cache is a ``DynamicCache`` of keys and values.

    Raises:
        ValueError: If the model is an encoder-decoder or in training mode, or if its cache is of another kind.
    """

    def __init__(self, model: Any) -> None:
        if model.training:
            raise ValueError("model must be in evaluation mode (model.eval()), got one in training mode")
        if model.config.is_encoder_decoder:
            raise ValueError(f"model must be decoder-only, got {type(model).__name__}")
        self.model = model
        self.num_readable = model.get_input_embeddings().num_embeddings
        self._takes_masks = takes_masks(model)
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.reset()

    def reset(self) -> None:
        """Forget the cache."""
        self._cache: Any = None
        self._ids = torch.zeros(0, 0, dtype=torch.long)
        self._lengths = torch.zeros(0, dtype=torch.long)

    @torch.no_grad()
    def scores(self, ids: Tensor, lengths: Tensor, count: int) -> Tensor:
        """Run the model on the tokens that the cache does not hold, and on the last ``count`` at least."""
        tokens, position, is_cached = self._new(ids, lengths, count)
        mask = torch.cat((is_cached, position >= 0), dim=1)
        return self._run(tokens, position, None if mask.all() else mask.long(), count)

    @torch.no_grad()
    def tree_scores(
        self, ids: Tensor, lengths: Tensor, tokens: Tensor, parents: Tensor, sizes: Tensor, count: int
    ) -> Tensor:
        """Run the model on the whole tree at once, each node seeing the row and its ancestors; keep none of it.

        Models whose attention cannot be masked node by node (sliding windows, flash attention, ALiBi) score every
        prefix as a row of its own.
        """
        if not self._takes_masks:
            return super().tree_scores(ids, lengths, tokens, parents, sizes, count)
        new, position, is_cached = self._new(ids, lengths, 1)
        depth = paths(parents)[1][1:]
        is_real = torch.arange(len(depth), device=ids.device) < sizes[:, None]
        node_position = torch.where(is_real, depth, 0) + lengths[:, None] - 1
        seen = tree_mask(is_cached, position >= 0, parents)
        mask = torch.zeros_like(seen, dtype=self.model.dtype).masked_fill(~seen, torch.finfo(self.model.dtype).min)
        together = torch.cat((new, tokens), dim=1), torch.cat((position, node_position), dim=1)
        logits = self._run(*together, mask[:, None], count)
        _map_layers(self._cache, lambda states: states[:, :, : states.shape[2] - len(depth)])
        return logits

    def _new(self, ids: Tensor, lengths: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """The last tokens of each row ``(R, w)`` that the cache does not hold, ``count`` at least, and their positions.

        Positions ``(R, w)`` are negative in the padding before a row. The cache is arranged to hold what comes before;
        its entries that are no padding are ``(R, c)``.
        """
        source, common = self._match(ids, lengths, count)
        width = int((lengths - torch.minimum(common, lengths - count)).max())
        kept = (lengths - width).clamp(min=0)
        self._arrange(source, kept)
        self._ids, self._lengths = ids, lengths
        position = (lengths - width)[:, None] + torch.arange(width, device=ids.device)
        is_cached = torch.arange(int(kept.max()), device=ids.device) >= (kept.max() - kept)[:, None]
        return ids.gather(1, position.clamp(min=0)), position, is_cached

    def _run(self, tokens: Tensor, position: Tensor, mask: Tensor | None, count: int) -> Tensor:
        output = self.model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=position.clamp(min=0),
            past_key_values=self._cache,
            use_cache=True,
            **({"logits_to_keep": count} if self._keeps_logits else {}),
        )
        return output.logits[:, -count:]

    def _match(self, ids: Tensor, lengths: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """For each row, the old row ``(R,)`` with the longest common prefix, and its length ``(R,)``.

        A row that still has its own place and goes on from it is not compared with others.
        """
        source, common = torch.zeros_like(lengths), torch.zeros_like(lengths)
        if self._cache is None:
            return source, common
        if len(lengths) == len(self._lengths):
            source = torch.arange(len(lengths), device=ids.device)
            common = common_prefix(ids, lengths, self._ids, self._lengths)
        searching = (common < lengths - count).nonzero()[:, 0]
        for rows in searching.split(max(_MATCH_SIZE // self._ids.numel(), 1)):
            found = common_prefix(ids[rows, None], lengths[rows, None], self._ids[None], self._lengths[None])
            longest, best = found.max(dim=1)
            is_longer = longest > common[rows]
            source[rows] = torch.where(is_longer, best, source[rows])
            common[rows] = torch.where(is_longer, longest, common[rows])
        return source, common

    def _arrange(self, source: Tensor, kept: Tensor) -> None:
        """Make row ``r`` of the cache the first ``kept[r]`` tokens of the old row ``source[r]``, right-aligned."""
        width = int(kept.max())
        if self._cache is None or width == 0:
            self._cache = DynamicCache()
            return
        old_width = check_layers(self._cache)[0].keys.shape[2]
        start = (old_width - self._lengths[source]) + kept - width
        is_same = len(source) == len(self._lengths) and bool((source == torch.arange(len(source)).to(source)).all())
        if is_same and bool((start == start[0]).all()):
            first = int(start[0])
            _map_layers(self._cache, lambda states: states[:, :, first : first + width])
            return
        slot = (start[:, None] + torch.arange(width, device=start.device)).clamp(min=0)[:, None, :, None]
        _map_layers(
            self._cache,
            lambda states: states.index_select(0, source).gather(
                2, slot.expand(-1, states.shape[1], -1, states.shape[3])
            ),
        )


def takes_masks(model: Any) -> bool:
    """Whether a model's attention follows a mask of queries and keys, and its positions are those it is told."""
    config = model.config.get_text_config()
    is_windowed = getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None)
    is_full = set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
    return (
        "position_ids" in inspect.signature(model.forward).parameters
        and getattr(config, "_attn_implementation", None) in ("eager", "sdpa")
        and not is_windowed
        and is_full
        and not getattr(config, "alibi", False)
    )


def tree_mask(is_cached: Tensor, is_real: Tensor, parents: Tensor) -> Tensor:
    """What each of ``w`` new tokens and ``n`` nodes of a tree sees of ``c`` cached tokens and of themselves.

    Args:
        is_cached: Cached tokens that are no padding ``(R, c)``.
        is_real: New tokens that are no padding ``(R, w)``.
        parents: Parent of each node ``(n,)``, -1 for the last of the new tokens.

    Returns:
        ``(R, w+n, c+w+n)``: every token sees itself and what comes before it, every node its ancestors too.

    Example:
        >>> tree_mask(torch.ones(1, 1).bool(), torch.ones(1, 1).bool(), torch.tensor([-1, -1, 0]))[0].long()
        tensor([[1, 1, 0, 0, 0],
                [1, 1, 1, 0, 0],
                [1, 1, 0, 1, 0],
                [1, 1, 1, 0, 1]])
    """
    count, width, size = is_cached.shape[1], is_real.shape[1], parents.numel()
    within = torch.ones(width + size, width + size, dtype=torch.bool, device=is_real.device).tril()
    within[width:, width:] = ancestry(parents)
    before = torch.cat((is_cached, is_real), dim=1)[:, None].expand(-1, width + size, -1)
    seen = torch.nn.functional.pad(before, (0, size), value=True)
    return seen & torch.nn.functional.pad(within, (count, 0), value=True)


def common_prefix(ids: Tensor, lengths: Tensor, other_ids: Tensor, other_lengths: Tensor) -> Tensor:
    """Length ``(...)`` of the common prefix of rows ``(..., L)`` and ``(..., K)`` of the given lengths.

    Example:
        >>> common_prefix(torch.tensor([1, 2, 3]), torch.tensor(3), torch.tensor([1, 2, 4, 5]), torch.tensor(4))
        tensor(2)
    """
    size = min(ids.shape[-1], other_ids.shape[-1])
    is_equal = ids[..., :size] == other_ids[..., :size]
    position = torch.arange(size, dtype=torch.int32, device=ids.device)
    first_difference = torch.where(is_equal, size, position).amin(dim=-1).long()
    return torch.minimum(first_difference, torch.minimum(lengths, other_lengths))


def check_layers(cache: Any) -> list[Any]:
    """Return the layers of a cache if each holds all keys and values of a sequence."""
    for layer in cache.layers:
        if type(layer) is not DynamicLayer:
            raise ValueError(f"model must cache all keys and values of a sequence, got a layer {type(layer).__name__}")
    return cache.layers


def _map_layers(cache: Any, function: Callable[[Tensor], Tensor]) -> None:
    for layer in cache.layers:
        layer.keys, layer.values = function(layer.keys), function(layer.values)


_OURS: dict[type, Callable[[Any], LogitsFunction]] = {
    theirs.TemperatureLogitsWarper: lambda warper: Temperature(warper.temperature),
    theirs.TopKLogitsWarper: lambda warper: TopK(warper.top_k),
    theirs.TopPLogitsWarper: lambda warper: TopP(warper.top_p, warper.min_tokens_to_keep),
    theirs.MinPLogitsWarper: lambda warper: MinP(warper.min_p, warper.min_tokens_to_keep),
    theirs.TypicalLogitsWarper: lambda warper: Typical(warper.mass, warper.min_tokens_to_keep),
    theirs.EpsilonLogitsWarper: lambda warper: Epsilon(warper.epsilon, warper.min_tokens_to_keep),
    theirs.EtaLogitsWarper: lambda warper: Eta(float(warper.epsilon), warper.min_tokens_to_keep),
}


_STATEFUL = (theirs.UnbatchedClassifierFreeGuidanceLogitsProcessor, theirs.SynthIDTextWatermarkLogitsProcessor)


def translate(processor: LogitsFunction) -> LogitsFunction:
    """Return our processor of the same results for a warper of transformers, and anything else as it is.

    Ours need no history, so all positions of a round are processed in one call.
    """
    if isinstance(processor, _STATEFUL):
        raise ValueError(
            f"logits_processor must hold functions of ids and scores alone, got {type(processor).__name__}, which "
            "keeps a state of its own"
        )
    if getattr(processor, "filter_value", -torch.inf) != -torch.inf or type(processor) not in _OURS:
        return processor
    return _OURS[type(processor)](processor)


def with_cache(draft: Any) -> Any:
    """Return models of transformers as scorers with a cache, and anything else as it is."""
    if isinstance(draft, Sequence):
        return [with_cache(model) for model in draft]
    return KeyValueScorer(draft) if isinstance(draft, PreTrainedModel) else draft


def pad_token(generation_config: Any) -> int:
    """Return the padding token of a configuration: its own, else an end-of-sequence token, else 0."""
    for token in (generation_config.pad_token_id, generation_config.eos_token_id):
        if token is not None:
            return int(token[0]) if isinstance(token, Sequence) else int(token)
    return 0


def end_tokens(model: Any, generation_config: Any) -> list[int]:
    """Return the end-of-sequence tokens of a configuration that the model knows."""
    tokens = generation_config.eos_token_id
    tokens = tokens if isinstance(tokens, Sequence) else [] if tokens is None else [tokens]
    return [int(token) for token in tokens if 0 <= token < model.config.get_text_config().vocab_size]


def speculative_generate(
    model: Any,
    input_ids: Tensor,
    logits_processor: Any = None,
    stopping_criteria: Any = None,
    generation_config: Any = None,
    *,
    draft: Any = None,
    verifier: Verifier | None = None,
    num_drafts: int | None = None,
    draft_length: int | None = None,
    draft_processors: LogitsFunction | Sequence[LogitsFunction] | None = None,
    generator: Randomness = None,
    on_tokens: Callable[[int, Tensor], None] | None = None,
    on_statistics: Callable[[Any], None] | None = None,
    **model_kwargs: Any,
) -> Any:
    """Decode speculatively inside generate: ``model.generate(ids, custom_generate=speculative_generate, draft=...)``.

    Temperature, truncation and other processors, stopping criteria, ``max_new_tokens``, ``eos_token_id`` and
    ``pad_token_id`` are those that ``generate`` was called with; with ``do_sample=False`` decoding is greedy. The
    arguments below go to ``generate`` as well.

    Args:
        model: The target.
        input_ids: Prompts ``(B, L)``, left-padded.
        logits_processor: The processors that ``generate`` prepared.
        stopping_criteria: The criteria that ``generate`` prepared; each is checked after every token.
        generation_config: The settings that ``generate`` prepared.
        draft: A causal model of transformers, a sequence of them, a `Drafter` or a `SampledTree`. Required.
        verifier: The rule; by default speculative sampling of one draft.
        num_drafts: Drafts a round ``m``, by default one of each model.
        draft_length: Longest draft ``t``, 5 by default.
        draft_processors: Processor of the draft models, or a sequence of one a draft; by default that of the target.
        generator: One generator or seed, a sequence of one for each row, or None for torch's default generator.
        on_tokens: Called with a row and its new tokens as soon as they are known.
        on_statistics: Called with the `Statistics` at the end.
        **model_kwargs: What else ``generate`` passes; the prompts' ``attention_mask`` is used.

    Returns:
        Prompts and new tokens ``(B, L + n)``, right-padded; with ``return_dict_in_generate``, as the ``sequences`` of
        transformers' output.

    Raises:
        ValueError: If ``draft`` is missing; if beams are asked for, or the scores of tokens, which have no one
        distribution when
            several drafts compete; or a processor keeps a state of its own, such as a cache for guidance without a
            prompt: a processor must be a function of the ids and scores it is given, for drafts are processed ahead.
    """
    if draft is None:
        raise ValueError("draft must be a model, a sequence of models or a Drafter, got None")
    if generation_config.num_beams > 1:
        raise ValueError(f"num_beams must be 1, got {generation_config.num_beams}")
    for name in ("output_scores", "output_logits"):
        if getattr(generation_config, name, None):
            raise ValueError(f"{name} must be False for speculative decoding, got True")
    processors = [translate(processor) for processor in logits_processor or []]
    if not generation_config.do_sample:
        processors.append(Temperature(0))
    decoder = SpeculativeDecoder(
        KeyValueScorer(model),
        with_cache(draft),
        verifier,
        num_drafts=num_drafts,
        draft_length=draft_length,
        processors=Chain(*processors),
        draft_processors=draft_processors,
        eos_token_id=end_tokens(model, generation_config),
        pad_token_id=pad_token(generation_config),
    )
    result = decoder.decode(
        input_ids,
        max_new_tokens=generation_config.max_length - input_ids.shape[1],
        attention_mask=model_kwargs.get("attention_mask"),
        generator=generator,
        on_tokens=on_tokens,
        stop=(lambda ids: bool(stopping_criteria(ids, None).any())) if stopping_criteria else None,
    )
    if on_statistics is not None:
        on_statistics(result.statistics)
    sequences = torch.cat((input_ids, result.tokens), dim=1)
    return GenerateDecoderOnlyOutput(sequences=sequences) if generation_config.return_dict_in_generate else sequences
