"""Nucleus sampling (top-p)."""

import torch
from torch import Tensor

from ._checks import check_unit_interval
from .base import Truncation, keep_at_least, keep_only
from .ordering import at_least, has_fast_sort, sort_values


def nucleus_by_sort(scores: Tensor, top_p: float, min_tokens_to_keep: int) -> Tensor:
    """Mask ``(R, v)`` of the nucleus by a full sort that carries indices: the definition, ties included."""
    ordered, index = torch.sort(scores, dim=-1)
    removed = ordered.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
    removed[:, -min_tokens_to_keep:] = False
    return ~removed.scatter(-1, index, removed)


def nucleus_by_values(scores: Tensor, top_p: float, min_tokens_to_keep: int) -> tuple[Tensor, list[int]]:
    """Smallest score in the nucleus ``(R, 1)`` by a sort of the values alone, and the rows where ties leave it open.

    The sorted values, and so their softmax and its cumulative sums, are those of ``nucleus_by_sort`` bit for bit; the
    nucleus holds what is at least its smallest value, unless the largest removed value equals it.
    """
    ordered = sort_values(scores)
    cumulative = ordered.softmax(dim=-1).cumsum_(dim=-1).numpy()
    most, bound = max(scores.shape[-1] - min_tokens_to_keep, 0), cumulative.dtype.type(1 - top_p)
    removed = [min(int(row.searchsorted(bound, side="right")), most) for row in cumulative]
    where = torch.tensor(removed, dtype=torch.long)[:, None]
    smallest = ordered.gather(-1, where)
    is_tied = (ordered.gather(-1, (where - 1).clamp_min_(0)) == smallest) & (where > 0)
    return smallest, is_tied[:, 0].nonzero()[:, 0].tolist()


class TopP(Truncation):
    r"""Keep the smallest set of most probable tokens of mass at least ``top_p``: the nucleus.

    Holtzman et al. 2020, arXiv 1904.09751. In ascending order of probability, the tokens of cumulative mass at most
    ``1 - top_p`` are removed; the kept set is that of transformers' ``TopPLogitsWarper`` bit for bit, ties included.

    Args:
        top_p: Mass to keep, in ``[0, 1]``.
        min_tokens_to_keep: Keep at least so many.

    Example:
        >>> import torch
        >>> TopP(0.8).process(torch.tensor([0.1, 0.2, 0.3, 0.4]).log()).exp()
        tensor([0.0000, 0.2000, 0.3000, 0.4000])
    """

    def __init__(self, top_p: float, min_tokens_to_keep: int = 1) -> None:
        super().__init__(min_tokens_to_keep)
        self.top_p = check_unit_interval("top_p", top_p)

    def kept(self, scores: Tensor) -> Tensor:
        """Return the nucleus."""
        rows = scores.reshape(-1, scores.shape[-1])
        if not has_fast_sort(rows):
            return nucleus_by_sort(rows, self.top_p, self.min_tokens_to_keep).reshape(scores.shape)
        smallest, is_open = nucleus_by_values(rows, self.top_p, self.min_tokens_to_keep)
        kept = at_least(rows, smallest)
        if is_open:
            kept[is_open] = nucleus_by_sort(rows[is_open], self.top_p, self.min_tokens_to_keep)
        return kept.reshape(scores.shape)

    def transform(self, scores: Tensor) -> Tensor:
        """Set the scores outside the nucleus to ``-inf``; without a mask where no ties are cut."""
        rows = scores.reshape(-1, scores.shape[-1])
        if scores.requires_grad or not has_fast_sort(rows):
            return super().transform(scores)
        smallest, is_open = nucleus_by_values(rows, self.top_p, self.min_tokens_to_keep)
        out = keep_at_least(rows, smallest)
        for row in is_open:
            kept = nucleus_by_sort(rows[row, None], self.top_p, self.min_tokens_to_keep)
            out[row] = keep_only(rows[row, None], kept)[0]
        return out.reshape(scores.shape)
