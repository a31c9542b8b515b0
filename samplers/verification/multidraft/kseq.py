"""K-SEQ, the sequential selection of SpecTr."""

import torch
from torch import Tensor

from ..node import Decision, Node
from ..sources import RandomSource
from ..speculative import accept_ratio
from ..verifier import NodeVerifier
from .base import check_identical, node_of


class KSequential(NodeVerifier):
    r"""K-SEQ for identical drafts: accept the first :math:`x_i` to pass a test of probability
    :math:`\min(1, q/(\rho p))`.

    :math:`\rho` is the smallest at which the residual is not negative: with
    :math:`\beta(\rho) = \sum_y \min(p, q/\rho)`, the root of :math:`1 - (1 - \beta)^m = \rho \beta` in :math:`[1, m]`.
    If no draft passes, the token is drawn from :math:`q - \min(p, q/\rho) (1 - (1-\beta)^m)/\beta`. Acceptance is
    :math:`1 - (1 - \beta)^m`.

    Source: Sun et al. (2023), SpecTr, arXiv 2310.15141, algorithm 2 and theorem 2.

    Example:
        >>> import torch
        >>> KSequential().acceptance(torch.tensor([[0.5, 0.5]]), torch.tensor([[[0.9, 0.1], [0.9, 0.1]]]))
        tensor([0.6584], dtype=torch.float64)
    """

    identical_drafts = True

    def node(self, node: Node, source: RandomSource) -> Decision:
        """Test the active drafts in order."""
        check_identical(node)
        target, draft = node.target, node.draft
        rho, beta, passed = division(target, draft, node.num_active)
        test = accept_ratio(target.gather(-1, node.tokens), rho[:, None] * draft.gather(-1, node.tokens))
        test = torch.where(node.active, test, 0.0)
        missed = torch.cat([torch.ones_like(test[:, :1]), (1 - test).cumprod(-1)], -1)
        which = source.choose(torch.cat([test * missed[:, :-1], missed[:, -1:]], -1))
        none = which == node.num_drafts
        token = torch.nn.functional.pad(node.tokens, (0, 1)).gather(-1, which[:, None])[:, 0]
        if none.any():
            rows = none.nonzero()[:, 0]
            scale = torch.where(beta > 0, passed / torch.where(beta > 0, beta, 1.0), 1.0)[rows, None]
            taken = torch.minimum(draft[rows], target[rows] / rho[rows, None]) * scale
            left = (target[rows] - taken).clamp_min(0.0)
            left = torch.where(left.sum(-1, keepdim=True) > 0, left, target[rows])
            token = token.index_put((rows,), source.rows(rows).choose(left))
        return Decision(token, 1 - missed[:, -1])

    def acceptance(self, target: Tensor, drafts: Tensor) -> Tensor:
        """Exact acceptance ``(r,)`` at one node, from probabilities ``(r, v)`` and identical rows ``(r, m, v)``.

        Raises:
            ValueError: If the rows differ.
        """
        node = node_of(target.double(), drafts.double())
        check_identical(node)
        return division(node.target, node.draft, node.num_active)[2]


def division(target: Tensor, draft: Tensor, count: Tensor, *, steps: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return :math:`\rho`, :math:`\beta(\rho)` and the acceptance ``(r,)``, by bisection that ends on the lawful side.

    Args:
        target: Target probabilities ``(r, v)``.
        draft: Draft probabilities ``(r, v)``.
        count: Number of drafts ``(r,)``.
        steps: Halvings of :math:`[1, m]`.
    """
    low, high = torch.ones_like(target[:, 0]), count.to(target.dtype)
    for _ in range(steps):
        if not (high - low > 1e-12 * high).any():
            break
        middle = (low + high) / 2
        beta, passed = _passing(target, draft, middle, count)
        lawful = passed <= middle * beta
        low, high = torch.where(lawful, low, middle), torch.where(lawful, middle, high)
    return (high, *_passing(target, draft, high, count))


def _passing(target: Tensor, draft: Tensor, rho: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Probability that one draft passes, and that any of them does."""
    beta = torch.minimum(draft, target / rho[:, None]).sum(-1).clamp_max(1.0)
    return beta, -torch.expm1(count * torch.log1p(-beta))
