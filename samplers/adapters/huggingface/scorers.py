"""Which scorer a model takes."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ...decoding import CallableScorer, Scorer
from .key_values import KeyValueScorer, check_model, has_recurrent_layers
from .mask_probe import is_right, probe_tokens
from .replay import ReplayScorer, is_causal


def as_cached_scorer(model: Any) -> Scorer:
    """Return a scorer of a causal model of transformers that uses what the model can keep between calls.

    Models that cache keys and values take a `KeyValueScorer`, recurrent and hybrid ones a `ReplayScorer`, and causal
    models that keep nothing are called on whole rows. What a model can do is tested on a few tokens.

    Raises:
        TypeError: If ``model`` is no model of transformers, such as a name.
        ValueError: If the model is an encoder-decoder, in training mode, or not causal.
    """
    check_model(model)
    if keeps_keys_and_values(model):
        return KeyValueScorer(model)
    try:
        return ReplayScorer(model)
    except ValueError:
        with torch.no_grad():
            if is_causal(model):
                return CallableScorer(WithoutState(model))
        raise


class WithoutState:
    """A model that is called on whole rows; a causal model does not see the padding after a row's end."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, ids: Tensor) -> Tensor:
        """Return logits ``(R, L, v)`` of ``ids (R, L)``."""
        return self.model(input_ids=ids).logits


@torch.no_grad()
def keeps_keys_and_values(model: Any) -> bool:
    """Whether a model goes on from a cache of keys and values alone, tested against reading all tokens at once."""
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        return False
    if has_recurrent_layers(model):
        return False
    ids = probe_tokens(model, 9)
    cache = DynamicCache()
    try:
        whole, wrong = model(input_ids=ids).logits, model(input_ids=ids[:, 5:]).logits
        model(input_ids=ids[:, :5], past_key_values=cache, use_cache=True)
        found = model(input_ids=ids[:, 5:], past_key_values=cache, use_cache=True).logits
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return False
    return len(cache.layers) > 0 and is_right(found[0, 1:], whole[0, 6:], wrong[0, 1:])


def with_cache(draft: Any) -> Any:
    """Return models of transformers as scorers with a cache, and anything else as it is."""
    if isinstance(draft, str | bytes):
        raise TypeError(f"draft must be a model (load it with from_pretrained), not the name of one, got {draft!r}")
    if isinstance(draft, Sequence):
        return [with_cache(model) for model in draft]
    return as_cached_scorer(draft) if isinstance(draft, PreTrainedModel) else draft
