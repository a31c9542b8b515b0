"""The inverse Gaussian distribution by its mean and dispersion, precise in both tails."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from .._validation import at_least_float32
from .mixture_quantiles import first_to_reach
from .parametric import TwoTailedDistribution

__all__ = ["InverseGaussian", "inverse_gaussian_log_density"]

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class InverseGaussian(TwoTailedDistribution):
    r"""Positive values of mean :math:`\mu` and variance :math:`\phi \mu^3`, with dispersion :math:`\phi = s^2`.

    .. math:: f(y) = (2 \pi \phi y^3)^{-1/2} \exp \Big(-\frac{(y - \mu)^2}{2 \phi \mu^2 y}\Big).

    Args:
        log_mean: logarithm of the mean, any shape.
        log_scale: logarithm of s, the root of the dispersion, broadcastable with it.
        validate_args: as everywhere in torch.

    Source: Tweedie (1957), Statistical properties of inverse Gaussian distributions, Annals of Mathematical
    Statistics 28, 362-377.

    Example:
        >>> import torch
        >>> law = InverseGaussian(torch.tensor(0.0), torch.tensor(0.0))
        >>> law.log_prob(torch.tensor(1.0)), law.variance, law.cdf(torch.tensor(1.0))
        (tensor(-0.9189), tensor(1.), tensor(0.6681))
    """

    arg_constraints: dict[str, Any] = {  # noqa: RUF012 (torch's own name and type)
        "log_mean": constraints.real,
        "log_scale": constraints.real,
    }
    support = constraints.greater_than_eq(0.0)

    def __init__(self, log_mean: Tensor, log_scale: Tensor, validate_args: bool | None = None) -> None:
        self.log_mean, self.log_scale = torch.broadcast_tensors(log_mean, log_scale)
        super().__init__(self.log_mean.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """The mean."""
        return self.log_mean.exp()

    @property
    def variance(self) -> Tensor:
        """``dispersion * mean^3``."""
        return torch.exp(3.0 * self.log_mean + 2.0 * self.log_scale)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density at ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        is_inside = (value > 0) & (value < torch.inf)
        return self._log_prob_where(is_inside, value, 1.0, inverse_gaussian_log_density, self.log_mean, self.log_scale)

    def _tail(self, value: Tensor, *, is_upper: bool) -> Tensor:
        r"""One tail by the density and Mills' ratios R: :math:`\varphi(a) (R(|a|) \pm R(b))`.

        Here :math:`a, b = (y \mp \mu) / (\mu \sqrt{\phi y})` and :math:`e^{2 / (\phi \mu)} \varphi(b) = \varphi(a)`.
        """
        dtype = torch.promote_types(value.dtype, self.log_mean.dtype)
        inside = (value > 0) & (value < torch.inf)
        y, log_mean, log_scale = (at_least_float32(p) for p in (value, self.log_mean, self.log_scale))
        y = torch.where(inside, y, 1.0)
        unit = torch.exp(-log_scale - 0.5 * y.log())
        ratio = torch.exp(y.log() - log_mean)
        a, b = unit * torch.expm1(y.log() - log_mean), unit * (ratio + 1.0)
        density, second = torch.exp(-0.5 * a.square()), 0.5 * torch.special.erfcx(b / math.sqrt(2.0))
        first = 0.5 * torch.special.erfcx(a.abs() / math.sqrt(2.0))
        own = density * torch.where(
            a < 0, first + second, first - second
        )  # the lower tail below the mean, or the upper
        tail = torch.where((a < 0) == is_upper, 1.0 - own, own)
        tail = torch.where(value <= 0, float(is_upper), torch.where(value == torch.inf, float(not is_upper), tail))
        return torch.where(value.isnan(), torch.nan, tail).to(dtype)

    @torch.no_grad()
    def icdf(self, value: Tensor) -> Tensor:
        """The quantile at probability ``value``, found to the last bit of the distribution function."""
        dtype = torch.promote_types(value.dtype, self.log_mean.dtype)
        level = at_least_float32(value.to(dtype)).expand(torch.broadcast_shapes(value.shape, self.batch_shape))
        is_level = (level >= 0) & (level <= 1)
        inner = torch.where(is_level & (level < 1), level, 0.5)
        found = first_to_reach(self, inner, torch.zeros_like(level), torch.full_like(level, torch.inf))
        ends = torch.where(level == 0, 0.0, torch.where(level == 1, torch.inf, found))
        return torch.where(is_level, ends, torch.nan).to(dtype)

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draws: the smaller root of a quadratic in a squared normal variable, or its reflection in the mean.

        Source: Michael, Schucany, Haas (1976), Generating random variates using transformations with multiple roots,
        American Statistician 30, 88-90.
        """
        shape = self._extended_shape(torch.Size(sample_shape))
        log_mean, log_scale = (at_least_float32(part).expand(shape) for part in (self.log_mean, self.log_scale))
        spread = torch.exp(log_mean + 2.0 * log_scale) * torch.randn_like(log_mean).square()
        root = 1.0 / (1.0 + 0.5 * spread + torch.sqrt(spread + 0.25 * spread.square()))
        ratio = torch.where(torch.rand_like(log_mean) * (1.0 + root) <= 1.0, root, 1.0 / root)
        return (ratio * log_mean.exp()).to(self.log_mean.dtype).clamp(min=torch.finfo(self.log_mean.dtype).tiny)


def inverse_gaussian_log_density(value: Tensor, log_mean: Tensor, log_scale: Tensor) -> Tensor:
    """The inverse Gaussian log-density at y > 0, elementwise.

    Example:
        >>> import torch
        >>> inverse_gaussian_log_density(torch.tensor(2.0), torch.tensor(0.0), torch.tensor(0.0))
        tensor(-2.2087)
    """
    log_value = value.log()
    distance = torch.expm1(log_value - log_mean) * torch.exp(-log_scale - 0.5 * log_value)
    return -_HALF_LOG_TWO_PI - log_scale - 1.5 * log_value - 0.5 * distance.square()
