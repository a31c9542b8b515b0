"""Batched linear algebra that stays sane on singular and indefinite matrices."""

import torch
from torch import Tensor

__all__ = ["damped_cholesky", "diagonal_size", "solve_ascent"]

_FIRST_DAMPING = 1e-12
_SMALLEST_SHARE = 1e-20  # of the largest diagonal entry: what stands for one of zero, which has no unit of its own
_LEAST_DAMPED_SHARE = 1e-10


def diagonal_size(matrix: Tensor) -> Tensor:
    """Absolute diagonal ``(*batch, P)`` of symmetric matrices, the unit in which each parameter is judged; positive.

    Parameters of very different units keep their own: only a diagonal of (nearly) zero takes a unit from the others.
    """
    size = matrix.diagonal(dim1=-2, dim2=-1).abs()
    largest = size.amax(-1, keepdim=True) if size.shape[-1] else size
    return torch.maximum(size, _SMALLEST_SHARE * largest).clamp(min=torch.finfo(matrix.dtype).tiny)


def _damping_unit(matrix: Tensor) -> Tensor:
    """What a damping of one adds to each diagonal entry, ``(*batch, P)``.

    That is the entry's own size. A parameter along which the likelihood is all but flat, as that of a gate that has
    become a step, takes its unit from the others: a share of its own curvature would leave steps as long as without
    any damping.
    """
    size = diagonal_size(matrix)
    if not size.shape[-1]:
        return size
    least = _LEAST_DAMPED_SHARE * size.amax(-1, keepdim=True)
    is_flat = size < least
    if not bool(is_flat.any()):
        return size
    # Where the matrix is definite |m_ij|^2 <= m_ii m_jj, and the floor decides; a larger entry off the diagonal means a
    # saddle across two parameters, which no less than its own size damps.
    at = is_flat.nonzero(as_tuple=True)
    row = matrix[at]
    row[torch.arange(len(row), device=row.device), at[-1]] = 0.0
    coupling = (row.square() / torch.maximum(size, least)[at[:-1]]).amax(-1)
    unit = size.clone()
    unit[at] = torch.maximum(coupling, least.expand_as(size)[at])
    return unit


def damped_cholesky(matrix: Tensor, damping: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Cholesky factors of ``matrix + damping * diag``, the damping raised until they exist.

    Args:
        matrix: symmetric, ``(*batch, P, P)``, of any signature.
        damping: ``(*batch,)``, least damping, relative to the absolute diagonal; zeros if None.

    Returns:
        Lower factors ``(*batch, P, P)`` and the damping used ``(*batch,)``.
    """
    scale = _damping_unit(matrix)
    used = matrix.new_zeros(matrix.shape[:-2]) if damping is None else damping.clone()
    damped = matrix.clone(memory_format=torch.contiguous_format)
    for _ in range(40):
        damped.diagonal(dim1=-2, dim2=-1).copy_(matrix.diagonal(dim1=-2, dim2=-1) + used.unsqueeze(-1) * scale)
        factor, failed = torch.linalg.cholesky_ex(damped)
        bad = (failed > 0) | ~torch.isfinite(factor.diagonal(dim1=-2, dim2=-1)).all(-1)
        if not bool(bad.any()):
            break
        used = torch.where(bad, (used * 10.0).clamp(min=_FIRST_DAMPING), used)
    return factor, used


def solve_ascent(gradient: Tensor, hessian: Tensor) -> Tensor:
    """Newton's ascent step ``(-H)^-1 g``, damped where ``-H`` is not positive definite; ``(*batch, P)``."""
    if not gradient.shape[-1]:
        return torch.zeros_like(gradient)
    factor, _ = damped_cholesky(-hessian)
    return torch.cholesky_solve(gradient.unsqueeze(-1), factor).squeeze(-1)
