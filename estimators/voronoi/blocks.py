"""Errors of each block of parameters apart, for every true atom, which a summed loss hides."""

from typing import NamedTuple

import torch
from torch import Tensor

from mixkit._validation import at_least_float32
from mixkit.gates import Gate
from mixkit.gates.invariance import GateInvariance
from mixkit.measure import MixingMeasure

from .loss import rbar, voronoi_loss
from .terms import assigned_gap, build_terms

__all__ = ["AtomErrors", "BlockErrors", "atom_errors", "block_errors"]


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


class AtomErrors(NamedTuple):
    """Errors of each fitted atom, every tensor ``(*batch, k)``.

    Attributes:
        mass: ``exp(beta_0i)``, as normalized in :func:`~estimators.voronoi.voronoi_loss`.
        gate: ``|beta_1i - beta*_1j - t_1|``, j being the atom's cell.
        slope: ``|a_i - a*_j|``.
        intercept: ``|b_i - b*_j|``.
        variance: ``|sigma^2_i - sigma*^2_j|``.
        cell_size: fitted atoms in the same cell, itself among them.
        cells: j.
    """

    mass: Tensor
    gate: Tensor
    slope: Tensor
    intercept: Tensor
    variance: Tensor
    cell_size: Tensor
    cells: Tensor


def block_errors(fitted: MixingMeasure, truth: MixingMeasure, *, gate: Gate | None = None) -> BlockErrors:
    """Errors block by block, at the cells and translation of the over-specified loss.

    No exponent is applied and no cell is discounted for its small mass, so that each has the unit of its
    parameter and a rate of its own: n^-1/2 for an atom alone in its cell, and, for two sharing one, no slower than
    n^-1/8 (gate, intercept) and n^-1/4 (slope, variance). A fitted atom counts by its share of the cell's mass.

    Args:
        fitted: a measure of k atoms, or a batch.
        truth: a measure of k* atoms.
        gate: whose invariance to translations counts; a softmax gate's if None.

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
    return _by_true_atom(_assigned(fitted, truth, gate), fitted.gate_bias)


def atom_errors(fitted: MixingMeasure, truth: MixingMeasure, *, gate: Gate | None = None) -> AtomErrors:
    """Errors of each fitted atom, whatever its mass, at the cells and translation of the over-specified loss.

    Losses weigh an atom by its mass, so that one of vanishing mass may lie anywhere; here is where.

    Args:
        fitted: a measure of k atoms, or a batch.
        truth: a measure of k* atoms.
        gate: whose invariance to translations counts; a softmax gate's if None.

    Raises:
        TypeError: if an argument is of another kind.
        ValueError: if the measures do not fit each other.

    Example:
        >>> import torch
        >>> truth = MixingMeasure(*(torch.tensor(v) for v in ([0.0, 0.0], [[1.0], [0.0]], [[2.0], [0.0]], [0.0, 1.0],
        ...     [1.0, 1.0])))
        >>> atom_errors(truth.permute([1, 0]), truth).cells
        tensor([1, 0])
    """
    at = _assigned(fitted, truth, gate)
    size = at.owner.sum(-2, keepdim=True).expand(at.owner.shape).gather(-1, at.cells.unsqueeze(-1)).squeeze(-1)
    weight, slope, intercept, variance = at.gaps.unbind(-1)
    return AtomErrors(at.mass, weight, slope, intercept, variance, size, at.cells)


class _Assigned(NamedTuple):
    """Fitted atoms ``(*batch, k)`` with their cells, and gaps ``(*batch, k, 4)``: gate, slope, intercept, variance."""

    cells: Tensor
    owner: Tensor
    mass: Tensor
    gaps: Tensor
    relative_mass: Tensor


def _assigned(fitted: MixingMeasure, truth: MixingMeasure, gate: Gate | None) -> _Assigned:
    """At the best assignment and translation of the over-specified loss."""
    loss = voronoi_loss(fitted, truth, gate=gate, rbar=rbar)
    terms = build_terms(fitted, truth, loss.cells.unsqueeze(-2), GateInvariance.of(gate), None)
    names = ("gate_weight", "slope", "intercept", "variance")
    gaps = [assigned_gap(fitted, truth, name, terms.cells).squeeze(-3) for name in names]
    gaps[0] = gaps[0] - loss.shift.unsqueeze(-2)
    norms = torch.stack([torch.linalg.vector_norm(gap, dim=-1) for gap in gaps], -1)
    relative = terms.cell_mass.squeeze(-2) / (loss.scale.unsqueeze(-1) * terms.true_mass.squeeze(-2))
    return _Assigned(loss.cells, terms.owner.squeeze(-3), terms.mass.squeeze(-2), norms, (relative - 1.0).abs())


def _by_true_atom(at: _Assigned, bias: Tensor) -> BlockErrors:
    """Means over cells; shares of a cell's mass are taken on the log scale, for masses themselves may underflow."""
    size = at.owner.sum(-2)
    empty = (size == 0).unsqueeze(-2)
    logits = torch.where(at.owner, at_least_float32(bias).unsqueeze(-1), -torch.inf)
    share = torch.softmax(torch.where(empty, 0.0, logits), -2)
    means = (share.unsqueeze(-1) * at.gaps.unsqueeze(-2)).sum(-3)
    parts = torch.cat([at.relative_mass.unsqueeze(-1), means], -1)
    parts = torch.where((size == 0).unsqueeze(-1), torch.nan, parts)
    mass, gate, slope, intercept, variance = parts.unbind(-1)
    return BlockErrors(mass, gate, slope, intercept, variance, size)
