"""The optimal distribution of the selected token for identical drafts: a likelihood ratio, clipped on both sides."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .sorting import sort_with_order


@dataclass(frozen=True)
class ClippedRatio:
    r"""The optimum over groups of tokens, sorted by :math:`q/p` ascending.

    Attributes:
        order: Groups in sorted order ``(r, n)``.
        draft: Draft probabilities :math:`p`, sorted ``(r, n)``.
        ratio: :math:`x/p`, ascending ``(r, n)``.
        marginal: Distribution :math:`x` of the selected group, sorted ``(r, n)``.
        highest: Distribution of the highest group among :math:`m` draws, :math:`F_y - F_{y-1}` with :math:`F = P^m`,
            sorted ``(r, n)``.
        acceptance: The optimal acceptance :math:`\alpha^*` ``(r,)``.
        high: The upper clip ``(r,)``: :math:`\min(x, q) = \min(q, hi \, p)`.
    """

    order: Tensor
    draft: Tensor
    ratio: Tensor
    marginal: Tensor
    highest: Tensor
    acceptance: Tensor
    high: Tensor

    def take(self, rows: Tensor) -> "ClippedRatio":
        """Return the rows ``(s,)`` alone, in ascending order."""
        if rows.numel() == self.order.shape[0]:
            return self
        return ClippedRatio(*(getattr(self, part.name)[rows] for part in fields(self)))


def power(base: Tensor, count: Tensor) -> Tensor:
    """Return ``base (r, n)`` to the integer powers ``count (r,)``, at least 1, by squaring."""
    result, square = None, base
    bits = int(count.max()).bit_length() if count.numel() else 0
    for bit in range(bits):
        odd = ((count >> bit) & 1).bool()
        if odd.all():
            result = square if result is None else result * square
        elif odd.any():
            result = torch.ones_like(base) if result is None else result
            result = torch.where(odd[:, None], result * square, result)
        if bit + 1 < bits:
            square = square * square
    return torch.ones_like(base) if result is None else result


def sort_by_ratio(target: Tensor, draft: Tensor) -> tuple[Tensor, Tensor]:
    """Sort by ``target / draft`` ascending; entries the draft never holds come last. Returns ratios and order."""
    ratio = target / draft
    if not (draft > 0).all():
        ratio = torch.where(draft > 0, ratio, torch.inf)
    ordered, order = sort_with_order(ratio.reshape(-1, ratio.shape[-1]))
    return ordered.reshape(ratio.shape), order.reshape(ratio.shape)


def best_prefix(target_sum: Tensor, ceiling: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the minimum of :math:`q(S) + 1 - p(S)^m` over prefixes S, the empty one too, and the size of S, both
    ``(r,)``.

    Args:
        target_sum: :math:`q(S)` of the prefixes ``(r, n)``.
        ceiling: :math:`p(S)^m` ``(r, n)``.
    """
    slack, last = (target_sum - ceiling).min(-1)
    return 1 + slack.clamp_max(0.0), torch.where(slack < 0, last + 1, 0)


def clipped_ratio(target: Tensor, draft: Tensor, count: Tensor) -> ClippedRatio:
    r"""Solve :math:`\max_x \sum \min(x, q)` over the distributions :math:`x` that a selection among :math:`m` draws
    from :math:`p` can have.

    Let :math:`S` be the prefix that minimizes :math:`q(S) + 1 - p(S)^m`: the minimum is :math:`\alpha^*`. On S,
    :math:`x = \max(q, lo \, p)` with :math:`x(S) = p(S)^m`; off S, :math:`x = \min(q, hi \, p)` with
    :math:`x = 1 - p(S)^m` there. As :math:`lo \le 1 \le hi`, in all :math:`x = p \, \mathrm{clip}(q/p, lo, hi)`.

    Args:
        target: Target probabilities of groups ``(r, n)``.
        draft: Draft probabilities of groups ``(r, n)``.
        count: Number of drafts ``(r,)``, at least 1.
    """
    return clip_sorted(sort_groups(target, draft), count)


