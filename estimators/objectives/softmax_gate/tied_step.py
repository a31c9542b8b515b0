"""M-steps where experts share coefficients, or some are known: one system of equations for all experts."""

import torch
from torch import Tensor

from ...optimizers.linalg import solve_ascent
from .layout import Coefficients, Layout

__all__ = ["tied_gate_step", "tied_newton_step", "tied_solution"]

_LARGEST_MOVE = 5.0  # in units of standardized covariates, per M-step
_NEGLIGIBLE_WEIGHT = 1e-8  # a coefficient of experts with less responsibility (in observations) stays as it is


def tied_gate_step(gate: Tensor, gradient: Tensor, hessian: Tensor, layout: Layout) -> Tensor:
    """One Newton step of the gate's coefficients ``(r, s, k, D)``.

    Args:
        gate: where it starts.
        gradient: of the free rows, ``(r, s, g D)``.
        hessian: likewise, ``(r, s, g D, g D)``.
        layout: which of them share a parameter.
    """
    expand = layout.gate_expansion()
    step = solve_ascent(gradient @ expand, expand.mT @ hessian @ expand).clamp(-_LARGEST_MOVE, _LARGEST_MOVE)
    moved = gate.clone()
    moved[:, :, : layout.num_gate_rows] += (step @ expand.mT).unflatten(-1, (layout.num_gate_rows, layout.width))
    return moved


def tied_solution(
    gram: Tensor, cross: Tensor, precision: Tensor, total: Tensor, old: Coefficients, layout: Layout
) -> Tensor:
    r"""Weighted least squares of all experts at once, ``(r, s, k, D)``.

    With free coefficients c, expert j's are :math:`E_j c + o_j`, and c solves
    :math:`\sum_j p_j E_j^\top (G_j (E_j c + o_j) - g_j) = 0`. A step of an ECM algorithm: the precisions are those
    from before.

    Args:
        gram: sums :math:`G_j` of weighted products of covariates, ``(r, s, k, D, D)``.
        cross: sums :math:`g_j` of those with the response, ``(r, s, k, D)``.
        precision: what the squares of an expert count, ``(r, s, k)``.
        total: weight of each expert, ``(r, s, k)``.
        old: coefficients, which stay where their experts have no weight.
        layout: which coefficients are free, and which experts share them.
    """
    expand = layout.expansion()[:, : layout.width]
    known = layout.unpack(old.expert.new_zeros((*old.expert.shape[:2], layout.num_params))).expert
    right = precision.unsqueeze(-1) * (cross - (gram @ known.unsqueeze(-1)).squeeze(-1))
    slope = torch.einsum("kde,rskd->rse", expand, right)
    curvature = torch.einsum("kde,rskdf,kfg->rseg", expand, precision[..., None, None] * gram, expand)
    used = expand.abs().sum((0, 1)) > 0
    free = torch.zeros_like(slope)
    free[..., used] = solve_ascent(slope[..., used], -curvature[..., used, :][..., used])
    weight = torch.einsum("kde,rsk->rse", expand, total)
    before = layout.pack(old)[..., layout.num_gate_params :]
    free = torch.where(weight > _NEGLIGIBLE_WEIGHT, free, before)
    return known + torch.einsum("kde,rse->rskd", expand, free)


def tied_newton_step(old: Coefficients, gradient: Tensor, hessian: Tensor, layout: Layout) -> Coefficients:
    """One damped Newton step of all experts' coefficients and constants.

    Args:
        old: where it starts.
        gradient: of each expert, ``(r, s, k, D + q)``.
        hessian: likewise, ``(r, s, k, D + q, D + q)``.
        layout: which of them share a parameter.
    """
    expand = layout.expansion()
    slope = torch.einsum("kde,rskd->rse", expand, gradient)
    curvature = torch.einsum("kde,rskdf,kfg->rseg", expand, hessian, expand)
    step = solve_ascent(slope, curvature).clamp(-_LARGEST_MOVE, _LARGEST_MOVE)
    moves = torch.einsum("kde,rse->rskd", expand, step)
    constants = [c + moves[..., layout.width + i, None] for i, c in enumerate(old.constants)]
    return Coefficients(old.gate, old.expert + moves[..., : layout.width], constants)
