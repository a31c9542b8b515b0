"""Priors of positive parameters, cut off at zero."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

__all__ = ["PositivePart", "on_positive"]


class PositivePart(dist.TorchDistribution):
    r"""A distribution of one number given that it is positive, :math:`p(v) / P(V > 0)` for :math:`v > 0`.

    Args:
        base: a distribution of one number with ``cdf``; draws need its ``icdf``.

    Example:
        >>> import torch
        >>> half = PositivePart(dist.Normal(0.0, 1.0))
        >>> float(half.log_prob(torch.tensor(1.0)) - dist.HalfNormal(1.0).log_prob(torch.tensor(1.0)))
        0.0
    """

    support = constraints.positive
    has_rsample = False

    def __init__(self, base: Distribution) -> None:
        self.base = base
        self._below = base.cdf(torch.zeros_like(base.mean))  # probability of what is cut off
        super().__init__(base.batch_shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "PositivePart":
        """The same of another batch shape."""
        return PositivePart(self.base.expand(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density; -inf where ``value`` is not positive."""
        inside = self.base.log_prob(torch.where(value > 0, value, 1.0)) - torch.log1p(-self._below)
        return torch.where(value > 0, inside, -torch.inf)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, by the quantiles of the base."""
        below = self._below.expand(self._extended_shape(torch.Size(sample_shape)))
        return self.base.icdf(below + (1.0 - below) * torch.rand_like(below))


def on_positive(name: str, prior: Distribution) -> Distribution:
    """The prior of a positive parameter: as it is if it allows no other value, else cut off at zero.

    Raises:
        ValueError: if it allows negative values and has no ``cdf``.
    """
    support = getattr(prior.support, "base_constraint", prior.support)
    if support is not constraints.real:
        return prior
    try:
        return PositivePart(prior)
    except NotImplementedError:
        raise ValueError(
            f"the prior of {name} must be one of positive values, or have a cdf at which to cut it off, "
            f"got {type(prior).__name__}"
        ) from None
