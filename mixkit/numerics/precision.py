"""Working precision: float16 and bfloat16 are stored, not computed in, and sums are taken in float64.

What dtype to add up in, and whether a number survives the dtype it is used in, is answered here and nowhere else.
"""

import math

import torch
from torch import Tensor

__all__ = ["check_divisor", "clamp_to_dtype", "narrow", "wide_mean", "wide_sum", "widest_dtype"]


def widest_dtype(like: Tensor) -> torch.dtype:
    """The dtype to add up in on the device of ``like``: float64, but float32 where a device has no float64."""
    return torch.float32 if like.device.type == "mps" else torch.float64


def narrow(result: Tensor, like: Tensor) -> Tensor:
    """What was computed wider than ``like`` in its dtype again, in float32 at least."""
    return result.to(torch.promote_types(like.dtype, torch.float32))


def wide_sum(value: Tensor, dim: int | tuple[int, ...] = -1, *, keepdim: bool = False) -> Tensor:
    """The sum over ``dim``, added up in float64 whatever the dtype of ``value``; in float32 at least."""
    return narrow(value.sum(dim, keepdim=keepdim, dtype=widest_dtype(value)), value)


def wide_mean(value: Tensor, dim: int | tuple[int, ...] = -1) -> Tensor:
    """The mean over ``dim``, added up in float64 whatever the dtype of ``value``; in float32 at least."""
    return narrow(value.mean(dim, dtype=widest_dtype(value)), value)


def clamp_to_dtype(number: float, dtype: torch.dtype) -> float:
    r"""The positive ``number`` moved to the nearest one that entries of ``dtype`` can be divided by without harm.

    In float32 that range is :math:`[2^{-120}, 3.4 \cdot 10^{38}]`: a smaller divisor would become 0, or take numbers of
    magnitude 22, the largest noise there is, beyond the dtype. What is divided is at a limit there already.
    """
    return min(max(number, smallest_divisor(dtype)), torch.finfo(dtype).max)


def check_divisor(name: str, number: float, dtype: torch.dtype) -> float:
    """Return the positive ``number`` if entries of ``dtype`` can be divided by it: it is no zero and no infinity there.

    Half precision divides by what float32 makes of the number.
    """
    info = torch.finfo(torch.promote_types(dtype, torch.float32))
    if not info.tiny <= number <= info.max:
        raise ValueError(f"{name} must be from {info.tiny:g} to {info.max:g} for scores of {dtype}, got {number}")
    return number


def smallest_divisor(dtype: torch.dtype) -> float:
    """A power of two, 64 times the smallest normal number: what 22 is divided by without overflow."""
    return 64.0 * 2.0 ** math.ceil(math.log2(torch.finfo(dtype).tiny))
