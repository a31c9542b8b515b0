"""Checks of what a verifier is given: each error names the argument, the rule and what was received."""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Generator, Tensor

from mixkit._validation import check_integer, check_tensor


def check_logits(name: str, value: Tensor, valid: Tensor | None = None) -> None:
    """Refuse logits unless every row is a distribution up to a constant: no NaN, no +inf, not all -inf.

    Args:
        name: Name of the argument.
        value: Logits ``(*shape, v)``.
        valid: Rows that count ``(*shape)``; the others are padding and may hold anything.
    """
    if value.ndim > 2 and value.stride(1) == 0 and valid is None:
        value = value[:, :1]  # one distribution expanded over the drafts
    peak = value.amax(-1)
    if math.isfinite(float(peak.sum(dtype=torch.float64))):
        return
    bad = ~torch.isfinite(peak)
    if valid is not None:
        bad &= valid
    if bad.any():
        first = tuple(bad.nonzero()[0].tolist())
        raise ValueError(
            f"{name} must hold no NaN, no +inf and no row that is all -inf, got a row of maximum {float(peak[first])} "
            f"at index {first}"
        )


def check_probs(name: str, value: Any, *, tolerance: float = 1e-4) -> Tensor:
    """Return ``value`` if its rows ``(..., v)`` are probabilities: finite, not negative, summing to 1.

    The sum may be off by the tolerance, or by what rounding in the rows' dtype leaves.
    """
    check_tensor(name, value)
    if value.ndim == 0 or value.shape[-1] == 0:
        raise ValueError(f"{name} must have a last dimension of tokens, got shape {tuple(value.shape)}")
    total = value.sum(-1, dtype=torch.float64)
    tolerance = max(tolerance, torch.finfo(value.dtype).eps)
    if not (value >= 0).all() or not ((total - 1).abs() <= tolerance).all():
        raise ValueError(
            f"{name} must hold probabilities, not negative and summing to 1 over the last dimension, got a smallest "
            f"entry of {float(value.min())} and a sum of {float(total.flatten()[(total.flatten() - 1).abs().argmax()])}"
        )
    return value


def check_rows(**rows: Any) -> None:
    """Refuse two tensors ``(..., v)`` unless both hold rows of probabilities over one vocabulary."""
    target, other = (check_probs(name, value) for name, value in rows.items())
    check_same_vocabulary(target, other)


def check_unit(name: str, value: Any) -> Tensor:
    """Return a tensor if its entries lie in [0, 1], up to rounding."""
    check_tensor(name, value)
    if value.numel() and not ((value >= 0) & (value <= 1 + max(1e-4, torch.finfo(value.dtype).eps))).all():
        low, high = (float(part) for part in value.aminmax())
        raise ValueError(f"{name} must hold probabilities in [0, 1], got entries from {low} to {high}")
    return value


def check_same_vocabulary(target: Tensor, draft: Tensor) -> None:
    """Refuse distributions over vocabularies of different size."""
    if target.shape[-1] != draft.shape[-1]:
        raise ValueError(
            f"target and draft must share one vocabulary, got {target.shape[-1]} and {draft.shape[-1]} tokens: pad the "
            "smaller logits with -inf first"
        )


def check_whole(name: str, value: Any) -> Tensor:
    """Return a tensor of any integer dtype in int64."""
    check_tensor(name, value, floating=False)
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{name} must have an integer dtype, got {value.dtype}")
    return value.long()


