"""A greedy target: what a verification comes to where every distribution of the target is one token."""

import torch
from torch import Tensor

from ..verification.paths import paths
from .outcome import Outcome


def keep_best(best: Tensor, tokens: Tensor, lengths: Tensor) -> Outcome:
    """Keep the longest draft that holds the target's best tokens, and the best token after it.

    Every lossless verifier comes to this: its output is the best token, and a draft that holds it is accepted.

    Args:
        best: The target's best token after each prefix of each draft ``(R, m, c)``; ``c - 1`` is the longest draft.
        tokens: Drafted tokens ``(R, m, t)``.
        lengths: Draft lengths ``(R, m)``.

    Example:
        >>> best, tokens = torch.tensor([[[5, 6, 7], [5, 6, 7]]]), torch.tensor([[[4, 6], [5, 9]]])
        >>> keep_best(best, tokens, torch.tensor([[2, 2]])).tokens
        tensor([[ 5,  6, -1]])
    """
    longest = best.shape[-1] - 1
    step = torch.arange(longest + 1, device=best.device)
    agrees = (tokens[..., :longest] == best[..., :-1]) & (step[:-1] < lengths[..., None])
    accepted, winner = agrees.long().cumprod(-1).sum(-1).max(-1)
    chosen = best.gather(1, winner[:, None, None].expand(-1, -1, longest + 1))[:, 0]
    return Outcome(chosen.masked_fill(step > accepted[:, None], -1), accepted, winner)


def keep_best_path(best: Tensor, tokens: Tensor, parents: Tensor, sizes: Tensor) -> Outcome:
    """Keep the longest path of a tree that holds the target's best tokens, and the best token after it.

    Args:
        best: The target's best token after the root and each node ``(R, n+1)``.
        tokens: Token of each node ``(R, n)``.
        parents: Parent of each node ``(n,)``, -1 for the root.
        sizes: Number of nodes of each row ``(R,)``.

    Example:
        >>> best, tokens, parents = torch.tensor([[5, 6, 7]]), torch.tensor([[5, 6]]), torch.tensor([-1, 0])
        >>> keep_best_path(best, tokens, parents, torch.tensor([1])).tokens
        tensor([[ 5,  6, -1]])
    """
    path, depth = paths(parents)
    above = torch.nn.functional.pad(path + 1, (1, 0))  # the root and the nodes down to each node, as columns of best
    inside = torch.arange(path.shape[1], device=path.device) < depth[:, None]
    agrees = (tokens[:, path] == best[:, above[:, :-1]]) | ~inside
    is_real = torch.arange(len(depth), device=path.device) <= sizes[:, None]
    accepted, node = torch.where(agrees.all(-1) & is_real, depth, -1).max(-1)
    step = torch.arange(above.shape[1], device=path.device)
    # Columns of the root and of the path down to the node; what follows the accepted ones is padding.
    along = best.gather(1, above[node])
    return Outcome(along.masked_fill(step > accepted[:, None], -1), accepted, node)
