"""Locally typical sampling."""

import sys

import numpy as np
import torch
from torch import Tensor

from ._checks import check_unit_interval
from .base import Truncation, keep_at_least, keep_only

_TIE_TOLERANCE = 3 * torch.finfo(torch.float32).eps
"""Ties taken in another order moved the normalizer of a softmax by up to 4 units of 2^-24 (800 rows, ``v`` to 128k)."""


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


def sort_together(distance: Tensor, scores: Tensor) -> np.ndarray:
    """Sort both float32 ``(R, v)`` by non-negative ``distance``: one sort of 64-bit keys, distance high, score low."""
    pair = (scores, distance) if sys.byteorder == "little" else (distance, scores)
    keys = torch.complex(*pair).numpy().view(np.int64)
    keys.sort(axis=-1)
    return keys


def last_needed(cumulative: np.ndarray, mass: float) -> tuple[int, bool]:
    """Index of the entry of an ascending row ``(v,)`` that reaches ``mass``, and whether rounding could move it."""
    last = min(int(cumulative.searchsorted(cumulative.dtype.type(mass))), cumulative.size - 1)
    gaps = (abs(cumulative.item(i) - mass) for i in (last, max(last - 1, 0)))
    return last, min(gaps) <= _TIE_TOLERANCE


def typical_by_keys(scores: Tensor, mass: float, min_tokens_to_keep: int) -> tuple[Tensor, list[int]]:
    """Smallest and largest score kept ``(R, 2)`` by a sort of values, and the rows that ties leave open.

    The distance first falls and then rises with the score, so what is within a distance lies between two scores. Tokens
    at exactly the same distance may be in another order than in ``typical_by_sort``. That moves the normalizer of the
    softmax by a few roundings, and all sums with it, so a row is open if the mass is that close to a sum, or if
    ``min_tokens_to_keep`` cuts through a tie. (Sums without any sort are no help: other orders move the normalizer by
    up to 2e-5, more than the tokens of a flat distribution weigh.)
    """
    keys = sort_together(atypicality(scores), scores)
    ordered = keys.astype(np.int32).view(np.float32)  # the low halves
    cumulative = torch.from_numpy(ordered).softmax(dim=-1).cumsum_(dim=-1).numpy()
    floor = min(min_tokens_to_keep, scores.shape[-1]) - 1
    ends, is_open = [], []
    for row in range(len(keys)):
        last, is_close = last_needed(cumulative[row], mass)
        size = int(keys[row].searchsorted(((keys.item(row, max(last, floor)) >> 32) + 1) << 32))  # ties included
        if is_close or (last < floor and size > floor + 1):
            is_open.append(row)
        ends.append((ordered[row, :size].min(), ordered[row, :size].max()))
    return torch.from_numpy(np.array(ends, dtype=np.float32).reshape(-1, 2)), is_open


def keep_between(scores: Tensor, ends: Tensor) -> Tensor:
    """``scores (R, v)`` between two values ``(R, 2)``, ends included, else ``-inf``; few may lie above, on a CPU."""
    out = keep_at_least(scores, ends[:, :1])
    for row, place, highest in zip(scores.numpy(), out.numpy(), ends[:, 1].numpy(), strict=True):
        place[np.flatnonzero(row > highest)] = -np.inf
    return out


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
        >>> Typical(0.25).process(torch.tensor([0.1, 0.2, 0.3, 0.4]).log()).exp()
        tensor([0.0000, 0.0000, 0.3000, 0.0000])
    """

    def __init__(self, mass: float, min_tokens_to_keep: int = 1) -> None:
        super().__init__(min_tokens_to_keep)
        self.mass = check_unit_interval("mass", mass, is_open=True)

    def kept(self, scores: Tensor) -> Tensor:
        """Return the locally typical set."""
        rows = scores.reshape(-1, scores.shape[-1])
        return typical_by_sort(rows, self.mass, self.min_tokens_to_keep).reshape(scores.shape)

    def transform(self, scores: Tensor) -> Tensor:
        """Set the scores outside the typical set to ``-inf``; on a CPU without a mask where no ties matter."""
        rows = scores.reshape(-1, scores.shape[-1])
        if scores.requires_grad or rows.device.type != "cpu" or rows.dtype != torch.float32:
            return super().transform(scores)
        ends, is_open = typical_by_keys(rows, self.mass, self.min_tokens_to_keep)
        out = keep_between(rows, ends)
        if is_open:
            tied = rows[is_open]
            out[is_open] = keep_only(tied, typical_by_sort(tied, self.mass, self.min_tokens_to_keep))
        return out.reshape(scores.shape)
