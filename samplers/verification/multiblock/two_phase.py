"""The two-phase rule: budgets of drafted tokens, descendants before stops."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..sources import RandomSource
from .levels import Level, TreeShape
from .plans import LevelPlans, NodePlan
from .siblings import sibling_order

NOTHING = 1e-15  # budgets and what is left of the unit: less is rounding
_LAST = 1 << 40  # a turn after those of all rows of a tree


@dataclass(frozen=True)
class Stops:
    """Where the accepted path ends, given the drafts.

    Attributes:
        law: Probability that the path ends at each row of the tree ``(B, n+1)``; the root's row is first.
        turn: Place of each row in the order in which a walk comes to stop there ``(B, n+1)``; the root's is last.
        plans: Plans of the levels.
        place: Place of each row in its level ``(B, n+1)``; -1 for leaves and for copies of another row.
        num_children: Children that compete at each row ``(B, n+1)``.
        total: Sum of the budgets at each row ``(B, n+1)``.
    """

    law: Tensor
    turn: Tensor
    plans: list[NodePlan]
    place: Tensor
    num_children: Tensor
    total: Tensor

    def draw(self, source: RandomSource) -> Tensor:
        """Draw the row where the path ends ``(B,)``."""
        order = self.turn.argsort(dim=-1)
        return order.gather(1, source.choose(self.law.gather(1, order))[:, None])[:, 0]


@dataclass(frozen=True)
class _Turns:
    r"""What the nodes of a level do: children that have children take turns, then the path stops or the node fails.

    Attributes:
        child: Rows of the tree that hold the children, in the order of their turns ``(r, c)``.
        below: Places in the next level ``(r, c)``; -1 for children without a turn.
        stop: Probability of stopping at each child once all turns have failed ``(r, c)``.
    """

    child: Tensor
    below: Tensor
    stop: Tensor


def two_phase(levels: list[Level], plans_of: Callable[[Level], LevelPlans], shape: TreeShape) -> Stops:
    r"""Apply the two-phase rule to ``B`` drafted trees; return the exact distribution of the end of the path.

    A node of weight :math:`w` plans budgets :math:`b_y` for the distinct tokens drafted below it. Phase one lets the
    children take turns: with :math:`\bar b` left of the unit, child :math:`y` is a node of weight :math:`\alpha_y =
    b_y/\bar b` and accepts with mean probability :math:`A_y`; if it does not, :math:`\bar b` becomes
    :math:`\bar b (1 - A_y)`. Phase two, when all have failed, stops at child :math:`y` with weight :math:`b_y - \bar
    b_y A_y`, or fails. Whatever the tuple of drafts, outcomes through :math:`y` have mean probability :math:`b_y` over
    what is drafted below, so the output follows the target.

    Args:
        levels: The merged tree from the root's level down.
        plans_of: Plans of a level, from its rows.
        shape: The drafted trees.

    Source: derived for this package; see ``docs/verification.md``.
    """
    table = _Table(shape.depths)
    if not levels:
        return table.stops([], [])
    plans = [plans_of(level) for level in levels]
    weight = table.law.new_ones(levels[0].num_nodes)
    _, solution = plans[0].solve(torch.arange(len(weight), device=weight.device), weight)
    turns = []
    for depth, level in enumerate(levels):
        plan = plans[depth].at(weight, solution)
        table.write(level, plan)
        is_last = depth + 1 == len(levels)
        below, size = (None, 0) if is_last else (plans[depth + 1], levels[depth + 1].num_nodes)
        found, weight, solution = _take_turns(level, plan, below, size)
        turns.append(found)
    return table.stops(levels, turns)


def _take_turns(level: Level, plan: NodePlan, below: LevelPlans | None, size: int) -> tuple[_Turns, Tensor, Tensor]:
    """Phase one and two of a level; weights ``(size,)`` and solutions of the next level's nodes too."""
    budgets = torch.where(plan.budgets > NOTHING, plan.budgets, 0.0)
    place = level.below.masked_fill(budgets == 0, -1)
    order = sibling_order(budgets, place, below)
    child, budgets, place = (part.gather(1, order) for part in (level.child, budgets, place))
    weight = budgets.new_zeros(size)
    solution = budgets.new_zeros(size, below.solution_size if below is not None else 0)
    left, spent = torch.ones_like(budgets[:, 0]), torch.zeros_like(budgets)
    for turn, nodes in enumerate(_by_turn(place) if below is not None else ()):
        if below is None or nodes.numel() == 0:
            continue
        at, before = place[nodes, turn], left[nodes]
        alpha = (budgets[nodes, turn] / before.clamp_min(NOTHING)).clamp_max(1.0)
        accepted, solution[at] = below.solve(at, alpha)
        weight[at] = alpha
        spent[nodes, turn] = before * accepted
        left[nodes] = before * (1 - accepted)
    stop = budgets - spent
    stop = torch.where((stop > NOTHING) & (left[:, None] > NOTHING), stop / left[:, None], 0.0)
    stop = stop / stop.sum(-1, keepdim=True).clamp_min(1.0)
    return _Turns(child, place, stop), weight, solution


