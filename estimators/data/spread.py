"""Means and standard deviations of columns, and which of them are constant."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Spread", "is_constant", "spread"]

_LEAST_SPREAD = 1e-150


class Spread(NamedTuple):
    """Of columns ``x (n, d)``: each ``(d,)``; ``factor`` is 1/std, and 0 of a constant column."""

    mean: Tensor
    std: Tensor
    is_constant: Tensor
    factor: Tensor


def is_constant(std: Tensor, x: Tensor) -> Tensor:
    """Which columns of ``x (..., n, d)``, of standard deviations ``std (..., d)``, vary by rounding alone or not."""
    return std <= 1e-13 * torch.maximum(x.amax(-2), -x.amin(-2))


def spread(x: Tensor) -> Spread:
    """Of columns ``x (n, d)``.

    Raises:
        ValueError: if their squares overflow, or those of a column that varies underflow.
    """
    std, mean = torch.std_mean(x, 0, correction=0)
    if not bool(torch.isfinite(std).all()):
        columns = (~torch.isfinite(std)).nonzero().squeeze(-1).tolist()
        raise ValueError(f"x must have squares that do not overflow, got columns {columns} too large; rescale them")
    lost = (std < _LEAST_SPREAD) & (x.amax(0) > x.amin(0))
    if bool(lost.any()):
        columns = lost.nonzero().squeeze(-1).tolist()
        raise ValueError(f"x must have squares that do not underflow, got columns {columns} too small; rescale them")
    constant = is_constant(std, x)
    return Spread(mean, std, constant, torch.where(constant, 0.0, 1.0 / torch.where(constant, 1.0, std)))
