"""Logits of subsets in float64 and without the offset of their row, in which sums over subsets keep their digits."""

import torch
from torch import Tensor

from ...numerics.precision import widest_dtype
from ..noise import centered

__all__ = ["narrow", "wide_centered"]


def wide_centered(logits: Tensor) -> Tensor:
    """``logits`` less the largest of their row, in float64: a subset of K items has K times the offset less."""
    return centered(logits.to(widest_dtype(logits)))


def narrow(value: Tensor, logits: Tensor) -> Tensor:
    """``value`` in the dtype of ``logits``, in float32 at least."""
    return value.to(torch.promote_types(logits.dtype, torch.float32))
