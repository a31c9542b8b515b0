"""First coefficients: weighted regressions of rough locations on the covariates."""

from typing import Any

import torch
from torch import Tensor

from mixkit.experts import DensityExperts

from ...optimizers.linalg import solve_ascent
from ..packed_symmetric import unpack_symmetric
from ..softmax_gate.design import Design
from ..softmax_gate.likelihood import against, weighted
from .families import Block
from .row_layout import RowLayout

__all__ = ["first_rows"]

_RIDGE = 1e-6  # share of the weighted sum of squares


def first_rows(design: Design, blocks: list[Block], responsibilities: Tensor, layout: RowLayout) -> Tensor:
    """Coefficients ``(r, s, m, D)`` fitted to given ``responsibilities (r, s, k, n)``; the gate's are zero.

    Each location is a weighted regression of what the family calls a rough location at the response; a scale is the
    standard deviation of the residuals of the last of them. Other constants are zero.
    """
    free, num_scores = layout.free, layout.num_scores
    rows = responsibilities.new_zeros((*responsibilities.shape[:2], *free.shape))
    for block in blocks:
        if isinstance(block.family, DensityExperts):
            first = num_scores + block.first_row
            columns = free[num_scores:][block.rows].unflatten(0, (block.k, block.num_arguments))[:, 0]
            own = _block_rows(design, block, block.family, responsibilities[:, :, block.experts], columns)
            rows[:, :, first : first + block.k * block.num_arguments] = own.flatten(2, 3)
    return torch.where(free, rows, 0.0)


def _block_rows(
    design: Design, block: Block, family: DensityExperts, responsibilities: Tensor, columns: Tensor
) -> Tensor:
    """``(r, s, k, a, D)``; ``columns (k, D)`` are those that an expert's locations read."""
    rows = responsibilities.new_zeros((*responsibilities.shape[:3], block.num_arguments, design.width))
    name, residual = family.scale_constant, None
    for location in range(block.num_locations):
        rows[..., location, :], residual = _regression(design, block, location, responsibilities, columns)
    if name is not None and residual is not None:
        place = block.num_locations + block.constant_names.index(name)
        rows[..., place, -1] = 0.5 * residual.clamp(min=1e-12).log()
    return rows


def _regression(
    design: Design, block: Block, location: int, responsibilities: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor]:
    """Coefficients ``(r, s, k, D)`` and the variance of the residuals ``(r, s, k)`` of one rough location."""
    family: Any = block.family
    gram = cross = square = responsibilities.new_zeros(())
    for chunk in design.chunks():
        target = family.start_locations(block.own_response(chunk.y))[location]
        share = torch.where(target.isnan(), 0.0, weighted(responsibilities[..., chunk.rows], chunk))
        target = target.nan_to_num(0.0)
        gram = gram + against(share, chunk.outer)
        cross = cross + against(share * target, chunk.design.mT)
        square = square + (share * target.square()).sum(-1)
    gram = unpack_symmetric(gram, design.width)
    total = gram[..., -1, -1].clamp(min=1e-300)
    ridge = _RIDGE * torch.diag_embed(total.unsqueeze(-1).expand(gram.shape[:-1]))
    solution = torch.zeros_like(cross)
    damped = gram + ridge
    if bool((columns == columns[0]).all()):
        own = columns[0]
        solution[..., own] = solve_ascent(cross[..., own], -damped[..., own, :][..., own])
    else:
        for j, own in enumerate(columns):
            solution[:, :, j, own] = solve_ascent(cross[:, :, j, own], -damped[:, :, j][..., own, :][..., own])
    fitted = 2.0 * (solution * cross).sum(-1) - torch.einsum("...i,...ij,...j->...", solution, gram, solution)
    return solution, (square - fitted) / total
