"""Gumbel-list sampling: target and drafts race on shared randomness."""

import torch
from torch import Tensor

from ..node import Decision, Node
from ..sources import RandomSource
from ..verifier import NodeVerifier


class GumbelListCoupling(NodeVerifier):
    r"""Gumbel lists (GLS): draft :math:`i` holds :math:`\arg\min S_i(y)/p_i(y)`, the output is
    :math:`\arg\min_y \min_i S_i(y)/q(y)`.

    All :math:`S_i(y)` are independent standard exponentials. They are drawn here, given the drafts: the smallest of the
    :math:`S_i(y)/p_i(y)` is a standard exponential :math:`e` at :math:`y = x_i`, and elsewhere
    :math:`S_i(y) = e \, p_i(y)` plus a fresh exponential. So drafts may come from any sampler, and may differ in
    distribution. Acceptance is at least `list_matching_bound`.

    Source: Rowan et al. (2025), list-level distribution coupling, arXiv 2506.05632.

    Example:
        >>> import torch
        >>> law = torch.tensor([[0.2, 0.8]]).log()
        >>> g = torch.Generator().manual_seed(0)
        >>> node = torch.stack([law, law], 1)
        >>> GumbelListCoupling().verify(node, law[:, None], torch.tensor([[1]]), generator=g).num_accepted
        tensor([1])
    """

    uses_kept_tokens = False  # it draws a number for each token: what a row draws must not depend on the others

    def node(self, node: Node, source: RandomSource) -> Decision:
        """Draw the race given the drafts, and return its winner for the target."""
        best = torch.full_like(node.target, torch.inf)
        count = node.target.shape[-1]
        for i in range(node.num_drafts):
            rows = node.active[:, i].nonzero()[:, 0]
            if rows.numel() == 0:
                continue
            arrival = (1 - source.rows(rows).uniform(count + 1)).log_().neg_()  # 1 - u is exact
            first, fresh = arrival[:, :1], arrival[:, 1:]
            fresh = fresh.scatter(-1, node.tokens[rows, i, None], 0.0)
            best = best.index_put((rows,), torch.minimum(best[rows], first * node.law(i, rows) + fresh))
        race = best / node.target
        token = (race if (node.target > 0).all() else torch.where(node.target > 0, race, torch.inf)).argmin(-1)
        return Decision(token, torch.ones_like(token, dtype=node.dtype))


def list_matching_bound(target: Tensor, draft: Tensor, num_drafts: int) -> Tensor:
    r"""Lower bound on the acceptance of `GumbelListCoupling` for identical drafts.

    :math:`\sum_y m / (\sum_z \max(q_z/q_y, p_z/p_y) + (m - 1)/q_y)`: the probability that the output is the token of
    the very draft whose race decided it.

    Args:
        target: Target probabilities ``(..., v)``.
        draft: Draft probabilities ``(..., v)``.
        num_drafts: Number of drafts.

    Returns:
        Bound ``(...)``. Memory is :math:`v^2` for each row.

    Example:
        >>> import torch
        >>> list_matching_bound(torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.5]), 1)
        tensor(1.)
    """
    held = (target > 0) & (draft > 0)
    q, p = torch.where(held, target, 1.0)[..., None], torch.where(held, draft, 1.0)[..., None]
    race = torch.maximum(target[..., None, :] / q, draft[..., None, :] / p).sum(-1) + (num_drafts - 1) / q[..., 0]
    return torch.where(held, num_drafts / race, 0.0).sum(-1)
