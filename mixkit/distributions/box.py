"""The uniform distribution on an interval or a box, as the distribution of outliers."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from .values import ZeroOutsideSupport

__all__ = ["Box"]


class Box(ZeroOutsideSupport, Distribution):
    """Uniform on a box; with ``everywhere`` of the same constant density outside, too, which makes it improper.

    Args:
        low: least values, ``(*batch,)`` of an interval, or ``(*batch, p)`` of a box.
        high: largest values, above ``low``.
        is_vector: whether the last dimension of both is that of a vector.
        everywhere: whether the density is that of the box outside it, too.
        validate_args: as everywhere in torch.

    Example:
        >>> import torch
        >>> law = Box(torch.zeros(2), torch.tensor([2.0, 4.0]), is_vector=True)
        >>> law.log_prob(torch.tensor([[1.0, 1.0], [1.0, 5.0]])).exp()
        tensor([0.1250, 0.0000])
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own name and type)

    def __init__(
        self,
        low: Tensor,
        high: Tensor,
        *,
        is_vector: bool = False,
        everywhere: bool = False,
        validate_args: bool | None = None,
    ) -> None:
        self.low, self.high = torch.broadcast_tensors(low, high)
        self.everywhere = everywhere
        shape = self.low.shape
        batch, event = (shape[:-1], shape[-1:]) if is_vector else (shape, shape[:0])
        super().__init__(batch, event, validate_args=validate_args)

    @constraints.dependent_property
    def support(self) -> Any:
        """The box; where the density is constant everywhere, all numbers."""
        inside = constraints.real if self.everywhere else constraints.interval(self.low, self.high)
        return constraints.independent(inside, 1) if self.event_shape else inside

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Box":
        """The same distribution with a larger batch shape."""
        shape = (*torch.Size(batch_shape), *self.event_shape)
        settings = {"is_vector": bool(self.event_shape), "everywhere": self.everywhere}
        law = Box(self.low.expand(shape), self.high.expand(shape), validate_args=False, **settings)
        law._validate_args = self._validate_args
        return law

    @property
    def mean(self) -> Tensor:
        """The middle of the box."""
        return 0.5 * (self.low + self.high)

    @property
    def variance(self) -> Tensor:
        """A twelfth of the squared widths."""
        return (self.high - self.low).square() / 12.0

    def log_prob(self, value: Tensor) -> Tensor:
        """Minus the logarithm of the box's volume; -inf outside it, unless the density is that everywhere."""
        if self._validate_args:
            self._validate_sample(value)
        inside = value.isfinite() if self.everywhere else (value >= self.low) & (value <= self.high)
        each = torch.where(inside, -(self.high - self.low).log(), -torch.inf)
        each = torch.where(value.isnan(), torch.nan, each)
        return each.sum(-1) if self.event_shape else each

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of at most ``value``, of a scalar; that of the box where the density is constant everywhere."""
        if self._validate_args:
            self._validate_sample(value)
        return ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile at probability ``value``, of a scalar."""
        return torch.where((value >= 0) & (value <= 1), self.low + value * (self.high - self.low), torch.nan)

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draws in the box."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.low + torch.rand(shape, dtype=self.low.dtype, device=self.low.device) * (self.high - self.low)
