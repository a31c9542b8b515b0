"""Log-probabilities of large counts, in which terms of size y log y cancel unless they are left out together."""

import math

import torch
from torch import Tensor

from .._validation import can_read_values

__all__ = [
    "STIRLING_FROM",
    "deviance",
    "has_none",
    "poisson_log_prob",
    "stirling",
    "stirling_of",
    "stirling_slopes",
]

STIRLING_FROM = 32.0
"""Where the first term left out by :func:`stirling`, 1 / 1188 z^-9, is below the rounding of float64."""

_COEFFICIENTS = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680)


def stirling(inverse: Tensor) -> Tensor:
    r"""What Stirling's formula for :math:`\log \Gamma(z)` leaves out, from 1 / z.

    Example:
        >>> import torch
        >>> z = torch.tensor(40.0, dtype=torch.float64)
        >>> formula = (z - 0.5) * z.log() - z + 0.5 * math.log(2 * math.pi)
        >>> torch.allclose(stirling(1 / z), torch.lgamma(z) - formula, atol=1e-13)
        True
    """
    square, value = inverse.square(), torch.zeros_like(inverse)
    for coefficient in reversed(_COEFFICIENTS):
        value = value * square + coefficient
    return value * inverse


def stirling_of(value: Tensor) -> Tensor:
    r"""What Stirling's formula leaves out of :math:`\log \Gamma(z)` at any z > 0 (see :func:`stirling`).

    Example:
        >>> import torch
        >>> stirling_of(torch.tensor([1.0, 50.0]))  # 1 - log(2 pi) / 2, and nearly 1 / 600
        tensor([0.0811, 0.0017])
    """
    is_small = value < STIRLING_FROM
    few = torch.where(is_small, value, 1.0)
    exact = torch.lgamma(few) - (few - 0.5) * few.log() + few - 0.5 * math.log(2.0 * math.pi)
    return torch.where(is_small, exact, stirling(1.0 / torch.where(is_small, STIRLING_FROM, value)))


def stirling_slopes(value: Tensor) -> tuple[Tensor, Tensor]:
    """The first and second derivative of :func:`stirling_of` in the logarithm of z.

    Example:
        >>> import torch
        >>> log_z = torch.tensor([0.3, 4.0], dtype=torch.float64)
        >>> slope = torch.func.jacrev(lambda v: stirling_of(v.exp()).sum())(log_z)
        >>> torch.allclose(stirling_slopes(log_z.exp())[0], slope)
        True
    """
    is_small = value < STIRLING_FROM
    few = torch.where(is_small, value, 1.0)
    digamma = few * (torch.digamma(few) - few.log())
    first, second = digamma + 0.5, digamma + few * (few * torch.polygamma(1, few) - 1.0)
    inverse = 1.0 / torch.where(is_small, STIRLING_FROM, value)
    odd = [(2 * power + 1, coefficient * inverse ** (2 * power + 1)) for power, coefficient in enumerate(_COEFFICIENTS)]
    many = [sum((-degree) ** order * term for degree, term in odd) for order in (1, 2)]
    return torch.where(is_small, first, many[0]), torch.where(is_small, second, many[1])


def deviance(count: Tensor, log_ratio: Tensor) -> Tensor:
    r"""Half the Poisson deviance of y from a mean :math:`\mu`, :math:`y \log(y / \mu) + \mu - y`, from log(mu / y).

    Of size :math:`(y - \mu)^2 / 2 y`, and precise where y and mu differ by little.

    Source: Loader (2000), Fast and Accurate Computation of Binomial Probabilities.

    Example:
        >>> import torch
        >>> deviance(torch.tensor(1e8, dtype=torch.float64), torch.tensor(1e-4, dtype=torch.float64))
        tensor(0.5000, dtype=torch.float64)
    """
    return count * (torch.expm1(log_ratio) - log_ratio)


def poisson_log_prob(count: Tensor, log_rate: Tensor, rate: Tensor) -> Tensor:
    r"""The Poisson log-probability :math:`y \log \lambda - \lambda - \log y!` of counts, elementwise.

    Takes the rate and its logarithm, of which one may underflow.

    Example:
        >>> import torch
        >>> poisson_log_prob(torch.tensor(1e15), torch.tensor(1e15).log(), torch.tensor(1e15))  # -log(2 pi 1e15) / 2
        tensor(-18.1883)
    """
    is_large = count >= STIRLING_FROM
    if has_none(is_large):
        return _few(count, log_rate, rate)
    many = torch.where(is_large, count, STIRLING_FROM)
    small = _few(torch.where(is_large, 0.0, count), log_rate, torch.where(is_large, 0.0, rate))
    log_ratio = torch.where(is_large & (log_rate > -torch.inf), log_rate, 0.0) - many.log()
    large = -deviance(many, log_ratio) - 0.5 * torch.log(2.0 * math.pi * many) - stirling(1.0 / many)
    return torch.where(is_large, torch.where(log_rate > -torch.inf, large, -torch.inf), small)


def _few(count: Tensor, log_rate: Tensor, rate: Tensor) -> Tensor:
    """The formula as it stands; a count of 0 has -rate, though 0 times a log-rate of -inf is NaN."""
    power = torch.where(count > 0, count * torch.where(count > 0, log_rate, 0.0), 0.0)
    return power - rate - torch.lgamma(count + 1.0)


def has_none(is_large: Tensor) -> bool:
    """Whether there is no large count for certain, the usual case, in which the formula for them can be left out."""
    return can_read_values(is_large) and not bool(is_large.any())
