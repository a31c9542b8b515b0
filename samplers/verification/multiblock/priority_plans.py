"""Budgets for drafts of different distributions: mixtures of orders in which the first drafted token is selected."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .plans import LevelPlans, LevelRows, NodePlan

_STEPS = 24  # most orders in a mixture, each a sort
_EARLY = 4  # steps without a search for their size
_SHARES = (1.0, 0.5, 0.25, 0.125, 0.06, 0.03)  # of the longest step, that are tried
_ENOUGH = 1e-9  # accepted mass short of all that can be: orders end
_LEAST_GAIN = 1e-9  # smaller gains are ties, so that rounding does not decide between mixtures


@dataclass(frozen=True)
class OrderMixture:
    """A mixture of ``k`` orders of the tokens.

    Attributes:
        rank: Place of each token in each order ``(s, k, v)``.
        share: Weight of each order ``(s, k)``, summing to 1.
        marginal: Distribution of the first drafted token in a drawn order ``(s, v)``.
    """

    rank: Tensor
    share: Tensor
    marginal: Tensor

    def take(self, rows: Tensor) -> "OrderMixture":
        """Return some rows."""
        return OrderMixture(self.rank[rows], self.share[rows], self.marginal[rows])

    def select(self, tokens: Tensor, active: Tensor) -> Tensor:
        """Probability ``(s, c)`` that each child holds the first drafted token; ties go to the first of its columns."""
        at = self.rank.gather(-1, tokens[:, None].expand(-1, self.rank.shape[1], -1))
        at = torch.where(active[:, None], at, self.rank.shape[-1])
        first = torch.nn.functional.one_hot(at.argmin(-1), tokens.shape[1])
        return (first * self.share[..., None]).sum(1)


class PriorityPlans(LevelPlans):
    r"""Budgets from mixtures of priority orders, for children drawn independently from distributions of their own.

    In an order of the tokens, the first drafted one is selected. Its distribution is exact: with :math:`H(S) = \prod_i
    q_i(S)` the probability that all drafts lie in :math:`S`, the token at place :math:`k` is selected with probability
    :math:`H(\text{places} \ge k) - H(\text{places} > k)`. A mixture of orders has the mixture of these, and mixtures
    reach whatever a selection can have. Orders are added by Frank-Wolfe steps for the mass
    :math:`\sum_y \min(w p(y), x(y))`: the next order is that of :math:`w p/x`, descending; the best mixture is kept.

    Source: derived for this package.
    """

    precise = True
    identical_drafts = False
    solution_size = 1

    def __init__(self, rows: LevelRows):
        super().__init__(rows)
        self._found: list[OrderMixture] = []
        self._start = [0]

    def solve(self, nodes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Find a mixture for each node; the solution is its place among those found."""
        wanted = weight[:, None] * self.rows.target[nodes]
        several = bool((self.rows.count[nodes] > 1).any())
        mixture = mix_orders(
            wanted,
            self.first_key(nodes, wanted),
            lambda order: self.first_drafted(nodes, order),
            _STEPS if several else 1,
        )
        place = torch.arange(len(nodes), device=nodes.device) + self._start[-1]
        self._found.append(mixture)
        self._start.append(self._start[-1] + len(nodes))
        return torch.minimum(wanted, mixture.marginal).sum(-1), place.to(weight)[:, None]

    def first_drafted(self, nodes: Tensor, order: Tensor) -> Tensor:
        """Distribution ``(s, v)`` of the first drafted token at some nodes, in an order ``(s, v)``."""
        return first_drafted(self._drafts[nodes], self.rows.active[nodes], order)

    def first_key(self, nodes: Tensor, wanted: Tensor) -> Tensor:
        """What the first order sorts by, descending ``(s, v)``: the target over the sum of the drafts."""
        drafts = self._drafts[nodes] * self.rows.active[nodes, :, None]
        return wanted / drafts.sum(1).clamp_min(1e-300)

    @property
    def _drafts(self) -> Tensor:
        if self.rows.drafts is None:
            raise ValueError("drafts must be given for budgets by priority, got None")
        return self.rows.drafts

    def at(self, weight: Tensor, solution: Tensor) -> NodePlan:
        """Budgets of the drafted tokens: the shares of the orders in which they come first."""
        rows = self.rows
        marginal = torch.zeros_like(rows.target)
        selected = torch.zeros_like(rows.leads, dtype=torch.float64)
        place = torch.where(weight > 0, solution[:, 0], -1.0).long()
        for start, mixture in zip(self._start, self._found, strict=False):
            nodes = ((place >= start) & (place < start + len(mixture.marginal))).nonzero()[:, 0]
            found = mixture.take(place[nodes] - start)
            marginal[nodes] = found.marginal
            selected[nodes] = found.select(rows.tokens[nodes], rows.active[nodes])
        same = (rows.tokens[:, :, None] == rows.tokens[:, None]) & rows.active[:, None]
        x, p = marginal.gather(-1, rows.tokens), rows.target.gather(-1, rows.tokens)
        factor = torch.where(x > 0, weight[:, None] * p / torch.where(x > 0, x, 1.0), 0.0).clamp_max(1.0)
        budgets = (same * selected[:, None]).sum(-1) * factor * rows.leads

        def accepted(nodes: Tensor) -> Tensor:
            return torch.minimum(weight[nodes, None] * rows.target[nodes], marginal[nodes])

        return NodePlan(budgets, weight, accepted)


