"""Elementary symmetric polynomials in log space, by a balanced tree of products.

A node holds, for every count c, the log of the sum over the subsets of size c of its leaves of the product of their
weights. The tree has log2(k) levels, each one batched tensor operation, and costs O(k num_selected) in all.
"""

import torch
from torch import Tensor

from ...numerics.log_space import safe_logsumexp
from ...numerics.randomness import Randomness
from ..noise import perturb

__all__ = ["root_log_partition", "sample_counts", "tree_levels", "tree_log_marginals"]


def tree_levels(logits: Tensor, num_selected: int) -> list[Tensor]:
    """The levels ``(*batch, nodes, counts)`` from the leaves to the root; nodes halve from level to level."""
    size = 1 << max(logits.shape[-1] - 1, 0).bit_length()
    leaves = torch.nn.functional.pad(logits, (0, size - logits.shape[-1]), value=-torch.inf)
    levels = [torch.stack((torch.zeros_like(leaves), leaves), -1)]
    while levels[-1].shape[-2] > 1:
        left, right = levels[-1][..., 0::2, :], levels[-1][..., 1::2, :]
        counts = min(2 * (left.shape[-1] - 1), num_selected) + 1
        levels.append(_convolve(left, right, counts))
    return levels


def root_log_partition(levels: list[Tensor], num_selected: int) -> Tensor:
    """``(*batch,)``: the log of the sum over all subsets of ``num_selected`` leaves."""
    return levels[-1][..., 0, num_selected]


def _convolve(left: Tensor, right: Tensor, counts: int) -> Tensor:
    """``log sum_a exp(left[a] + right[c - a])`` for c in 0 .. counts - 1, over windows of the padded right side."""
    size = left.shape[-1]
    windows = _windows(_padded(right, size - 1, counts + size - 1), size)
    return safe_logsumexp(windows + left.flip(-1).unsqueeze(-2))


def _padded(scores: Tensor, before: int, length: int) -> Tensor:
    """``scores`` behind ``before`` entries of -inf, filled up with -inf or cut to ``length``."""
    return torch.nn.functional.pad(scores, (before, length - before - scores.shape[-1]), value=-torch.inf)


def _windows(scores: Tensor, size: int) -> Tensor:
    """``(..., windows, size)``: every run of ``size`` neighbors (``unfold`` has no batching rule for its gradient)."""
    start = torch.arange(scores.shape[-1] - size + 1, device=scores.device).unsqueeze(-1)
    index = start + torch.arange(size, device=scores.device)
    return scores.index_select(-1, index.flatten()).unflatten(-1, index.shape)


def tree_log_marginals(levels: list[Tensor], num_selected: int) -> Tensor:
    """``(*batch, nodes of the leaves)``: log-probability that a leaf is selected."""
    root = levels[-1]
    at_root = torch.arange(root.shape[-1], device=root.device) == num_selected
    outside = torch.where(at_root, torch.zeros_like(root), -torch.inf)
    for level in reversed(levels[:-1]):
        left, right = level[..., 0::2, :], level[..., 1::2, :]
        pair = (_outside_of_child(outside, right), _outside_of_child(outside, left))
        outside = torch.stack(pair, -2).flatten(-3, -2)
    return levels[0][..., 1] + outside[..., 1] - root_log_partition(levels, num_selected).unsqueeze(-1)


def _outside_of_child(outside: Tensor, sibling: Tensor) -> Tensor:
    """Log weight of everything outside a child that holds a items: the sum over the b items of its sibling."""
    size = sibling.shape[-1]
    windows = _windows(_padded(outside, 0, 2 * size - 1), size)
    return safe_logsumexp(windows + sibling.unsqueeze(-2))


def sample_counts(levels: list[Tensor], num_selected: int, generator: Randomness) -> Tensor:
    """An exact draw ``(*batch, nodes of the leaves)`` of zeros and ones, split from the root down to the leaves."""
    counts = torch.full_like(levels[-1][..., 0], num_selected, dtype=torch.long)
    for level in reversed(levels[:-1]):
        left, right = level[..., 0::2, :], level[..., 1::2, :]
        rest = counts.unsqueeze(-1) - torch.arange(left.shape[-1], device=left.device)
        size = right.shape[-1]
        weight = right.gather(-1, rest.clamp(0, size - 1)).masked_fill((rest < 0) | (rest >= size), -torch.inf)
        to_left = perturb(left + weight, generator=generator).argmax(-1)
        counts = torch.stack((to_left, counts - to_left), -1).flatten(-2)
    return counts
