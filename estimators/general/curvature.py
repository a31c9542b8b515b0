r"""Gradient and Hessian of the log-likelihood from the derivatives of log-weights and of component densities.

With :math:`g_j` the derivative of :math:`\log w_j + \log f_j` in all parameters, r the responsibilities and
:math:`m = \sum_j r_j g_j`, one observation has gradient m and Hessian
:math:`\sum_j r_j (g_j g_j^\top + \nabla^2 (\log w_j + \log f_j)) - m m^\top`. Parameters come in two blocks, gate and
experts, and an expert's own are its D coefficients, intercept last, and then its q constants: ``k (D + q)`` in all.
Derived here; the tests check it against autograd of the whole model.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mixkit.experts.base import DensityTerms

from ..linear.design import Chunk, unpack_symmetric
from ..linear.likelihood import against, weighted
from .gate import GateDerivatives

__all__ = ["Sums", "chunk_sums", "expert_rows", "gate_rows"]


class Sums(NamedTuple):
    """Gradient ``(r, s, F)`` and Hessian ``(r, s, F, F)`` of some observations in gate and expert parameters."""

    gradient: Tensor
    hessian: Tensor


def chunk_sums(chunk: Chunk, responsibilities: Tensor, terms: DensityTerms, gate: GateDerivatives) -> Sums:
    """One chunk's contribution; ``gate`` is taken at the responsibilities times the observations' weights."""
    experts = expert_rows(chunk, responsibilities, terms)
    weighed = weighted(experts, chunk) if chunk.weight is None else experts * chunk.weight.unsqueeze(-2)
    flat, flat_weighed = experts.flatten(2, 3), weighed.flatten(2, 3)
    own = _own_curvature(chunk, responsibilities, terms)
    corner = _on_diagonal(own) - flat_weighed @ flat.mT
    centred = gate.jacobian - gate_rows(responsibilities, gate).unsqueeze(2)  # (r, s, k, G, c)
    top = gate.hessian + ((centred * weighted(responsibilities, chunk).unsqueeze(-2)) @ centred.mT).sum(2)
    mixed = (centred @ weighed.mT).movedim(2, 3).flatten(3)  # (r, s, G, k (D + q))
    hessian = torch.cat([torch.cat([top, mixed], -1), torch.cat([mixed.mT, corner], -1)], -2)
    return Sums(torch.cat([gate.gradient, flat_weighed.sum(-1)], -1), hessian)


def gate_rows(responsibilities: Tensor, gate: GateDerivatives) -> Tensor:
    """Gradient of each observation's log-likelihood in the gate's parameters, ``(r, s, G, c)``."""
    return (responsibilities.unsqueeze(-2) * gate.jacobian).sum(2)


def expert_rows(chunk: Chunk, responsibilities: Tensor, terms: DensityTerms) -> Tensor:
    """The same in the experts', ``(r, s, k, D + q, c)``."""
    first = [responsibilities * f for f in terms.first]
    slopes = first[0].unsqueeze(-2) * chunk.design[:, None, None]
    return torch.cat([slopes, *(f.unsqueeze(-2) for f in first[1:])], -2)


def _own_curvature(chunk: Chunk, responsibilities: Tensor, terms: DensityTerms) -> Tensor:
    """Sum of ``r_j (g_j g_j' + f_j'')`` in each expert's own parameters, ``(r, s, k, D + q, D + q)``."""
    r, width, first = weighted(responsibilities, chunk), chunk.design.shape[-2], terms.first
    second = [[r * (h + first[i] * first[j]) for j, h in enumerate(row)] for i, row in enumerate(terms.second)]
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
