"""Temperatures that are tuned to a target entropy, or grow colder along a sequence."""

import math

import torch
from torch import Tensor, nn

from .._validation import at_least_float32, check_finite, check_positive, check_tensor
from ..numerics.buffers import KeepsFloat32
from ..numerics.precision import wide_mean
from .gate import entropy
from .temperatures import FixedTemperature, Temperature

__all__ = ["PositionTemperature", "TargetEntropyTemperature"]


class PositionTemperature(Temperature):
    r"""A temperature that falls along the rows, :math:`\tau(x, i) = \tau_0(x) / (1 + \sigma(a) \log i)`.

    Row :math:`i = 1, 2, \dots` of x is a position of a sequence: a softmax over more and more keys flattens unless its
    scores grow like the logarithm of their number. With an :class:`~mixkit.gates.temperatures.InputTemperature` as base
    it depends on position and input. After the position-aware temperature of selective self-attention: Zhang, Chang,
    Li, Roy-Chowdhury, Chen and Oymak (2024), arXiv 2411.12892.

    Args:
        base: :math:`\tau_0`; 1 if None.
        initial: :math:`\sigma(a)` at the start, above 0 and below 1.
        batch_shape: leading dimensions of independent models.
        dtype: dtype of the parameter.
        device: device of the parameter.

    Attributes:
        strength_logit: a, ``(*batch,)``.

    Raises:
        TypeError: if ``base`` is not a temperature.
        ValueError: if ``initial`` is not between 0 and 1.

    Example:
        >>> import torch
        >>> PositionTemperature(initial=0.5)(torch.ones(3, 2)).detach().flatten()
        tensor([1.0000, 0.7426, 0.6455])
    """

    depends_on_position = True

    def __init__(
        self,
        base: Temperature | None = None,
        *,
        initial: float = 0.5,
        batch_shape: tuple[int, ...] = (),
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if base is not None and not isinstance(base, Temperature):
            raise TypeError(f"base must be a Temperature, got {type(base).__name__}")
        if not 0.0 < initial < 1.0:
            raise ValueError(f"initial must be above 0 and below 1, got {initial}")
        self.base = FixedTemperature(1.0) if base is None else base
        start = math.log(initial) - math.log1p(-initial)
        self.strength_logit = nn.Parameter(torch.full(batch_shape, start, dtype=dtype, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """Temperatures ``(*batch, n, 1)``."""
        wide = at_least_float32(self.strength_logit)
        position = torch.arange(1, x.shape[-2] + 1, dtype=wide.dtype, device=x.device).unsqueeze(-1)
        growth = 1.0 + torch.sigmoid(wide)[..., None, None] * position.log()  # of half precision 65520 is no position
        return (self.base(x) / growth).to(x.dtype)


class TargetEntropyTemperature(KeepsFloat32, Temperature):
    r"""One temperature for all x, at which the mean entropy of :math:`\operatorname{softmax}(s / \tau)` is a target.

    The entropy rises with the temperature, from that of ties to :math:`\log k`, so there is one such temperature;
    :meth:`tune` finds it by bisection. No gradient reaches it: tune it every few steps of training.

    Args:
        target: mean entropy in nats, positive.
        initial: the temperature until the first call of ``tune``, positive.
        dtype: dtype in which the temperature is held.
        device: device on which it is held.

    Attributes:
        value: the temperature now, a tensor of no dimension; in ``state_dict``.

    Raises:
        ValueError: if an argument is not positive and finite.

    Example:
        >>> import torch
        >>> from mixkit.gates import entropy
        >>> temperature = TargetEntropyTemperature(0.5)
        >>> scores = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
        >>> temperature.tune(scores)
        >>> entropy((scores / temperature.value).log_softmax(-1)).mean()
        tensor(0.5000)
    """

    value: Tensor
    depends_on_x = False
    float32_buffers = ("value",)

    def __init__(
        self,
        target: float,
        *,
        initial: float = 1.0,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.target = float(check_positive("target", target))
        start = float(check_positive("initial", initial))
        wide = torch.promote_types(dtype or torch.get_default_dtype(), torch.float32)
        self.register_buffer("value", torch.tensor(start, dtype=wide, device=device))

    @torch.no_grad()
    def tune(self, scores: Tensor) -> None:
        """Set the temperature by scores before it, ``(..., k)``, -inf for experts that cannot be.

        Raises:
            ValueError: if no temperature from 1e-12 to 1e12 reaches the target: it is below the entropy of ties, or
                not below the mean of the logarithm of the number of experts.
        """
        wide = at_least_float32(check_tensor("scores", scores)).double()
        centered = wide - wide.amax(-1, keepdim=True)
        check_finite("the largest score of a row", wide.amax(-1))
        low, high = math.log(1e-12), math.log(1e12)
        ends = [self._mean_entropy(centered, end) for end in (low, high)]
        if not ends[0] < self.target < ends[1]:
            raise ValueError(
                f"target must be between {ends[0]:.6g} and {ends[1]:.6g} for these scores, got {self.target}"
            )
        for _ in range(64):  # to the last bit of the logarithm
            middle = (low + high) / 2.0
            low, high = (middle, high) if self._mean_entropy(centered, middle) < self.target else (low, middle)
        self.value.fill_(math.exp((low + high) / 2.0))

    def _mean_entropy(self, centered: Tensor, log_temperature: float) -> float:
        return float(wide_mean(entropy((centered / math.exp(log_temperature)).log_softmax(-1)).flatten()))

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of no dimension, in the dtype of x."""
        return self.value.to(x.dtype)

    def divide(self, scores: Tensor, x: Tensor) -> Tensor:
        """Scores over the temperature."""
        return scores / self.value

    def extra_repr(self) -> str:
        """The target shown by ``repr``."""
        return f"target={self.target:g}"
