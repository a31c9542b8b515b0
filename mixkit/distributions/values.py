"""What a distribution asks of the values at which it is evaluated."""

from typing import Any

import torch
from torch import Tensor

from .._validation import can_read_values

__all__ = ["ZeroOutsideSupport"]


class ZeroOutsideSupport:
    """A distribution whose density is zero outside its support, where torch's own raise an error under validation.

    A component of a mixture is asked for its density wherever another one has mass, so a value outside the support is
    no mistake. NaN is one: with ``validate_args`` it is refused, without it the result is NaN.
    """

    batch_shape: torch.Size
    event_shape: torch.Size

    def _validate_sample(self, value: Any) -> None:
        """Raise unless ``value`` is a tensor ``(*sample, *batch, *event)`` that holds no NaN."""
        if not isinstance(value, Tensor):
            raise ValueError(f"value must be a torch.Tensor, got {type(value).__name__}")
        shape = (*self.batch_shape, *self.event_shape)
        own, event = tuple(value.shape), len(self.event_shape)
        pairs = zip(reversed(own), reversed(shape), strict=False)
        is_event = own[len(own) - event :] == tuple(self.event_shape)
        if not is_event or any(a != b and 1 not in (a, b) for a, b in pairs):
            raise ValueError(f"value must have a shape that broadcasts with {shape}, got {own}")
        if can_read_values(value) and bool(value.isnan().any()):
            raise ValueError(f"value must hold no NaN, got {int(value.isnan().sum())} such entries")
