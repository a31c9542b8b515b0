"""Order statistics of rows of scores by values alone.

On a CPU, NumPy sorts and partitions plain values with vector instructions, ten times faster than a sort that carries
indices; elsewhere torch does it.
"""

import numpy as np
import torch
from torch import Tensor


def has_fast_sort(scores: Tensor) -> bool:
    """Whether values of this device and dtype are sorted by NumPy."""
    return scores.device.type == "cpu" and scores.dtype in (torch.float32, torch.float64)


def sort_values(scores: Tensor) -> Tensor:
    """Sort each row of ``scores (..., v)`` ascending."""
    if has_fast_sort(scores):
        return torch.from_numpy(np.sort(scores.numpy(), axis=-1))
    return torch.sort(scores, dim=-1).values


def largest_value(scores: Tensor, rank: int) -> Tensor:
    """Return the ``rank``-th largest value (1 is the largest; at most ``v``) of each row, ``(..., 1)``."""
    size = scores.shape[-1]
    rank = min(rank, size)
    if rank == 1:
        return scores.amax(dim=-1, keepdim=True)
    if has_fast_sort(scores):
        position = size - rank
        return torch.from_numpy(np.partition(scores.numpy(), position, axis=-1)[..., position : position + 1].copy())
    return torch.topk(scores, rank, dim=-1).values[..., -1:]


def largest_index(scores: Tensor) -> Tensor:
    """Return the first index ``(...)`` of the largest value of each row ``(..., v)``, or of a NaN."""
    if has_fast_sort(scores):  # NumPy's is twenty times as fast as torch's
        return torch.from_numpy(np.asarray(scores.detach().numpy().argmax(axis=-1)))
    return scores.argmax(dim=-1)


def at_least(values: Tensor, bound: Tensor) -> Tensor:
    """Return ``values >= bound``; shapes broadcast."""
    if has_fast_sort(values):
        return torch.from_numpy(values.numpy() >= bound.numpy())
    return values >= bound
