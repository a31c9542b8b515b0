"""Working precision: float16 and bfloat16 are stored, not computed in."""

import torch
from torch import Tensor

__all__ = ["at_least_float32"]


def at_least_float32(value: Tensor) -> Tensor:
    """``value`` in float32 if its dtype is narrower, else as it is."""
    return value.float() if torch.finfo(value.dtype).bits < 32 else value
