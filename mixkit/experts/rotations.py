"""Rotations as exponentials of skew-symmetric matrices, and the logarithms of them."""

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

__all__ = ["num_angles", "rotation_from_angles", "rotation_to_angles"]


def num_angles(size: int) -> int:
    """How many numbers a rotation of ``size`` dimensions has."""
    return size * (size - 1) // 2


def rotation_from_angles(angles: Tensor, size: int) -> Tensor:
    """The rotations ``(..., p, p)`` whose skew-symmetric logarithms have ``angles (..., p (p - 1) / 2)`` below the
    diagonal, row by row.

    Example:
        >>> quarter = rotation_from_angles(torch.tensor([torch.pi / 2]), 2)
        >>> torch.allclose(quarter, torch.tensor([[0.0, -1.0], [1.0, 0.0]]), atol=1e-6)
        True
    """
    rows, columns = torch.tril_indices(size, size, -1, device=angles.device)
    skew = angles.new_zeros((*angles.shape[:-1], size * size))
    skew = skew.index_add(-1, rows * size + columns, angles).index_add(-1, columns * size + rows, -angles)
    return torch.linalg.matrix_exp(skew.unflatten(-1, (size, size)))


def rotation_to_angles(rotation: Tensor) -> Tensor:
    """The angles of orthogonal matrices ``(..., p, p)`` of determinant one, each between -pi and pi.

    Example:
        >>> angles = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
        >>> torch.allclose(rotation_to_angles(rotation_from_angles(angles, 3)), angles)
        True
    """
    size = rotation.shape[-1]
    flat = rotation.detach().cpu().double().numpy().reshape(-1, size, size)
    rows, columns = np.tril_indices(size, -1)
    angles = np.array([_logarithm(matrix)[rows, columns] for matrix in flat]).reshape(-1, len(rows))
    return torch.as_tensor(angles).to(rotation).reshape(*rotation.shape[:-2], len(rows))


def _logarithm(rotation: np.ndarray) -> np.ndarray:
    """A skew-symmetric logarithm, by the real Schur form: turns in planes, and reflections in pairs."""
    block, basis = scipy.linalg.schur(rotation, output="real")
    skew, at, reflected = np.zeros_like(block), 0, []
    while at < len(block):
        if at + 1 < len(block) and abs(block[at + 1, at]) > 1e-14:
            angle = np.arctan2(block[at + 1, at], block[at, at])
            skew[at + 1, at], skew[at, at + 1] = angle, -angle
            at += 2
            continue
        if block[at, at] < 0:
            reflected.append(at)
        at += 1
    for one, other in zip(reflected[::2], reflected[1::2], strict=True):
        skew[other, one], skew[one, other] = np.pi, -np.pi
    return basis @ skew @ basis.T
