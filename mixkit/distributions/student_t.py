"""Student's t distribution at any degrees of freedom, with its distribution function."""

import math
from typing import Any

import numpy as np
import scipy.special
import torch
from torch import Tensor, distributions

from .._validation import at_least_float32
from .values import ZeroOutsideSupport

__all__ = ["StudentT", "log1p_square", "student_t_log_density", "student_t_log_normalizer"]

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
_SERIES = (-1 / 8, 1 / 192, -1 / 640, 17 / 14336, -31 / 18432)  # of log(Gamma(h + 1/2) / Gamma(h)) - log(h) / 2 in 1/h
_SERIES_FROM = 32.0  # where the first term left out, 691 / 180224 h^-11, is below the rounding of float64
_FAR = 1e50  # from this z / sqrt(df) on one term of the series of the tail is exact


class StudentT(ZeroOutsideSupport, distributions.StudentT):
    """Student's t distribution, with a log-density right for any degrees of freedom, and its distribution function.

    ``cdf`` and ``icdf`` (SciPy's incomplete beta function) leave the autograd graph: they are for intervals, not for
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
        with np.errstate(all="ignore"):
            result = function(self.df.detach().cpu().double().numpy(), value.detach().cpu().double().numpy())
        return torch.as_tensor(result, dtype=value.dtype, device=value.device)

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of a value of at most ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        return self._numpy(_below, (value - self.loc) / self.scale)

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile at probability ``value``."""
        return self.loc + self.scale * self._numpy(_quantile, value)


def _below(df: np.ndarray, standardized: np.ndarray) -> np.ndarray:
    """Probability of a value of at most z: one tail is half the incomplete beta function at df / (df + z^2)."""
    near = scipy.special.stdtr(df, standardized)
    far = np.exp(_log_tail(df, 2.0 * np.log(np.abs(standardized)) - np.log(df)))
    is_far = np.abs(standardized) / np.sqrt(df) > _FAR
    return np.where(is_far, np.where(standardized < 0, far, 1.0 - far), near)


def _log_tail(df: np.ndarray, log_ratio: np.ndarray) -> np.ndarray:
    """Logarithm of the probability beyond z on one side, where ``log_ratio``, the logarithm of z^2 / df, is large."""
    half = 0.5 * df
    return -half * log_ratio - np.log(2.0 * half) - scipy.special.betaln(half, 0.5)


def _quantile(df: np.ndarray, level: np.ndarray) -> np.ndarray:
    """The quantile from the nearer tail, where the inverse of the distribution function is well conditioned."""
    tail, half = np.minimum(level, 1.0 - level), 0.5 * df
    inside = scipy.special.betaincinv(half, 0.5, 2.0 * tail)
    outside = scipy.special.betainccinv(0.5, half, 2.0 * tail)
    near = np.sqrt(df) * np.sqrt(outside) / np.sqrt(inside)
    # Beyond, ``inside`` leaves the range of floating-point numbers: one term of the tail's series is exact.
    log_far = (-np.log(tail) - np.log(df) - scipy.special.betaln(half, 0.5)) / df + 0.5 * np.log(df)
    size = np.where(inside > _FAR**-2, near, np.exp(log_far))
    return np.where((level >= 0) & (level <= 1), np.copysign(size, level - 0.5), np.nan)


def student_t_log_normalizer(log_df: Tensor) -> Tensor:
    r"""Student's :math:`c(\nu) = \log \Gamma(\frac{\nu + 1}{2}) - \log \Gamma(\frac\nu2) - \frac12 \log \pi\nu`.

    The difference of two log-gammas of size :math:`\nu \log \nu` cancels when :math:`\nu` is large, as it is whenever
    the data have normal tails; there its asymptotic series takes over (Tricomi and Erdelyi 1951, Pacific J. Math. 1).

    Args:
        log_df: logarithm of the degrees of freedom :math:`\nu`, any shape.

    Example:
        >>> import torch
        >>> student_t_log_normalizer(torch.tensor(40.0, dtype=torch.float64)).exp()  # that of a normal
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


def student_t_log_density(standardized: Tensor, log_df: Tensor) -> Tensor:
    r"""Log-density of Student's t, :math:`c(\nu) - \frac{\nu + 1}{2} \log(1 + z^2 / \nu)`.

    Args:
        standardized: z, broadcastable with ``log_df``; its square may overflow.
        log_df: logarithm of the degrees of freedom :math:`\nu`.

    Example:
        >>> import torch
        >>> student_t_log_density(torch.tensor(0.0), torch.tensor(0.0)).exp()  # Cauchy, 1 / pi
        tensor(0.3183)
    """
    half = 0.5 * (torch.exp(log_df) + 1.0)
    return student_t_log_normalizer(log_df) - half * log1p_square(standardized * torch.exp(-0.5 * log_df))


def log1p_square(value: Tensor) -> Tensor:
    """``log(1 + value^2)``, with no overflow in the value or the gradient."""
    large = value.abs() > torch.finfo(value.dtype).max ** 0.25
    moderate = torch.log1p(torch.where(large, 0.0, value).square())
    return torch.where(large, 2.0 * torch.where(large, value, 1.0).abs().log(), moderate)
