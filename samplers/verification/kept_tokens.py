"""Truncated distributions: verify over the tokens that some row keeps, and leave out the others."""

from functools import reduce

import torch
from torch import Tensor

from .sources import is_long

_FEWEST = 1024  # a shorter row is read as fast whole
_LARGEST_SHARE = 0.25  # with more tokens kept, leaving out the others saves little over copying these


def kept_tokens(*logits: Tensor) -> Tensor | None:
    """Tokens ``(k,)`` that some row of the logits ``(..., v)`` keeps, ascending; None where leaving out is no gain.

    A token that no row of target and draft can hold is never drafted and never drawn, so it decides nothing. Some
    thousand tokens of one row are looked at first, so that rows that are not truncated cost next to nothing.

    Example:
        >>> logits = torch.full((2, 2048), -torch.inf)
        >>> logits[0, 7], logits[1, 2000] = 0.0, 0.0
        >>> kept_tokens(logits)
        tensor([   7, 2000])
    """
    v = logits[0].shape[-1]
    if v < _FEWEST or logits[0].numel() == 0:
        return None
    first = logits[0].reshape(-1, v)[0] if logits[0].is_contiguous() else logits[0][(0,) * (logits[0].ndim - 1)]
    some = first[:: v // _FEWEST]
    if int((some > -torch.inf).sum()) > _LARGEST_SHARE * some.numel():
        return None
    peaks = [_peaks(_distinct(part).flatten(0, -2)) for part in logits if part.numel()]
    # A NaN, which padding may hold, keeps its token.
    tokens = (reduce(torch.maximum, peaks) != -torch.inf).nonzero()[:, 0]
    return tokens if 0 < tokens.numel() <= _LARGEST_SHARE * v else None


def _peaks(rows: Tensor) -> Tensor:
    """Largest entry of each column ``(v,)`` of rows ``(r, v)``."""
    if not is_long(rows):
        return rows.amax(0)
    found = rows[0].clone()
    for row in rows[1:]:
        torch.maximum(found, row, out=found)
    return found


def restrict(logits: Tensor, kept: Tensor) -> Tensor:
    """The columns ``kept (k,)`` of logits ``(..., v)``; dimensions that were expanded stay so."""
    return _distinct(logits)[..., kept].expand(*logits.shape[:-1], -1)


def new_ids(tokens: Tensor, kept: Tensor) -> Tensor:
    """Places among the kept tokens; 0 for tokens that are not kept, which are padding."""
    place = torch.searchsorted(kept, tokens.contiguous()).clamp_max_(kept.numel() - 1)
    return torch.where(kept[place] == tokens, place, 0)


def old_ids(tokens: Tensor, kept: Tensor) -> Tensor:
    """The tokens at given places among the kept ones; -1 stays."""
    return torch.where(tokens >= 0, kept[tokens.clamp_min(0)], -1)


def _distinct(logits: Tensor) -> Tensor:
    """One of each row: dimensions that were expanded have length 1."""
    for dim in range(logits.ndim - 1):
        if logits.stride(dim) == 0 and logits.shape[dim] > 1:
            logits = logits.narrow(dim, 0, 1)
    return logits
