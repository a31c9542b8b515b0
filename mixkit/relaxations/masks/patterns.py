"""N:M patterns: at most N nonzero entries among M consecutive ones."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from ..._validation import check_finite, check_integer, check_tensor
from ...gates.selections import top_k_mask


def nm_patterns(num_kept: int, group_size: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """All patterns that keep ``num_kept`` of ``group_size`` entries, shape ``(C(M, N), M)``, as zeros and ones.

    Example:
        >>> nm_patterns(2, 3)
        tensor([[1., 1., 0.],
                [1., 0., 1.],
                [0., 1., 1.]])
    """
    check_nm(num_kept, group_size)
    kept = torch.tensor(list(itertools.combinations(range(group_size), num_kept)))
    return torch.zeros(len(kept), group_size, dtype=dtype).scatter_(1, kept, 1.0)


def is_nm_mask(mask: Tensor, num_kept: int, group_size: int, *, dim: int = 1) -> bool:
    """Whether every group of ``group_size`` consecutive entries along ``dim`` has at most ``num_kept`` nonzero ones.

    ``mask`` may be the mask or the masked weight itself, of any dtype.

    Example:
        >>> is_nm_mask(torch.tensor([[1.0, 0.0, 2.0, 0.0], [1.0, 3.0, 2.0, 0.0]]), 2, 4)
        False
    """
    check_nm(num_kept, group_size)
    groups = to_groups(mask, group_size, dim)
    return bool(((groups != 0).sum(-1) <= num_kept).all())


def magnitude_mask(weight: Tensor, num_kept: int, group_size: int, *, dim: int = 1) -> Tensor:
    """The N:M mask that keeps the largest magnitudes of each group; boolean, of the shape of ``weight``.

    Among ties the lower index is kept: exactly ``num_kept`` in every group.

    Example:
        >>> magnitude_mask(torch.tensor([[0.1, -3.0, 0.2, 1.0]]), 2, 4)
        tensor([[False,  True, False,  True]])
    """
    check_nm(num_kept, group_size)
    check_finite("weight", check_tensor("weight", weight))
    return from_groups(top_k_mask(to_groups(weight.abs(), group_size, dim), num_kept), weight.shape, dim)


def check_nm(num_kept: int, group_size: int) -> None:
    """Refuse N and M that are no pattern: ``1 <= N < M``."""
    check_integer("group_size", group_size, low=2)
    check_integer("num_kept", num_kept, low=1, high=group_size - 1)


def check_groups(shape: torch.Size | tuple[int, ...], group_size: int, dim: int) -> None:
    """Refuse a shape that does not divide into groups along ``dim``."""
    check_integer("dim", dim, low=-len(shape), high=len(shape) - 1)
    if shape[dim] % group_size:
        raise ValueError(
            f"weight must have a multiple of group_size={group_size} entries along dim {dim}, got shape {tuple(shape)}"
        )


def to_groups(weight: Tensor, group_size: int, dim: int) -> Tensor:
    """``weight`` with ``dim`` moved last and cut into groups, shape ``(*rest, size / M, M)``."""
    check_groups(weight.shape, group_size, dim)
    return weight.movedim(dim, -1).unflatten(-1, (-1, group_size))


def from_groups(groups: Tensor, shape: torch.Size | tuple[int, ...], dim: int) -> Tensor:
    """Undo ``to_groups``: a tensor of ``shape``."""
    return groups.flatten(-2).movedim(-1, dim).reshape(shape)
