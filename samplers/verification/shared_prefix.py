"""Drafts that share a prefix share the distributions after it: the check, and who leads whom."""

import torch
from torch import Tensor

from .node import first_true

_NOISE = 1e-3


def check_shared_rows(name: str, rows: Tensor, sharing: Tensor, rule: str) -> None:
    r"""Refuse rows of logits that differ among drafts that share a prefix.

    Entries :math:`a` and :math:`b` agree if :math:`|a - b| \le 2 \epsilon \max(|a|, |b|, 1) + 10^{-3}`,
    :math:`\epsilon` of their dtype, as given or with the rows' maxima taken off: rounding, and the noise of a matrix
    product in float32, no more.

    Args:
        name: Name of the argument.
        rows: Logits ``(r, m, v)``; where one row is expanded over the drafts, nothing is compared.
        sharing: Drafts that share the prefix ``(r, m)``.
        rule: What the error says must hold, and what to do.
    """
    if rows.shape[1] == 1 or rows.stride(1) == 0 or not sharing.any():
        return
    own = torch.arange(rows.shape[1], device=rows.device).expand_as(sharing)
    check_led_rows(name, rows, torch.where(sharing, first_true(sharing)[:, None], own), rule)


def check_led_rows(name: str, rows: Tensor, leader: Tensor, rule: str) -> None:
    """`check_shared_rows` for several prefixes at once: each draft's row must be that of its leader ``(r, m)``."""
    if rows.shape[1] == 1 or rows.stride(1) == 0:
        return
    for i in range(1, rows.shape[1]):
        which = (leader[:, i] < i).nonzero()[:, 0]
        first = leader[which, i]
        one, other = _pair(rows, which, first, i)
        if torch.equal(one, other):
            continue
        apart, centered = _apart(one, other), _apart(_centered(one), _centered(other), one, other)
        bad = (apart & centered.any(-1, keepdim=True)).nonzero()
        if bad.numel():
            row, token = bad[0].tolist()
            raise ValueError(
                f"{name} must be {rule}, got {float(one[row, token]):.6g} and {float(other[row, token]):.6g} for token "
                f"{token} in drafts {int(first[row])} and {i}"
            )


def _pair(rows: Tensor, which: Tensor, first: Tensor, i: int) -> tuple[Tensor, Tensor]:
    """Rows ``(s, v)`` of the first draft and of draft ``i``: views where no row of the batch is left out."""
    if 0 < which.numel() == rows.shape[0] and bool((first == first[0]).all()):
        return rows[:, int(first[0])], rows[:, i]
    return rows[which, first], rows[which, i]


def _centered(rows: Tensor) -> Tensor:
    return rows.double() - rows.double().amax(-1, keepdim=True)


def _apart(one: Tensor, other: Tensor, *given: Tensor) -> Tensor:
    """Which entries ``(s, v)`` differ by more than the rounding of the ``given`` logits (themselves by default)."""
    a, b = given or (one, other)
    size = torch.maximum(a.abs(), b.abs()).double().nan_to_num_(posinf=1.0).clamp_min_(1.0)
    near = (one.double() - other.double()).abs() <= 2 * torch.finfo(a.dtype).eps * size + _NOISE
    return (one != other) & ~near


def leaders(tokens: Tensor, lengths: Tensor) -> Tensor:
    """First draft ``(R, m, t+1)`` that shares the prefix of each length with each draft.

    Args:
        tokens: Drafted tokens ``(R, m, t)``.
        lengths: Draft lengths ``(R, m)``; a draft leads no further than it goes.

    Example:
        >>> leaders(torch.tensor([[[5, 1], [4, 1], [5, 2]]]), torch.tensor([[2, 2, 2]]))
        tensor([[[0, 0, 0],
                 [0, 1, 1],
                 [0, 0, 2]]])
    """
    same = (tokens[:, :, None] == tokens[:, None]).long().cumprod(-1)
    same = torch.nn.functional.pad(same, (1, 0), value=1).bool()
    steps = torch.arange(same.shape[-1], device=tokens.device)
    return (same & (lengths[:, None, :, None] >= steps)).to(torch.uint8).argmax(2)
