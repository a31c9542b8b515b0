"""EM iterations that never lower the log-likelihood."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .em_steps import EMSteps

__all__ = ["EMRun", "em_iterations"]

_FRACTIONS = (0.5, 0.25, 0.0625, 0.015625, 0.001, 0.0)


class EMRun(NamedTuple):
    """Where EM stands: parameters ``(r, s, P)``, values there ``(r, s)``, the M-step proposed from there, and which
    starts gained less than the tolerance in the last iteration ``(r, s)``.
    """

    theta: Tensor
    value: Tensor
    candidate: Tensor
    stopped: Tensor
    num_iterations: int


def em_iterations(
    objective: EMSteps,
    theta: Tensor,
    max_iter: int,
    *,
    relative_tol: float = 0.0,
    callback: Callable[[Tensor], None] | None = None,
) -> EMRun:
    """Run EM from ``theta`` until no start gains more than ``relative_tol`` of its value, at most ``max_iter`` times.

    An iteration whose approximate M-step lowered the likelihood is shortened (``objective.damped_m_step``) until it
    does not.
    """
    value, candidate = objective.em_step(theta)
    done, stopped = 0, torch.zeros_like(value, dtype=torch.bool)
    for done in range(1, max_iter + 1):  # noqa: B007 (read after the loop)
        new_value, new_candidate = objective.em_step(candidate)
        worse = _is_worse(new_value, value)
        if bool(worse.any()):
            candidate, new_value, new_candidate = _shortened(objective, theta, value, candidate, worse)
        stopped = _is_done(new_value, value, relative_tol)
        theta, value, candidate = candidate, new_value, new_candidate
        if callback is not None:
            callback(value)
        if bool(stopped.all()):
            break
    return EMRun(theta, value, candidate, stopped, done)


def _is_worse(new: Tensor, old: Tensor) -> Tensor:
    """Where a step lost more than rounding; from where there is no likelihood nothing can be lost."""
    return ~(new >= old - 1e-12 * old.abs().clamp(min=1.0)) & torch.isfinite(old)


def _is_done(new: Tensor, old: Tensor, relative_tol: float) -> Tensor:
    """Where an iteration gained too little; a start without a likelihood goes on only if it has come to have one."""
    return torch.where(torch.isfinite(old), (new - old) <= relative_tol * old.abs(), ~torch.isfinite(new))


def _shortened(
    objective: EMSteps, theta: Tensor, value: Tensor, candidate: Tensor, worse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    full = candidate
    for fraction in _FRACTIONS:
        candidate = torch.where(worse.unsqueeze(-1), objective.damped_m_step(theta, full, fraction), candidate)
        new_value, new_candidate = objective.em_step(candidate)
        worse = _is_worse(new_value, value)
        if not bool(worse.any()):
            return candidate, new_value, new_candidate
    candidate = torch.where(worse.unsqueeze(-1), theta, candidate)
    return candidate, *objective.em_step(candidate)
