"""The beta distribution by its mean and precision, right as the latter grows."""

import math
from functools import partial
from typing import Any

import numpy as np
import scipy.special
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from .._validation import at_least_float32
from .by_scipy import by_scipy
from .parametric import TwoTailedDistribution
from .stirling import deviance, stirling_of

__all__ = ["Beta", "beta_log_density"]

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class Beta(TwoTailedDistribution):
    r"""Shares of mean :math:`\mu = 1 / (1 + e^{-\eta})` and variance :math:`\mu (1 - \mu) / (1 + \phi)`.

    .. math:: f(y) = \frac{\Gamma(\phi)}{\Gamma(\mu \phi) \Gamma((1 - \mu) \phi)} y^{\mu \phi - 1}
        (1 - y)^{(1 - \mu) \phi - 1}, \qquad \phi = s^{-2}.

    The density at 0 and 1 is taken as zero. ``cdf``, ``sf`` and ``icdf`` (SciPy's incomplete beta functions) leave
    autograd's graph.

    Args:
        logit: log-odds :math:`\eta` of the mean, any shape.
        log_scale: logarithm of s, the inverse root of the precision :math:`\phi`, broadcastable with it.
        validate_args: as everywhere in torch.

    Source: Ferrari and Cribari-Neto (2004), Beta regression for modelling rates and proportions, Journal of Applied
    Statistics 31, 799-815.

    Example:
        >>> import torch
        >>> law = Beta(torch.tensor(0.0), torch.tensor(0.5).log())  # shapes 2 and 2
        >>> law.log_prob(torch.tensor(0.5)).exp(), law.variance, law.cdf(torch.tensor(0.5))
        (tensor(1.5000), tensor(0.0500), tensor(0.5000))
    """

    arg_constraints: dict[str, Any] = {  # noqa: RUF012 (torch's own name and type)
        "logit": constraints.real,
        "log_scale": constraints.real,
    }
    support = constraints.unit_interval

    def __init__(self, logit: Tensor, log_scale: Tensor, validate_args: bool | None = None) -> None:
        self.logit, self.log_scale = torch.broadcast_tensors(logit, log_scale)
        super().__init__(self.logit.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """The mean."""
        return torch.sigmoid(self.logit)

    @property
    def variance(self) -> Tensor:
        """``mean (1 - mean) / (1 + precision)``."""
        return torch.exp(logsigmoid(self.logit) + logsigmoid(-self.logit) + logsigmoid(2.0 * self.log_scale))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density at ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        is_inside = (value > 0) & (value < 1)
        return self._log_prob_where(is_inside, value, 0.5, beta_log_density, self.logit, self.log_scale)

    def _tail(self, value: Tensor, *, is_upper: bool) -> Tensor:
        incomplete = scipy.special.betaincc if is_upper else scipy.special.betainc
        return by_scipy(partial(_share, incomplete), value, self.logit, self.log_scale)

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile at probability ``value``."""
        return by_scipy(_quantile, value, self.logit, self.log_scale)

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draws strictly between 0 and 1: those that round to an end are the number next to it."""
        shape = self._extended_shape(torch.Size(sample_shape))
        logit, log_scale = (at_least_float32(part).expand(shape) for part in (self.logit, self.log_scale))
        sizes = [torch.exp(logsigmoid(sign * logit) - 2.0 * log_scale) for sign in (1.0, -1.0)]
        log_gammas = [_log_gamma_draw(size) for size in sizes]
        draws = torch.sigmoid(log_gammas[0] - log_gammas[1]).to(self.logit.dtype)
        info = torch.finfo(self.logit.dtype)
        return draws.clamp(info.tiny, 1.0 - info.eps)


def beta_log_density(value: Tensor, logit: Tensor, log_scale: Tensor) -> Tensor:
    r"""The beta log-density at 0 < y < 1, elementwise, by deviances, so that nothing cancels at large precisions.

    Example:
        >>> import torch
        >>> beta_log_density(torch.tensor(0.25), torch.tensor(0.0), torch.tensor(0.5).log()).exp()  # 6 y (1 - y)
        tensor(1.1250)
    """
    precision, log_success, log_failure = torch.exp(-2.0 * log_scale), logsigmoid(logit), logsigmoid(-logit)
    sizes = precision * log_success.exp(), precision * log_failure.exp()
    log_value, log_rest = value.log(), torch.log1p(-value)
    left_out = stirling_of(precision) - stirling_of(sizes[0]) - stirling_of(sizes[1])
    misfit = deviance(sizes[0], log_value - log_success) + deviance(sizes[1], log_rest - log_failure)
    spread = 0.5 * (log_success + log_failure) - log_scale
    return left_out - misfit - log_value - log_rest + spread - _HALF_LOG_TWO_PI


def _log_gamma_draw(size: Tensor) -> Tensor:
    """Logarithms of gamma variables of rate one, also of shapes near zero."""
    uniform = torch.rand(size.shape, dtype=size.dtype, device=size.device)
    return torch._standard_gamma(size + 1.0).log() + uniform.log() / size


def _sizes(logit: np.ndarray, log_scale: np.ndarray) -> tuple[Any, Any]:
    precision = np.exp(-2.0 * log_scale)
    return precision * scipy.special.expit(logit), precision * scipy.special.expit(-logit)


def _share(function: Any, value: np.ndarray, logit: np.ndarray, log_scale: np.ndarray) -> Any:
    return function(*_sizes(logit, log_scale), np.clip(value, 0.0, 1.0))


def _quantile(level: np.ndarray, logit: np.ndarray, log_scale: np.ndarray) -> Any:
    a, b = _sizes(logit, log_scale)
    found = scipy.special.betaincinv(a, b, level)
    # SciPy has none at levels below some 1e-200, where one term of the lower tail's series is exact.
    lowest = np.exp((np.log(np.where(level > 0, level, 1.0)) + np.log(a) + scipy.special.betaln(a, b)) / a)
    return np.where(np.isnan(found) & (level > 0) & (level < 1e-100), lowest, found)
