"""The Hessian of the complete data, whose memberships are known: block-diagonal in the gate and the experts."""

import torch
from torch import Tensor

from .layout import Layout

__all__ = ["complete_hessian"]


def complete_hessian(gate: Tensor | None, experts: Tensor, layout: Layout) -> Tensor:
    """The Hessian in the full coefficient vector, ``(r, s, F, F)``.

    Args:
        gate: of the free gate rows, ``(r, s, g D, g D)``; None if there are none.
        experts: of each expert's coefficients and constants, ``(r, s, k, D + q, D + q)``.
        layout: where the blocks stand.
    """
    size = len(layout.index)
    hessian = experts.new_zeros((*experts.shape[:2], size, size))
    if gate is not None:
        rows = layout.gate_positions
        hessian[:, :, rows[:, None], rows] = gate
    slopes = layout.expert_positions.reshape(layout.k, layout.width)
    constants = layout.constant_positions.reshape(layout.num_constants, layout.k).mT
    for j, rows in enumerate(torch.cat([slopes, constants], -1)):
        hessian[:, :, rows[:, None], rows] = experts[:, :, j]
    return hessian
