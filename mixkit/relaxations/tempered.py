"""What owns a temperature: a fixed, learnable or scheduled one."""

from torch import Tensor, nn

from .._validation import at_least_float32, check_positive, check_tensor
from ..gates.temperatures import FixedTemperature, Temperature
from ..parameters import has_form

__all__ = ["TemperatureLike", "Tempered"]

TemperatureLike = float | Temperature


class Tempered(nn.Module):
    """A module with a temperature.

    Args:
        temperature: a positive number or a :class:`mixkit.gates.temperatures.Temperature` (learnable or scheduled).

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
        """The temperature for these logits ``(*batch, k)``; a number if it is fixed, so that no precision rounds it.

        Else a tensor of no more dimensions than the logits have: a ``Temperature`` has at least two.

        Raises:
            TypeError: if the logits are no floating tensor.
            ValueError: if the temperature does not broadcast to the logits.
        """
        if has_form(self.temperature, FixedTemperature, "forward"):
            return self.temperature.value
        temperature = self.temperature(at_least_float32(check_tensor("logits", logits)))
        while temperature.ndim > logits.ndim and temperature.shape[0] == 1:
            temperature = temperature.squeeze(0)
        pairs = zip(reversed(temperature.shape), reversed(logits.shape), strict=False)
        if temperature.ndim > logits.ndim or any(t not in (1, size) for t, size in pairs):
            raise ValueError(
                f"temperature must broadcast to the logits, of shape {tuple(logits.shape)}, "
                f"got shape {tuple(temperature.shape)}"
            )
        return temperature