@dataclass(frozen=True)
class SortedGroups:
    """Groups sorted by :math:`q/p` ascending, whatever the number of drafts.

    Attributes:
        order: Groups in sorted order ``(r, n)``.
        ratio: :math:`q/p`, ascending ``(r, n)``; infinite for groups that the draft never holds.
        draft: Draft probabilities, sorted ``(r, n)``.
        target_sum: Running sums of the target probabilities ``(r, n)``.
        draft_sum: Running sums of the draft probabilities ``(r, n)``.
    """

    order: Tensor
    ratio: Tensor
    draft: Tensor
    target_sum: Tensor
    draft_sum: Tensor

    def ceiling(self, count: Tensor) -> Tensor:
        """Probability ``(r, n)`` that ``count (r,)`` draws all lie in a prefix."""
        return power((self.draft_sum / self.draft_sum[:, -1:]).clamp_max_(1.0), count)

    def take(self, rows: Tensor) -> "SortedGroups":
        """Return the rows ``(s,)`` alone, in ascending order."""
        if rows.numel() == self.order.shape[0]:
            return self
        return SortedGroups(*(getattr(self, part.name)[rows] for part in fields(self)))


def sort_groups(target: Tensor, draft: Tensor) -> SortedGroups:
    """Sort groups ``(r, n)`` by the ratio of target to draft."""
    ratio, order = sort_by_ratio(target, draft)
    p, q_sum = draft.gather(-1, order), target.gather(-1, order).cumsum(-1)
    return SortedGroups(order, ratio, p, q_sum, p.cumsum(-1))


def clip_sorted(groups: SortedGroups, count: Tensor, weight: Tensor | None = None) -> ClippedRatio:
    """`clipped_ratio` of sorted groups, for a target of total ``weight (r,)`` in (0, 1]; None stands for 1."""
    ratio, p, q_sum, p_sum = groups.ratio, groups.draft, groups.target_sum, groups.draft_sum
    if weight is not None:
        ratio, q_sum = ratio * weight[:, None], q_sum * weight[:, None]
    ceiling = groups.ceiling(count)
    acceptance, size = best_prefix(q_sum, ceiling)
    low, high = _clips(ratio, p_sum, q_sum, ceiling, size[:, None])
    clipped = ratio.clamp(low, high)
    marginal = p * clipped
    if not (p[:, -1] > 0).all():  # what the draft never holds is sorted last
        clipped = torch.where(p > 0, clipped, torch.inf)
        marginal = torch.where(p > 0, marginal, 0.0)
    highest = ceiling.clone()
    highest[:, 1:] -= ceiling[:, :-1]
    return ClippedRatio(groups.order, p, clipped, marginal, highest, acceptance.clamp(0.0, 1.0), high[:, 0])


def _clips(ratio: Tensor, p_sum: Tensor, q_sum: Tensor, ceiling: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """The two constants ``(r, 1)``, by binary search in monotone functions of the sorted prefixes; ``size (r, 1)``."""
    q_in, f_in, whole = _before(q_sum, size), _before(ceiling, size), p_sum[:, -1:]
    # If the clip were the ratio of token y, then all of S would have in sum rising(y) + q_in, and the tokens off S
    # falling(y) - q_in. Past the tokens that the draft holds, the ratio is infinite.
    rising = (ratio * p_sum).sub_(q_sum)
    falling = (ratio * (whole - p_sum)).add_(q_sum).nan_to_num_(torch.inf)
    raised = torch.minimum(torch.searchsorted(rising, f_in - q_in, right=True), size)
    kept = torch.maximum(torch.searchsorted(falling, 1 - f_in + q_in), size)
    below, above = _before(p_sum, raised), (whole - _before(p_sum, kept)).clamp_min(0.0)
    low = torch.where(below > 0, (f_in - q_in + _before(q_sum, raised)) / below, 0.0)
    high = torch.where(above > 0, (1 - f_in - _before(q_sum, kept) + q_in) / above, torch.inf)
    return low.clamp(0.0, 1.0), high.clamp_min(1.0)


def _before(total: Tensor, size: Tensor) -> Tensor:
    """Running total ``(r, 1)`` of the first ``size (r, 1)`` entries."""
    return torch.where(size > 0, total.gather(-1, (size - 1).clamp_min(0)), 0.0)
