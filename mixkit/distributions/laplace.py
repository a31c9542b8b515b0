"""The Laplace distribution, precise in both tails."""

import math

import torch
from torch import Tensor, distributions

from .values import ZeroOutsideSupport

__all__ = ["Laplace"]


class Laplace(ZeroOutsideSupport, distributions.Laplace):
    r"""The Laplace distribution :math:`\frac{1}{2s} \exp(-|y - m| / s)` with tails of full relative precision.

    torch computes the distribution function as one half plus or minus a term near one half, which is 0 beyond some
    37 scales, and quantiles from :math:`1 - 2|p - 1/2|`, which is 0 for p below 1e-17.

    Example:
        >>> import torch
        >>> law = Laplace(torch.tensor(0.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64))
        >>> law.cdf(torch.tensor(-100.0))
        tensor(1.8600e-44, dtype=torch.float64)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density at ``value``; its derivative at the kink is taken as 0."""
        if self._validate_args:
            self._validate_sample(value)
        return -math.log(2.0) - self.scale.log() - ((value - self.loc) / self.scale).abs()

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of a value of at most ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        standardized = (value - self.loc) / self.scale
        tail = 0.5 * torch.exp(-standardized.abs())
        return torch.where(standardized < 0, tail, 1.0 - tail)

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile at probability ``value``."""
        lower = torch.log(2.0 * torch.where(value < 0.5, value, 0.5))
        upper = torch.log(2.0 * (1.0 - torch.where(value < 0.5, 0.5, value)))
        return self.loc + self.scale * (lower - upper)
