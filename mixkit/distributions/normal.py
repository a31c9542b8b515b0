"""The normal distribution, precise in the tails."""

import math

import torch
from torch import Tensor, distributions

from .._validation import at_least_float32
from .values import ZeroOutsideSupport

__all__ = ["Normal"]

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class Normal(ZeroOutsideSupport, distributions.Normal):
    r"""The normal distribution, with a standardized log-density and tails of full relative precision.

    torch's squares the scale, which underflows below 1e-162, and computes the distribution function as
    :math:`(1 + \mathrm{erf}) / 2`, which is 0 beyond eight standard deviations.

    Example:
        >>> import torch
        >>> law = Normal(torch.tensor(0.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64))
        >>> law.cdf(torch.tensor(-20.0))
        tensor(2.7536e-89, dtype=torch.float64)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density at ``value``; -inf, with a gradient of zero, where the square of the distance overflows."""
        standardized, too_far, _ = self._standardize(value)
        log_density = -_HALF_LOG_TWO_PI - self.scale.log() - 0.5 * standardized.square()
        return torch.where(too_far, -torch.inf, log_density)

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of a value of at most ``value``."""
        standardized, too_far, distance = self._standardize(value)
        below = 0.5 * torch.erfc(at_least_float32(standardized) * -math.sqrt(0.5))
        return torch.where(too_far, (distance > 0).to(below.dtype), below).to(standardized.dtype)

    def _standardize(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Distance over scale, 0 where its square would overflow (for finite gradients); where; the distance."""
        if self._validate_args:
            self._validate_sample(value)
        distance = value - self.loc
        too_far = (distance / self.scale).detach().abs() > 0.5 * torch.finfo(distance.dtype).max ** 0.5
        return torch.where(too_far, 0.0, distance) / self.scale, too_far, distance

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile at probability ``value``."""
        return self.loc + self.scale * torch.special.ndtri(at_least_float32(value)).to(value.dtype)
