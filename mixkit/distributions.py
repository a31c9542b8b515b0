"""Component distributions that keep their precision in the tails, with the distribution functions that torch lacks."""

import math
from typing import Any

import scipy.special
import torch
from torch import Tensor, distributions

from ._precision import at_least_float32

__all__ = ["Normal", "Poisson", "StudentT", "student_t_log_density", "student_t_log_normaliser"]

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
_SERIES = (-1 / 8, 1 / 192, -1 / 640, 17 / 14336, -31 / 18432)  # of log(Gamma(h + 1/2) / Gamma(h)) - log(h) / 2 in 1/h
_SERIES_FROM = 32.0  # where the first term left out, 691 / 180224 h^-11, is below the rounding of float64


class Normal(distributions.Normal):
    r"""The normal law, with a standardised log-density and tails of full relative precision.

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
        standardised, too_far, _ = self._standardise(value)
        log_density = -_HALF_LOG_TWO_PI - self.scale.log() - 0.5 * standardised.square()
        return torch.where(too_far, -torch.inf, log_density)

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of a value of at most ``value``."""
        standardised, too_far, distance = self._standardise(value)
        below = 0.5 * torch.erfc(at_least_float32(standardised) * -math.sqrt(0.5))
        return torch.where(too_far, (distance > 0).to(below.dtype), below).to(standardised.dtype)

    def _standardise(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Distance over scale, 0 where its square would overflow (for finite gradients); where; the distance."""
        if self._validate_args:
            self._validate_sample(value)
        distance = value - self.loc
        too_far = (distance / self.scale).detach().abs() > 0.5 * torch.finfo(distance.dtype).max ** 0.5
        return torch.where(too_far, 0.0, distance) / self.scale, too_far, distance

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile at probability ``value``."""
        return self.loc + self.scale * torch.special.ndtri(at_least_float32(value)).to(value.dtype)


class Poisson(distributions.Poisson):
    r"""The Poisson law with its distribution function, :math:`F(y) = Q(\lfloor y \rfloor + 1, \lambda)`.

    Here Q is the regularised upper incomplete gamma function. Given by its rate or, for rates that underflow, by the
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
            self.log_rate = _log(self.rate)
        elif rate is None and log_rate is not None:
            self.log_rate = log_rate
            super().__init__(log_rate.exp(), validate_args=validate_args)
        else:
            raise ValueError("rate or log_rate must be given, and not both")

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Poisson":
        """The same law with a larger batch shape."""
        return Poisson(log_rate=self.log_rate.expand(torch.Size(batch_shape)), validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        is_count = (value >= 0) & (value == value.floor())
        counts = torch.where(is_count, value, 0.0)
        # A count of 0 has log-probability -rate, though 0 times a log-rate of -inf is NaN.
        power = torch.where(counts > 0, counts * torch.where(counts > 0, self.log_rate, 0.0), 0.0)
        return torch.where(is_count | value.isnan(), power - self.rate - torch.lgamma(counts + 1.0), -torch.inf)

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of a count of at most ``value``; differentiable in the rate."""
        counts = torch.floor(value.detach()).clamp(min=0.0)
        below = torch.special.gammaincc(at_least_float32(counts) + 1.0, at_least_float32(self.rate))
        return torch.where(value < 0, 0.0, below).to(torch.promote_types(value.dtype, self.rate.dtype))


class StudentT(distributions.StudentT):
    """Student's t law, with a log-density right for any degrees of freedom, and its distribution function.

    ``cdf`` and ``icdf`` (SciPy's ``stdtr`` and ``stdtrit``) leave the autograd graph: they are for intervals, not for
    training.

    Example:
        >>> import torch
        >>> law = StudentT(torch.tensor(3.0), torch.tensor(0.0), torch.tensor(2.0))
        >>> law.cdf(law.icdf(torch.tensor(0.9)))
        tensor(0.9000)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density at ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        return student_t_log_density((value - self.loc) / self.scale, self.df.log()) - self.scale.log()

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draws, by way of float32 where torch has no gamma draws in the dtype."""
        df, loc, scale = (at_least_float32(part) for part in (self.df, self.loc, self.scale))
        draws = distributions.StudentT(df, loc, scale, validate_args=False).rsample(sample_shape)
        return draws.to(self.loc.dtype)

    def _numpy(self, function: Any, value: Tensor) -> Tensor:
        result = function(self.df.detach().cpu().double().numpy(), value.detach().cpu().double().numpy())
        return torch.as_tensor(result, dtype=value.dtype, device=value.device)

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of a value of at most ``value``."""
        return self._numpy(scipy.special.stdtr, (value - self.loc) / self.scale)

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile at probability ``value``."""
        return self.loc + self.scale * self._numpy(scipy.special.stdtrit, value)


def student_t_log_normaliser(log_df: Tensor) -> Tensor:
    r"""Student's :math:`c(\nu) = \log \Gamma(\frac{\nu + 1}{2}) - \log \Gamma(\frac\nu2) - \frac12 \log \pi\nu`.

    The difference of two log-gammas of size :math:`\nu \log \nu` cancels when :math:`\nu` is large, as it is whenever
    the data have normal tails; there its asymptotic series takes over (Tricomi and Erdelyi 1951, Pacific J. Math. 1).

    Args:
        log_df: logarithm of the degrees of freedom :math:`\nu`, any shape.

    Example:
        >>> import torch
        >>> student_t_log_normaliser(torch.tensor(40.0, dtype=torch.float64)).exp()  # the normal law's
        tensor(0.3989, dtype=torch.float64)
    """
    log_half = log_df - math.log(2.0)
    small = log_half.clamp(max=math.log(_SERIES_FROM))
    half = small.exp()
    exact = torch.lgamma(half + 0.5) - torch.lgamma(half + 1.0) + 0.5 * small
    inverse = torch.exp(-log_half.clamp(min=math.log(_SERIES_FROM)))
    square, series = inverse.square(), torch.zeros_like(inverse)
    for coefficient in reversed(_SERIES):
        series = series * square + coefficient
    return torch.where(log_half < math.log(_SERIES_FROM), exact, series * inverse) - _HALF_LOG_TWO_PI


def student_t_log_density(standardised: Tensor, log_df: Tensor) -> Tensor:
    r"""Log-density of Student's t, :math:`c(\nu) - \frac{\nu + 1}{2} \log(1 + z^2 / \nu)`.

    Args:
        standardised: z, broadcastable with ``log_df``; its square may overflow.
        log_df: logarithm of the degrees of freedom :math:`\nu`.

    Example:
        >>> import torch
        >>> student_t_log_density(torch.tensor(0.0), torch.tensor(0.0)).exp()  # Cauchy, 1 / pi
        tensor(0.3183)
    """
    half = 0.5 * (torch.exp(log_df) + 1.0)
    return student_t_log_normaliser(log_df) - half * log1p_square(standardised * torch.exp(-0.5 * log_df))


def log1p_square(value: Tensor) -> Tensor:
    """``log(1 + value^2)``, with no overflow in the value or the gradient."""
    large = value.abs() > torch.finfo(value.dtype).max ** 0.25
    moderate = torch.log1p(torch.where(large, 0.0, value).square())
    return torch.where(large, 2.0 * torch.where(large, value, 1.0).abs().log(), moderate)


def _log(rate: Tensor) -> Tensor:
    """Logarithm, with no gradient where it is -inf."""
    positive = rate > 0
    return torch.where(positive, torch.where(positive, rate, 1.0).log(), -torch.inf)
