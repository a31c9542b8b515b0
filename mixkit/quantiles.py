"""Quantiles of a mixture, where only the components' are known."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .mixture import ExpertMixture

__all__ = ["mixture_icdf"]

_MAX_STEPS = 1100  # enough halvings for any float64 bracket


@torch.no_grad()
def mixture_icdf(law: "ExpertMixture", value: Tensor) -> Tensor:
    """Quantiles of ``law`` at probabilities ``value (*sample, *batch)``, by bisection until the bracket closes.

    Args:
        law: a mixture of a scalar response.
        value: probabilities in [0, 1]; at 0 and 1 the ends of the support (-inf and inf for Gaussian components).

    Returns:
        ``value``'s shape broadcast with the batch shape of ``law``; integers (in a floating dtype) for a discrete law.

    Raises:
        ValueError: if a probability is outside [0, 1] or NaN.
    """
    value = torch.as_tensor(value, dtype=law.log_weights.dtype, device=law.log_weights.device)
    if not bool(((value >= 0) & (value <= 1)).all()):
        raise ValueError("value must hold probabilities in [0, 1], got others")
    discrete = bool(law.support.is_discrete)
    shape = torch.broadcast_shapes(value.shape, law.batch_shape)
    value = value.expand(shape)
    low, high = _bracket(law, value)
    for _ in range(_MAX_STEPS):
        middle = torch.floor(0.5 * (low + high)) if discrete else low + 0.5 * (high - low)
        if not bool(((middle > low) & (middle < high)).any()):
            break
        reached = law.cdf(middle) >= value
        low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
    return _with_ends(law, value, high, discrete)


def _bracket(law: "ExpertMixture", value: Tensor) -> tuple[Tensor, Tensor]:
    """Points of probability below and at least ``value``, found by doubling around the mean."""
    centre, width = law.mean.expand(value.shape), law.variance.sqrt().expand(value.shape) + 1.0
    low, high = torch.floor(centre - width), torch.ceil(centre + width)
    inside = (value > 0) & (value < 1)
    for _ in range(200):
        too_high, too_low = inside & (law.cdf(low) >= value), inside & (law.cdf(high) < value)
        if not bool((too_high | too_low).any()):
            break
        width = 2.0 * width
        low = torch.where(too_high, torch.floor(centre - width), low)
        high = torch.where(too_low, torch.ceil(centre + width), high)
    return low, high


def _with_ends(law: "ExpertMixture", value: Tensor, quantile: Tensor, discrete: bool) -> Tensor:
    lowest = 0.0 if discrete else -torch.inf
    quantile = torch.where(value == 0, torch.full_like(quantile, lowest), quantile)
    return torch.where(value == 1, torch.full_like(quantile, torch.inf), quantile)
