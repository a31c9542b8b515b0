"""Recursive rejection: offer the drafts one after the other, each to what the last rejection left."""

import torch
from torch import Tensor

from ..node import Decision, Node
from ..sources import RandomSource
from ..speculative import accept_ratio, common_mass, normalized_residual
from ..verifier import NodeVerifier


class RecursiveRejection(NodeVerifier):
    r"""Recursive rejection: accept :math:`x_i` with probability :math:`\min(1, r(x_i)/p_i(x_i))`, else
    :math:`r \leftarrow (r-p_i)_+`.

    :math:`r` starts as the target and is normalized after each rejection; after the last, the token is drawn from it.

    Args:
        with_replacement: Whether drafts are independent; else each is drawn, and tested, from its distribution without
            the tokens of the drafts before it, as siblings of a tree may be.

    Source: Miao et al. (2023), arXiv 2305.09781, algorithm 2; without replacement, Jeon et al. (2024), arXiv
    2402.14160, and Yang et al. (2024), arXiv 2401.06706.

    Example:
        >>> import torch
        >>> RecursiveRejection().acceptance(torch.tensor([[0.5, 0.5]]), torch.tensor([[[0.9, 0.1], [0.9, 0.1]]]))
        tensor([0.6400], dtype=torch.float64)
    """

    def __init__(self, *, with_replacement: bool = True):
        self.with_replacement = with_replacement

    def node(self, node: Node, source: RandomSource) -> Decision:
        """Offer the active drafts in order."""
        left = node.target
        token = torch.full_like(node.tokens[:, 0], -1)
        probability = left.new_zeros(node.num_rows)
        rows = torch.arange(node.num_rows, device=token.device)
        for i in range(node.num_drafts):
            offered = rows[node.active[rows, i]]
            if offered.numel() == 0:
                continue
            law = self._law(node, offered, i)
            chosen = node.tokens[offered, i, None]
            test = accept_ratio(left[offered].gather(-1, chosen), law.gather(-1, chosen))[:, 0]
            probability[offered] = test
            accepted = source.rows(offered).accept(test)
            token[offered[accepted]] = chosen[accepted, 0]
            rejected = offered[~accepted]
            left = left.index_put((rejected,), normalized_residual(left[rejected], law[~accepted]))
            rows = rows[token[rows] < 0]
        if rows.numel():
            token[rows] = source.rows(rows).choose(left[rows])
        return Decision(token, probability)

    def _law(self, node: Node, rows: Tensor, i: int) -> Tensor:
        """Distribution ``(s, v)`` that draft ``i`` was drawn from."""
        law = node.law(i, rows)
        if self.with_replacement or i == 0:
            return law
        earlier = node.tokens[rows, :i].masked_fill(~node.active[rows, :i], -1)
        if (earlier == node.tokens[rows, i, None]).any():
            raise ValueError(
                "draft_tokens must differ among drafts that share a prefix, for drafts without replacement, got token "
                f"{int(node.tokens[rows, i][(earlier == node.tokens[rows, i, None]).any(-1)][0])} twice"
            )
        law = torch.nn.functional.pad(law, (0, 1)).scatter(-1, earlier.where(earlier >= 0, law.shape[-1]), 0.0)
        return law[:, :-1] / law.sum(-1, keepdim=True)

    def acceptance(self, target: Tensor, drafts: Tensor) -> Tensor:
        r"""Exact acceptance ``(r,)`` at one node with replacement: :math:`1 - \prod_i (1 - \sum_y \min(r_i, p_i))`.

        Args:
            target: Target probabilities ``(r, v)``.
            drafts: Draft probabilities ``(r, m, v)``.

        Raises:
            NotImplementedError: Without replacement, where acceptance depends on the tokens.
        """
        if not self.with_replacement:
            raise NotImplementedError("acceptance has no closed form for drafts without replacement")
        return recursive_acceptance(target, drafts)


def recursive_acceptance(target: Tensor, drafts: Tensor) -> Tensor:
    """Acceptance ``(r,)`` of recursive rejection with replacement, from ``(r, v)`` and ``(r, m, v)`` probabilities."""
    left = target.double()
    missed = torch.ones_like(left[..., 0])
    for law in drafts.double().unbind(-2):
        missed = missed * (1 - common_mass(left, law))
        left = normalized_residual(left, law)
    return 1 - missed
