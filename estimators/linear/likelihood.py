r"""The log-likelihood of a softmax-gated mixture with linear predictors, and its exact derivatives.

With gate scores :math:`u_j`, component log-densities :math:`f_j` at predictors :math:`p_j`, weights
:math:`w = \mathrm{softmax}(u)` and responsibilities :math:`r`, the derivatives of one observation's log-likelihood are

.. math::

    \partial_{u_j} = r_j - w_j, \qquad \partial_{p_j} = r_j f_j',
    \partial_{u_j u_l} = \delta_{jl} (r_j - w_j) + w_j w_l - r_j r_l, \qquad
    \partial_{u_l p_j} = \delta_{jl} r_j f_j' - r_l r_j f_j',
    \partial_{p_j p_l} = \delta_{jl} r_j (f_j'' + f_j' f_j'^\top) - r_j f_j' \, r_l f_l'^\top,

so the Hessian in the parameters is a sum of weighted products of pairs of covariates, one matrix product for all.
Derived here; checked against autograd in the tests. All arrays put experts before observations, ``(r, s, k, c)``.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mixkit.experts import LocationExperts
from mixkit.experts.base import DensityTerms

from .design import Chunk, unpack_symmetric
from .layout import Coefficients, Layout

__all__ = ["Posterior", "add_curvature", "log_joint", "posterior", "slopes"]


class Posterior(NamedTuple):
    """What one chunk says at given coefficients; every tensor ``(r, s, k, c)`` but ``log_prob (r, s, c)``."""

    log_prob: Tensor
    weights: Tensor
    responsibilities: Tensor
    terms: DensityTerms


def times_design(coefficients: Tensor, design: Tensor) -> Tensor:
    """Predictors ``(r, s, k, c)`` from coefficients ``(r, s, k, D)`` and design ``(r, D, c)``."""
    return (coefficients.flatten(1, 2) @ design).unflatten(1, coefficients.shape[1:3])


def against(rows: Tensor, matrix: Tensor) -> Tensor:
    """Sum over observations: rows ``(r, s, a, c)`` against ``(r, c, b)``, giving ``(r, s, a, b)``."""
    return (rows.flatten(1, 2) @ matrix).unflatten(1, rows.shape[1:3])


def log_weights(chunk: Chunk, coefficients: Coefficients, layout: Layout) -> Tensor:
    """Log gate weights ``(r, s, k, c)``, -inf where unselected."""
    scores = layout.select(times_design(coefficients.gate, chunk.design), coefficients.gate)
    return scores - torch.logsumexp(scores, -2, keepdim=True)


def log_joint(chunk: Chunk, coefficients: Coefficients, layout: Layout, experts: LocationExperts) -> Tensor:
    """Log weight plus log component density, ``(r, s, k, c)``."""
    eta = times_design(coefficients.expert, chunk.design)
    return log_weights(chunk, coefficients, layout) + experts.log_density(chunk.y, eta, *coefficients.constants)


def posterior(chunk: Chunk, coefficients: Coefficients, layout: Layout, experts: LocationExperts) -> Posterior:
    """Weights, responsibilities and density derivatives of one chunk (the E-step)."""
    log_weight = log_weights(chunk, coefficients, layout)
    terms = experts.density_terms(chunk.y, times_design(coefficients.expert, chunk.design), *coefficients.constants)
    joint = log_weight + terms.log_prob
    log_prob = torch.logsumexp(joint, -2)
    return Posterior(log_prob, log_weight.exp(), torch.exp(joint - log_prob.unsqueeze(-2)), terms)


def weighted(values: Tensor, chunk: Chunk) -> Tensor:
    """Multiply by the observations' weights, if there are any."""
    return values if chunk.weight is None else values * chunk.weight


def slopes(chunk: Chunk, state: Posterior) -> Coefficients:
    """Gradient of the chunk's log-likelihood in every coefficient."""
    covariates = chunk.design.mT
    r = weighted(state.responsibilities, chunk)
    gate = against(r - weighted(state.weights, chunk), covariates)
    expert = against(r * state.terms.first[0], covariates)
    return Coefficients(gate, expert, [(r * f).sum(-1, keepdim=True) for f in state.terms.first[1:]])


