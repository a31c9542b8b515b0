"""The zero-inflated log-normal distribution."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from .._validation import at_least_float32
from .log_normal import LogNormal
from .parametric import ParametricDistribution

__all__ = ["ZeroInflatedLogNormal"]


class ZeroInflatedLogNormal(ParametricDistribution):
    r"""Zero with probability :math:`1 - \pi`, else log-normal: spending of customers, rainfall of days.

    The density is taken with respect to Lebesgue measure plus a unit mass at zero: :math:`1 - \pi` at 0 and
    :math:`\pi \, \mathrm{LogNormal}(y; m, s)` at y > 0.

    Args:
        logit: log-odds :math:`\log(\pi / (1 - \pi))` of a positive value.
        loc: mean m of the logarithm of positive values.
        scale: standard deviation s of that logarithm, positive.
        validate_args: as everywhere in torch.

    Source: Wang, Liu, Miao (2019), arXiv 1912.07753.

    Example:
        >>> import torch
        >>> law = ZeroInflatedLogNormal(torch.tensor(0.0), torch.tensor(0.0), torch.tensor(1.0))
        >>> law.log_prob(torch.tensor([0.0, 1.0])).exp(), law.cdf(torch.tensor(0.0))
        (tensor([0.5000, 0.1995]), tensor(0.5000))
    """

    arg_constraints: dict[str, Any] = {  # noqa: RUF012 (torch's own name and type)
        "logit": constraints.real,
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.greater_than_eq(0.0)

    def __init__(self, logit: Tensor, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.logit, self.loc, self.scale = torch.broadcast_tensors(logit, loc, scale)
        super().__init__(self.logit.shape, validate_args=validate_args)
        self._positive = LogNormal(self.loc, self.scale, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """``pi exp(m + s^2 / 2)``."""
        return torch.exp(logsigmoid(self.logit) + self._positive.log_mean)

    @property
    def variance(self) -> Tensor:
        """``pi (V + (1 - pi) M^2)`` with M and V the mean and variance of the log-normal part."""
        # Products of what may vanish and what may overflow, by their logarithms.
        inside = torch.exp(logsigmoid(self.logit) + self._positive.log_variance)
        squared = 2.0 * self._positive.log_mean
        return inside + torch.exp(logsigmoid(self.logit) + logsigmoid(-self.logit) + squared)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density at ``value``: at zero the logarithm of the atom's mass; -inf below."""
        if self._validate_args:
            self._validate_sample(value)
        positive = self._positive.log_prob(torch.where(value == 0, 1.0, value))
        return torch.where(value == 0, logsigmoid(-self.logit), logsigmoid(self.logit) + positive)

    def has_atom(self, value: Tensor) -> Tensor:
        """True at zero."""
        return (value == 0).expand(torch.broadcast_shapes(value.shape, self.batch_shape))

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of a value of at most ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        share = torch.sigmoid(self.logit)
        return torch.where(value < 0, 0.0, torch.sigmoid(-self.logit) + share * self._positive.cdf(value))

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile at probability ``value``: 0 up to the atom's mass."""
        inverse_share = (1.0 + torch.exp(-self.logit)).clamp(max=torch.finfo(self.logit.dtype).max)
        rest = ((value - torch.sigmoid(-self.logit)) * inverse_share).clamp(0.0, 1.0)
        is_level = (value >= 0) & (value <= 1)
        return self._positive.icdf(torch.where(is_level, torch.where(value == 1.0, 1.0, rest), torch.nan))

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draws."""
        positive = self._positive.rsample(sample_shape)
        uniform = torch.rand(positive.shape, dtype=at_least_float32(positive).dtype, device=positive.device)
        return torch.where(uniform < torch.sigmoid(at_least_float32(self.logit)), positive, 0.0)
