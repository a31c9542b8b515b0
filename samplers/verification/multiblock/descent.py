"""The two-phase rule for one tree, walked from node to node: only what is visited is planned.

`two_phase` states the same rule for whole batches. Both are needed. This walk makes the probabilities of ends one after
the other and stops at the end that is drawn: that saves most of the work over a vocabulary, but reads a number back at
every step. The other makes all probabilities before anything is drawn: that is faster on devices and for batches of
short rows, and an enumeration needs it. ``tests/samplers/test_multiblock_by_row.py`` holds the two equal: in
distribution by enumeration, and in tokens seed by seed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..sources import RandomSource
from .one_node import OnePlan
from .one_tree import OneTree
from .siblings import order_by_budget, order_by_loss, trial_weights
from .two_phase import NOTHING


@dataclass(frozen=True)
class Descended:
    """The end of the accepted path of one tree.

    Attributes:
        end: Row of the tree where it ended.
        weights: Weights ``(v,)`` of the token after it.
        probability: Of each node on the path down to the end, the end among them if it has children: the mean
            probability that a call there accepts something, given the tokens drafted below it.
        competing: Number of drafts that competed there.
    """

    end: int
    weights: Tensor
    probability: list[float]
    competing: list[int]


class Descent:
    """Walks down a tree.

    Args:
        tree: The drafted tree, merged.
        plan_of: Makes the plan of a leader that has children.
        target_of: Target probabilities ``(v,)`` after a row.
        num_trials: Weights at which siblings are tried to put them in order; see `LevelPlans`.
    """

    def __init__(
        self,
        tree: OneTree,
        plan_of: Callable[[int], OnePlan],
        target_of: Callable[[int], Tensor],
        num_trials: int,
    ):
        self._tree, self._plan_of, self._target_of, self._num_trials = tree, plan_of, target_of, num_trials
        self._plans: dict[int, OnePlan] = {}
        self._accepted_at: dict[tuple[int, float], float] = {}
        self._weight: dict[int, float] = {}
        self._total: dict[int, float] = {}

    def draw(self, source: RandomSource) -> Descended:
        """Draw the end of the path; say what follows it."""
        tree, rows = self._tree, list[int]()
        end = rows[source.choose_in_turn(_noting(self.ends(), rows))]
        path = [row for row in (0, *tree.path(end)) if tree.children[tree.leader[row]]]
        path = [tree.leader[row] for row in path]
        weights = self._plan(end).leftover(self._weight[end]) if tree.children[end] else self._target_of(end)
        return Descended(end, weights, [self._total[row] for row in path], [len(tree.children[row]) for row in path])

    def ends(self) -> Iterator[tuple[int, float]]:
        """Rows where the path may end and the probabilities that it does, in the order of the walk; the root last."""
        accepted = 0.0
        if self._tree.children[0]:
            self._accepted(0, 1.0)
            for row, probability in self._below(0, 1.0):
                accepted += probability
                yield row, probability
        yield 0, max(0.0, 1 - accepted)

    def _plan(self, row: int) -> OnePlan:
        if row not in self._plans:
            self._plans[row] = self._plan_of(row)
        return self._plans[row]

    def _accepted(self, row: int, weight: float) -> float:
        """Accepted mass; a weight that was tried to order siblings may come again in their turns."""
        if (row, weight) not in self._accepted_at:
            self._accepted_at[row, weight] = self._plan(row).accepted(weight)
        return self._accepted_at[row, weight]

    def _below(self, row: int, weight: float) -> Iterator[tuple[int, float]]:
        """Ends below a node that is called with a weight, and their probabilities given the call."""
        tree = self._tree
        every = self._plan(row).budgets(weight)
        self._weight[row], self._total[row] = weight, sum(every)
        budgets = {child: b for child, b in zip(tree.children[row], every, strict=True) if b > NOTHING}
        turns = self._order([child for child in budgets if tree.children[child]], budgets)
        left, going, spent = 1.0, 1.0, dict.fromkeys(budgets, 0.0)
        for child in turns:
            alpha = min(budgets[child] / max(left, NOTHING), 1.0)
            mean = self._accepted(child, alpha)
            found = 0.0
            for end, probability in self._below(child, alpha):
                found += probability
                yield end, going * probability
            going *= 1 - found
            spent[child] = left * mean
            left *= 1 - mean
        yield from self._stops(
            [*turns, *(child for child in budgets if child not in turns)], budgets, spent, left, going
        )

    def _stops(
        self, order: list[int], budgets: dict[int, float], spent: dict[int, float], left: float, going: float
    ) -> Iterator[tuple[int, float]]:
        """Phase two: stops at the children once all turns have failed."""
        stops = {child: budgets[child] - spent[child] for child in order}
        stops = {child: stop / left for child, stop in stops.items() if stop > NOTHING and left > NOTHING}
        total = max(1.0, sum(stops.values()))
        for child, stop in stops.items():
            yield child, going * stop / total

    def _order(self, children: list[int], budgets: dict[int, float]) -> list[int]:
        """Children that have children, in the order of their turns."""
        if len(children) < 2:
            return children
        found = torch.tensor([[budgets[child] for child in children]], dtype=torch.float64)
        if not self._num_trials:
            return [children[k] for k in order_by_budget(found)[0].tolist()]
        trials = trial_weights(found, self._num_trials)
        accepted = [
            [self._accepted(child, weight) for weight in row]
            for child, row in zip(children, trials[0].tolist(), strict=True)
        ]
        score = order_by_loss(found, found.new_tensor([accepted]), torch.ones_like(found, dtype=torch.bool))
        return [children[k] for k in score.argsort(dim=-1, stable=True)[0].tolist()]


def _noting(ends: Iterator[tuple[int, float]], rows: list[int]) -> Iterator[float]:
    for row, probability in ends:
        rows.append(row)
        yield probability
