"""Warpers of transformers as processors of this package."""

from collections.abc import Callable
from typing import Any

import torch
from transformers.generation import logits_process as theirs

from ...processors import Epsilon, Eta, LogitsFunction, MinP, Temperature, TopK, TopP, Typical

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
