r"""Gradient and Hessian of the log-likelihood from the derivatives of logits and of component densities.

With logits z, weights w, component log-densities f, responsibilities r, and the means over experts of a derivative
under either, :math:`m_r` and :math:`m_w`, the derivatives of one observation's log-likelihood are

.. math::

    \partial_\gamma = \sum_j (r_j - w_j) \partial z_j, \qquad \partial_{p_j} = r_j \partial f_j, \qquad
    \partial_{\gamma \gamma} = \sum_j (r_j - w_j) (\partial^2 z_j + \partial z_j \partial z_j^\top)
    - m_r(\partial z) m_r(\partial z)^\top + m_w(\partial z) m_w(\partial z)^\top,
    \partial_{\gamma p_j} = r_j (\partial z_j - m_r(\partial z)) \partial f_j^\top, \qquad
    \partial_{p_j p_l} = \delta_{jl} r_j (\partial^2 f_j + \partial f_j \partial f_j^\top)
    - r_j \partial f_j \, r_l \partial f_l^\top .

Parameters come in two blocks, gate and experts, and an expert's own are its D coefficients, intercept last, and then
its q constants: ``k (D + q)`` in all. Derived here; the tests check it against autograd of the whole model.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mixkit.experts.base import DensityTerms

from ..packed_symmetric import unpack_symmetric
from ..softmax_gate.design import Chunk
from ..softmax_gate.likelihood import against, weighted, weighted_units
from ..softmax_gate.unit_hessian import score_spread, unit_scores
from .gate_derivatives import GateDerivatives

__all__ = ["State", "Sums", "chunk_sums", "expert_rows", "gate_rows", "gate_spread"]


class Sums(NamedTuple):
    """Gradient ``(r, s, F)`` and Hessian ``(r, s, F, F)`` of some observations in gate and expert parameters."""

    gradient: Tensor
    hessian: Tensor


class State(NamedTuple):
    """What a chunk says of its b units, and the derivatives of the densities of its c rows."""

    weights: Tensor  # (r, s, k, b)
    responsibilities: Tensor  # (r, s, k, b)
    terms: DensityTerms  # each (r, s, k, c)


def chunk_sums(chunk: Chunk, state: State, gate: GateDerivatives) -> Sums:
    """One chunk's contribution; ``gate`` is taken at r - w times the units' weights."""
    experts = expert_rows(chunk, state)
    weighed = experts if chunk.unit_weight is None else experts * chunk.unit_weight.unsqueeze(-2)
    flat, flat_weighed = experts.flatten(2, 3), weighed.flatten(2, 3)
    if chunk.units is None:
        spread = -(flat_weighed @ flat.mT)
    else:
        spread = score_spread(chunk, state.responsibilities, list(unit_scores(chunk, state.terms).unbind(2)))
    corner = _on_diagonal(_own_curvature(chunk, state)) + spread
    mean = _mean(gate.jacobian, state.responsibilities)
    top = gate.hessian + gate_spread(chunk, gate.jacobian, state.responsibilities, mean)
    top = top - gate_spread(chunk, gate.jacobian, state.weights)
    mixed = ((gate.jacobian - mean.unsqueeze(2)) @ weighed.mT).movedim(2, 3).flatten(3)  # (r, s, G, k (D + q))
    hessian = torch.cat([torch.cat([top, mixed], -1), torch.cat([mixed.mT, corner], -1)], -2)
    return Sums(torch.cat([gate.gradient, flat_weighed.sum(-1)], -1), hessian)


def gate_spread(chunk: Chunk, jacobian: Tensor, shares: Tensor, mean: Tensor | None = None) -> Tensor:
    """Sum of the covariances of ``dz`` when experts have ``shares (r, s, k, c)``, ``(r, s, G, G)``.

    Shares sum to one over the experts; each unit counts by its weight.
    """
    mean = _mean(jacobian, shares) if mean is None else mean
    second = (jacobian * weighted_units(shares, chunk).unsqueeze(-2)) @ jacobian.mT
    return second.sum(2) - weighted_units(mean, chunk) @ mean.mT


def gate_rows(state: State, gate: GateDerivatives) -> Tensor:
    """Gradient of each unit's log-likelihood in the gate's parameters, ``(r, s, G, b)``."""
    return _mean(gate.jacobian, state.responsibilities - state.weights)


def _mean(jacobian: Tensor, shares: Tensor) -> Tensor:
    return (shares.unsqueeze(-2) * jacobian).sum(2)


def expert_rows(chunk: Chunk, state: State) -> Tensor:
    """The same in the experts', ``(r, s, k, D + q, b)``."""
    if chunk.units is not None:
        return state.responsibilities.unsqueeze(-2) * unit_scores(chunk, state.terms)
    first = [state.responsibilities * f for f in state.terms.first]
    slopes = first[0].unsqueeze(-2) * chunk.design[:, None, None]
    return torch.cat([slopes, *(f.unsqueeze(-2) for f in first[1:])], -2)


def _own_curvature(chunk: Chunk, state: State) -> Tensor:
    """Sum of ``r_j (g_j g_j' + f_j'')`` in each expert's own parameters, ``(r, s, k, D + q, D + q)``.

    Where rows share experts, the first term is part of the spread of the units' scores.
    """
    r, width, first = weighted(chunk.on_rows(state.responsibilities), chunk), chunk.design.shape[-2], state.terms.first
    second = [[r * h for h in row] for row in state.terms.second]
    if chunk.units is None:
        second = [
            [r * (h + first[i] * first[j]) for j, h in enumerate(row)] for i, row in enumerate(state.terms.second)
        ]
    size = width + len(first) - 1
    own = r.new_zeros((*r.shape[:-1], size, size))
    own[..., :width, :width] = unpack_symmetric(against(second[0][0], chunk.outer), width)
    for i in range(1, len(first)):
        at = width + i - 1
        mixed = against(second[i][0], chunk.design.mT)
        own[..., at, :width] = mixed
        own[..., :width, at] = mixed
        for j in range(1, i + 1):
            total = second[i][j].sum(-1)
            own[..., at, width + j - 1] = total
            own[..., width + j - 1, at] = total
    return own


def _on_diagonal(blocks: Tensor) -> Tensor:
    """Blocks ``(r, s, k, p, p)`` on the diagonal of ``(r, s, k p, k p)``."""
    k, p = blocks.shape[-3], blocks.shape[-1]
    full = blocks.new_zeros((*blocks.shape[:2], k, p, k, p))
    place = torch.arange(k, device=blocks.device)
    full[:, :, place, :, place, :] = blocks.movedim(2, 0)
    return full.reshape(*blocks.shape[:2], k * p, k * p)
