"""The Poisson distribution with its distribution function, also at rates that underflow."""

from typing import Any

import scipy.special
import torch
from torch import Tensor, distributions

from .._validation import at_least_float32, can_read_values
from ..numerics.log_space import safe_log
from .by_scipy import by_scipy
from .stirling import poisson_log_prob
from .values import ZeroOutsideSupport

__all__ = ["Poisson"]


class Poisson(ZeroOutsideSupport, distributions.Poisson):
    r"""The Poisson distribution with its distribution function, :math:`F(y) = Q(\lfloor y \rfloor + 1, \lambda)`.

    Here Q is the regularized upper incomplete gamma function. Given by its rate or, for rates that underflow, by the
    logarithm of it. Values that are not counts have probability zero.

    Args:
        rate: the mean, non-negative; give this or ``log_rate``.
        log_rate: logarithm of the mean.
        validate_args: as everywhere in torch.

    Raises:
        ValueError: if both or none of ``rate`` and ``log_rate`` are given.

    Example:
        >>> import torch
        >>> Poisson(torch.tensor(2.0)).cdf(torch.tensor(1.0))  # 3 exp(-2)
        tensor(0.4060)
    """

    def __init__(
        self, rate: Tensor | None = None, *, log_rate: Tensor | None = None, validate_args: bool | None = None
    ) -> None:
        if rate is not None and log_rate is None:
            super().__init__(rate, validate_args=validate_args)
            self.log_rate = safe_log(self.rate)
        elif rate is None and log_rate is not None:
            self.log_rate = log_rate
            super().__init__(log_rate.exp(), validate_args=validate_args)
        else:
            raise ValueError("rate or log_rate must be given, and not both")

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Poisson":
        """The same distribution with a larger batch shape."""
        return Poisson(log_rate=self.log_rate.expand(torch.Size(batch_shape)), validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        is_count = (value >= 0) & (value == value.floor()) & (value < torch.inf)
        log_prob = poisson_log_prob(torch.where(is_count, value, 0.0), self.log_rate, self.rate)
        return torch.where(value.isnan(), torch.nan, torch.where(is_count, log_prob, -torch.inf))

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of a count of at most ``value``; differentiable in the rate."""
        if self._validate_args:
            self._validate_sample(value)
        return self._tail("gammaincc", value, 0.0)

    def sf(self, value: Tensor) -> Tensor:
        """Probability of a count of more than ``value``, precise where it is small; differentiable in the rate."""
        return self._tail("gammainc", value, 1.0)

    def _tail(self, name: str, value: Tensor, below_zero: float) -> Tensor:
        counts = torch.floor(value.detach()).clamp(min=0.0)
        arguments = at_least_float32(counts) + 1.0, at_least_float32(self.rate)
        tail = getattr(torch.special, name)(*arguments)
        if can_read_values(tail):  # torch's loses six digits near the mean; its derivative does not
            tail = tail + (by_scipy(getattr(scipy.special, name), *arguments) - tail).detach()
        return torch.where(value < 0, below_zero, tail).to(torch.promote_types(value.dtype, self.rate.dtype))
