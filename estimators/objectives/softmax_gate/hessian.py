"""The Hessian, from sums over the observations; its formulas are in ``likelihood.py``."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..packed_symmetric import block_matrix
from .design import Chunk
from .layout import Layout
from .likelihood import Posterior, against, weighted

__all__ = ["Curvature", "assemble_hessian", "curvature_sums"]


class Curvature(NamedTuple):
    """Sums over observations of second derivatives in the predictors, times the covariates they multiply.

    The m linear predictors are the free gate scores, then the experts' locations; there are c constants in all.
    """

    pairs: Tensor  # (r, s, m (m + 1) / 2, q): linear predictors in pairs, times pairs of covariates
    mixed: Tensor  # (r, s, c, m D): a constant and a linear predictor, times its covariates
    constants: Tensor  # (r, s, c, c)


def curvature_sums(chunk: Chunk, state: Posterior, layout: Layout) -> Curvature:
    """One chunk's contribution to the Hessian; contributions add up."""
    linear = _linear_rows(state, layout)
    constants = torch.cat([linear[:, :, :0], *(state.responsibilities * f for f in state.terms.first[1:])], -2)
    mixed = _mixed_weights(chunk, state, linear, constants, layout)
    return Curvature(
        against(_pair_weights(chunk, state, linear, layout), chunk.outer),
        against(mixed.flatten(2, 3), chunk.design.mT).reshape(*mixed.shape[:3], mixed.shape[3] * layout.width),
        _constant_block(chunk, state, constants, layout),
    )


def assemble_hessian(sums: Curvature, layout: Layout) -> Tensor:
    """The Hessian in the full coefficient vector, ``(r, s, F, F)``, from the sums over all observations."""
    linear = torch.cat([layout.gate_positions, layout.expert_positions])
    constants = layout.constant_positions
    size = len(layout.index)
    hessian = sums.pairs.new_zeros((*sums.pairs.shape[:2], size, size))
    hessian[:, :, linear[:, None], linear] = block_matrix(sums.pairs, layout.num_gate_rows + layout.k, layout.width)
    hessian[:, :, constants[:, None], linear] = sums.mixed
    hessian[:, :, linear[:, None], constants] = sums.mixed.mT
    hessian[:, :, constants[:, None], constants] = sums.constants
    return hessian


def _linear_rows(state: Posterior, layout: Layout) -> Tensor:
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
