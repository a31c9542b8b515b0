"""The generalized normal distribution, between Laplace's, the normal and the uniform one."""

import math
from typing import Any

import numpy as np
import scipy.special
import torch
from torch import Tensor
from torch.distributions import constraints

from .._validation import at_least_float32
from .by_scipy import by_scipy
from .parametric import TwoTailedDistribution

__all__ = ["GeneralizedNormal", "generalized_normal_log_density"]


class GeneralizedNormal(TwoTailedDistribution):
    r"""Density :math:`\frac{b}{2 s \Gamma(1 / b)} e^{-|z|^b}` with :math:`z = (y - m) / s` and shape b > 0.

    b = 1 is Laplace's distribution, b = 2 the normal one of standard deviation :math:`s / \sqrt 2`, a large b nearly
    uniform. ``cdf``, ``sf`` and ``icdf`` (SciPy's incomplete gamma functions) leave autograd's graph.

    Args:
        loc: m, any shape.
        log_scale: logarithm of s, broadcastable with it.
        shape: b, broadcastable with it.
        validate_args: as everywhere in torch.

    Source: Nadarajah (2005), A generalized normal distribution, Journal of Applied Statistics 32, 685-694.

    Example:
        >>> import torch
        >>> law = GeneralizedNormal(torch.tensor(0.0), torch.tensor(0.0), torch.tensor(2.0))
        >>> law.variance, law.cdf(torch.tensor(0.0)), law.log_prob(torch.tensor(1.0))
        (tensor(0.5000), tensor(0.5000), tensor(-1.5724))
    """

    arg_constraints: dict[str, Any] = {  # noqa: RUF012 (torch's own name and type)
        "loc": constraints.real,
        "log_scale": constraints.real,
        "shape": constraints.positive,
    }
    support = constraints.real

    def __init__(self, loc: Tensor, log_scale: Tensor, shape: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self.log_scale, self.shape = torch.broadcast_tensors(loc, log_scale, shape)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """The location."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """``s^2 Gamma(3 / b) / Gamma(1 / b)``."""
        shape = at_least_float32(self.shape)
        log_ratio = torch.lgamma(3.0 / shape) - torch.lgamma(1.0 / shape)
        return torch.exp(2.0 * self.log_scale + log_ratio).to(self.loc.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density at ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        parts = (at_least_float32(part) for part in (value, self.loc, self.log_scale, self.shape))
        return generalized_normal_log_density(*parts).to(torch.promote_types(value.dtype, self.loc.dtype))

    def _tail(self, value: Tensor, *, is_upper: bool) -> Tensor:
        distance = value - self.loc
        return by_scipy(_beyond, distance if is_upper else -distance, self.log_scale, self.shape)

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile at probability ``value``."""
        return self.loc + by_scipy(_quantile, value, self.log_scale, self.shape)

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draws: powers of gamma variables, of either sign."""
        size = self._extended_shape(torch.Size(sample_shape))
        loc, log_scale, shape = (at_least_float32(p).expand(size) for p in (self.loc, self.log_scale, self.shape))
        distance = torch._standard_gamma((1.0 / shape).contiguous()) ** (1.0 / shape) * log_scale.exp()
        return torch.where(torch.rand_like(loc) < 0.5, loc - distance, loc + distance).to(self.loc.dtype)


def generalized_normal_log_density(value: Tensor, loc: Tensor, log_scale: Tensor, shape: Tensor) -> Tensor:
    """The log-density, elementwise; at the mode its derivatives are taken as zero.

    Example:
        >>> import torch
        >>> zero = torch.zeros(())
        >>> generalized_normal_log_density(zero + 3.0, zero, zero, zero + 1.0)  # Laplace: -log 2 - 3
        tensor(-3.6931)
    """
    distance = (value - loc).abs()
    is_apart = distance > 0
    power = torch.exp(shape * (torch.where(is_apart, distance, 1.0).log() - log_scale))
    normalizer = shape.log() - math.log(2.0) - log_scale - torch.lgamma(1.0 / shape)
    return torch.where(distance.isnan(), torch.nan, normalizer - torch.where(is_apart, power, 0.0))


def _beyond(distance: np.ndarray, log_scale: np.ndarray, shape: np.ndarray) -> Any:
    power = (np.abs(distance) * np.exp(-log_scale)) ** shape
    far = 0.5 * scipy.special.gammaincc(1.0 / shape, power)
    near = 0.5 + 0.5 * scipy.special.gammainc(1.0 / shape, power)
    return np.where(np.isnan(distance), np.nan, np.where(distance >= 0, far, near))


def _quantile(level: np.ndarray, log_scale: np.ndarray, shape: np.ndarray) -> Any:
    tail = np.minimum(level, 1.0 - level)
    size = scipy.special.gammainccinv(1.0 / shape, 2.0 * tail) ** (1.0 / shape) * np.exp(log_scale)
    return np.where((level >= 0) & (level <= 1), np.copysign(size, level - 0.5), np.nan)
