"""Refits under a restriction from several starts, of which the best end counts."""

import torch
from torch import Tensor

from mixkit.parameters import Axis, ParameterRecord

from ..penalties.split import SelectedObjective
from .maximum import Maximum
from .restriction import Restricted, Restriction, climb_restricted

__all__ = ["best_refit", "is_of_gate", "with_scaled_gate"]

_MAX_ITER = 100
_RIVAL_ITER = 25  # where another start has led to a maximum
_TOL = 1e-9


def is_of_gate(maximum: Maximum, index: Tensor) -> Tensor:
    """Which parameters belong to a row of the gate, ``(m,)`` bool."""
    rows = _gate_rows(maximum)
    return torch.as_tensor([rows[i] is not None for i in index.tolist()], device=maximum.theta.device)


def with_scaled_gate(maximum: Maximum, theta: Tensor, index: Tensor, levels: Tensor) -> Tensor:
    """Vectors moved to new levels of a gate's coefficient by scaling its row, which leaves the borders in place.

    Args:
        maximum: gives users' parameters.
        theta: vectors ``(m, P)``.
        index: users' parameters to move, ``(m,)``.
        levels: their new values, ``(m,)``.

    Returns:
        ``(m, P)``; NaN for parameters that are none of a gate's, or zero.
    """
    to_user, rows = maximum.to_user, _gate_rows(maximum)
    users = to_user.linear(theta)
    ratio = levels / users.gather(1, index.unsqueeze(-1)).squeeze(-1)
    same = torch.as_tensor([[row == rows[i] for row in rows] for i in index.tolist()], device=theta.device)
    scaled = torch.where(same, users * ratio.unsqueeze(-1), users) - to_user.offset
    vectors = scaled if to_user.matrix is None else torch.linalg.solve(to_user.matrix, scaled.mT).mT
    usable = is_of_gate(maximum, index) & torch.isfinite(ratio)
    return torch.where(usable.unsqueeze(-1), vectors, torch.nan)


def best_refit(maximum: Maximum, rows: Tensor, levels: Tensor, starts: list[Tensor], enough: Tensor) -> Restricted:
    """Restricted maxima from the first start, and from the others where it does not do.

    Args:
        maximum: gives the log-likelihood.
        rows: coefficients of the restrictions, ``(m, P)``.
        levels: right-hand sides, ``(m,)``.
        starts: each ``(m, P)``; NaN, but in the first, where there is none.
        enough: log-likelihoods ``(m,)`` above which an end needs no rival.
    """
    best = _climb(maximum, rows, levels, starts[0], _MAX_ITER)
    for start in starts[1:]:
        again = (~(best.value > enough) & torch.isfinite(start).all(-1)).nonzero().squeeze(-1)
        if not len(again):
            continue
        max_iter = _RIVAL_ITER if bool(best.converged[again].all()) else _MAX_ITER
        found = _climb(maximum, rows[again], levels[again], start[again], max_iter)
        rival = best.value[again]
        gain = found.value - rival
        better = (gain > 1e-9 * (1.0 + rival.abs())) | (found.converged & ~best.converged[again] & (gain > -1e-6))
        better |= torch.isfinite(found.value) & ~torch.isfinite(rival)
        for whole, part in zip(best, found, strict=True):
            whole[again[better]] = part[better]
    return best


def _climb(maximum: Maximum, rows: Tensor, levels: Tensor, start: Tensor, max_iter: int) -> Restricted:
    found = climb_restricted(Restriction(maximum.objective, rows, levels), start, max_iter=max_iter, tol=_TOL)
    return _beyond_zero(maximum, rows, found)


def _beyond_zero(maximum: Maximum, rows: Tensor, found: Restricted) -> Restricted:
    """Penalties of coefficients that changed sign set right; no maximum where a free one did.

    The objective knows the lasso's penalty on the side of zero of the fit alone. A coefficient that is held has no
    slope, so its penalty can be exchanged afterwards.
    """
    objective, theta = maximum.objective, found.theta
    if not isinstance(objective, SelectedObjective):
        return found
    crossed = theta * maximum.theta < 0
    is_held = (rows != 0) & ((rows != 0).sum(-1, keepdim=True) == 1)
    free = _penalty(objective, torch.where(crossed & ~is_held, -theta, theta)) - _penalty(objective, theta)
    whole = _penalty(objective, torch.where(crossed, -theta, theta)) - _penalty(objective, theta)
    is_right = free.abs() <= 1e-9 * (1.0 + found.value.abs())
    return found._replace(value=found.value - whole, converged=found.converged & is_right)


def _penalty(objective: SelectedObjective, theta: Tensor) -> Tensor:
    """What the lasso takes off at ``theta (m, P)``, ``(m,)``."""
    folded = objective.fold(theta[None])
    return (objective.base.value(folded) - objective.value(folded))[0]


def _gate_rows(maximum: Maximum) -> list[str | None]:
    """For each of users' parameters the expert, or experts, whose gate's score it is in; None for others."""
    return [_row(record, index) if record.family is None else None for record, index in maximum.to_user.entries]


def _row(record: ParameterRecord, index: tuple[int, ...]) -> str | None:
    if record.pattern is not None:
        return record.pattern.who(index[-1])
    return str(index[0]) if record.axes[:1] == (Axis.EXPERT,) else None
