"""Temperatures: what divides the scores of a gate."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ._validation import check_positive

__all__ = ["FixedTemperature", "Temperature"]


class Temperature(nn.Module, ABC):
    """Maps covariates ``x (*batch, n, d)`` to positive temperatures that broadcast to ``(*batch, n, 1)``."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """The temperature at every row of ``x``."""


class FixedTemperature(Temperature):
    """One temperature for all x, a setting and not a parameter.

    Args:
        value: the temperature, positive.

    Raises:
        ValueError: if ``value`` is not positive and finite.

    Example:
        >>> import torch
        >>> FixedTemperature(0.5)(torch.ones(4, 2))
        tensor(0.5000)
    """

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value = float(check_positive("value", value))

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of no dimension."""
        return x.new_full((), self.value)

    def extra_repr(self) -> str:
        """The value shown by ``repr``."""
        return f"{self.value:g}"