def mix_orders(wanted: Tensor, key: Tensor, first: Callable[[Tensor], Tensor], steps: int = _STEPS) -> OrderMixture:
    r"""Mix orders so that the selected token's distribution has much in common with the masses ``wanted (s, v)``.

    Args:
        wanted: :math:`w p`, float64.
        key: What the first order sorts by, descending ``(s, v)``.
        first: Maps an order ``(s, v)`` to the distribution of the first drafted token in it ``(s, v)``.
        steps: Most orders.

    Example:
        >>> target = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
        >>> drafts = torch.tensor([[[0.9, 0.1], [0.2, 0.8]]], dtype=torch.float64)
        >>> active = torch.tensor([[True, True]])
        >>> mixture = mix_orders(target, target, lambda order: first_drafted(drafts, active, order))
        >>> bool(torch.minimum(target, mixture.marginal).sum() > 0.9999)
        True
    """
    best = torch.full_like(wanted[:, 0], -1.0)
    share, marginal = wanted.new_zeros(len(wanted), 0), torch.zeros_like(wanted)
    kept_share, kept, ranks = share, marginal, []
    total = wanted.sum(-1)
    for step in range(steps):
        # Near the optimum many ratios are equal but for rounding: ties in float32, where the lower token is first.
        order = key.float().argsort(dim=-1, descending=True, stable=True)
        places = torch.arange(order.shape[1], device=order.device).expand_as(order)
        ranks.append(torch.empty_like(order).scatter_(1, order, places))
        new = first(order)
        size = _step_size(wanted, marginal, new, step)[:, None]
        marginal = (1 - size) * marginal + size * new
        share = torch.cat([(1 - size) * share, size], 1)
        value = torch.minimum(wanted, marginal).sum(-1)
        better = (value > best + _LEAST_GAIN)[:, None]
        kept_share = torch.where(better, share, torch.nn.functional.pad(kept_share, (0, 1)))
        kept, best = torch.where(better, marginal, kept), torch.where(better[:, 0], value, best)
        if (best >= total - _ENOUGH).all():
            break
        key = wanted / marginal.clamp_min(1e-300)
    return OrderMixture(torch.stack(ranks, 1), kept_share, kept)


def first_drafted(drafts: Tensor, active: Tensor, order: Tensor) -> Tensor:
    """Distribution ``(s, v)`` of the first drafted token in an order ``(s, v)``, for drafts ``(s, n, v)``."""
    inside = drafts.gather(-1, order[:, None].expand_as(drafts))
    later = inside.flip(-1).cumsum(-1).flip(-1).clamp_max(1.0)
    later = torch.where(active[..., None], torch.nn.functional.pad(later, (0, 1)), 1.0).prod(1)
    later[:, 0] = 1.0
    return torch.empty_like(inside[:, 0]).scatter_(1, order, (later[:, :-1] - later[:, 1:]).clamp_min_(0.0))


def _step_size(wanted: Tensor, marginal: Tensor, new: Tensor, step: int) -> Tensor:
    """Frank-Wolfe's 2/(k + 2) ``(s,)`` at first, then the best of some shares of it."""
    longest = wanted.new_full((len(wanted),), 2 / (step + 2))
    if step <= _EARLY:
        return longest
    sizes = longest[0] * longest.new_tensor([*_SHARES, 0.0])
    values = torch.stack([torch.minimum(wanted, torch.lerp(marginal, new, float(size))).sum(-1) for size in sizes], -1)
    best = sizes[(values >= values.amax(-1, keepdim=True) - _LEAST_GAIN).to(torch.uint8).argmax(-1)]
    return torch.where(best > 0, best, longest / 8)
