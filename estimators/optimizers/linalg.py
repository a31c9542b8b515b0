"""Batched linear algebra that stays sane on singular and indefinite matrices."""

import torch
from torch import Tensor

__all__ = ["damped_cholesky", "solve_ascent"]

_FIRST_DAMPING = 1e-12


def damped_cholesky(matrix: Tensor, damping: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Cholesky factors of ``matrix + damping * diag``, the damping raised until they exist.

    Args:
        matrix: symmetric, ``(*batch, P, P)``, of any signature.
        damping: ``(*batch,)``, least damping, relative to the absolute diagonal; zeros if None.

    Returns:
        Lower factors ``(*batch, P, P)`` and the damping used ``(*batch,)``.
    """
    size = matrix.diagonal(dim1=-2, dim2=-1).abs()
    scale = torch.maximum(size, 1e-10 * size.amax(-1, keepdim=True)).clamp(min=torch.finfo(matrix.dtype).tiny)
    used = torch.zeros_like(matrix[..., 0, 0]) if damping is None else damping.clone()
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
    factor, _ = damped_cholesky(-hessian)
    return torch.cholesky_solve(gradient.unsqueeze(-1), factor).squeeze(-1)
