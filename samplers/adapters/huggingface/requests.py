"""What ``generate`` is asked for: what is read here, and what is refused."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...decoding import Decoding, Scorer
from .key_values import KeyValueScorer

_READ = {"attention_mask", "position_ids", "past_key_values", "cache_params", "use_cache", "logits_to_keep"}
_REFUSED = {
    "num_beams": "1",
    "output_logits": "False: the scores after the processors are returned by output_scores",
    "output_hidden_states": "False for speculative decoding",
    "output_attentions": "False for speculative decoding",
    "penalty_alpha": "None for speculative decoding",
    "dola_layers": "None for speculative decoding",
    "prompt_lookup_num_tokens": "None: give draft=PromptLookup(...) instead",
}


def check_request(draft: Any, generation_config: Any, streamer: Any, input_ids: Tensor) -> None:
    """Refuse settings that would be ignored."""
    if draft is None:
        raise ValueError("draft must be a model, a sequence of models or a Drafter, got None")
    for name, wanted in _REFUSED.items():
        value = getattr(generation_config, name, None)
        if value and not (name == "num_beams" and value == 1):
            raise ValueError(f"{name} must be {wanted}, got {value!r}")
    if generation_config.cache_implementation not in (None, "dynamic"):
        raise ValueError(
            "cache_implementation must be None or 'dynamic': a speculative decoder crops and reorders its cache, got "
            f"{generation_config.cache_implementation!r}"
        )
    if streamer is not None and len(input_ids) != 1:
        raise ValueError(f"streamer must be None for {len(input_ids)} rows: it takes the tokens of one row")


def check_inputs(model_kwargs: dict[str, Any], input_ids: Tensor) -> None:
    """Refuse inputs of the model besides ids, and positions that are not those of the ids."""
    for name, value in model_kwargs.items():
        if name not in _READ and value is not None and not isinstance(value, bool):
            raise ValueError(f"{name} must be None: only ids are read by speculative_generate, got a value")
    position, mask = model_kwargs.get("position_ids"), model_kwargs.get("attention_mask")
    if position is None:
        return
    mask = torch.ones_like(input_ids) if mask is None else mask
    width = position.shape[-1]
    expected, is_real = (mask.long().cumsum(-1) - 1)[:, -width:], mask.bool()[:, -width:]
    if not torch.equal(position.expand_as(expected)[is_real], expected[is_real]):
        raise ValueError("position_ids must count the tokens of each prompt from 0, got others")


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


class UserCache:
    """A cache that ``generate`` was given: its keys and values are used, and it is brought up to date at the end.

    Args:
        cache: A ``DynamicCache`` that holds the first ``n`` columns of the prompts.
        scorer: The target.
        input_ids: Prompts ``(B, L)``, left-padded.
        mask: Their mask ``(B, L)``.
    """

    def __init__(self, cache: Any, scorer: KeyValueScorer, input_ids: Tensor, mask: Tensor) -> None:
        self.cache, self.scorer, self.mask = cache, scorer, mask.bool()
        size = cache.get_seq_length()
        if size > input_ids.shape[1]:
            raise ValueError(
                f"past_key_values must hold at most the prompts' {input_ids.shape[1]} tokens, got {size}: give "
                "generate the whole text, with what the cache holds"
            )
        rows = [ids[kept] for ids, kept in zip(input_ids[:, :size], self.mask[:, :size], strict=True)]
        scorer.begin_with(cache, rows)

    def take(self, result: Decoding) -> None:
        """Make the cache hold all columns of the output but the last."""
        padding = (~self.mask).sum(-1)
        rows = [row[:-1] for row in result.sequences]
        self.scorer.hand_over(self.cache, rows, padding, self.mask.shape[1] + result.tokens.shape[1] - 1)


def user_cache(scorer: Scorer, model_kwargs: dict[str, Any], input_ids: Tensor) -> UserCache | None:
    """Return the cache that the caller gave; None for one that ``generate`` made itself."""
    given = [model_kwargs.get(name) for name in ("past_key_values", "cache_params")]
    cache = next((one for one in given if one is not None), None)
    if cache is None or not getattr(cache, "_is_user_defined", False):
        return None
    if not isinstance(scorer, KeyValueScorer):
        raise ValueError(f"past_key_values must be None for a recurrent or hybrid model, got a {type(cache).__name__}")
    mask = model_kwargs.get("attention_mask")
    return UserCache(cache, scorer, input_ids, torch.ones_like(input_ids) if mask is None else mask)
