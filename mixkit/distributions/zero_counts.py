"""Counts with more zeros than their distribution has, with others, or with none."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import logsigmoid

from .._validation import at_least_float32
from .values import ZeroOutsideSupport

__all__ = ["Hurdle", "ZeroInflated", "ZeroTruncated", "log_of_more_than_zero"]


class ZeroTruncated(ZeroOutsideSupport, Distribution):
    r"""Counts given that they are positive: :math:`P(y) = p(y) / (1 - p(0))` for y = 1, 2, ...

    Args:
        counts: a distribution of counts with a survival function ``sf``, as :class:`~mixkit.distributions.Poisson`.
        validate_args: as everywhere in torch.

    Example:
        >>> import torch
        >>> from mixkit.distributions import Poisson
        >>> law = ZeroTruncated(Poisson(torch.tensor(1.0)))
        >>> law.log_prob(torch.tensor([0.0, 1.0])).exp(), law.mean
        (tensor([0.0000, 0.5820]), tensor(1.5820))
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own name and type)
    support = constraints.positive_integer

    def __init__(self, counts: Any, validate_args: bool | None = None) -> None:
        self.counts = counts
        super().__init__(counts.batch_shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ZeroTruncated":
        """The same distribution with a larger batch shape."""
        return ZeroTruncated(self.counts.expand(torch.Size(batch_shape)), validate_args=self._validate_args)

    def _log_positive(self) -> Tensor:
        return log_of_more_than_zero(_log_zero(self.counts))

    @property
    def mean(self) -> Tensor:
        """``m / (1 - p(0))``, m the mean of the counts."""
        return self.counts.mean * torch.exp(-self._log_positive())

    @property
    def variance(self) -> Tensor:
        """``v / (1 - p(0)) - p(0) (m / (1 - p(0)))^2``, v the variance of the counts."""
        inside = self.counts.variance * torch.exp(-self._log_positive())
        return inside - _log_zero(self.counts).exp() * self.mean.square()

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of ``value``; -inf where it is no positive integer."""
        if self._validate_args:
            self._validate_sample(value)
        is_zero = value == 0
        inside = self.counts.log_prob(torch.where(is_zero, 1.0, value)) - self._log_positive()
        return torch.where(is_zero, -torch.inf, inside)

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of at most ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        positive, zero = self._log_positive().exp(), _log_zero(self.counts).exp()
        near = (self.counts.cdf(value) - zero) / positive
        cdf = torch.where(positive < 0.5, 1.0 - self.sf(value), near)
        return torch.where(value < 1, 0.0, cdf.clamp(0.0, 1.0))

    def sf(self, value: Tensor) -> Tensor:
        """Probability of more than ``value``, precise where it is small."""
        tail = self.counts.sf(value) * torch.exp(-self._log_positive())
        return torch.where(value < 1, 1.0, tail.clamp(max=1.0))

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draws: the first count whose survival probability is below a uniform share of that of zero."""
        shape = self._extended_shape(torch.Size(sample_shape))
        mean = self.counts.mean
        target = (1.0 - torch.rand(shape, dtype=torch.float64, device=mean.device)) * self.counts.sf(_double_zero(mean))
        low, high = torch.zeros_like(target), torch.ones_like(target)
        while bool((is_above := self.counts.sf(high) >= target).any()):
            low, high = torch.where(is_above, high, low), torch.where(is_above, 2.0 * high, high)
        while bool((high - low > 1.0).any()):
            middle = ((low + high) / 2.0).floor()
            is_above = self.counts.sf(middle) >= target
            low, high = torch.where(is_above, middle, low), torch.where(is_above, high, middle)
        return high.to(mean.dtype)


class _WithZeros(ZeroOutsideSupport, Distribution, ABC):
    """Zeros of one probability, and counts."""

    arg_constraints: dict[str, Any] = {"logit": constraints.real}  # noqa: RUF012 (torch's own name and type)
    support = constraints.nonnegative_integer

    def __init__(self, counts: Any, logit: Tensor, validate_args: bool | None = None) -> None:
        shape = torch.broadcast_shapes(counts.batch_shape, logit.shape)
        self.counts, self.logit = counts.expand(shape), logit.expand(shape)
        self._rest = self._other(self.counts)
        super().__init__(shape, validate_args=validate_args)

    @staticmethod
    @abstractmethod
    def _other(counts: Any) -> Any:
        """The distribution of what is not among the zeros of that probability."""

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distribution with a larger batch shape."""
        shape = torch.Size(batch_shape)
        law = type(self)(self.counts.expand(shape), self.logit.expand(shape), validate_args=False)
        law._validate_args = self._validate_args
        return law

    @property
    def mean(self) -> Tensor:
        """The mean of the rest times its probability."""
        return torch.sigmoid(-self.logit) * self._rest.mean

    @property
    def variance(self) -> Tensor:
        """``(1 - pi) (v + pi m^2)``, m and v the mean and the variance of the rest."""
        return torch.sigmoid(-self.logit) * (self._rest.variance + torch.sigmoid(self.logit) * self._rest.mean.square())

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of ``value``; -inf where it is no count."""
        if self._validate_args:
            self._validate_sample(value)
        other = logsigmoid(-self.logit) + self._rest.log_prob(torch.where(value == 0, 1.0, value))
        return torch.where(value == 0, self._log_of_zero(), other)

    @abstractmethod
    def _log_of_zero(self) -> Tensor:
        """Log-probability of zero."""

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of at most ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        below = torch.sigmoid(self.logit) + torch.sigmoid(-self.logit) * self._rest.cdf(value)
        return torch.where(value < 0, 0.0, below)

    def sf(self, value: Tensor) -> Tensor:
        """Probability of more than ``value``, precise where it is small."""
        return torch.where(value < 0, 1.0, torch.sigmoid(-self.logit) * self._rest.sf(value))

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draws."""
        counts, logit = self._rest.sample(sample_shape), at_least_float32(self.logit)
        uniform = torch.rand(counts.shape, dtype=logit.dtype, device=counts.device)
        return torch.where(uniform < torch.sigmoid(logit), 0.0, counts)


class ZeroInflated(_WithZeros):
    r"""Zero with probability :math:`\pi`, else a count, which may be zero too.

    Args:
        counts: a distribution of counts with a survival function ``sf``, as :class:`~mixkit.distributions.Poisson`.
        logit: log-odds of :math:`\pi`.
        validate_args: as everywhere in torch.

    Source: Lambert (1992), Zero-inflated Poisson regression, Technometrics 34, 1-14.

    Example:
        >>> import torch
        >>> from mixkit.distributions import Poisson
        >>> law = ZeroInflated(Poisson(torch.tensor(1.0)), torch.tensor(0.0))
        >>> law.log_prob(torch.tensor([0.0, 1.0])).exp(), law.mean
        (tensor([0.6839, 0.1839]), tensor(0.5000))
    """

    @staticmethod
    def _other(counts: Any) -> Any:
        return counts

    def _log_of_zero(self) -> Tensor:
        return torch.logaddexp(logsigmoid(self.logit), logsigmoid(-self.logit) + _log_zero(self.counts))


class Hurdle(_WithZeros):
    r"""Zero with probability :math:`\pi`, else a count that is positive.

    Args:
        counts: a distribution of counts with a survival function ``sf``, as :class:`~mixkit.distributions.Poisson`.
        logit: log-odds of :math:`\pi`.
        validate_args: as everywhere in torch.

    Source: Mullahy (1986), Specification and testing of some modified count data models, Journal of Econometrics 33,
    341-365.

    Example:
        >>> import torch
        >>> from mixkit.distributions import Poisson
        >>> law = Hurdle(Poisson(torch.tensor(1.0)), torch.tensor(0.0))
        >>> law.log_prob(torch.tensor([0.0, 1.0])).exp(), law.mean
        (tensor([0.5000, 0.2910]), tensor(0.7910))
    """

    @staticmethod
    def _other(counts: Any) -> Any:
        return ZeroTruncated(counts, validate_args=False)

    def _log_of_zero(self) -> Tensor:
        return logsigmoid(self.logit)


def _log_zero(counts: Any) -> Tensor:
    value: Tensor = counts.log_prob(torch.zeros_like(counts.mean))
    return value


def _double_zero(like: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.float64, device=like.device)


def log_of_more_than_zero(log_zero: Tensor) -> Tensor:
    """``log(1 - p)`` of the log-probability of zero; where that rounds to 0, of the next smaller number.

    Example:
        >>> import torch
        >>> log_of_more_than_zero(torch.tensor(-1e-30))
        tensor(-69.0776)
    """
    return torch.log(-torch.expm1(log_zero.clamp(max=-torch.finfo(log_zero.dtype).tiny)))
