"""Errors of each block of parameters apart, for every true atom, which a summed loss hides."""

from typing import NamedTuple

import torch
from torch import Tensor

from mixkit.gates import Gate
from mixkit.measure import MixingMeasure

from .freedom import Freedom
from .loss import rbar, voronoi_loss
from .terms import build_terms

__all__ = ["BlockErrors", "block_errors"]


class BlockErrors(NamedTuple):
    """Errors of each true atom, every tensor ``(*batch, k*)``; NaN where no fitted atom lies in the cell.

    Attributes:
        mass: relative error of the cell's mass, ``|sum_i exp(beta_0i) / exp(beta*_0j + t_0) - 1|``.
        gate: mean of ``|beta_1i - beta*_1j - t_1|`` over the cell, weighted by mass.
        slope: the same of ``|a_i - a*_j|``.
        intercept: the same of ``|b_i - b*_j|``.
        variance: the same of ``|sigma^2_i - sigma*^2_j|``.
        cell_size: fitted atoms in the cell.
    """

    mass: Tensor
    gate: Tensor
    slope: Tensor
    intercept: Tensor
    variance: Tensor
    cell_size: Tensor


def block_errors(fitted: MixingMeasure, truth: MixingMeasure, *, gate: Gate | None = None) -> BlockErrors:
    """Errors block by block, at the cells and translation of the over-specified loss.

    No exponent is applied and no cell is discounted for its small mass, so that each has the unit of its
    parameter and a rate of its own: n^-1/2 for an atom alone in its cell, and, for two sharing one, no slower than
    n^-1/8 (gate, intercept) and n^-1/4 (slope, variance). A fitted atom counts by its share of the cell's mass.

    Args:
        fitted: a measure of k atoms, or a batch.
        truth: a measure of k* atoms.
        gate: whose freedom of translation counts; a softmax gate's if None.

    Raises:
        TypeError: if an argument is of another kind.
        ValueError: if the measures do not fit each other.

    Source: Nguyen, Nguyen, Ho (2023), arXiv 2305.03288, for the rates.

    Example:
        >>> import torch
        >>> truth = MixingMeasure(*(torch.tensor(v) for v in ([0.0, 0.0], [[1.0], [0.0]], [[2.0], [0.0]], [0.0, 1.0],
        ...     [1.0, 1.0])))
        >>> block_errors(truth, truth).slope
        tensor([0., 0.])
    """
    loss = voronoi_loss(fitted, truth, gate=gate, rbar=rbar)
    terms = build_terms(fitted, truth, loss.cells.unsqueeze(-2), Freedom.of(gate), None)
    gap = torch.linalg.vector_norm(terms.gate_gap - loss.shift[..., None, None, :], dim=-1)
    size = terms.owner.sum(-2).squeeze(-2)
    weighted = [gap * terms.mass, *terms.expert.unbind(-1)]
    sums = [terms.by_cell(value).squeeze(-2) for value in weighted]
    mass, true_mass = terms.cell_mass.squeeze(-2), terms.true_mass.squeeze(-2)
    missing = torch.full_like(mass, torch.nan)
    safe = torch.where(size > 0, mass, torch.ones_like(mass))
    gate_mean, slope, intercept, variance = (torch.where(size > 0, value / safe, missing) for value in sums)
    relative = torch.where(size > 0, (mass / (loss.scale.unsqueeze(-1) * true_mass) - 1.0).abs(), missing)
    return BlockErrors(relative, gate_mean, slope, intercept, variance, size)
