"""The negative binomial distribution by its mean and dispersion, exact down to its Poisson limit."""

from typing import Any

import numpy as np
import scipy.special
import torch
from torch import Tensor
from torch.distributions import constraints

from .._validation import at_least_float32
from .by_scipy import double_array
from .parametric import TwoTailedDistribution
from .stirling import STIRLING_FROM, deviance, has_none, stirling

__all__ = ["NegativeBinomial", "log1p_ratio", "negative_binomial_log_prob"]

_SERIES_BELOW = 0.1  # the series of log(1 + u) / u - 1 to 17 terms is exact in float64 below this
_NUM_TERMS = 17
_MANY = 1e4  # counts at which terms of size y log y lose five of float64's digits
_LARGEST_LOG = 80.0  # of r in deviances: beyond, that of r is below rounding, and e^80 is a number in float32 too
_NO_WIDTH = 1e13  # from this size on the rate's gamma distribution is a point in float64


class NegativeBinomial(TwoTailedDistribution):
    r"""Counts of mean :math:`\mu` and variance :math:`\mu + \alpha \mu^2`.

    .. math:: p(y) = \frac{\Gamma(y + r)}{\Gamma(r)\, y!} \Big(\frac{r}{r + \mu}\Big)^r
        \Big(\frac{\mu}{r + \mu}\Big)^y, \qquad r = 1 / \alpha,

    a Poisson distribution whose rate follows a gamma distribution of mean :math:`\mu` and shape r. As :math:`\alpha
    \to 0` it is the Poisson distribution, which is reached without loss of precision. ``cdf`` (SciPy's incomplete beta)
    leaves autograd's graph.

    Args:
        log_mean: logarithm of the mean, any shape.
        log_dispersion: logarithm of the dispersion :math:`\alpha`, broadcastable with it.
        validate_args: as everywhere in torch.

    Example:
        >>> import torch
        >>> law = NegativeBinomial(torch.tensor(2.0).log(), torch.tensor(0.0))  # r = 1: geometric
        >>> law.log_prob(torch.tensor(0.0)).exp(), law.variance
        (tensor(0.3333), tensor(6.))
    """

    arg_constraints: dict[str, Any] = {  # noqa: RUF012 (torch's own name and type)
        "log_mean": constraints.real,
        "log_dispersion": constraints.real,
    }
    support = constraints.nonnegative_integer

    def __init__(self, log_mean: Tensor, log_dispersion: Tensor, validate_args: bool | None = None) -> None:
        self.log_mean, self.log_dispersion = torch.broadcast_tensors(log_mean, log_dispersion)
        super().__init__(self.log_mean.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """The mean."""
        return self.log_mean.exp()

    @property
    def variance(self) -> Tensor:
        """``mean + dispersion * mean^2``."""
        return self.mean + torch.exp(2.0 * self.log_mean + self.log_dispersion)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of ``value``; -inf where it is no count."""
        if self._validate_args:
            self._validate_sample(value)
        is_count = (value >= 0) & (value == value.floor()) & (value < torch.inf)
        return self._log_prob_where(
            is_count, value, 0.0, negative_binomial_log_prob, self.log_mean, self.log_dispersion
        )

    def _tail(self, value: Tensor, *, is_upper: bool) -> Tensor:
        dtype = torch.promote_types(value.dtype, self.log_mean.dtype)
        counts = np.floor(np.maximum(double_array(value), 0.0)) + 1.0
        log_mean, log_dispersion = double_array(self.log_mean), double_array(self.log_dispersion)
        size = np.exp(np.minimum(-log_dispersion, np.log(_NO_WIDTH)))
        # The incomplete beta function at the smaller of the two probabilities, which 1 less the other would round.
        log_odds = log_mean + log_dispersion
        lower, upper = scipy.special.betainc, scipy.special.betaincc
        many = (upper if is_upper else lower)(size, counts, scipy.special.expit(-log_odds))
        few = (lower if is_upper else upper)(counts, size, scipy.special.expit(log_odds))
        gamma_mixture = np.where(log_odds > 0.0, many, few)
        poisson = (scipy.special.gammainc if is_upper else scipy.special.gammaincc)(counts, np.exp(log_mean))
        tail = torch.as_tensor(np.where(size < _NO_WIDTH, gamma_mixture, poisson), dtype=dtype, device=value.device)
        return torch.where(value < 0, float(is_upper), tail)

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draws: a gamma rate, then a Poisson count."""
        shape = self._extended_shape(torch.Size(sample_shape))
        log_mean, log_dispersion = (at_least_float32(p).expand(shape) for p in (self.log_mean, self.log_dispersion))
        size = (-log_dispersion).exp().clamp(max=_NO_WIDTH)
        rate = torch._standard_gamma(size) / size * log_mean.exp()
        return torch.poisson(rate).to(self.log_mean.dtype)


def negative_binomial_log_prob(count: Tensor, log_mean: Tensor, log_dispersion: Tensor) -> Tensor:
    r"""Log-probability of counts under :class:`NegativeBinomial`, elementwise; twice differentiable in the last two.

    With :math:`m = \alpha \mu` it is
    :math:`\log \frac{\Gamma(y + r)}{\Gamma(r)\, r^y} + y \log \mu - (y + r) \log(1 + m) - \log y!`, in which the first
    term and the excess of :math:`r \log(1 + m)` over :math:`\mu` are computed from series where they vanish.

    Example:
        >>> import torch
        >>> log_mean = torch.tensor(3.0, dtype=torch.float64).log()
        >>> negative_binomial_log_prob(torch.tensor(2.0), log_mean, torch.tensor(-40.0)).exp()  # Poisson: 9 exp(-3) / 2
        tensor(0.2240, dtype=torch.float64)
    """
    # Near the Poisson limit derivatives in the dispersion are precise in the first form alone, values of large counts
    # in the second alone.
    least = _MANY if torch.finfo(log_mean.dtype).bits > 32 else STIRLING_FROM
    is_large = count >= least
    if has_none(is_large):
        return _few(count, log_mean, log_dispersion)
    few = _few(torch.where(is_large, 0.0, count), log_mean, log_dispersion)
    many = _many(torch.where(is_large, count, least), log_mean, log_dispersion)
    return torch.where(is_large, many, few)


def _few(count: Tensor, log_mean: Tensor, log_dispersion: Tensor) -> Tensor:
    """The formula as it stands: its terms grow as y log y."""
    log_odds = log_mean + log_dispersion
    spread = torch.nn.functional.softplus(log_odds, threshold=50.0)
    return (
        _log_rising(count, log_dispersion)
        + count * (log_mean - spread)
        - _exponent(log_mean, log_dispersion, log_odds, spread)
        - torch.lgamma(count + 1.0)
    )


def _many(count: Tensor, log_mean: Tensor, log_dispersion: Tensor) -> Tensor:
    """For counts from ``STIRLING_FROM`` on: deviances of y and r from their shares of y + r (Loader 2000)."""
    log_odds = log_mean + log_dispersion
    spread = _log1p_exp(log_odds)  # log(1 + mu / r)
    total = _log1p_exp(count.log() + log_dispersion)  # log(1 + y / r)
    is_light = count.log() + log_dispersion > 0.0  # few of y + r are r: its share, not that of y, is the small one
    light = _log1p_exp(-count.log() - log_dispersion) - _log1p_exp(-log_odds)
    log_ratio = torch.where(is_light, light, log_mean - count.log() + total - spread)
    return (
        stirling(torch.exp(log_dispersion.clamp(max=50.0) - total))
        - _stirling_of_size(log_dispersion)
        - stirling(1.0 / count)
        - _size_deviance(log_dispersion, total - spread)
        - deviance(count, log_ratio)
        - 0.5 * (np.log(2.0 * np.pi) + count.log() + total)
    )


def _size_deviance(log_dispersion: Tensor, log_ratio: Tensor) -> Tensor:
    """The deviance of r, of which 1 / r may overflow as the ratio does, and r itself where it is without effect."""
    is_far = log_ratio > 1.0
    far, near = torch.where(is_far, log_ratio, 1.0), torch.where(is_far, 0.0, log_ratio)
    size = torch.exp((-log_dispersion).clamp(max=_LARGEST_LOG))
    grown = torch.exp(far - torch.where(is_far, log_dispersion, 0.0))
    return torch.where(is_far, grown - torch.where(is_far, size, 0.0) * (1.0 + far), deviance(size, near))


def _stirling_of_size(log_dispersion: Tensor) -> Tensor:
    """What Stirling's formula leaves out of log Gamma(r), at any r."""
    is_small = -log_dispersion < np.log(STIRLING_FROM)
    log_size = torch.where(is_small, -log_dispersion, 0.0)
    size = log_size.exp()
    exact = torch.lgamma(size) - (size - 0.5) * log_size + size - 0.5 * np.log(2.0 * np.pi)
    return torch.where(is_small, exact, stirling(torch.exp(torch.where(is_small, 0.0, log_dispersion))))


def _log1p_exp(value: Tensor) -> Tensor:
    return torch.nn.functional.softplus(value, threshold=50.0)


def _exponent(log_mean: Tensor, log_dispersion: Tensor, log_odds: Tensor, spread: Tensor) -> Tensor:
    """``r log(1 + mu / r)``, which tends to mu."""
    small = log_odds < np.log(_SERIES_BELOW)
    ratio = torch.exp(torch.where(small, log_odds, -50.0))
    near = torch.exp(torch.where(small, log_mean, 0.0)) * (1.0 + log1p_ratio(ratio))
    far = torch.exp(torch.where(small, 0.0, -log_dispersion)) * spread
    return torch.where(small, near, far)


def _log_rising(count: Tensor, log_dispersion: Tensor) -> Tensor:
    """``log(Gamma(y + r) / (Gamma(r) r^y))``, which tends to 0 with the dispersion."""
    wide = -log_dispersion < np.log(STIRLING_FROM)
    size = torch.exp(torch.where(wide, -log_dispersion, 0.0))
    exact = torch.lgamma(count + size) - torch.lgamma(size) + torch.where(wide, count * log_dispersion, 0.0)
    inverse = torch.exp(torch.where(wide, -np.log(STIRLING_FROM), log_dispersion))
    ratio = count * inverse
    series = count * log1p_ratio(ratio) + (count - 0.5) * torch.log1p(ratio)
    return torch.where(wide, exact, series + stirling(inverse / (1.0 + ratio)) - stirling(inverse))


def log1p_ratio(value: Tensor) -> Tensor:
    """``log(1 + u) / u - 1`` for u >= 0, precise near its zero at u = 0, to the third derivative.

    Example:
        >>> import torch
        >>> log1p_ratio(torch.tensor(1e-8, dtype=torch.float64))  # -u / 2
        tensor(-5.0000e-09, dtype=torch.float64)
    """
    small = value < _SERIES_BELOW
    near, far = torch.where(small, value, 0.0), torch.where(small, 1.0, value)
    series = torch.zeros_like(value)
    for power in range(_NUM_TERMS, 0, -1):
        series = (series + 1.0 / (power + 1)) * -near
    return torch.where(small, series, torch.log1p(far) / far - 1.0)
