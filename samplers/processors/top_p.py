"""Nucleus sampling (top-p)."""

import numpy as np
import torch
from torch import Tensor

from ._checks import check_unit_interval
from .base import Truncation
from .ordering import has_fast_sort, sort_values


def nucleus_by_sort(scores: Tensor, top_p: float, min_tokens_to_keep: int) -> Tensor:
    """Mask ``(R, v)`` of the nucleus by a full sort that carries indices: the definition, ties included."""
    ordered, index = torch.sort(scores, dim=-1)
    removed = ordered.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
    removed[:, -min_tokens_to_keep:] = False
    return ~removed.scatter(-1, index, removed)


def nucleus_by_values(scores: Tensor, top_p: float, min_tokens_to_keep: int) -> tuple[Tensor, list[int]]:
    """Mask ``(R, v)`` of the nucleus by a sort of the values alone, and the rows where ties leave it open.

    The sorted values, and so their softmax and its cumulative sums, are those of ``nucleus_by_sort`` bit for bit; the
    mask is a comparison with the smallest kept value, which is unique unless the largest removed value equals it.
    """
    ordered = sort_values(scores)
    cumulative = ordered.softmax(dim=-1).cumsum_(dim=-1).numpy()
    values, sorted_values = scores.numpy(), ordered.numpy()
    most, bound = max(scores.shape[-1] - min_tokens_to_keep, 0), cumulative.dtype.type(1 - top_p)
    kept, is_open = np.empty(values.shape, dtype=bool), []
    for row in range(len(values)):
        num_removed = min(int(cumulative[row].searchsorted(bound, side="right")), most)
        smallest_kept = sorted_values[row, num_removed]
        np.greater_equal(values[row], smallest_kept, out=kept[row])
        if num_removed > 0 and sorted_values[row, num_removed - 1] == smallest_kept:
            is_open.append(row)
    return torch.from_numpy(kept), is_open


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
        kept, is_open = nucleus_by_values(rows, self.top_p, self.min_tokens_to_keep)
        if is_open:
            kept[is_open] = nucleus_by_sort(rows[is_open], self.top_p, self.min_tokens_to_keep)
        return kept.reshape(scores.shape)
