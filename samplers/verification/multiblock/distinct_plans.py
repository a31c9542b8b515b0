"""Budgets for siblings drawn without replacement: mixtures of orders in which the first drafted token is selected."""

import math

import torch
from torch import Tensor

from .priority_plans import PriorityPlans

_SURE = 50.0  # a token that has not arrived after so many of its mean times has probability e**-50
_STEP, _FIRST = 0.25, -39.0  # of the trapezoid rule in log time; before the first, e**-39, next to nothing arrives
_BEYOND = math.log(60.0)  # of log time at rate 1: what arrives later has probability e**-60


class DistinctPlans(PriorityPlans):
    r"""`PriorityPlans` for siblings drawn one after the other from one distribution, without replacement.

    The probability that all :math:`n` siblings lie in :math:`S` takes the place of a product: :math:`H_1(S) = q(S)`,
    :math:`H_2(S) = \sum_{y \ne z \in S} q(y) q(z)/(1 - q(y))`, and for more an integral over exponential arrivals.
    Time is that of some hundred running sums for each order of three siblings and more.

    Source: derived for this package.
    """

    identical_drafts = True

    def first_drafted(self, nodes: Tensor, order: Tensor) -> Tensor:
        """Distribution of the first drafted token in an order, by the number of siblings."""
        draft, count = self.rows.draft[nodes], self.rows.count[nodes]
        inside = draft.gather(-1, order).flip(-1)
        tail = torch.empty_like(inside)
        for size in count.unique().tolist():
            some = (count == size).nonzero()[:, 0]
            tail[some] = all_inside(inside[some], size)
        tail = torch.nn.functional.pad(tail.flip(-1), (0, 1))
        tail[:, 0] = 1.0
        found = (tail[:, :-1] - tail[:, 1:]).clamp_min_(0.0)
        return torch.empty_like(inside).scatter_(1, order, found)

    def first_key(self, nodes: Tensor, wanted: Tensor) -> Tensor:
        """The ratio of target to draft."""
        return wanted / self.rows.draft[nodes].clamp_min(1e-300)


def all_inside(draft: Tensor, count: int) -> Tensor:
    """Probability ``(r, n)`` that ``count`` tokens drawn without replacement all lie in a prefix of ``draft (r, n)``.

    Example:
        >>> all_inside(torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64), 2)
        tensor([[0.0000, 0.5143, 1.0000]], dtype=torch.float64)
    """
    total = draft.cumsum(-1)
    if count == 1:
        return total.clamp_max(1.0)
    pad = torch.nn.functional.pad
    after = pad(draft.flip(-1).cumsum(-1).flip(-1)[:, 1:], (0, 1))
    if count == 2:  # the token at the end of the prefix and an earlier one, in both orders: no differences
        earlier = pad(total[:, :-1], (1, 0))
        others = (earlier + after).clamp_min(1e-300)
        ratio = draft / others
        return (ratio * earlier + draft * pad(ratio.cumsum(-1)[:, :-1], (1, 0))).cumsum(-1).clamp_max(1.0)
    held = (draft > 0).cumsum(-1)  # what is impossible is exactly so: orders must not hang on rounding
    return torch.where(held < count, 0.0, (1 - _too_few(draft, after, count)).clamp(0.0, 1.0))


def _too_few(draft: Tensor, outside: Tensor, count: int) -> Tensor:
    r"""Probability ``(r, n)`` that fewer than ``count`` tokens of a prefix arrive before the first one outside.

    Tokens arrive at exponential times of rate :math:`q`; their order is that of draws without replacement. At time
    :math:`t` those of a prefix have arrived independently, and the first outside arrives at rate :math:`q(S^c)`. The
    trapezoid rule in :math:`\log t` is exact to about 1e-15.
    """
    size = min(count, draft.shape[-1])
    rate = draft.topk(size, -1).values[:, -1].clamp_min(1e-280)
    last = float((_BEYOND - rate.log()).max())
    found = torch.zeros_like(outside)
    for k in range(math.ceil((last - _FIRST) / _STEP) + 1):
        time = math.exp(_FIRST + k * _STEP)
        found += _STEP * time * outside * (-time * outside).exp() * _arrived_fewer(draft, time, count)
    return torch.where(outside > 0, found, 0.0)


def _arrived_fewer(draft: Tensor, time: float, count: int) -> Tensor:
    """Probability ``(r, n)`` that fewer than ``count`` tokens of each prefix have arrived at a time."""
    due = draft * time
    sure = due > _SURE
    odds = torch.where(sure, 0.0, torch.expm1(due.clamp_max(_SURE)))
    none = (-torch.where(sure, 0.0, due).cumsum(-1)).exp()
    certain = sure.cumsum(-1)
    term, total = torch.ones_like(odds), torch.zeros_like(odds)
    for j in range(count):
        total += torch.where(certain + j < count, term, 0.0)
        before = torch.nn.functional.pad(term[:, :-1], (1, 0), value=float(j == 0))
        term = (odds * before).cumsum(-1)
    return none * total
