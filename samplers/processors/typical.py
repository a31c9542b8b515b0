"""Locally typical sampling."""

import sys

import numpy as np
import torch
from torch import Tensor

from ._checks import check_unit_interval
from .base import Truncation

_LOW, _HIGH = (0, 1) if sys.byteorder == "little" else (1, 0)
_TIE_TOLERANCE = 2 * torch.finfo(torch.float32).eps


def atypicality(scores: Tensor) -> Tensor:
    """Distance ``(..., v)`` in nats between each token's surprisal and the entropy of its law."""
    log_probs = scores.log_softmax(dim=-1)
    negative_entropy = log_probs.exp().mul_(log_probs).nansum(dim=-1, keepdim=True)
    return log_probs.sub_(negative_entropy).abs_()


def typical_by_sort(scores: Tensor, mass: float, min_tokens_to_keep: int) -> Tensor:
    """Mask ``(R, v)`` of the typical set by a sort that carries indices: the definition, ties included."""
    distance, index = torch.sort(atypicality(scores), dim=-1)
    cumulative = scores.gather(-1, index).softmax(dim=-1).cumsum(dim=-1)
    last = (cumulative < mass).sum(dim=-1, keepdim=True).clamp_(max=scores.shape[-1] - 1)
    removed = distance > distance.gather(-1, last)
    removed[:, :min_tokens_to_keep] = False
    return ~removed.scatter(-1, index, removed)


def sort_together(distance: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort both float32 ``(R, v)`` by non-negative ``distance``: one sort of 64-bit keys, distance high, score low."""
    keys = np.empty((*distance.shape, 2), dtype=np.int32)
    keys[..., _HIGH] = distance.view(np.int32)
    keys[..., _LOW] = scores.view(np.int32)
    keys.view(np.int64).sort(axis=-2)
    values = keys.view(np.float32)
    return values[..., _HIGH], np.ascontiguousarray(values[..., _LOW])


def last_needed(cumulative: np.ndarray, mass: float) -> tuple[int, bool]:
    """Index of the entry of an ascending row ``(v,)`` that reaches ``mass``, and whether rounding could move it."""
    last = min(int(cumulative.searchsorted(cumulative.dtype.type(mass))), cumulative.size - 1)
    gaps = (abs(cumulative.item(i) - mass) for i in (last, max(last - 1, 0)))
    return last, min(gaps) <= _TIE_TOLERANCE


def typical_by_keys(scores: Tensor, mass: float, min_tokens_to_keep: int) -> tuple[Tensor, list[int]]:
    """Mask ``(R, v)`` of the typical set by a sort of values, and the rows that ties leave open.

    Tokens at exactly the same distance may be in another order than in ``typical_by_sort``. That moves the cumulative
    sums by their rounding at most, so a row is open only if the mass is that close to a sum, or if
    ``min_tokens_to_keep`` cuts through a tie.
    """
    distance, values = atypicality(scores).numpy(), scores.numpy()
    ordered, ordered_scores = sort_together(distance, values)
    cumulative = torch.from_numpy(ordered_scores).softmax(dim=-1).cumsum_(dim=-1).numpy()
    floor = min(min_tokens_to_keep, scores.shape[-1]) - 1
    kept, is_open = np.empty(distance.shape, dtype=bool), []
    for row in range(len(kept)):
        last, is_close = last_needed(cumulative[row], mass)
        is_cut = last < floor and ordered.item(row, floor) == ordered.item(row, min(floor + 1, distance.shape[-1] - 1))
        if is_close or is_cut:
            is_open.append(row)
        np.less_equal(distance[row], ordered.item(row, max(last, floor)), out=kept[row])
    return torch.from_numpy(kept), is_open


class Typical(Truncation):
    r"""Keep the tokens whose surprisal is closest to the entropy, up to ``mass``.

    Locally typical sampling (Meister et al. 2023, arXiv 2202.00666). Tokens are taken in ascending order of
    :math:`|-\log q(y) - H(q)|` until their mass reaches ``mass``; ties with the last are kept. The kept set is that of
    transformers' ``TypicalLogitsWarper`` bit for bit.

    Args:
        mass: Mass to keep, in ``(0, 1)``.
        min_tokens_to_keep: Keep at least so many.

    Example:
        >>> import torch
        >>> Typical(0.3).process(torch.tensor([0.1, 0.2, 0.3, 0.4]).log()).exp()
        tensor([0.0000, 0.0000, 0.3000, 0.0000])
    """

    def __init__(self, mass: float, min_tokens_to_keep: int = 1) -> None:
        super().__init__(min_tokens_to_keep)
        self.mass = check_unit_interval("mass", mass, is_open=True)

    def kept(self, scores: Tensor) -> Tensor:
        """Return the locally typical set."""
        rows = scores.reshape(-1, scores.shape[-1])
        if rows.device.type != "cpu" or rows.dtype != torch.float32:
            return typical_by_sort(rows, self.mass, self.min_tokens_to_keep).reshape(scores.shape)
        kept, is_open = typical_by_keys(rows, self.mass, self.min_tokens_to_keep)
        if is_open:
            kept[is_open] = typical_by_sort(rows[is_open], self.mass, self.min_tokens_to_keep)
        return kept.reshape(scores.shape)
