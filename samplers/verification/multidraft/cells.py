"""Who holds the highest cell: the exact probability, given the distributions of the contestants' cells."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..sources import CellLaws

_LONG = 4096  # shorter rows stay in the cache whole
_PIECE = 8192  # cells at once: a few contestants in float64 fit a cache
_FEW_NODES, _SMALL = 2, 1e-4  # of quadrature in a cell whose mass is at most so small, to its fourth power


def cell_distributions(laws: CellLaws) -> Tensor:
    """Distribution of each contestant's cell ``(r, m, n)``: its own cell, and cells drawn from pools."""
    if laws.own.shape[0] == 1:
        return _one_distribution(laws)
    row, column, pool = (laws.choice[..., 1:] > 0).nonzero(as_tuple=True)
    weights = laws.pool(row, pool).double()
    weights = weights / weights.sum(-1, keepdim=True) * laws.choice[row, column, pool + 1][:, None]
    dense = weights.new_zeros(*laws.own.shape, weights.shape[-1]).index_put((row, column), weights, accumulate=True)
    return dense.scatter_add(-1, laws.own[..., None], laws.choice[..., :1].double())


def _one_distribution(laws: CellLaws) -> Tensor:
    """`cell_distributions` of one row: each pool is made once, whoever draws from it."""
    choice = laws.choice[0].double()
    used = (choice[:, 1:] > 0).any(0).nonzero()[:, 0]
    weights = laws.pool(torch.zeros_like(used), used).double()
    dense = (choice[:, 1:][:, used] / weights.sum(-1)) @ weights
    return dense.scatter_add_(-1, laws.own[0, :, None], choice[:, :1])[None]


def winning_law(weights: Tensor, active: Tensor) -> Tensor:
    r"""Probability ``(r, m)`` that each contestant holds the highest cell, ties broken uniformly.

    :math:`\sum_z L_i(z) \int_0^1 \prod_{j \ne i} (\sum_{y<z} L_j(y) + s L_j(z)) \, ds`: ties behave as if the place
    inside a cell were uniform. The integral is a polynomial's, exact by Gauss-Legendre quadrature.

    Args:
        weights: Weights over ordered cells ``(r, m, n)``.
        active: Contestants that take part ``(r, m)``.

    Example:
        >>> import torch
        >>> winning_law(torch.tensor([[[1.0, 1.0], [0.0, 1.0]]]), torch.tensor([[True, True]]))
        tensor([[0.2500, 0.7500]], dtype=torch.float64)
    """
    if weights.shape[0] == 1 and weights.shape[-1] >= _LONG and bool(active.all()):
        return _win_one(weights[0].double())
    law = weights.double() / weights.sum(-1, keepdim=True, dtype=torch.float64).clamp_min(1e-300)
    law = torch.where(active[..., None], law, 0.0)
    contestants = law.unbind(1)
    below = [part.cumsum(-1).sub_(part) for part in contestants]
    for start, takes_part in zip(below, active.unbind(1), strict=True):
        start += ~takes_part[:, None]  # who takes no part is below everybody
    return _integrate(contestants, below, law.shape[1] // 2 + 1)


def _win_one(weights: Tensor) -> Tensor:
    """`winning_law` ``(1, m)`` of one long row ``(m, n)``, in pieces that stay in the cache."""
    law = weights / weights.sum(-1, keepdim=True).clamp_min(1e-300)
    held = law.amax(0) > 0  # cells that nobody holds decide nothing
    law = law if 2 * int(held.sum()) > held.numel() else law[:, held.nonzero()[:, 0]]
    below = law.cumsum(-1).sub_(law)
    nodes = law.shape[0] // 2 + 1
    few = min(nodes, _FEW_NODES)
    wins = torch.stack(
        [
            _integrate(part.unbind(0), start.unbind(0), few)
            for part, start in zip(law.split(_PIECE, -1), below.split(_PIECE, -1), strict=True)
        ]
    ).sum(0)
    if few < nodes:
        # Two nodes leave an error of the fourth power of a cell's mass: nothing, but for the few cells of large mass.
        large = (law > _SMALL).any(0).nonzero()[:, 0]
        some = law[:, large].unbind(0), below[:, large].unbind(0)
        wins = wins + _integrate(*some, nodes) - _integrate(*some, few)
    return wins[None]


def _integrate(contestants: Sequence[Tensor], below: Sequence[Tensor], nodes: int) -> Tensor:
    """Probabilities of winning ``(..., m)`` by quadrature inside each cell, from masses in and below cells."""
    wins = contestants[0].new_zeros(*contestants[0].shape[:-1], len(contestants))
    for point, size in zip(*(part.tolist() for part in legendre(nodes, wins)), strict=True):
        held = [torch.add(start, part, alpha=point) for start, part in zip(below, contestants, strict=True)]
        products = products_but_one(held)
        each = [torch.linalg.vecdot(a, b) for a, b in zip(contestants, products, strict=True)]
        wins += size * torch.stack(each, -1)
    return wins


def products_but_one(values: list[Tensor]) -> list[Tensor]:
    """Product of all but each one: no division, so that zeros are allowed.

    Example:
        >>> products_but_one([torch.tensor(2.0), torch.tensor(3.0), torch.tensor(0.0)])
        [tensor(0.), tensor(0.), tensor(6.)]
    """
    after = [torch.ones_like(values[0])]
    for value in values[:0:-1]:
        after.append(after[-1] * value)
    found, before = [], None
    for value, rest in zip(values, reversed(after), strict=True):
        found.append(rest if before is None else before * rest)
        before = value if before is None else before * value
    return found


def legendre(count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0, 1], exact for polynomials of degree below ``2 * count``."""
    points, sizes = _legendre(count)
    return points.to(like), sizes.to(like)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _legendre(count: int) -> tuple[Tensor, Tensor]:
    points, sizes = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy((points + 1) / 2), torch.from_numpy(sizes / 2)
