"""What experts of positive responses share whose mean is an exponential and whose spread is relative to it."""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from .._validation import can_read_values
from ..parameters import ParameterRecord, ScalePower
from .base import OwnConstantsExperts

__all__ = ["PositiveMeanExperts"]


class PositiveMeanExperts(OwnConstantsExperts):
    """Positive responses by the logarithm of their mean and that of a scale s, of which users read the square.

    Attributes:
        title: what messages call the distribution.
        log_scale: logarithm of s, ``(*batch, k)``; starts at 0.
    """

    title: ClassVar[str]
    constant_names = ("log_scale",)
    floor_name = "log_scale"
    log_scale: nn.Parameter

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """The constant, of which users read the square."""
        return tuple(replace(r, block="dispersion", transform=ScalePower(2.0)) for r in super().parameter_records())

    def check_response(self, y: Tensor) -> Tensor:
        """Return ``y`` if it is positive, else raise ``ValueError``."""
        bad = super().check_response(y) <= 0
        if can_read_values(y) and bad.any():
            raise ValueError(f"y must be positive for {self.title} experts, got {float(y[bad][0])}")
        return y

    def start_locations(self, y: Tensor) -> list[Tensor]:
        """``log y``."""
        return [torch.log(y)]
