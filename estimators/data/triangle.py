"""Triangular factors of many rows."""

import torch
from torch import Tensor

__all__ = ["COLLINEAR", "triangle"]

COLLINEAR = 1e-9  # a column of length one of which no more than this is outside the span of others is their combination
_ROWS_AT_ONCE = 2**16


def triangle(x: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """The triangular factor of ``(x - mean) * factor``, by QR of one block of rows after another."""
    upper = x[:0]
    for rows in x.split(_ROWS_AT_ONCE):
        _, upper = torch.linalg.qr(torch.cat([upper, (rows - mean) * factor]), mode="r")
    return upper
