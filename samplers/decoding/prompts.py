"""Checks of what is decoded."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from mixkit._validation import check_integer


def split_prompts(input_ids: Any, attention_mask: Tensor | None = None) -> list[Tensor]:
    """Return prompts ``(n_b,)`` from ids ``(B, L)`` with an optional mask, or from a list of prompts."""
    if isinstance(input_ids, Tensor):
        if input_ids.ndim != 2:
            raise ValueError(f"input_ids must have shape (B, L), got {tuple(input_ids.shape)}")
        prompts = [_check_prompt(row) for row in input_ids]
        if attention_mask is not None:
            if attention_mask.shape != input_ids.shape:
                raise ValueError(
                    f"attention_mask must have the shape {tuple(input_ids.shape)} of input_ids, got "
                    f"{tuple(attention_mask.shape)}"
                )
            prompts = [prompt[mask.bool()] for prompt, mask in zip(prompts, attention_mask, strict=True)]
    elif attention_mask is not None:
        raise ValueError("attention_mask must be None for a list of prompts, got a mask")
    else:
        prompts = _list_prompts(input_ids)
    if not prompts or min(len(prompt) for prompt in prompts) == 0:
        raise ValueError("input_ids must hold at least one prompt, and each prompt at least one token, got none")
    lowest = min(int(prompt.min()) for prompt in prompts)
    if lowest < 0:
        raise ValueError(f"input_ids must hold token ids of at least 0, got {lowest}")
    return prompts


def _list_prompts(input_ids: Any) -> list[Tensor]:
    """Return the prompts of a list."""
    wanted = "input_ids must be a tensor of ids (B, L) or a list of prompts, each a list or tensor of token ids"
    if not isinstance(input_ids, Iterable) or isinstance(input_ids, str | bytes):
        raise TypeError(f"{wanted}, got {type(input_ids).__name__}")
    prompts = []
    for prompt in input_ids:
        if isinstance(prompt, str | bytes):
            raise TypeError(f"{wanted}, got a prompt of type {type(prompt).__name__}")
        try:
            prompts.append(torch.as_tensor(prompt))
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"{wanted}, got a prompt {prompt!r:.60}") from error
    return [_check_prompt(prompt) for prompt in prompts]


def _check_prompt(prompt: Tensor) -> Tensor:
    if prompt.is_floating_point() and prompt.numel() > 0:
        raise TypeError(f"input_ids must hold integers, got {prompt.dtype}")
    if prompt.ndim != 1:
        raise ValueError(f"input_ids must hold prompts of shape (n,), got {tuple(prompt.shape)}")
    return prompt.long()


def check_eos(eos_token_id: int | Sequence[int] | None) -> frozenset[int]:
    """Return the set of tokens that end a row."""
    if eos_token_id is None:
        return frozenset()
    tokens = eos_token_id if isinstance(eos_token_id, Sequence) else [eos_token_id]
    return frozenset(check_integer("eos_token_id", token, low=0) for token in tokens)


def check_vocabulary(prompts: list[Tensor], eos: frozenset[int], size: int) -> None:
    """Refuse prompts and ends of sequence that are not among the ``size`` tokens of the target."""
    largest = max(int(prompt.max()) for prompt in prompts)
    if largest >= size:
        raise ValueError(f"input_ids must lie in 0..{size - 1}, the target's vocabulary, got {largest}")
    if eos and max(eos) >= size:
        raise ValueError(f"eos_token_id must lie in 0..{size - 1}, the target's vocabulary, got {max(eos)}")
