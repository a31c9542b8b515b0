"""What owns a temperature: a fixed, learnable or scheduled one."""

from torch import Tensor, nn

from .._validation import check_positive
from ..temperature import FixedTemperature, Temperature
from ._steps import in_float32_at_least

__all__ = ["TemperatureLike", "Tempered"]

TemperatureLike = float | Temperature


class Tempered(nn.Module):
    """A module with a temperature.

    Args:
        temperature: a positive number or a :class:`mixkit.temperature.Temperature` (learnable or scheduled).

    Raises:
        TypeError: if ``temperature`` is neither.
        ValueError: if it is a number that is not positive and finite.
    """

    def __init__(self, temperature: TemperatureLike) -> None:
        super().__init__()
        if isinstance(temperature, Tensor):
            raise TypeError("temperature must be a number or a Temperature such as LearnableTemperature, got a Tensor")
        if not isinstance(temperature, Temperature):
            temperature = FixedTemperature(float(check_positive("temperature", temperature)))
        self.temperature = temperature

    def temperature_at(self, logits: Tensor) -> float | Tensor:
        """The temperature for these logits; a number if it is fixed, so that half precision does not round it."""
        if isinstance(self.temperature, FixedTemperature):
            return self.temperature.value
        return self.temperature(in_float32_at_least(logits))