def add_curvature(hessian: Tensor, chunk: Chunk, state: Posterior, layout: Layout) -> None:
    """Add the chunk's Hessian in the full coefficient vector to ``hessian (r, s, F, F)``, in place."""
    m, width, k = layout.num_gate_rows + layout.k, layout.width, layout.k
    linear = _linear_rows(chunk, state, layout)
    size = m * width
    at = torch.cat([layout.gate_positions, layout.expert_positions])
    packed = against(_pair_weights(chunk, state, linear, layout), chunk.outer)
    a, b = torch.tril_indices(m, m, device=hessian.device)
    blocks = unpack_symmetric(packed, width)
    full = blocks.new_empty((*blocks.shape[:2], m, m, width, width))
    full[:, :, a, b] = blocks
    full[:, :, b, a] = blocks
    dense = full.transpose(-3, -2).reshape(*blocks.shape[:2], size, size)
    hessian[:, :, at[:, None], at[None, :]] += dense
    if not layout.num_constants:
        return
    constants = torch.cat([state.responsibilities * f for f in state.terms.first[1:]], -2)
    mixed = against(_mixed_weights(chunk, state, linear, constants, layout).flatten(2, 3), chunk.design.mT)
    mixed = mixed.reshape(*mixed.shape[:2], layout.num_constants * k, size)
    rows = layout.constant_positions
    hessian[:, :, rows[:, None], at[None, :]] += mixed
    hessian[:, :, at[:, None], rows[None, :]] += mixed.mT
    hessian[:, :, rows[:, None], rows[None, :]] += _constant_block(chunk, state, constants, layout)


def _linear_rows(chunk: Chunk, state: Posterior, layout: Layout) -> Tensor:
    """``r_j`` for the free gate rows, then ``r_j f_j'`` for the experts: ``(r, s, m, c)``."""
    r = state.responsibilities
    return torch.cat([r[:, :, : layout.num_gate_rows], r * state.terms.first[0]], -2)


def _pair_weights(chunk: Chunk, state: Posterior, linear: Tensor, layout: Layout) -> Tensor:
    """Second derivatives in pairs of linear predictors, lower triangle row by row: ``(r, s, pairs, c)``."""
    g, k, m = layout.num_gate_rows, layout.k, linear.shape[-2]
    r, w, first = state.responsibilities, state.weights, state.terms.first[0]
    pairs = linear.new_empty((*linear.shape[:2], m * (m + 1) // 2, linear.shape[-1]))
    negative = -linear
    for i in range(m):
        torch.mul(negative[:, :, i : i + 1], linear[:, :, : i + 1], out=pairs[:, :, _pair(i, 0) : _pair(i + 1, 0)])
    for i in range(g):
        pairs[:, :, _pair(i, 0) : _pair(i + 1, 0)] += w[:, :, i : i + 1] * w[:, :, : i + 1]
        pairs[:, :, _pair(i, i)] += r[:, :, i] - w[:, :, i]
        pairs[:, :, _pair(g + i, i)] += linear[:, :, g + i]
    curvature = r * (state.terms.second[0][0] + first.square())
    for j in range(k):
        pairs[:, :, _pair(g + j, g + j)] += curvature[:, :, j]
    return weighted(pairs, chunk)


def _pair(i: int, j: int) -> int:
    """Where pair (i >= j) stands in a lower triangle listed row by row."""
    return i * (i + 1) // 2 + j


def _mixed_weights(chunk: Chunk, state: Posterior, linear: Tensor, constants: Tensor, layout: Layout) -> Tensor:
    """Second derivatives in a constant and a linear predictor: ``(r, s, q k, m, c)``."""
    g, k = layout.num_gate_rows, layout.k
    first, second, r = state.terms.first, state.terms.second, state.responsibilities
    mixed = -constants.unsqueeze(-2) * linear.unsqueeze(-3)
    for i in range(layout.num_constants):
        own = r * (second[i + 1][0] + first[i + 1] * first[0])
        for j in range(k):
            if j < g:
                mixed[:, :, i * k + j, j] += constants[:, :, i * k + j]
            mixed[:, :, i * k + j, g + j] += own[:, :, j]
    return mixed if chunk.weight is None else mixed * chunk.weight.unsqueeze(-2)


def _constant_block(chunk: Chunk, state: Posterior, constants: Tensor, layout: Layout) -> Tensor:
    """Hessian in the constants: ``(r, s, q k, q k)``."""
    k, q = layout.k, layout.num_constants
    first, second, r = state.terms.first, state.terms.second, state.responsibilities
    block = -(weighted(constants, chunk) @ constants.mT)
    for i in range(q):
        for j in range(i + 1):
            own = weighted(r * (second[i + 1][j + 1] + first[i + 1] * first[j + 1]), chunk).sum(-1)
            block[:, :, i * k : (i + 1) * k, j * k : (j + 1) * k] += torch.diag_embed(own)
            if i != j:
                block[:, :, j * k : (j + 1) * k, i * k : (i + 1) * k] += torch.diag_embed(own)
    return block
