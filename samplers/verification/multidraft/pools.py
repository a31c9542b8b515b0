"""Scores that realize a clipped ratio: pools of tokens that share cells."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .clipped import ClippedRatio

_NOISE = 4e-16
_LONG = 4096


@dataclass(frozen=True)
class Pools:
    r"""Pools of sorted groups; each pairs a run of groups to be pushed up with a later run to be pushed down.

    A draft of group :math:`y` takes cell :math:`y` with probability :math:`1 - \sum_k w_k(y)`, else pool :math:`k` with
    probability :math:`w_k(y)`, and then a cell :math:`z` of the pool with probability proportional to
    :math:`p(z) w_k(z)`. The draft in the highest cell is selected. In all, cells are held with the probabilities
    :math:`p`, so a cell's draft is selected with the rate of the highest of :math:`m` draws; a pool's mean rate is its
    level :math:`c_k`, and :math:`w_k(y) = f_k |x(y) - h(y)| / |c_k p(y) - h(y)|`, where :math:`h` is the distribution
    of the highest draw and :math:`f_k` the share of the run's gap that the pool evens out.

    Attributes:
        up: First and last group of each pool's lower run ``(r, k, 2)``.
        down: First and last group of each pool's upper run ``(r, k, 2)``.
        share: Shares of the runs' gaps ``(r, k, 2)``; zero for a pool that is not used.
        level: Levels ``(r, k)``.
        plan: What the pools realize.
    """

    up: Tensor
    down: Tensor
    share: Tensor
    level: Tensor
    plan: ClippedRatio

    def weights(self, row: Tensor, cell: Tensor, pool: Tensor) -> Tensor:
        """Return :math:`w` for rows, groups and pools, all of one shape after broadcasting."""
        plan = self.plan
        p, x, h = (law[row, cell] for law in (plan.draft, plan.marginal, plan.highest))
        return _weights(p, x, h, self.level[row, pool], self._part(row, cell, pool))

    def cells(self, row: Tensor, pool: Tensor) -> Tensor:
        """Return weights over cells ``(s, n)`` of the pools ``(s,)``."""
        plan = self.plan
        n = plan.draft.shape[1]
        if n >= _LONG:
            return self._cells_of_long_rows(row.tolist(), pool.tolist())
        p, x, h = (law[row] for law in (plan.draft, plan.marginal, plan.highest))
        part = self._part(row[:, None], torch.arange(n, device=row.device), pool[:, None])
        return p * _weights(p, x, h, self.level[row, pool, None], part)

    def _part(self, row: Tensor, cell: Tensor, pool: Tensor) -> Tensor:
        """The share of the run's gap that the pool takes at a cell; 0 outside its runs."""
        up, down, share = self.up[row, pool], self.down[row, pool], self.share[row, pool]
        in_up = (cell >= up[..., 0]) & (cell <= up[..., 1])
        in_down = (cell >= down[..., 0]) & (cell <= down[..., 1])
        return share[..., 0] * in_up + share[..., 1] * in_down

    def _cells_of_long_rows(self, rows: list[int], pools: list[int]) -> Tensor:
        """`cells`, run by run, and once for drafts that share a pool."""
        plan = self.plan
        out = plan.draft.new_zeros(len(rows), plan.draft.shape[1])
        done: dict[tuple[int, int], int] = {}
        for i, (row, pool) in enumerate(zip(rows, pools, strict=True)):
            same = done.setdefault((row, pool), i)
            if same < i:
                out[i] = out[same]
                continue
            for (first, last), share in zip(
                (self.up[row, pool].tolist(), self.down[row, pool].tolist()), self.share[row, pool], strict=True
            ):
                run = slice(first, last + 1)
                p, x, h = plan.draft[row, run], plan.marginal[row, run], plan.highest[row, run]
                torch.mul(p, _weights(p, x, h, self.level[row, pool], share), out=out[i, run])
        return out


def _weights(p: Tensor, x: Tensor, h: Tensor, level: Tensor, part: Tensor) -> Tensor:
    """Weights of cells in runs: gap over span, which have one sign; where they have not, the weight is 0."""
    weight = (_gap(x, h) / (level * p - h)).clamp_min_(0.0).nan_to_num_(0.0, 0.0)
    return weight.mul_(part).clamp_max_(1.0)


def _gap(marginal: Tensor, highest: Tensor) -> Tensor:
    return torch.nn.functional.hardshrink(marginal - highest, _NOISE)


def pair_runs(plan: ClippedRatio) -> Pools:
    """Match the gap of runs that are pushed up with that of later runs, first to first, by quantiles.

    Every prefix has at least as much to push up as down, so the k-th unit up always lies before the k-th unit down.
    """
    gap = _gap(plan.marginal, plan.highest)
    up, down = gap.clamp_min(0.0).cumsum(-1), (-gap).clamp_min(0.0).cumsum(-1)
    starts, edges = _runs(gap, up, down)
    edges = torch.cat([edges, torch.minimum(up[:, -1:], down[:, -1:])], -1).sort(-1).values
    edges = edges.clamp_max(torch.minimum(up[:, -1:], down[:, -1:]))
    size, middle = edges.diff(dim=-1), (edges[:, 1:] + edges[:, :-1]) / 2
    upper, up_total = _run_of(up, starts, middle)
    lower, down_total = _run_of(down, starts, middle)
    used = (size > _NOISE) & (upper[..., 1] < lower[..., 0])
    share = torch.stack([size / up_total.clamp_min(1e-300), size / down_total.clamp_min(1e-300)], -1)
    level = plan.ratio.gather(-1, upper[..., 1])
    return Pools(upper, lower, torch.where(used[..., None], share.clamp_max(1.0), 0.0), level, plan)


def _runs(gap: Tensor, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """First group of each run ``(r, k)`` (padded with n) and the running total that ends there ``(r, k)``."""
    n = gap.shape[-1]
    # Twice the place of the last entry that is not zero, plus one where it is positive; zero before the first.
    place = torch.arange(2, 2 * n + 2, 2, dtype=torch.int32, device=gap.device)
    last = ((gap != 0).int() * place + (gap > 0).int()).cummax(-1).values
    before = torch.nn.functional.pad(last[:, :-1], (1, 0))
    turned = (last != before) & ((before == 0) | ((last ^ before) & 1).bool())
    row, column = turned.nonzero(as_tuple=True)
    counts = turned.sum(-1)
    width = int(counts.max())
    slot = torch.arange(row.numel(), device=row.device) - (counts.cumsum(0) - counts)[row]
    starts = torch.full((gap.shape[0], width), n, device=gap.device).index_put((row, slot), column)
    total = torch.where(gap[row, column] > 0, down[row, column], up[row, column])
    return starts, gap.new_full((gap.shape[0], width), torch.inf).index_put((row, slot), total)


def _run_of(total: Tensor, starts: Tensor, middle: Tensor) -> tuple[Tensor, Tensor]:
    """First and last group ``(r, k, 2)`` of the runs that hold given quantiles, and the runs' gaps ``(r, k)``."""
    n = total.shape[-1]
    at = torch.searchsorted(total, middle, right=True).clamp_max(n - 1)
    which = torch.searchsorted(starts, at, right=True)
    starts = torch.nn.functional.pad(starts, (0, 1), value=n)
    first = starts.gather(-1, (which - 1).clamp_min(0))
    last = (starts.gather(-1, which.clamp_max(starts.shape[-1] - 1)) - 1).clamp(0, n - 1)
    first = first.clamp_max(n - 1)
    before = torch.nn.functional.pad(total, (1, 0)).gather(-1, first)
    return torch.stack([first, last], -1), total.gather(-1, last) - before
