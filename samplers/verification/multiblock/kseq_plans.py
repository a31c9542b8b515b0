"""Budgets of K-SEQ: every draft takes a test, no sort."""

import math

import torch
from torch import Tensor

from ..multidraft.cells import legendre, products_but_one
from .one_node import NodeRows, OnePlan, leads, leftover
from .plans import LevelPlans, NodePlan

_STEPS = 3  # a root that is missed by little costs acceptance alone, and each step a pass over the vocabulary
_LEAST_SLOPE = 0.02  # a flatter secant is rounding: the fixed point's step is taken instead


class SequentialPlans(LevelPlans):
    r"""Budgets from tests of probability :math:`k(y) = \min(1, \kappa \, p(y)/q(y))`, drafts in random order.

    With :math:`\beta = \sum_y k(y) q(y)` and :math:`g = (1 - (1 - \beta)^n)/\beta`, the first draft to pass its test
    is a :math:`y` with probability :math:`x(y) = k(y) q(y) g`; :math:`\kappa` solves :math:`\kappa g = w`. Whatever
    :math:`\kappa` is, the factor :math:`\min(1, w p(y)/x(y))` makes the accepted mass at most :math:`w p`. Given
    the drafts, the probability that a :math:`y` comes first is
    :math:`c_y k_y \int_0^1 \prod_j (1 - k_j + k_j u) \, du`, the product over the other drafts.

    Source: Sun et al. (2023), SpecTr, arXiv 2310.15141, algorithm 2 (the selection); the budgets were derived for this
    package.
    """

    solution_size = 2

    def solve(self, nodes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        r"""Solve for :math:`\kappa`; the solution is :math:`(\kappa, g)` ``(s, 2)``.

        The equation :math:`\log \kappa + \log g(\kappa) = \log w` has one root in :math:`[w/n, w]`; where one draft is
        left it is :math:`w`. Secant steps start with the fixed point's. A root that is missed costs acceptance only.
        """
        count = self.rows.count[nodes]
        kappa, rate = weight.clone(), torch.ones_like(weight)
        some = (count > 1).nonzero()[:, 0]
        if some.numel():
            kappa[some], rate[some] = self._several(nodes[some], weight[some], count[some])
        accepted = self.rows.common(nodes, torch.minimum(weight, kappa * rate), rate)
        return torch.minimum(accepted, weight), torch.stack([kappa, rate], -1)

    def _several(self, nodes: Tensor, weight: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`\kappa` and :math:`g` ``(s,)`` where several drafts compete."""
        one = torch.ones_like(weight)
        kappa, before, before_gap = weight, weight, torch.zeros_like(weight)
        for step in range(_STEPS):
            gap = (kappa * _rate(self.rows.common(nodes, kappa, one), count) / weight).log()
            slope = _divide(gap - before_gap, (kappa / before).log())
            slope = torch.where(slope > _LEAST_SLOPE, slope, 1.0) if step else one
            before, before_gap = kappa, gap
            kappa = torch.minimum(torch.maximum(kappa * (-gap / slope).exp(), weight / count), weight)
        return kappa, _rate(self.rows.common(nodes, kappa, one), count)

    def at(self, weight: Tensor, solution: Tensor) -> NodePlan:
        """Budgets of the drafted tokens, by an integral over the order of the tests."""
        rows = self.rows
        kappa, rate = solution.unbind(-1)
        of_target = torch.minimum(weight, kappa * rate)
        p, q = (law.gather(-1, rows.tokens).double() for law in (rows.target, rows.draft))
        test = _divide(kappa[:, None] * p, q).clamp_max(1.0) * rows.active
        same = (rows.tokens[:, :, None] == rows.tokens[:, None]) & rows.active[:, None]
        selected = (same * first_to_pass(test)[:, None]).sum(-1)
        accepted = torch.minimum(of_target[:, None] * p, rate[:, None] * q)
        factor = _divide(accepted, rate[:, None] * test * q).clamp_max(1.0)
        return NodePlan(selected * factor * rows.leads, weight, lambda nodes: rows.least(nodes, of_target, rate))

    @classmethod
    def one(cls, rows: NodeRows) -> OnePlan:
        """The plan of one node, in plain numbers."""
        return SequentialPlan(rows)


class SequentialPlan(OnePlan):
    """`SequentialPlans` of one node, in plain numbers.

    As a level of one node, a block of four drafts would take 1.2 to 1.8 times as long at v = 128,256 to 100.
    """

    def __init__(self, rows: NodeRows):
        self._rows, self._count = rows, len(rows.tokens)
        self._solutions: dict[float, tuple[float, float]] = {}

    def accepted(self, weight: float) -> float:
        r"""Solve for :math:`\kappa` and :math:`g`."""
        kappa = before = weight
        before_gap = 0.0
        for step in range(_STEPS):
            gap = math.log(kappa * self._rate(kappa) / weight)
            moved = math.log(kappa / before) if step else 0.0
            slope = (gap - before_gap) / moved if moved else 0.0
            before, before_gap = kappa, gap
            kappa *= math.exp(-gap / (slope if step and slope > _LEAST_SLOPE else 1.0))
            kappa = min(max(kappa, weight / self._count), weight)
        rate = self._rate(kappa)
        self._solutions[weight] = kappa, rate
        return min(self._rows.common(min(weight, kappa * rate), rate), weight)

    def _rate(self, kappa: float) -> float:
        one = self._rows.common(kappa, 1.0)
        if one <= 0:
            return float(self._count)
        return -math.expm1(self._count * math.log1p(-one)) / one if one < 1 else 1.0

    def budgets(self, weight: float) -> list[float]:
        """Budgets of the drafted tokens, by an integral over the order of the tests."""
        kappa, rate = self._solutions[weight]
        test = [min(1.0, kappa * p / q) if q > 0 else 0.0 for p, q in self._rows.held]
        selected = first_to_pass(torch.tensor([test], dtype=torch.float64))[0].tolist()
        tokens, of_target = self._rows.tokens, min(weight, kappa * rate)
        total = [sum(s for s, other in zip(selected, tokens, strict=True) if other == token) for token in tokens]
        share = [
            min(1.0, min(of_target * p, rate * q) / (rate * k * q)) if k > 0 else 0.0
            for k, (p, q) in zip(test, self._rows.held, strict=True)
        ]
        return [t * s * first for t, s, first in zip(total, share, leads(tokens), strict=True)]

    def leftover(self, weight: float) -> Tensor:
        """What the tests leave."""
        kappa, rate = self._solutions[weight]
        return leftover(self._rows, weight, min(weight, kappa * rate), rate)


def first_to_pass(test: Tensor) -> Tensor:
    r"""Probability ``(r, m)`` that each contestant is the first to pass its test, in random order.

    :math:`k_i \int_0^1 \prod_{j \ne i} (1 - k_j + k_j u) \, du`, by Gauss-Legendre quadrature, exact for polynomials.

    Example:
        >>> first_to_pass(torch.tensor([[0.5, 1.0]]))
        tensor([[0.2500, 0.7500]])
    """
    points, sizes = legendre(test.shape[1] // 2 + 1, test)
    held = (1 - test)[..., None] + test[..., None] * points
    return test * (torch.stack(products_but_one(list(held.unbind(1))), 1) * sizes).sum(-1)


def _rate(one: Tensor, count: Tensor) -> Tensor:
    """Probability ``g`` that a draft passes first, over that ``one`` passes its test ``(s,)``."""
    some = -torch.expm1(count * torch.log1p(-one.clamp_max(1.0)))
    return torch.where(one > 0, some / torch.where(one > 0, one, 1.0), count.double())


def _divide(above: Tensor, below: Tensor) -> Tensor:
    return torch.where(below != 0, above / torch.where(below != 0, below, 1.0), 0.0)
