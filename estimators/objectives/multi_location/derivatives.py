r"""Derivatives of a softmax-gated mixture in all linear predictors: gate scores, then the arguments of the densities.

With scores u, weights w, responsibilities r and component log-densities :math:`f_j` at arguments :math:`p_{ja}`,
one observation's log-likelihood has

.. math::

    \partial_{u_j} = r_j - w_j, \qquad \partial_{p_{ja}} = r_j \partial_a f_j =: g_{ja},
    \partial^2 = -g g^\top + \text{blocks}, \qquad g_{u_j} := r_j,

where the blocks are :math:`w w^\top + \mathrm{diag}(r - w)` among the scores, :math:`g_{ja}` between score j and
argument (j, a), and :math:`r_j (\partial_{ab} f_j + \partial_a f_j \partial_b f_j)` among the arguments of expert j.
Those of the complete data (memberships known) are :math:`w w^\top - \mathrm{diag}(w)` and
:math:`r_j \partial_{ab} f_j`. Derived here; checked against autograd in the tests.
"""

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from mixkit.experts.base import DensityTerms

from .families import Block

__all__ = ["Point", "complete_pairs", "observed_pairs", "slope_rows"]

Place = TypeVar("Place", int, Tensor)


class Point(NamedTuple):
    """What one chunk says at given coefficients."""

    log_prob: Tensor  # (r, s, c)
    weights: Tensor  # (r, s, k, c)
    responsibilities: Tensor  # (r, s, k, c)
    terms: list[DensityTerms]  # one a block
    num_scores: int  # free gate scores g


def slope_rows(point: Point, blocks: list[Block]) -> Tensor:
    """``r_j`` for the free scores, then ``r_j f_j'`` for every argument: ``(r, s, m, c)``."""
    r = point.responsibilities
    rows = [r[:, :, : point.num_scores]]
    for block, terms in zip(blocks, point.terms, strict=True):
        if block.num_arguments:
            own = [r[:, :, block.experts] * first for first in terms.first]
            rows.append(torch.stack(own, 3).flatten(2, 3))
    return torch.cat(rows, 2)


def observed_pairs(point: Point, blocks: list[Block], rows: Tensor) -> Tensor:
    """Second derivatives in pairs of predictors, lower triangle row by row: ``(r, s, m (m + 1) / 2, c)``."""
    m, g = rows.shape[2], point.num_scores
    i, j = torch.tril_indices(m, m, device=rows.device)
    pairs = -(rows[:, :, i] * rows[:, :, j])
    w, r = point.weights, point.responsibilities
    for a in range(g):
        pairs[:, :, pair(a, 0) : pair(a + 1, 0)] += w[:, :, a : a + 1] * w[:, :, : a + 1]
        pairs[:, :, pair(a, a)] += r[:, :, a] - w[:, :, a]
    for block, terms in zip(blocks, point.terms, strict=True):
        own = r[:, :, block.experts]
        for a in range(block.num_arguments):
            for b in range(a + 1):
                curvature = own * (terms.second[a][b] + terms.first[a] * terms.first[b])
                for local in range(block.k):
                    start = g + block.first_row + local * block.num_arguments
                    pairs[:, :, pair(start + a, start + b)] += curvature[:, :, local]
            for local in range(block.k):
                expert, row = block.first_expert + local, g + block.first_row + local * block.num_arguments + a
                if expert < g:
                    pairs[:, :, pair(row, expert)] += rows[:, :, row]
    for later in range(1, len(blocks) if blocks[0].response is not None else 0):
        for earlier in range(later):
            _add_products(pairs, point, blocks, later, earlier)
    return pairs


def _add_products(pairs: Tensor, point: Point, blocks: list[Block], later: int, earlier: int) -> None:
    """Products of first derivatives of one expert's densities of two coordinates of the response, in place."""
    one, other, g = blocks[later], blocks[earlier], point.num_scores
    for a in range(one.num_arguments):
        for b in range(other.num_arguments):
            product = point.responsibilities * point.terms[later].first[a] * point.terms[earlier].first[b]
            for j in range(one.k):
                row, column = (g + part.first_row + j * part.num_arguments for part in (one, other))
                pairs[:, :, pair(row + a, column + b)] += product[:, :, j]


def complete_pairs(point: Point, blocks: list[Block]) -> list[Tensor]:
    """Second derivatives given the memberships: of the scores ``(r, s, pairs, c)``, of each block's arguments.

    Those of a block are ``(r, s, k pairs, c)``, the pairs of an expert's arguments, lower triangle row by row.
    """
    w, g = point.weights, point.num_scores
    parts = []
    if g:
        scores = torch.cat([w[:, :, a : a + 1] * w[:, :, : a + 1] for a in range(g)], 2)
        diagonal = torch.arange(g, device=w.device)
        scores[:, :, pair(diagonal, diagonal)] -= w[:, :, :g]
        parts.append(scores)
    for block, terms in zip(blocks, point.terms, strict=True):
        if block.num_arguments:
            own = point.responsibilities[:, :, block.experts]
            pairs = [own * terms.second[a][b] for a in range(block.num_arguments) for b in range(a + 1)]
            parts.append(torch.stack(pairs, 3).flatten(2, 3))
    return parts


def pair(i: Place, j: Place) -> Place:
    """Where pair (i >= j) stands in a lower triangle listed row by row."""
    return i * (i + 1) // 2 + j
