"""The gamma distribution by its mean and coefficient of variation, precise as the latter vanishes."""

import math
from functools import partial
from typing import Any

import numpy as np
import scipy.special
import torch
from torch import Tensor
from torch.distributions import constraints

from .._validation import at_least_float32
from .by_scipy import by_scipy
from .parametric import TwoTailedDistribution
from .stirling import deviance, stirling_of

__all__ = ["Gamma", "gamma_log_density"]

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class Gamma(TwoTailedDistribution):
    r"""Positive values of mean :math:`\mu` and standard deviation :math:`s \mu`, gamma with shape :math:`s^{-2}`.

    .. math:: f(y) = \frac{(\nu / \mu)^\nu y^{\nu - 1}}{\Gamma(\nu)} e^{-\nu y / \mu}, \qquad \nu = s^{-2}.

    The density at zero is taken as zero. ``cdf``, ``sf`` and ``icdf`` (SciPy's incomplete gamma functions) leave
    autograd's graph.

    Args:
        log_mean: logarithm of the mean, any shape.
        log_scale: logarithm of the coefficient of variation s, broadcastable with it.
        validate_args: as everywhere in torch.

    Example:
        >>> import torch
        >>> law = Gamma(torch.tensor(2.0).log(), torch.tensor(0.0))  # exponential
        >>> law.log_prob(torch.tensor(2.0)), law.variance, law.cdf(torch.tensor(2.0))
        (tensor(-1.6931), tensor(4.), tensor(0.6321))
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
        """``(scale * mean)^2``."""
        return torch.exp(2.0 * (self.log_mean + self.log_scale))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density at ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        is_inside = (value > 0) & (value < torch.inf)
        return self._log_prob_where(is_inside, value, 1.0, gamma_log_density, self.log_mean, self.log_scale)

    def _tail(self, value: Tensor, *, is_upper: bool) -> Tensor:
        incomplete = scipy.special.gammaincc if is_upper else scipy.special.gammainc
        return by_scipy(partial(_share, incomplete), value, self.log_mean, self.log_scale)

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile at probability ``value``."""
        return by_scipy(_quantile, value, self.log_mean, self.log_scale)

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draws, positive: where they underflow the least positive number."""
        shape = self._extended_shape(torch.Size(sample_shape))
        log_mean, log_scale = (at_least_float32(part).expand(shape) for part in (self.log_mean, self.log_scale))
        size = torch.exp(-2.0 * log_scale)
        uniform = torch.rand(shape, dtype=log_mean.dtype, device=log_mean.device)
        # A gamma variable of shape nu is one of shape nu + 1 times a power of a uniform one, also where nu vanishes.
        log_draw = torch._standard_gamma(size + 1.0).log() + uniform.log() / size + 2.0 * log_scale + log_mean
        return log_draw.exp().to(self.log_mean.dtype).clamp(min=torch.finfo(self.log_mean.dtype).tiny)


def gamma_log_density(value: Tensor, log_mean: Tensor, log_scale: Tensor) -> Tensor:
    r"""The gamma log-density at y > 0, elementwise, right as the coefficient of variation vanishes.

    Example:
        >>> import torch
        >>> one = torch.ones((), dtype=torch.float64)
        >>> gamma_log_density(one, 0.0 * one, -18.0 * one)  # log(nu / (2 pi)) / 2
        tensor(17.0811, dtype=torch.float64)
    """
    shape, log_value = torch.exp(-2.0 * log_scale), value.log()
    left_out = stirling_of(shape) + log_scale + _HALF_LOG_TWO_PI
    return -deviance(shape, log_value - log_mean) - left_out - log_value


def _share(function: Any, value: np.ndarray, log_mean: np.ndarray, log_scale: np.ndarray) -> Any:
    shape = np.exp(-2.0 * log_scale)
    return function(shape, shape * np.maximum(value, 0.0) / np.exp(log_mean))


def _quantile(level: np.ndarray, log_mean: np.ndarray, log_scale: np.ndarray) -> Any:
    shape = np.exp(-2.0 * log_scale)
    return scipy.special.gammaincinv(shape, level) / shape * np.exp(log_mean)
