"""What a Voronoi loss is made of, for several assignments of fitted atoms to true ones at once."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mixkit._validation import at_least_float32
from mixkit.gates.invariance import GateInvariance
from mixkit.measure import MixingMeasure

from .cells import expert_atoms, pair_gaps

__all__ = ["Terms", "anchored_cells", "assigned_gap", "build_terms"]


class Terms(NamedTuple):
    """The parts of a loss, ``(*batch, c, k, ...)`` for c candidate assignments of k atoms.

    Attributes:
        cells: the true atom of each fitted one, ``(*batch, c, k)``.
        owner: the same one-hot, ``(*batch, c, k, k*)``.
        mass: ``exp(beta_0i)``, ``(*batch, c, k)``.
        power: exponent of the gate's gap, ``(*batch, c, k)``.
        gate_gap: ``beta_1i - beta*_1j`` before translation, ``(*batch, c, k, d)``.
        expert: slope, intercept and variance gaps, each to its power and times the mass, ``(*batch, c, k, 3)``.
        cell_mass: fitted mass of each cell, ``(*batch, c, k*)``.
        true_mass: ``exp(beta*_0j)``, ``(*batch, c, k*)``.
    """

    cells: Tensor
    owner: Tensor
    mass: Tensor
    power: Tensor
    gate_gap: Tensor
    expert: Tensor
    cell_mass: Tensor
    true_mass: Tensor

    def by_cell(self, value: Tensor) -> Tensor:
        """Sums over each cell of a value of each atom, ``(*batch, c, k)`` to ``(*batch, c, k*)``."""
        return (self.owner.to(value.dtype) * value.unsqueeze(-1)).sum(-2)


def anchored_cells(fitted: MixingMeasure, truth: MixingMeasure, invariance: GateInvariance) -> Tensor:
    """The cells under each translation that brings the gate weight of a fitted atom to that of a true one.

    ``(*batch, k k*, k)``; the untranslated cells alone, ``(*batch, 1, k)``, if the weight has no invariance.
    """
    gate = pair_gaps(fitted.gate_weight.detach().double(), truth.gate_weight.detach().double())
    expert = pair_gaps(expert_atoms(fitted).detach().double(), expert_atoms(truth).detach().double())
    shifts = gate.flatten(-3, -2) if invariance.weight else torch.zeros_like(gate[..., 0, :1, :])
    moved = gate.unsqueeze(-4) - shifts[..., None, None, :]
    return (moved.square().sum(-1) + expert.square().sum(-1).unsqueeze(-3)).argmin(-1)


def build_terms(
    fitted: MixingMeasure,
    truth: MixingMeasure,
    cells: Tensor,
    invariance: GateInvariance,
    rbar: Callable[[int], float] | None,
) -> Terms:
    """The terms of a loss for the assignments ``cells (*batch, c, k)``."""
    owner = torch.nn.functional.one_hot(cells, truth.num_experts).bool()
    mass, true_mass = (_mass(measure, invariance).unsqueeze(-2) for measure in (fitted, truth))
    mass = mass.expand(cells.shape)
    power = _powers(owner, rbar, mass)
    gaps = [assigned_gap(fitted, truth, name, cells) for name in ("gate_weight", "slope", "intercept", "variance")]
    half = torch.where(power > 1.0, 0.5 * power, power)
    norms = [torch.linalg.vector_norm(gap, dim=-1) for gap in gaps[1:]]
    expert = torch.stack([mass * n.pow(q) for n, q in zip(norms, (half, power, half), strict=True)], -1)
    cell_mass = (owner.to(mass.dtype) * mass.unsqueeze(-1)).sum(-2)
    return Terms(cells, owner, mass, power, gaps[0], expert, cell_mass, true_mass.expand(cell_mass.shape))


def _mass(measure: MixingMeasure, invariance: GateInvariance) -> Tensor:
    """``exp(beta_0)``, with sum one where the bias is free."""
    bias = at_least_float32(measure.gate_bias)
    return torch.softmax(bias, -1) if invariance.bias else bias.exp()


def _powers(owner: Tensor, rbar: Callable[[int], float] | None, like: Tensor) -> Tensor:
    """The exponent of each atom: 1 if alone in its cell or for the exact loss, ``rbar(m)`` in a cell of m."""
    k = owner.shape[-2]
    table = [1.0] * (k + 1)
    if rbar is not None:
        table[2:] = [float(rbar(m)) for m in range(2, k + 1)]
    sizes = (owner & owner.any(-1, keepdim=True)).sum(-2, keepdim=True).expand(owner.shape)
    return like.new_tensor(table)[(sizes * owner).sum(-1)]


def assigned_gap(fitted: MixingMeasure, truth: MixingMeasure, name: str, cells: Tensor) -> Tensor:
    """Fitted less assigned true parameter, ``(*batch, c, k, q)``."""
    own, other = at_least_float32(getattr(fitted, name)), at_least_float32(getattr(truth, name))
    if name in ("intercept", "variance"):
        own, other = own.unsqueeze(-1), other.unsqueeze(-1)
    shape = (*cells.shape[:-1], *other.shape[-2:])
    index = cells.unsqueeze(-1).expand(*cells.shape, other.shape[-1])
    return own.unsqueeze(-3) - other.unsqueeze(-3).expand(shape).gather(-2, index)
