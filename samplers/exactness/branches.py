"""A source of decisions that follows every branch instead of drawing one."""

import numpy as np
import torch
from torch import Tensor

from ..verification.sources import CellLaws, RandomSource


class Branches(RandomSource):
    """Decides as told, then by the first branch that is possible, and notes the branches it left out.

    Run a verifier with it, then run it again on what `unexplored` returns, until nothing is left: each leaf of the tree
    of decisions is visited once, with its exact probability. See `samplers.exactness`.

    Args:
        forced: The first decisions of each row ``(w, depth)``; -1 from where the row is free.
        weight: Probability that the forced decisions' rows start from ``(w,)``.
    """

    def __init__(self, forced: Tensor, weight: Tensor):
        self._record = _Record(forced.clone(), weight.clone())
        self._index = torch.arange(forced.shape[0])

    @property
    def weight(self) -> Tensor:
        """Probability ``(w,)`` of each row's leaf."""
        return self._record.weight

    def unexplored(self) -> tuple[Tensor, Tensor]:
        """Return the row ``(s,)`` and the forced decisions ``(s, depth)`` of each branch left out."""
        return self._record.unexplored()

    def rows(self, index: Tensor) -> "Branches":
        """Return the source of the rows ``index (s,)`` alone."""
        view = object.__new__(Branches)
        view._record, view._index = self._record, self._index[index]
        return view

    def uniform(self, count: int) -> Tensor:
        """Refuse: a uniform has too many branches."""
        raise TypeError(
            "a verifier that draws uniforms cannot be enumerated: draw by accept, choose and highest, or test it by "
            "chi_square_test"
        )

    def accept(self, probability: Tensor) -> Tensor:
        """Branch two ways."""
        return self._record.decide(self._index, torch.stack([probability, 1 - probability], -1)) == 0

    def choose(self, weights: Tensor) -> Tensor:
        """Branch to every index of positive weight."""
        return self._record.decide(self._index, weights)

    def highest(self, laws: CellLaws, active: Tensor) -> Tensor:
        """Branch to every contestant that can win."""
        return self._record.decide(self._index, winning_law(_dense(laws), active))


def _dense(laws: CellLaws) -> Tensor:
    """Law of each contestant's cell ``(r, m, n)``."""
    row, column, pool = (laws.choice[..., 1:] > 0).nonzero(as_tuple=True)
    weights = laws.pool(row, pool).double()
    weights = weights / weights.sum(-1, keepdim=True) * laws.choice[row, column, pool + 1][:, None]
    dense = weights.new_zeros(*laws.own.shape, weights.shape[-1]).index_put((row, column), weights, accumulate=True)
    return dense.scatter_add(-1, laws.own[..., None], laws.choice[..., :1].double())


class _Record:
    """Decisions, probabilities and open branches of all rows, shared by the views of a source."""

    def __init__(self, forced: Tensor, weight: Tensor):
        self.decisions, self.weight = forced, weight
        self.depth = torch.zeros(forced.shape[0], dtype=torch.long)
        self.open: list[tuple[Tensor, Tensor, Tensor]] = []

    def decide(self, index: Tensor, weights: Tensor) -> Tensor:
        probs = weights.double() / weights.sum(-1, keepdim=True, dtype=torch.float64)
        depth = self.depth[index]
        self._grow(int(depth.max()) + 1 if depth.numel() else 0)
        forced = self.decisions[index, depth]
        free = forced < 0
        choice = torch.where(free, (probs > 0).to(torch.uint8).argmax(-1), forced)
        left_out = (probs > 0) & free[:, None]
        left_out.scatter_(-1, choice[:, None], False)
        row, branch = left_out.nonzero(as_tuple=True)
        self.open.append((index[row], depth[row], branch))
        self.decisions[index, depth] = choice
        self.weight[index] *= probs.gather(-1, choice[:, None])[:, 0]
        self.depth[index] += 1
        return choice

    def _grow(self, depth: int) -> None:
        missing = depth - self.decisions.shape[1]
        if missing > 0:
            self.decisions = torch.nn.functional.pad(self.decisions, (0, missing), value=-1)

    def unexplored(self) -> tuple[Tensor, Tensor]:
        if not self.open:
            return torch.zeros(0, dtype=torch.long), self.decisions[:0]
        row, depth, branch = (torch.cat(parts) for parts in zip(*self.open, strict=True))
        steps = torch.arange(self.decisions.shape[1])
        decisions = self.decisions[row].masked_fill(steps > depth[:, None], -1)
        decisions[torch.arange(row.numel()), depth] = branch
        return row, decisions


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
    law = weights.double() / weights.sum(-1, keepdim=True, dtype=torch.float64).clamp_min(1e-300)
    below = law.cumsum(-1) - law
    points, sizes = _legendre(law.shape[1] // 2 + 1)
    held = below[..., None] + law[..., None] * points
    held = torch.where(active[..., None, None], held, 1.0)
    wins = [(law[:, i] * (_product_but(held, i) * sizes).sum(-1)).sum(-1) * active[:, i] for i in range(law.shape[1])]
    return torch.stack(wins, -1)


def _product_but(held: Tensor, left_out: int) -> Tensor:
    return torch.cat([held[:, :left_out], held[:, left_out + 1 :]], 1).prod(1)


def _legendre(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0, 1], exact for polynomials of degree below ``2 * count``."""
    points, sizes = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy((points + 1) / 2), torch.from_numpy(sizes / 2)
