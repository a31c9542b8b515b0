"""The optimal law of the selected token for identical drafts: a likelihood ratio, clipped on both sides."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClippedRatio:
    r"""The optimum over groups of tokens, sorted by $q/p$ ascending.

    Attributes:
        order: Groups in sorted order ``(r, n)``.
        draft: Draft probabilities $p$, sorted ``(r, n)``.
        ratio: $x/p$, ascending ``(r, n)``.
        marginal: Law $x$ of the selected group, sorted ``(r, n)``.
        highest: Law of the highest group among $m$ draws, $F_y - F_{y-1}$ with $F = P^m$, sorted ``(r, n)``.
        acceptance: The optimal acceptance $\alpha^*$ ``(r,)``.
    """

    order: Tensor
    draft: Tensor
    ratio: Tensor
    marginal: Tensor
    highest: Tensor
    acceptance: Tensor


def power(base: Tensor, count: Tensor) -> Tensor:
    """Return ``base (r, n)`` to the integer powers ``count (r,)``, by squaring."""
    result, square = torch.ones_like(base), base
    for bit in range(int(count.max()).bit_length()):
        odd = ((count >> bit) & 1).bool()
        result = result * square if odd.all() else torch.where(odd[:, None], result * square, result)
        square = square * square
    return result


def sort_by_ratio(target: Tensor, draft: Tensor) -> tuple[Tensor, Tensor]:
    """Sort by ``target / draft`` ascending; entries the draft never holds come last. Returns ratios and order."""
    held = draft > 0
    return torch.where(held, target / torch.where(held, draft, 1.0), torch.inf).sort(-1)


def prefix_slack(target: Tensor, highest: Tensor) -> Tensor:
    r"""Return $q(S) + 1 - p(S)^m$ of every prefix S ``(r, n+1)``, from sorted $q$ and $p(S)^m$ ``(r, n)``."""
    return torch.nn.functional.pad(target.cumsum(-1) - highest, (1, 0)) + 1


def clipped_ratio(target: Tensor, draft: Tensor, count: Tensor) -> ClippedRatio:
    r"""Solve $\max_x \sum \min(x, q)$ over the laws $x$ that a selection among $m$ draws from $p$ can have.

    Let $S$ be the prefix that minimises $q(S) + 1 - p(S)^m$: the minimum is $\alpha^*$. On S, $x = \max(q, lo \, p)$
    with $x(S) = p(S)^m$; off S, $x = \min(q, hi \, p)$ with $x = 1 - p(S)^m$ there.

    Args:
        target: Target probabilities of groups ``(r, n)``.
        draft: Draft probabilities of groups ``(r, n)``.
        count: Number of drafts ``(r,)``, at least 1.
    """
    ratio, order = sort_by_ratio(target, draft)
    p, q = draft.gather(-1, order), target.gather(-1, order)
    below = (p.cumsum(-1) / p.sum(-1, keepdim=True)).clamp_max(1.0)
    ceiling = power(below, count)
    acceptance, size = prefix_slack(q, ceiling).min(-1)
    low, high = _clips(ratio, p, q, ceiling, size)
    inside = torch.arange(p.shape[-1], device=p.device) < size[:, None]
    clipped = torch.where(inside, torch.maximum(ratio, low[:, None]), torch.minimum(ratio, high[:, None]))
    clipped = torch.where(p > 0, clipped, torch.inf)
    marginal = torch.where(p > 0, p * torch.where(p > 0, clipped, 0.0), 0.0)
    highest = ceiling.diff(dim=-1, prepend=torch.zeros_like(ceiling[:, :1]))
    return ClippedRatio(order, p, clipped, marginal, highest, acceptance.clamp(0.0, 1.0))


def _clips(ratio: Tensor, p: Tensor, q: Tensor, ceiling: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """The two constants ``(r,)``, from monotone functions of the sorted prefixes."""
    pad = torch.nn.functional.pad
    p_sum, q_sum, f_sum = (pad(total, (1, 0)) for total in (p.cumsum(-1), q.cumsum(-1), ceiling))
    q_in, f_in = q_sum.gather(-1, size[:, None]), f_sum.gather(-1, size[:, None])
    steps = torch.arange(p.shape[-1], device=p.device)
    held = p > 0
    finite = torch.where(held, ratio, 0.0)
    # Lower: if the clip were the ratio of token y, the tokens up to y would have ratio * P_y in all.
    total = finite * p_sum[:, 1:] + q_in - q_sum[:, 1:]
    raised = ((total <= f_in) & (steps < size[:, None])).sum(-1, keepdim=True)
    mass = p_sum.gather(-1, raised)
    low = torch.where(mass > 0, (f_in - q_in + q_sum.gather(-1, raised)) / torch.where(mass > 0, mass, 1.0), 0.0)
    # Upper: if the clip were the ratio of token y, the tokens from y on would have ratio * (1 - P_(y-1)) in all.
    rest = (p_sum[:, -1:] - p_sum).clamp_min(0.0)
    total = q_sum[:, :-1] - q_in + finite * rest[:, :-1]
    kept = ((total < 1 - f_in) & held & (steps >= size[:, None])).sum(-1, keepdim=True) + size[:, None]
    mass = rest.gather(-1, kept)
    high = torch.where(
        mass > 0, (1 - f_in - q_sum.gather(-1, kept) + q_in) / torch.where(mass > 0, mass, 1.0), torch.inf
    )
    return low.clamp_min(0.0)[:, 0], high.clamp_min(0.0)[:, 0]
