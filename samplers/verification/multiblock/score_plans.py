"""Budgets from the scores of the optimal verifier: one sort for a node where several drafts compete."""

from functools import cached_property

import torch
from torch import Tensor

from ..multidraft.cells import cell_distributions, winning_law
from ..multidraft.clipped import ClippedRatio, SortedGroups, best_prefix, clip_sorted, sort_groups
from ..multidraft.optimal import ScoreSelection
from ..sources import is_long
from .plans import LevelPlans, NodePlan

_HUGE = 1e300  # in place of an infinite ratio, of which 0 times is 0
_CELLS = 1 << 20  # float64 cells of contestants at once: 8 MB


class ScorePlans(LevelPlans):
    r"""Budgets from the selection that is optimal at a node, for the target :math:`w p`.

    :math:`A(w) = \min(w, 1 + \min_S (w \, p(S) - q(S)^n))` over prefixes of the tokens in the order of :math:`p/q`. The
    selected token has the distribution :math:`x = q \, \mathrm{clip}(w p/q, lo, hi)`, realized by scores (see `Pools`).
    A token's budget is the probability, given the drafts, that one of its drafts has the highest score, times
    :math:`\min(1, w p(y)/x(y))`. Where one draft is left, nothing is selected and nothing sorted.
    """

    num_trials = 2
    precise = True

    @cached_property
    def _several(self) -> Tensor:
        """Nodes ``(k,)`` where several drafts compete."""
        return (self.rows.count > 1).nonzero()[:, 0]

    @cached_property
    def _place(self) -> Tensor:
        """Place of each node among those where several drafts compete ``(r,)``."""
        place = torch.zeros_like(self.rows.count)
        place[self._several] = torch.arange(self._several.numel(), device=place.device)
        return place

    @cached_property
    def _sorted(self) -> tuple[SortedGroups, Tensor]:
        """Sorted rows and the probabilities of drafts within prefixes, of the nodes where several drafts compete."""
        groups = sort_groups(self.rows.target[self._several], self.rows.draft[self._several])
        return groups, groups.ceiling(self.rows.count[self._several])

    def solve(self, nodes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Accepted mass by the sum of minima where one draft is left, by the best prefix elsewhere."""
        accepted = torch.empty_like(weight)
        several = self.rows.count[nodes] > 1
        alone = (~several).nonzero()[:, 0]
        if alone.numel():
            accepted[alone] = self.rows.common(nodes[alone], weight[alone], torch.ones_like(weight[alone]))
        some = several.nonzero()[:, 0]
        if some.numel():
            accepted[some] = self._best_prefix(self._place[nodes[some]], weight[some])
        return torch.minimum(accepted, weight).clamp_min_(0.0), weight.new_empty(weight.numel(), 0)

    def _best_prefix(self, place: Tensor, weight: Tensor) -> Tensor:
        """Optimal acceptance ``(s,)`` at given weights, of sorted rows ``place (s,)``."""
        groups, ceiling = self._sorted
        if not is_long(ceiling):
            return best_prefix(weight[:, None] * groups.target_sum[place], ceiling[place])[0]
        slack, found = torch.empty_like(ceiling[0]), []
        for row, w in zip(place.tolist(), weight.tolist(), strict=True):
            torch.sub(torch.mul(groups.target_sum[row], w, out=slack), ceiling[row], out=slack)
            found.append(1 + min(float(slack.min()), 0.0))
        return weight.new_tensor(found)

    def at(self, weight: Tensor, solution: Tensor) -> NodePlan:
        """Budgets of the drafted tokens, by the exact probability that a token's drafts hold the highest score."""
        rows = self.rows
        p, q = (law.gather(-1, rows.tokens) for law in (rows.target, rows.draft))
        share = rows.leads.to(p)  # where one draft, or one token, is left it is selected
        marginal, high = q.clone(), torch.ones_like(weight)
        some = ((rows.count > 1) & (weight > 0)).nonzero()[:, 0]
        if some.numel():
            groups = self._sorted[0].take(self._place[some])
            plan = clip_sorted(groups, rows.count[some], weight[some])
            marginal[some], share[some] = self._selected(plan, some)
            high[some] = plan.high.clamp_max(_HUGE)
        factor = torch.where(marginal > 0, weight[:, None] * p / torch.where(marginal > 0, marginal, 1.0), 0.0)
        return NodePlan(share * factor.clamp_max(1.0), weight, lambda nodes: rows.least(nodes, weight, high))

    def _selected(self, plan: ClippedRatio, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Marginal of each drafted token and its probability of being selected given all of them, both ``(s, c)``."""
        tokens, active, leads = (part[nodes] for part in (self.rows.tokens, self.rows.active, self.rows.leads))
        own = ScoreSelection(plan, None, plan.draft).own_cells(tokens)
        share = leads.to(plan.draft)
        distinct = (leads.sum(-1) > 1).nonzero()[:, 0]
        size = max(1, _CELLS // (tokens.shape[1] * plan.draft.shape[1]))
        for row in distinct.split(size) if distinct.numel() else ():
            cells = ScoreSelection(plan.take(row), None, plan.draft).cell_laws(tokens[row])
            wins = winning_law(cell_distributions(cells), active[row])
            same = (tokens[row, :, None] == tokens[row, None]) & active[row, None]
            found = (same * wins[:, None]).sum(-1) * leads[row]
            share[row] = found / found.sum(-1, keepdim=True)
        return plan.marginal.gather(-1, own), share
