"""The optimal verifier for identical drafts, in closed form."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mixkit._validation import check_integer, check_positive

from ..node import Node
from ..sources import CellLaws, RandomSource
from .base import CanonicalVerifier, Selection, check_identical
from .clipped import ClippedRatio, clipped_ratio
from .pools import Pools, pair_runs


class OptimalVerifier(CanonicalVerifier):
    r"""Reaches the optimal acceptance of identical independent drafts, :math:`\min_S q(S) + 1 - p(S)^m`, at any
    vocabulary.

    The distribution of the selected draft is :math:`x = p \cdot \mathrm{clip}(q/p, lo, hi)` (see `clipped_ratio`). It
    is realized by scores: each draft holds a cell, most often its own token's, in the order of :math:`q/p`, and the
    draft in the highest cell is selected (see `Pools`). One sort and a few passes over the vocabulary; no linear
    program and no iteration.

    Args:
        bins: None for the exact optimum. With a number, tokens are grouped by :math:`\log q/p` on a grid and no
            vocabulary is sorted: the output distribution stays exact, acceptance loses at most the relative width of a
            bin.
        span: The grid covers :math:`|\log q/p| \le` span; tokens beyond share the end bins.

    Source: the optimum as a linear program is Khisti et al. (2024), arXiv 2410.18234, theorems 1 to 3; the closed
    form and its scores were derived for this package.

    Example:
        >>> import torch
        >>> target, draft = torch.tensor([[0.5, 0.5]]), torch.tensor([[[0.9, 0.1], [0.9, 0.1]]])
        >>> OptimalVerifier().acceptance(target, draft)
        tensor([0.6900], dtype=torch.float64)
    """

    identical_drafts = True

    def __init__(self, *, bins: int | None = None, span: float = 8.0):
        self.bins = None if bins is None else check_integer("bins", bins, low=1)
        self.span = float(check_positive("span", span))

    def selection(self, node: Node) -> Selection:
        """Plan the selection of a node."""
        check_identical(node)
        target, draft = node.target, node.draft
        if self.bins is None:
            plan = clipped_ratio(target, draft, node.num_active)
            return ScoreSelection(plan, None, draft)
        bin_of = ratio_bins(target, draft, self.bins, self.span)
        empty = target.new_zeros(target.shape[0], self.bins + 2)
        plan = clipped_ratio(
            empty.scatter_add(-1, bin_of, target), empty.scatter_add(-1, bin_of, draft), node.num_active
        )
        return ScoreSelection(plan, bin_of, draft)


def ratio_bins(target: Tensor, draft: Tensor, bins: int, span: float) -> Tensor:
    """Bin of each token's log ratio ``(r, v)``; the first bin is for ratio zero, the last for tokens no draft holds."""
    place = (target.float() / draft.float()).log_().add_(span).mul_(bins / (2 * span)).clamp_(0, bins - 1).add_(1.0)
    if not (float(target.amin()) > 0 and float(draft.amin()) > 0):
        place = torch.where(target > 0, place.nan_to_num_(1.0), 0.0)
        place = torch.where(draft > 0, place, bins + 1.0)
    return place.nan_to_num_(1.0).long()


@dataclass(frozen=True)
class ScoreSelection:
    """Selects the draft that holds the highest cell.

    Attributes:
        plan: The optimal distribution over groups.
        group_of: Group of each token ``(r, v)``; None where each token is a group of its own.
        draft: Draft probabilities ``(r, v)``.
    """

    plan: ClippedRatio
    group_of: Tensor | None
    draft: Tensor

    @cached_property
    def pools(self) -> Pools:
        """The pools that realize the plan."""
        return pair_runs(self.plan)

    @cached_property
    def marginal(self) -> Tensor:
        """Distribution of the selected token ``(r, v)``."""
        plan = self.plan
        if self.group_of is None:
            return torch.empty_like(plan.marginal).scatter_(-1, plan.order, plan.marginal)
        held = plan.draft > 0
        ratio = torch.where(held, plan.marginal / torch.where(held, plan.draft, 1.0), 0.0)
        by_group = torch.empty_like(ratio).scatter_(-1, plan.order, ratio)
        return self.draft * by_group.gather(-1, self.group_of)

    def select(self, tokens: Tensor, active: Tensor, source: RandomSource) -> Tensor:
        """Draw a cell for each draft and return the highest's."""
        return source.highest(self.cell_laws(tokens), active)

    def cell_laws(self, tokens: Tensor) -> CellLaws:
        """Laws of the cells that drafts of given tokens ``(r, m)`` hold."""
        own, pools = self.own_cells(tokens), self.pools
        rows = torch.arange(own.shape[0], device=own.device)
        weights = pools.weights(
            rows[:, None, None], own[..., None], torch.arange(pools.level.shape[1], device=own.device)
        )
        keep = (1 - weights.sum(-1, keepdim=True)).clamp_min(0.0)
        return CellLaws(own, torch.cat([keep, weights], -1), pools.cells)

    def own_cells(self, tokens: Tensor) -> Tensor:
        """Place of each draft's group in the sorted order ``(r, m)``."""
        groups = tokens if self.group_of is None else self.group_of.gather(-1, tokens)
        steps = torch.arange(self.plan.order.shape[1], device=tokens.device).expand_as(self.plan.order)
        return torch.empty_like(self.plan.order).scatter_(-1, self.plan.order, steps).gather(-1, groups)
