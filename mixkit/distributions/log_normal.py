"""The log-normal distribution by the mean and standard deviation of the logarithm."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from .._validation import at_least_float32
from .normal import Normal
from .parametric import ParametricDistribution

__all__ = ["LogNormal"]


class LogNormal(ParametricDistribution):
    r"""Positive values whose logarithm is :math:`N(m, s^2)`; density zero, not an error, at others.

    Args:
        loc: mean m of the logarithm.
        scale: standard deviation s of the logarithm, positive.
        validate_args: as everywhere in torch.

    Example:
        >>> import torch
        >>> law = LogNormal(torch.tensor(0.0), torch.tensor(1.0))
        >>> law.log_prob(torch.tensor([1.0, 0.0])), law.mean
        (tensor([-0.9189,    -inf]), tensor(1.6487))
    """

    arg_constraints: dict[str, Any] = {"loc": constraints.real, "scale": constraints.positive}  # noqa: RUF012
    support = constraints.greater_than_eq(0.0)

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)
        self._normal = Normal(self.loc, self.scale, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """``exp(m + s^2 / 2)``."""
        return self.log_mean.exp()

    @property
    def log_mean(self) -> Tensor:
        """Logarithm of the mean."""
        return self.loc + 0.5 * self.scale.square()

    @property
    def variance(self) -> Tensor:
        """``(exp(s^2) - 1) exp(2 m + s^2)``."""
        return self.log_variance.exp()

    @property
    def log_variance(self) -> Tensor:
        """Logarithm of the variance, of whose factors one may vanish where the other overflows."""
        square = self.scale.square()
        log_factor = square + 2.0 * self.scale.log() + torch.log(_expm1_ratio(-square))
        return 2.0 * self.log_mean + log_factor

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density at ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        log_value = torch.where(value <= 0, 1.0, value).log()
        return torch.where(value <= 0, -torch.inf, self._normal.log_prob(log_value) - log_value)

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of a value of at most ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        below = self._normal.cdf(torch.where(value <= 0, 1.0, value).log())
        return torch.where(value <= 0, 0.0, below)

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile at probability ``value``."""
        return self._normal.icdf(value).exp()

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draws, differentiable in the parameters."""
        loc, scale = at_least_float32(self.loc), at_least_float32(self.scale)
        return Normal(loc, scale, validate_args=False).rsample(sample_shape).exp().to(self.loc.dtype)

    has_rsample = True


def _expm1_ratio(value: Tensor) -> Tensor:
    """``(exp(u) - 1) / u``, 1 at u = 0."""
    is_zero = value == 0
    return torch.where(is_zero, 1.0, torch.expm1(value) / torch.where(is_zero, 1.0, value))
