"""Distributions of different families as one."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from .atoms import has_atom
from .values import ZeroOutsideSupport

__all__ = ["PerComponentDistribution"]


class PerComponentDistribution(ZeroOutsideSupport, Distribution):
    r"""Several distributions joined along the last batch dimension: the components of a mixture of families.

    Args:
        laws: of batch shapes ``(*batch, k_1)``, ``(*batch, k_2)``, ...; the result has ``(*batch, k_1 + k_2 + ...)``.
        validate_args: as everywhere in torch.

    Raises:
        ValueError: if there is no distribution, they differ in their event shape, or one has no batch dimension.

    Example:
        >>> import torch
        >>> from mixkit.distributions import Atom, LogNormal
        >>> zero = torch.zeros(1)
        >>> PerComponentDistribution([Atom(zero), LogNormal(zero, zero + 1)]).log_prob(torch.tensor(0.0))
        tensor([0., -inf])
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own name and type)

    def __init__(self, laws: Sequence[Distribution], validate_args: bool | None = None) -> None:
        if not laws:
            raise ValueError("laws must hold at least one distribution, got none")
        for law in laws:
            if law.event_shape != laws[0].event_shape or not law.batch_shape:
                raise ValueError(
                    "laws must have one event shape and at least one batch dimension, got batch shape "
                    f"{tuple(law.batch_shape)} and event shapes {tuple(laws[0].event_shape)}, {tuple(law.event_shape)}"
                )
        batch = torch.broadcast_shapes(*(law.batch_shape[:-1] for law in laws))
        self.sizes = [law.batch_shape[-1] for law in laws]
        self.laws = [law.expand(torch.Size((*batch, size))) for law, size in zip(laws, self.sizes, strict=True)]
        shape = torch.Size((*batch, sum(self.sizes)))
        super().__init__(shape, laws[0].event_shape, validate_args=validate_args)

    @constraints.dependent_property
    def support(self) -> Any:
        """An interval for every component, from the lower to the upper end of its support; of vectors all of space."""
        if self.event_shape:
            return constraints.real_vector
        low = self._join(lambda law: _end(law, "lower_bound", -torch.inf))
        high = self._join(lambda law: _end(law, "upper_bound", torch.inf))
        return _Intervals(low, high, is_discrete=all(law.support.is_discrete for law in self.laws))

    def expand(self, batch_shape: Any, _instance: Any = None) -> "PerComponentDistribution":
        """The same distributions with a larger batch shape; one may also be repeated along the last dimension."""
        shape = torch.Size(batch_shape)
        if shape[-1] != sum(self.sizes):
            raise ValueError(f"batch_shape must end in {sum(self.sizes)}, got {tuple(shape)}")
        laws = [law.expand(torch.Size((*shape[:-1], n))) for law, n in zip(self.laws, self.sizes, strict=True)]
        return PerComponentDistribution(laws, validate_args=self._validate_args)

    def _join(self, function: Callable[[Distribution], Tensor], event_dim: int = 0) -> Tensor:
        parts = [function(law) for law in self.laws]
        own = -1 - event_dim
        batch = torch.broadcast_shapes(*(part.shape[:own] for part in parts))
        return torch.cat([part.expand(*batch, *part.shape[own:]) for part in parts], own)

    def _apply(self, function: Callable[[Distribution, Tensor], Tensor], value: Tensor) -> Tensor:
        """The function of every distribution at its part of ``value``, whose last dimension is 1 or the batch's."""
        own = -1 - len(self.event_shape)
        if value.ndim < -own or value.shape[own] == 1:
            return self._join(lambda law: function(law, value))
        pieces = value.split(self.sizes, own)
        return torch.cat([function(law, piece) for law, piece in zip(self.laws, pieces, strict=True)], -1)

    @property
    def mean(self) -> Tensor:
        """Means of the distributions."""
        return self._join(lambda law: law.mean, len(self.event_shape))

    @property
    def variance(self) -> Tensor:
        """Variances of the distributions."""
        return self._join(lambda law: law.variance, len(self.event_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density under every distribution; -inf outside its support, whatever it makes of it."""
        if self._validate_args:
            self._validate_sample(value)
        return self._apply(lambda law, part: law.log_prob(part), value)

    def has_atom(self, value: Tensor) -> Tensor:
        """Where each distribution has an atom."""
        return self._apply(has_atom, value)

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of a value of at most ``value``."""
        return self._apply(lambda law, part: law.cdf(part), value)

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile at probability ``value``."""
        return self._apply(lambda law, part: law.icdf(part), value)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draws of every distribution."""
        return self._join(lambda law: law.sample(sample_shape), len(self.event_shape))


class _Intervals(constraints.Constraint):
    """Intervals with ends ``(*batch, k)``, closed."""

    def __init__(self, lower_bound: Tensor, upper_bound: Tensor, *, is_discrete: bool) -> None:
        self.lower_bound, self.upper_bound, self.is_discrete = lower_bound, upper_bound, is_discrete

    def check(self, value: Tensor) -> Tensor:
        return (value >= self.lower_bound) & (value <= self.upper_bound)


def _end(law: Distribution, name: str, default: float) -> Tensor:
    mean = law.mean
    return (
        torch.as_tensor(getattr(law.support, name, default), device=mean.device).to(mean.dtype).expand(law.batch_shape)
    )
