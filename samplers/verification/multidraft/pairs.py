"""Which token of a pair to select: the truncated linear program, solved as a maximal flow."""

from itertools import pairwise

import torch
from torch import Tensor

_NOISE = 1e-16


def solve_pairs(target: Tensor, sure: Tensor, mass: Tensor) -> Tensor:
    r"""Maximize :math:`\sum_k \min(q_k, c_k + \sum_j M_{kj} w_{kj})` over :math:`w_{kj} = 1 - w_{jk} \in [0, 1]`.

    The mass of each pair is divided between its two tokens. A division is optimal if and only if no path of pairs leads
    from a token that has more than :math:`q` to one that has less; shortest paths are emptied until there is none
    (Edmonds and Karp 1972). Each row is solved by itself.

    Args:
        target: :math:`q` ``(r, s)``.
        sure: :math:`c` ``(r, s)``.
        mass: :math:`M` ``(r, s, s)``, symmetric; the diagonal is not used.

    Returns:
        Weights ``(r, s, s)``, zero on the diagonal.

    Example:
        >>> import torch
        >>> laws = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.7, 0.1]])
        >>> solve_pairs(*laws, torch.full((1, 2, 2), 0.2))
        tensor([[[0., 0.],
                 [1., 0.]]])
    """
    if target.shape[-1] < 2:
        return torch.zeros_like(mass)
    problems = zip(target.tolist(), sure.tolist(), mass.tolist(), strict=True)
    held = torch.tensor([_divide(*problem) for problem in problems], dtype=mass.dtype, device=mass.device)
    upper = torch.where(mass > 0, held.reshape(mass.shape) / torch.where(mass > 0, mass, 1.0), 1.0).clamp(0.0, 1.0)
    upper = upper.triu(1)
    return upper + (1 - upper).triu(1).mT


def _divide(target: list[float], sure: list[float], mass: list[list[float]]) -> list[list[float]]:
    """The part of each pair's mass that goes to its first token."""
    size = len(target)
    held = [[mass[k][j] if k < j else 0.0 for j in range(size)] for k in range(size)]
    excess = [sure[k] + sum(held[k]) - target[k] for k in range(size)]
    while path := _shortest_path(held, excess):
        amount = min(excess[path[0]], -excess[path[-1]])
        steps = list(pairwise(path))
        amount = min(amount, *(held[k][j] for k, j in steps))
        for k, j in steps:
            held[k][j] = 0.0 if held[k][j] == amount else held[k][j] - amount
            held[j][k] += amount
        excess[path[0]] -= amount
        excess[path[-1]] += amount
    return held


def _shortest_path(held: list[list[float]], excess: list[float]) -> list[int]:
    """A shortest path of tokens from an excess to a lack, along pairs with mass to move; empty if none is left."""
    queue = [k for k, value in enumerate(excess) if value > _NOISE]
    before = dict.fromkeys(queue, -1)
    for k in queue:
        if excess[k] < -_NOISE:
            path = [k]
            while before[path[-1]] >= 0:
                path.append(before[path[-1]])
            return path[::-1]
        for j, amount in enumerate(held[k]):
            if amount > _NOISE and j not in before:
                before[j] = k
                queue.append(j)
    return []