def _by_turn(place: Tensor) -> tuple[Tensor, ...]:
    """Nodes of a level ``(s,)`` that have a child in each turn."""
    goes = (place >= 0).mT
    return goes.nonzero()[:, 1].split(goes.sum(-1).tolist())


def _to_places(values: Tensor, place: Tensor, size: int) -> Tensor:
    """Values ``(...)`` at their places ``(...)`` among ``size``; those of place -1 go nowhere."""
    found = values.new_zeros(size + 1)
    found[place] = values  # -1 is the spare last one
    return found[:-1]


class _Table:
    """What is known at each row of the tree, written level by level."""

    def __init__(self, depths: Tensor):
        self.law = torch.zeros_like(depths, dtype=torch.float64)
        self.turn = torch.full_like(depths, _LAST)
        self.total = torch.zeros_like(self.law)
        self.place = torch.full_like(depths, -1)
        self.num_children = torch.zeros_like(depths)
        self.plans: list[NodePlan] = []

    def write(self, level: Level, plan: NodePlan) -> None:
        """Keep what the token after a stop needs."""
        at = level.batch_row, level.node
        self.place[at] = torch.arange(level.num_nodes, device=level.node.device)
        self.num_children[at] = level.active.sum(-1)
        self.total[at] = plan.budgets.sum(-1)
        self.plans.append(plan)

    def stops(self, levels: list[Level], turns: list[_Turns]) -> Stops:
        """Multiply up the acceptances given the drafts, then down the probabilities of the stops."""
        reach, accepts = _reach(turns)
        self._order(levels, turns)
        self.law[:, 0] = 1.0
        if levels:
            self.law[levels[0].batch_row, 0] = 1 - accepts[0]
            here = torch.ones_like(accepts[0])
        for depth, (level, turn) in enumerate(zip(levels, turns, strict=True)):
            going, ending = reach[depth]
            row = level.batch_row[:, None].expand_as(turn.child)
            self.law.index_put_((row, turn.child), here[:, None] * ending, accumulate=True)
            if depth + 1 < len(levels):
                here = _to_places(here[:, None] * going, turn.below, levels[depth + 1].num_nodes)
        return Stops(self.law.clamp_min_(0.0), self.turn, self.plans, self.place, self.num_children, self.total)

    def _order(self, levels: list[Level], turns: list[_Turns]) -> None:
        """Number the rows as a walk comes to stop there: what lies below the children first, then the children."""
        sizes: list[Tensor] = []  # of each level: rows below each child
        for turn in reversed(turns):
            inner = torch.zeros_like(turn.child)
            if sizes:
                below = (sizes[-1] + 1).sum(-1)
                inner = torch.where(turn.below >= 0, below[turn.below.clamp_min(0)], 0)
            sizes.append(inner)
        begins = [torch.zeros_like(level.node) for level in levels]
        for depth, (level, turn, size) in enumerate(zip(levels, turns, reversed(sizes), strict=True)):
            until = size.cumsum(-1)
            at = begins[depth][:, None] + until[:, -1:] + torch.arange(size.shape[1], device=size.device)
            row = level.batch_row[:, None].expand_as(turn.child)
            self.turn[row, turn.child] = torch.where(turn.child > 0, at, _LAST)  # padding is the root, which is last
            if depth + 1 < len(levels):
                start = begins[depth][:, None] + until - size
                begins[depth + 1] = _to_places(start, turn.below, levels[depth + 1].num_nodes)


def _reach(turns: list[_Turns]) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
    """Of each level: probabilities, given that a node is tried, of each turn and each stop; of accepting ``(r,)``."""
    reach: list[tuple[Tensor, Tensor]] = []
    accepts: list[Tensor] = []
    for turn in reversed(turns):
        inner = turn.below >= 0
        accepted = torch.zeros_like(turn.stop)
        if accepts:
            accepted = torch.where(inner, accepts[-1][turn.below.clamp_min(0)], 0.0)
        failed = (1 - accepted).cumprod(-1)
        going = torch.cat([torch.ones_like(failed[:, :1]), failed[:, :-1]], -1)
        reach.append((going, failed[:, -1:] * turn.stop))
        accepts.append(1 - failed[:, -1] * (1 - turn.stop.sum(-1)).clamp_min(0.0))
    return reach[::-1], accepts[::-1]
