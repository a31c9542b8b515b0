"""Quantiles of a mixture, of which only the distribution function is known."""

from typing import Any, Protocol

import torch
from torch import Tensor

from .._validation import at_least_float32

__all__ = ["first_to_reach", "mixture_icdf"]

_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}


class MixtureDistribution(Protocol):
    """What a quantile is found from: the distribution function, and the dtype and device of its weights."""

    log_weights: Tensor

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of the independent distributions."""

    @property
    def support(self) -> Any:
        """The constraint that the values satisfy; a bound that is a tensor has one entry for each component."""

    def cdf(self, value: Tensor) -> Tensor:
        """Probability up to ``value``, elementwise."""


@torch.no_grad()
def mixture_icdf(law: MixtureDistribution, value: Tensor) -> Tensor:
    r"""Quantiles of ``law``, :math:`\min \{y : F(y) \ge p\}`, exact to the last bit of the distribution function.

    Bisection over the floating-point numbers themselves, which their bit patterns order: at most 64 evaluations of F
    for float64 and 32 for float32, wherever the quantile lies and however far apart or narrow the components are. For
    a distribution on the integers the smallest number that reaches p is an integer, found in fewer.

    Args:
        law: a mixture of a scalar response.
        value: probabilities in [0, 1], ``(*sample, *batch)``; at 0 and 1 the ends of the support.

    Returns:
        ``value``'s shape broadcast with the batch shape of ``law``, in the dtype of ``law``.

    Raises:
        ValueError: if a probability is outside [0, 1] or NaN.

    Example:
        >>> import torch
        >>> from mixkit import ExpertMixture
        >>> from mixkit.distributions import Normal
        >>> law = ExpertMixture(torch.tensor([0.5, 0.5]).log(), Normal(torch.tensor([-3.0, 3.0]), torch.ones(2)))
        >>> mixture_icdf(law, torch.tensor([0.25, 0.75]))
        tensor([-3., 3.])
    """
    dtype = law.log_weights.dtype
    value = torch.as_tensor(value, dtype=dtype, device=law.log_weights.device)
    if not bool(((value >= 0) & (value <= 1)).all()):
        raise ValueError(f"value must hold probabilities in [0, 1], got {_first_outside(value)}")
    shape = torch.broadcast_shapes(value.shape, law.batch_shape)
    value = at_least_float32(value).expand(shape)
    ends = _end(law, "lower_bound", -torch.inf), _end(law, "upper_bound", torch.inf)
    bottom, top = (end.to(value.dtype).expand(shape) for end in ends)
    reachable = torch.minimum(value, law.cdf(top))  # the weights may sum to 1 less a rounding error
    quantile = first_to_reach(law, reachable, bottom, top)
    quantile = torch.where(value == 0, bottom, torch.where(value == 1, top, quantile))
    return quantile.to(dtype)


def _first_outside(value: Tensor) -> float:
    return float(value[~((value >= 0) & (value <= 1))][0])


def _end(law: MixtureDistribution, name: str, default: float) -> Tensor:
    """An end of the support, ``(*batch,)`` or ``()``: where components have their own, of those of positive weight."""
    bound = torch.as_tensor(getattr(law.support, name, default), device=law.log_weights.device)
    if not bound.ndim:
        return bound
    is_selected = law.log_weights > -torch.inf
    own = torch.where(is_selected, bound, -default)
    return own.amin(-1) if default < 0 else own.amax(-1)


class _HasCdf(Protocol):
    @property
    def support(self) -> Any:
        """The constraint that the values satisfy."""

    def cdf(self, value: Tensor) -> Tensor:
        """Probability up to ``value``, elementwise."""


def first_to_reach(law: _HasCdf, value: Tensor, bottom: Tensor, top: Tensor) -> Tensor:
    """The smallest floating-point number in [bottom, top] at which the distribution function reaches ``value``.

    Example:
        >>> import torch
        >>> from mixkit.distributions import Poisson
        >>> law, ends = Poisson(torch.tensor(3.0)), (torch.tensor(0.0), torch.tensor(torch.inf))
        >>> first_to_reach(law, torch.tensor(0.5), *ends)
        tensor(3.)
    """
    low, high = _rank(bottom) - 1, _rank(top)
    while bool((low + 1 < high).any()):
        middle = (low & high) + ((low ^ high) >> 1)  # their mean, without overflow
        middle = torch.where(low + 1 < high, middle, high)
        reached = law.cdf(_of_rank(middle, value.dtype)) >= value
        last, first = _step(middle, value.dtype) if law.support.is_discrete else (middle, middle)
        low, high = torch.where(reached, low, last), torch.where(reached, first, high)
    return _of_rank(high, value.dtype)


def _step(rank: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The last and the first number that share the whole part of this one, and so the probability up to it."""
    whole = _of_rank(rank, dtype).floor()
    return torch.maximum(rank, _rank(whole + 1.0) - 1), _rank(whole)


def _rank(value: Tensor) -> Tensor:
    """The place of each floating-point number among all, counted from zero."""
    magnitude = value.abs().view(_INTEGERS[value.dtype])
    return torch.where(value < 0, -magnitude, magnitude)


def _of_rank(rank: Tensor, dtype: torch.dtype) -> Tensor:
    magnitude = rank.abs().view(dtype)
    return torch.where(rank < 0, -magnitude, magnitude)
