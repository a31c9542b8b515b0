"""Distances between the conditional densities of two mixtures of experts with a scalar response, by quadrature."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mixkit._validation import check_integer, check_tensor
from mixkit.mixture import ExpertMixture, MixtureOfExperts

__all__ = ["DensityDistances", "density_distances"]

_REACH = (0.0, 0.5, 1.0, 2.0, 3.0, 4.5, 6.5, 9.0, 12.0, 20.0, 38.0)  # panel ends, in standard deviations from a mean
_ROWS = 64


class DensityDistances(NamedTuple):
    """Distances at each covariate, every tensor ``(n,)``.

    Attributes:
        hellinger: ``sqrt(1/2 int (sqrt p - sqrt q)^2 dy)``, in [0, 1].
        total_variation: ``1/2 int |p - q| dy``, in [0, 1].
        kl: ``int p log(p / q) dy``, in nats.
    """

    hellinger: Tensor
    total_variation: Tensor
    kl: Tensor


@torch.no_grad()
def density_distances(
    model: MixtureOfExperts, other: MixtureOfExperts, x: Tensor, *, nodes: int = 16
) -> DensityDistances:
    """Distances between ``p = model(x)`` and ``q = other(x)`` at each row of x.

    Gauss-Legendre quadrature over panels whose ends lie at up to 38 standard deviations around the mean of every
    component of either distribution: accurate to about 1e-8, the total variation to about 1e-5 (its integrand has
    corners).

    Args:
        model: an unbatched model of a scalar response whose components have finite mean and variance.
        other: the same, with any number of experts.
        x: covariates ``(n, d)``.
        nodes: quadrature nodes a panel.

    Raises:
        TypeError: if ``x`` is no floating tensor.
        ValueError: if a response is not scalar.

    Example:
        >>> import torch
        >>> from mixkit import MixingMeasure
        >>> p, q = (MixingMeasure(*(torch.tensor(v).double() for v in ([0.0], [[0.0]], [[0.0]], [mean], [1.0])))
        ...         for mean in (0.0, 1.0))
        >>> distances = density_distances(p.to_module(), q.to_module(), torch.zeros(1, 1).double())
        >>> [round(float(value), 6) for value in distances]
        [0.342787, 0.382925, 0.5]
    """
    check_tensor("x", x)
    check_integer("nodes", nodes, low=2)
    parts = [_at_rows(model, other, rows, nodes) for rows in x.split(_ROWS)]
    return DensityDistances(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _at_rows(model: MixtureOfExperts, other: MixtureOfExperts, x: Tensor, nodes: int) -> DensityDistances:
    first, second = model(x), other(x)
    y, weight = _nodes(first, second, nodes)
    log_p, log_q = first.log_prob(y), second.log_prob(y)
    root_gap = (0.5 * log_p).exp() - (0.5 * log_q).exp()
    p, q = log_p.exp(), log_q.exp()
    log_ratio = torch.where(p > 0, log_p - log_q, 0.0)
    hellinger = (0.5 * (weight * root_gap.square()).sum(0)).clamp(min=0.0, max=1.0).sqrt()
    total_variation = (0.5 * (weight * (p - q).abs()).sum(0)).clamp(max=1.0)
    # The integrand of KL with p and q both of mass one added: non-negative, so rounding cannot make the sum negative.
    kl = (weight * (torch.where(p > 0, p * log_ratio, 0.0) - p + q)).sum(0).clamp(min=0.0)
    return DensityDistances(hellinger, total_variation, kl)


def _nodes(first: ExpertMixture, second: ExpertMixture, nodes: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights, each ``(panels * nodes, n)``."""
    for name, law in (("model", first), ("other", second)):
        if law.event_shape:
            raise ValueError(f"{name} must have a scalar response, got event shape {tuple(law.event_shape)}")
    means = torch.cat([law.components.mean for law in (first, second)], -1)
    stds = torch.cat([law.components.variance.sqrt() for law in (first, second)], -1)
    reach = means.new_tensor([-r for r in reversed(_REACH[1:])] + list(_REACH))
    ends = (means.unsqueeze(-1) + stds.unsqueeze(-1) * reach).flatten(-2).sort(-1).values.mT
    middle, half = 0.5 * (ends[1:] + ends[:-1]), 0.5 * (ends[1:] - ends[:-1])
    points, weights = (means.new_tensor(part) for part in np.polynomial.legendre.leggauss(nodes))
    y = middle.unsqueeze(1) + half.unsqueeze(1) * points[:, None]
    return y.flatten(0, 1), (half.unsqueeze(1) * weights[:, None]).flatten(0, 1)
