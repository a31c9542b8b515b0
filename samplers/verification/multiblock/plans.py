"""What the two-phase rule asks of a node: how much it accepts at a given weight, and the budgets of its tokens."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..sources import is_long
from .one_node import AlonePlan, NodeRows, OnePlan, leads


@dataclass(frozen=True)
class LevelRows:
    """The distributions of ``r`` nodes and what is drafted below them.

    Attributes:
        target: Target probabilities ``(r, v)``.
        draft: Probabilities that the children of each node were drawn from ``(r, v)``.
        tokens: Drafted children ``(r, c)``.
        active: Which children are real ``(r, c)``.
        leads: Which children are the first that hold their token ``(r, c)``.
        drafts: Probabilities that each child was drawn from ``(r, c, v)``, where children may differ.
    """

    target: Tensor
    draft: Tensor
    tokens: Tensor
    active: Tensor
    leads: Tensor
    drafts: Tensor | None = None

    @property
    def count(self) -> Tensor:
        """Number of children ``(r,)``."""
        return self.active.sum(-1)

    def least(self, nodes: Tensor, of_target: Tensor, of_draft: Tensor) -> Tensor:
        r"""Masses :math:`\min(c_p \, p(y), c_q \, q(y))` ``(s, v)`` at some nodes, from :math:`c_p` and :math:`c_q`."""
        p, q = self.target[nodes], self.draft[nodes]
        return torch.minimum(p * of_target[nodes].to(p)[:, None], q * of_draft[nodes].to(q)[:, None])

    def common(self, nodes: Tensor, of_target: Tensor, of_draft: Tensor) -> Tensor:
        r"""Sums :math:`\sum_y \min(c_p \, p(y), c_q \, q(y))` ``(s,)`` at some nodes, float64.

        Args:
            nodes: Places in the level ``(s,)``.
            of_target: :math:`c_p` ``(s,)``.
            of_draft: :math:`c_q` ``(s,)``.
        """
        if not is_long(self.target):
            p = self.target[nodes] * of_target.to(self.target)[:, None]
            return torch.minimum(p, self.draft[nodes] * of_draft.to(self.draft)[:, None]).sum(-1).double()
        p, q, found = torch.empty_like(self.target[0]), torch.empty_like(self.draft[0]), []
        for node, a, b in zip(nodes.tolist(), of_target.tolist(), of_draft.tolist(), strict=True):
            torch.mul(self.target[node], a, out=p)
            other = self.draft[node] if b == 1 else torch.mul(self.draft[node], b, out=q)
            found.append(float(torch.minimum(p, other, out=p).sum()))
        return of_target.new_tensor(found)


@dataclass(frozen=True)
class NodePlan:
    r"""A level whose weights are known.

    Attributes:
        budgets: :math:`b_y` of each distinct drafted token ``(r, c)``, in the column that leads it; 0 elsewhere.
        weight: :math:`w` ``(r,)``.
        accepted: Maps nodes ``(s,)`` to the accepted mass of every token ``(s, v)``, at most :math:`w p`.
    """

    budgets: Tensor
    weight: Tensor
    accepted: Callable[[Tensor], Tensor]

    def leftover(self, nodes: Tensor, target: Tensor) -> Tensor:
        r"""Weights :math:`(w p - a)_+` ``(s, v)`` of the token after a stop at nodes ``(s,)``.

        The target itself where nothing is left, which a stop then reaches by rounding alone.
        """
        left = (self.weight[nodes].to(target)[:, None] * target).sub_(self.accepted(nodes)).clamp_min_(0.0)
        return torch.where(left.sum(-1, keepdim=True) > 0, left, target)


class LevelPlans(ABC):
    r"""Plans the nodes of a level: deterministic functions of their rows, of what is drafted there, and of ``w``.

    The rule is lossless if, for the drafted tuple :math:`T` of a node, budgets satisfy :math:`b_y(T) \ge 0`,
    :math:`\sum_y b_y(T) \le 1`, and :math:`E \, b_y(T) = a(y) \le w p(y)`; `solve` must return exactly
    :math:`\sum_y a(y)`.

    Attributes:
        num_trials: Weights at which `solve` is tried to put siblings in order; 0 for the order of their budgets.
        precise: Whether rows must be float64 whatever the dtype of the logits.
        identical_drafts: Whether all children of a node must be drawn from one distribution.
        solution_size: Numbers in a solution.
    """

    num_trials: int = 0
    precise: bool = False
    identical_drafts: bool = True
    solution_size: int = 0

    def __init__(self, rows: LevelRows):
        self.rows = rows

    @abstractmethod
    def solve(self, nodes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return the accepted mass :math:`A(w)` ``(s,)`` and the solution ``(s, solution_size)`` of some nodes.

        Args:
            nodes: Places in the level ``(s,)``.
            weight: Weights :math:`w \in (0, 1]` ``(s,)``.
        """

    @abstractmethod
    def at(self, weight: Tensor, solution: Tensor) -> NodePlan:
        """Plan all nodes at their weights ``(r,)`` (0 for nodes that are never reached), as `solve` solved them."""

    @classmethod
    def one(cls, rows: NodeRows) -> OnePlan:
        """The plan of one node where several drafts compete, by default that of a level of one node."""
        return LevelOfOne(cls, rows)


def one_plan(plans: type[LevelPlans], rows: NodeRows) -> OnePlan:
    """The plan of one node: all rules come to the same where one draft is left."""
    return AlonePlan(rows) if len(rows.tokens) == 1 else plans.one(rows)


class LevelOfOne(OnePlan):
    """Plans of a level with one node."""

    def __init__(self, plans: type[LevelPlans], rows: NodeRows):
        at = torch.tensor([rows.tokens], device=rows.target.device)
        drafts = None
        if not plans.identical_drafts:
            drafts = torch.stack([rows.draft_of(k) for k in range(len(rows.tokens))])[None]
        first = torch.tensor([leads(rows.tokens)], device=at.device)
        self._rows = rows
        self._plans = plans(LevelRows(rows.target[None], rows.draft[None], at, torch.ones_like(first), first, drafts))
        self._node = torch.zeros(1, dtype=torch.long, device=at.device)
        self._solutions: dict[float, Tensor] = {}
        self._found: dict[float, NodePlan] = {}

    def accepted(self, weight: float) -> float:
        """Solve the node."""
        mass, solution = self._plans.solve(self._node, self._weight(weight))
        self._solutions[weight] = solution
        return float(mass)

    def budgets(self, weight: float) -> list[float]:
        """Budgets of the level's only row."""
        return self._at(weight).budgets[0].tolist()

    def leftover(self, weight: float) -> Tensor:
        """What the level leaves at its only row."""
        return self._at(weight).leftover(self._node, self._rows.target[None])[0]

    def _at(self, weight: float) -> NodePlan:
        if weight not in self._found:
            self._found[weight] = self._plans.at(self._weight(weight), self._solutions[weight])
        return self._found[weight]

    def _weight(self, weight: float) -> Tensor:
        return torch.tensor([weight], dtype=torch.float64, device=self._node.device)
