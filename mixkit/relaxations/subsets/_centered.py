"""Logits of subsets in float64 and without the offset of their row, in which sums over subsets keep their digits."""

from torch import Tensor

from ...numerics.precision import widest_dtype
from ..noise import centered

__all__ = ["wide_centered"]


def wide_centered(logits: Tensor) -> Tensor:
    """``logits`` less the largest of their row, in float64: a subset of K items has K times the offset less."""
    return centered(logits.to(widest_dtype(logits)))