def check_block_shapes(target: Any, draft: Any, tokens: Any) -> Tensor:
    """Check ``target (B, [m,] t+1, v)``, ``draft (B, [m,] t, v)`` or None; return ``tokens (B, [m,] t)`` in int64."""
    check_tensor("target_logits", target)
    tokens = check_whole("draft_tokens", tokens)
    if tokens.ndim not in (2, 3):
        raise ValueError(f"draft_tokens must have shape (B, t) or (B, m, t), got {tuple(tokens.shape)}")
    if tokens.ndim == 3 and tokens.shape[1] == 0:
        raise ValueError(f"draft_tokens must hold at least one draft, got shape {tuple(tokens.shape)}")
    wanted = (*tokens.shape[:-1], tokens.shape[-1] + 1)
    if target.ndim != tokens.ndim + 1 or target.shape[:-1] != wanted:
        raise ValueError(
            f"target_logits must have shape {(*wanted, 'v')} for draft_tokens {tuple(tokens.shape)}, got "
            f"{tuple(target.shape)}"
        )
    if draft is None:
        return tokens
    check_tensor("draft_logits", draft)
    if draft.ndim != tokens.ndim + 1 or draft.shape[:-1] != tokens.shape:
        raise ValueError(
            f"draft_logits must have shape {(*tokens.shape, 'v')} for draft_tokens {tuple(tokens.shape)}, got "
            f"{tuple(draft.shape)}"
        )
    check_same_vocabulary(target, draft)
    return tokens


def check_lengths(lengths: Any, shape: tuple[int, int, int]) -> Tensor:
    """Return draft lengths ``(B, m)`` in ``0..t`` from ``(B,)``, ``(B, m)`` or None."""
    batch, num_drafts, size = shape
    lengths = check_whole("lengths", lengths)
    if tuple(lengths.shape) not in ((batch,), (batch, num_drafts)):
        raise ValueError(f"lengths must have shape ({batch},) or ({batch}, {num_drafts}), got {tuple(lengths.shape)}")
    if ((lengths < 0) | (lengths > size)).any():
        raise ValueError(f"lengths must lie in 0..{size}, got {int(lengths.min())}..{int(lengths.max())}")
    return lengths.reshape(batch, -1).expand(batch, num_drafts)


def check_tokens(tokens: Tensor, draft: Tensor | None, num_tokens: int, valid: Tensor | None) -> Tensor:
    """Return token ids with padding set to 0, if every id is in the vocabulary and possible under its draft law."""
    if valid is not None:
        tokens = tokens.masked_fill(~valid, 0)
    if tokens.numel() == 0:
        return tokens
    low, high = tokens.aminmax()
    if int(low) < 0 or int(high) >= num_tokens:
        first = tuple(((tokens < 0) | (tokens >= num_tokens)).nonzero()[0].tolist())
        raise ValueError(f"draft_tokens must lie in 0..{num_tokens - 1}, got {int(tokens[first])} at index {first}")
    if draft is not None:
        held = draft.gather(-1, tokens[..., None])[..., 0]
        if valid is None and float(held.amin()) > -torch.inf:
            return tokens
        bad = held == -torch.inf
        if valid is not None:
            bad &= valid
        if bad.any():
            first = tuple(bad.nonzero()[0].tolist())
            raise ValueError(
                f"draft_tokens must have positive draft probability, got token {int(tokens[first])} of probability 0 "
                f"at index {first}: draft_logits must be the law that the drafts were drawn from"
            )
    return tokens


def check_generator(generator: Any, batch: int) -> Generator | list[Generator | None] | None:
    """Return a generator, a list of one (or None) for each of ``batch`` rows, or None; a seed becomes a generator."""
    if generator is None:
        return None
    if not isinstance(generator, Sequence) or isinstance(generator, str):
        return _seeded(generator, batch)
    if len(generator) != batch:
        raise ValueError(f"generator must hold one generator per row, {batch}, got {len(generator)}")
    return [None if entry is None else _seeded(entry, batch) for entry in generator]


def check_seed(generator: Any) -> Generator:
    """Return a generator; a seed becomes one on the CPU."""
    if isinstance(generator, Generator):
        return generator
    if not isinstance(generator, Integral) or isinstance(generator, bool):
        raise TypeError(f"generator must be a torch.Generator or a seed, got {type(generator).__name__}")
    return torch.Generator().manual_seed(check_integer("generator", generator, low=0, high=2**63 - 1))


def _seeded(entry: Any, batch: int) -> Generator:
    if isinstance(entry, Generator):
        return entry
    if not isinstance(entry, Integral) or isinstance(entry, bool):
        raise TypeError(
            f"generator must be a torch.Generator, a seed, a sequence of {batch} of them or None, got "
            f"{type(entry).__name__}"
        )
    return check_seed(entry)
