"""K-SEQ, the sequential selection of SpecTr."""

import torch
from torch import Tensor

from ..node import Decision, Node
from ..sources import RandomSource
from ..speculative import accept_ratio
from ..verifier import NodeVerifier
from .base import check_identical, node_of

_STEPS = 12  # secant steps; rows that need more are bisected
_CLOSE = 1e-12  # of log rho, some thousand roundings of sums in float64
_LEAST_SLOPE = -0.02  # a flatter secant is rounding: the fixed point's step is taken instead


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


def division(target: Tensor, draft: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return :math:`\rho`, :math:`\beta(\rho)` and the acceptance ``(r,)``, with the residual not negative.

    The root of :math:`\log \rho = \log(1 - (1 - \beta)^m) - \log \beta` is found by secant steps and raised by
    some 1e-12; rows where that is not lawful are bisected.

    Args:
        target: Target probabilities ``(r, v)``.
        draft: Draft probabilities ``(r, v)``.
        count: Number of drafts ``(r,)``.
    """
    most = count.to(target.dtype).log()
    place, before, before_gap = torch.zeros_like(most), torch.zeros_like(most), torch.zeros_like(most)
    for step in range(_STEPS):
        beta, passed = _passing(target, draft, place.exp(), count)
        gap = torch.where(beta > 0, passed / torch.where(beta > 0, beta, 1.0), count).log() - place
        moved = place - before
        slope = torch.where(moved != 0, (gap - before_gap) / torch.where(moved != 0, moved, 1.0), -1.0)
        slope = torch.where(slope < _LEAST_SLOPE, slope, -1.0) if step else -torch.ones_like(gap)
        before, before_gap = place, gap
        place = torch.minimum((place - gap / slope).clamp_min(0.0), most)
        if not (gap.abs() > _CLOSE / 10).any():
            break
    rho = torch.minimum(place + _CLOSE, most).exp()
    beta, passed = _passing(target, draft, rho, count)
    done = (passed <= rho * beta) & (passed >= (1 - 100 * _CLOSE) * rho * beta)
    return (rho, beta, passed) if done.all() else _bisect(target, draft, count, rho, done)


def _bisect(target: Tensor, draft: Tensor, count: Tensor, rho: Tensor, done: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Halve :math:`[1, m]` where a row is not done, and end on the lawful side."""
    low, high = torch.where(done, rho, 1.0), torch.where(done, rho, count.to(rho))
    while (high - low > _CLOSE * high).any():
        middle = (low + high) / 2
        beta, passed = _passing(target, draft, middle, count)
        lawful = passed <= middle * beta
        low, high = torch.where(lawful, low, middle), torch.where(lawful, middle, high)
    return (high, *_passing(target, draft, high, count))


def _passing(target: Tensor, draft: Tensor, rho: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Probability that one draft passes, and that any of them does."""
    beta = torch.minimum(draft, target / rho[:, None]).sum(-1).clamp_max(1.0)
    return beta, -torch.expm1(count * torch.log1p(-beta))
