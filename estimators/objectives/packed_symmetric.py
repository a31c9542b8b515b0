"""Symmetric matrices by their lower triangles, and matrices of blocks."""

import torch
from torch import Tensor

__all__ = ["block_matrix", "outer_products", "unpack_symmetric"]


def outer_products(design: Tensor) -> Tensor:
    """Products of all pairs of rows ``(i >= j)`` of ``design (r, D, c)``, as ``(r, c, q)``."""
    i, j = torch.tril_indices(design.shape[-2], design.shape[-2], device=design.device)
    return (design[:, i] * design[:, j]).mT


def unpack_symmetric(packed: Tensor, width: int) -> Tensor:
    """From ``(..., q)``, the lower triangle row by row, to symmetric matrices ``(..., D, D)``."""
    i, j = torch.tril_indices(width, width, device=packed.device)
    position = torch.empty((width, width), dtype=torch.long, device=packed.device)
    order = torch.arange(len(i), device=packed.device)
    position[i, j] = order
    position[j, i] = order
    return packed[..., position]


def block_matrix(packed: Tensor, count: int, width: int) -> Tensor:
    """Symmetric ``(r, s, count D, count D)`` of symmetric D x D blocks.

    ``packed (r, s, count (count + 1) / 2, q)`` holds the lower triangle of blocks row by row; each block is packed too.
    """
    a, b = torch.tril_indices(count, count, device=packed.device)
    blocks = unpack_symmetric(packed, width)
    full = blocks.new_empty((*blocks.shape[:2], count, count, width, width))
    full[:, :, a, b] = blocks
    full[:, :, b, a] = blocks
    return full.transpose(-3, -2).reshape(*blocks.shape[:2], count * width, count * width)
