"""The shape of a token tree: paths from the root down to its nodes."""

from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["ancestry", "node_leaders", "paths"]


def paths(parents: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes ``(n+1, t)`` from a child of the root down to the root itself and each node, and their depths ``(n+1,)``.

    Args:
        parents: Parent of each node ``(n,)``: -1 for the root, else an earlier node.

    Example:
        >>> paths(torch.tensor([-1, -1, 0]))
        (tensor([[0, 0],
                [0, 0],
                [1, 0],
                [0, 2]]), tensor([0, 1, 1, 2]))
    """
    path, depth = _paths(tuple(parents.tolist()))
    return path.to(parents.device), depth.to(parents.device)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _paths(parents: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """`paths`, made once for a shape: a loop draws many trees of one."""
    found: list[list[int]] = [[]]
    for node, parent in enumerate(parents):
        found.append([*found[parent + 1], node])
    longest = max(map(len, found))
    padded = torch.tensor([path + [0] * (longest - len(path)) for path in found], dtype=torch.long)
    return padded, torch.tensor([len(path) for path in found])


def ancestry(parents: Tensor) -> Tensor:
    """Which nodes ``(n, n)`` lie on the path down to each node, itself among them.

    Example:
        >>> ancestry(torch.tensor([-1, -1, 0])).long()
        tensor([[1, 0, 0],
                [0, 1, 0],
                [1, 0, 1]])
    """
    path, depth = (part[1:] for part in paths(parents))
    count = parents.numel()
    found = torch.zeros(count, count, dtype=torch.long, device=parents.device)
    inside = torch.arange(path.shape[1], device=path.device) < depth[:, None]
    return found.scatter_add_(1, path, inside.long()) > 0


def node_leaders(tokens: Tensor, parents: Tensor) -> Tensor:
    """First of the root (0) and the nodes (from 1) that has the prefix of each of them, ``(R, n+1)``.

    Args:
        tokens: Token of each node ``(R, n)``.
        parents: As in `paths`.

    Example:
        >>> node_leaders(torch.tensor([[7, 7, 5, 5]]), torch.tensor([-1, -1, 0, 1]))
        tensor([[0, 1, 1, 3, 3]])
    """
    path, depth = paths(parents)
    inside = torch.arange(path.shape[1], device=path.device) < depth[:, None]
    prefix = tokens[:, path].masked_fill(~inside, -1)
    return (prefix[:, :, None] == prefix[:, None]).all(-1).to(torch.uint8).argmax(-1)
