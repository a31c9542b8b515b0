"""Sorting rows of numbers together with their order, fast on a CPU."""

import torch
from torch import Tensor

_FEWEST = 4096


def sort_with_order(values: Tensor) -> tuple[Tensor, Tensor]:
    """Sort float64 rows ``(r, n)`` of numbers that are not negative (infinity is allowed) ascending; return the order.

    Equal numbers stay in the order of their places, so that leaving out others does not move them.

    On a CPU, long rows are sorted as 64-bit keys, the number rounded to float32 above its index below, which NumPy does
    with vector instructions. Rounding keeps the order but for ties, and these are sorted again by the numbers.

    Example:
        >>> import torch
        >>> sort_with_order(torch.tensor([[3.0, 1.0, 2.0]], dtype=torch.float64))[1]
        tensor([[1, 2, 0]])
    """
    if values.device.type != "cpu" or values.shape[-1] < _FEWEST:
        return values.sort(dim=-1, stable=True)
    keys = values.float().view(torch.int32).long().bitwise_left_shift_(32)
    keys.add_(torch.arange(values.shape[-1]))
    keys.numpy().sort(axis=-1)
    order = keys.bitwise_and(2**32 - 1)
    ordered = values.gather(-1, order)
    for row in (ordered[:, 1:] < ordered[:, :-1]).any(-1).nonzero()[:, 0].tolist():
        _sort_ties(ordered[row], order[row], keys[row])
    return ordered, order


def _sort_ties(ordered: Tensor, order: Tensor, keys: Tensor) -> None:
    """Sort the entries of one row ``(n,)`` whose rounded numbers are tied, in place."""
    rounded = keys >> 32
    same = rounded[1:] == rounded[:-1]
    pad = torch.nn.functional.pad
    tied = (pad(same, (1, 0)) | pad(same, (0, 1))).nonzero()[:, 0]
    ordered[tied], permutation = ordered[tied].sort(stable=True)
    order[tied] = order[tied[permutation]]
