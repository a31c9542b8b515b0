"""Inclusion probabilities by two sweeps over the items, in which nothing is a logarithm.

Before item i stands the polynomial of the items so far, behind it that of the items still to come; what the others
contribute to a subset that holds i is one coefficient of their product. Sums of positive products lose nothing, and
cost no logarithm. They fit float64 unless the logits are spread by hundreds, where the tree in log space takes over.
"""

import math

import torch
from torch import Tensor

from ..._validation import can_read_values

__all__ = ["can_sweep", "sweep_log_marginals"]

_LARGEST_EXPONENT = 600.0  # float64 ends at 709
_MOST_ITEMS = 256  # of more the tree, of log k steps, is quicker


def can_sweep(scores: Tensor, num_selected: int) -> bool:
    """Whether the sums fit, on a device where short steps one after the other are quick."""
    k = scores.shape[-1]
    if scores.dtype != torch.float64 or scores.device.type != "cpu" or k > _MOST_ITEMS or not can_read_values(scores):
        return False
    top = scores.detach().topk(num_selected, dim=-1).values
    spread = (top - top[..., -1:]).sum(-1)
    log_count = math.lgamma(k + 1) - math.lgamma(num_selected + 1) - math.lgamma(k - num_selected + 1)
    return bool((spread + log_count <= _LARGEST_EXPONENT).all())


def sweep_log_marginals(scores: Tensor, num_selected: int) -> Tensor:
    """Log-probability ``(*batch, k)`` that an item is selected; ``scores`` in float64, of which :func:`can_sweep`."""
    kth = scores.detach().topk(num_selected, dim=-1).values[..., -1:]
    levels = scores - kth
    both_ways = torch.stack((levels, levels.flip(-1))).exp()
    table = torch.zeros((num_selected + 1, *both_ways.shape[:-1]), dtype=scores.dtype)
    table[0] = 1.0
    tables = []
    for weight in both_ways.unbind(-1):
        tables.append(table)
        table = torch.cat((table[:1], torch.addcmul(table[1:], table[:-1], weight)))
    before = torch.stack([each[:num_selected, 0] for each in tables], -1)
    behind = torch.stack([each[:num_selected, 1] for each in reversed(tables)], -1)
    others = (before * behind.flip(0)).sum(0)
    return levels + others.log() - table[num_selected, 0].log().unsqueeze(-1)
