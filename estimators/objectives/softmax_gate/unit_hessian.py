r"""The Hessian where the rows of a unit share an expert.

With responsibilities r of a unit and the score :math:`c_j` of the complete data whose unit belongs to expert j, the
Hessian of the log-likelihood is that of the complete data, in expectation, plus the covariance of the scores,

.. math::

    \sum_u W_u \Big( \sum_j r_{uj} \nabla c_{uj} + \sum_j r_{uj} c_{uj} c_{uj}^\top - m_u m_u^\top \Big),
    \qquad m_u = \sum_j r_{uj} c_{uj}

(Louis 1982, JRSS B 44, 226-233). Apart from what all experts have in common, and a covariance does not see, the entries
of :math:`c_j` that are not zero are the covariates of the unit in the gate's row j and, in expert j's own parameters,
the sum of the scores of the unit's rows. So one block of :math:`2 D + q` numbers a unit stands for each expert, and the
blocks of the covariance are :math:`r_j (1 - r_j) c_j c_j^\top` and :math:`-r_j r_l c_j c_l^\top`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mixkit.experts.base import DensityTerms

from .complete_hessian import complete_hessian
from .design import Chunk
from .layout import Layout
from .likelihood import Posterior, weighted_units
from .m_step import NewtonStep, gate_sums

__all__ = ["UnitCurvature", "assemble_unit_hessian", "score_spread", "unit_curvature_sums", "unit_scores"]


class UnitCurvature(NamedTuple):
    """Sums over units: the complete data's Hessians, and the covariance of their scores, expert by expert."""

    gate: Tensor  # (r, s, g D, g D)
    experts: Tensor  # (r, s, k, D + q, D + q)
    spread: Tensor  # (r, s, k (2 D + q), k (2 D + q))


def unit_scores(chunk: Chunk, terms: DensityTerms) -> Tensor:
    """Sum of the scores of each unit's rows in the parameters of each expert, ``(r, s, k, D + q, b)``."""
    first = terms.first
    slopes = chunk.pooled(first[0].unsqueeze(-2) * chunk.design[:, None, None])
    return torch.cat([slopes, *(chunk.pooled(constant).unsqueeze(-2) for constant in first[1:])], -2)


def unit_curvature_sums(chunk: Chunk, state: Posterior, layout: Layout) -> UnitCurvature:
    """One chunk's contribution to the Hessian; contributions add up."""
    _, experts = NewtonStep().sums(chunk, state, layout)
    gate = experts.new_zeros((*experts.shape[:2], 0, 0))
    if layout.num_gate_rows:
        gate = gate_sums(chunk, state, layout).hessian
    own = unit_scores(chunk, state.terms)
    covariates = chunk.gate_design.unsqueeze(1).expand(*own.shape[:2], -1, -1)
    scores = [torch.cat([covariates, expert], -2) for expert in own.unbind(2)]
    return UnitCurvature(gate, experts, score_spread(chunk, chunk.of_units(state.responsibilities), scores))


def score_spread(chunk: Chunk, responsibilities: Tensor, scores: list[Tensor]) -> Tensor:
    """Sum over units of the covariance of their scores, ``(r, s, S, S)``, expert by expert.

    Args:
        chunk: its units.
        responsibilities: of the units, ``(r, s, k, b)``.
        scores: of the complete data, ``(r, s, S_j, b)`` for each expert: the entries that are not zero if a unit is
            its; S is their sum.
    """
    r = responsibilities
    rows = torch.cat([r[:, :, j : j + 1] * own for j, own in enumerate(scores)], 2)
    spread = -(weighted_units(rows, chunk) @ rows.mT)
    others = (1.0 - torch.eye(len(scores), dtype=r.dtype, device=r.device)) @ r  # 1 - r without its rounding
    weight, start = weighted_units(r * others, chunk), 0
    for j, own in enumerate(scores):
        at = slice(start, start + own.shape[2])
        spread[:, :, at, at] = (weight[:, :, j : j + 1] * own) @ own.mT
        start = at.stop
    return spread


def assemble_unit_hessian(sums: UnitCurvature, layout: Layout) -> Tensor:
    """The Hessian in the full coefficient vector, ``(r, s, F, F)``, from the sums over all units."""
    gate = sums.gate if layout.num_gate_rows else None
    places = _places(layout).to(sums.spread.device)
    return complete_hessian(gate, sums.experts, layout) + sums.spread[..., places, :][..., places]


def _places(layout: Layout) -> Tensor:
    """Where each full coefficient stands among the blocks of the experts, ``(F,)``."""
    k, width = layout.k, layout.width
    slopes = torch.arange(k * width).reshape(k, width)
    constants = 2 * k * width + torch.arange(layout.num_constants * k).reshape(layout.num_constants, k).mT
    return torch.cat([slopes, k * width + slopes, constants], -1).flatten().argsort()
