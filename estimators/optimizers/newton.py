"""A damped Newton ascent with exact Hessians, batched, that stops at maxima and says how near it is to one."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .function import Evaluation, SmoothFunction, choose, choose_evaluation
from .linalg import damped_cholesky, diagonal_size

__all__ = ["Ascent", "newton_ascent", "predicted_gain"]

_FIRST_DAMPING = 1e-3
_LEAST_DAMPING = 1e-9  # below it the step is a pure Newton step
_GREATEST_DAMPING = 1e12
_ESCAPE_LENGTHS = (1.0, -1.0, 0.3, -0.3, 0.1, -0.1, 0.03, -0.03, 0.01, -0.01)
_NEGATIVE_CURVATURE = 1e-7


class Ascent(NamedTuple):
    """Where the ascent ended.

    ``value (r, s)`` is the log-likelihood at ``theta (r, s, P)``; ``predicted_gain (r, s)`` what one more Newton step
    would add to it; ``converged (r, s)`` whether that is below the tolerance with no ascent direction left.
    """

    theta: Tensor
    value: Tensor
    predicted_gain: Tensor
    converged: Tensor
    num_iterations: int
    evaluation: Evaluation


class _Model(NamedTuple):
    """A damped quadratic model: the step, what it promises, and the damping it took."""

    step: Tensor
    gain: Tensor
    damping: Tensor


def newton_ascent(
    objective: SmoothFunction,
    theta: Tensor,
    *,
    max_iter: int = 200,
    tol: float = 1e-9,
    callback: Callable[[Tensor], None] | None = None,
) -> Ascent:
    """Maximize the log-likelihood from ``theta (r, s, P)``, each of the batch on its own damping.

    A step solves ``(-H + damping * |diag H|) step = g`` on the parameters that are not held at a lower bound; the
    damping rises until the matrix is positive definite and the step gains what it promised. Where the gradient vanishes
    and the Hessian, scaled by its own diagonal, still has a positive eigenvalue (a saddle), the ascent leaves along
    that eigenvector; of several, along the one that promises most.

    A start at which the value or a derivative is no finite number is dropped: it stays where it is, its value is -inf.

    Args:
        objective: what to maximize.
        theta: starts.
        max_iter: most evaluations of the Hessian.
        tol: largest predicted gain in log-likelihood at a converged point.
        callback: called with the values ``(r, s)`` after each iteration.

    Source: Marquardt (1963), J. SIAM 11, 431-441, for damping by the diagonal; the ratio of actual to promised gain
    steers it as in Nocedal and Wright (2006), Numerical Optimization, algorithm 4.1; More and Sorensen (1979),
    Mathematical Programming 16, 1-20, for directions of negative curvature.
    """
    run = _Run(objective, objective.project(theta), tol)
    if not theta.shape[-1]:
        gain = torch.zeros_like(run.current.value)
        return Ascent(run.theta, run.current.value, gain, ~run.finished, 0, run.current)
    iteration = 0
    while iteration < max_iter and not bool(run.finished.all()):
        run.step()
        iteration += 1
        if callback is not None:
            callback(run.current.value)
    certificate = _certificate(objective, run.theta, run.current)
    maximum = (certificate.gain < tol) & (certificate.damping == 0) | _is_flat_maximum(
        objective, run.theta, run.current, tol
    )
    maximum = maximum & torch.isfinite(run.current.value)
    return Ascent(run.theta, run.current.value, certificate.gain, maximum, iteration, run.current)


class _Run:
    """The state of a batch of ascents; those that are finished are left out of the work.

    ``objective`` is that of the data sets ``sets (q,)``, of which few have finished, ``whole`` that of all.
    """

    def __init__(self, objective: SmoothFunction, theta: Tensor, tol: float) -> None:
        self.whole, self.theta, self.tol = objective, theta, tol
        self.objective, self.sets = objective, torch.arange(len(theta), device=theta.device)
        first = objective.evaluate(theta)
        self.finished = ~_is_usable(first)
        self.current = _without(first, self.finished)
        self.damping = torch.full_like(self.current.value, _FIRST_DAMPING)
        self.escaped = self.finished.clone()

    def step(self) -> None:
        """One Hessian evaluation of every start that has not finished (and of some that have, to fill the batch)."""
        active = self._active()
        at = Evaluation(*(part[active] for part in self.current))
        theta, damping, finished = self.theta[active], self.damping[active], self.finished[active]
        model = _solve(self.objective, theta, at, damping)
        candidate = self.objective.project(theta + torch.where(finished.unsqueeze(-1), 0.0, model.step))
        trial = self.objective.evaluate(candidate)
        ratio = _ratio(trial.value - at.value, model.gain, at.value)
        ratio = torch.where(_is_usable(trial), ratio, torch.full_like(ratio, -1.0))
        accepted = (ratio > 1e-4) & ~finished
        theta, at = choose(accepted, candidate, theta), choose_evaluation(accepted, trial, at)
        damping = _next_damping(model.damping, ratio, finished)
        near = _is_near(self.objective, theta, at, self.tol)
        finished = finished | near | (damping > _GREATEST_DAMPING)
        # Likelihoods of mixtures are symmetric under permutations of the experts, so starts with equal experts are
        # drawn to saddles, where the gradient vanishes too. Each start that stops is asked once whether it is at one.
        first_time = finished & ~self.escaped[active]
        if bool(first_time.any()):
            theta, at, left = _escape(self.objective, theta, at, first_time, self.tol)
            finished = finished & ~left
            damping = torch.where(left, torch.full_like(damping, _FIRST_DAMPING), damping)
        self._store(active, theta, at, damping, finished)

    def _active(self) -> tuple[Tensor, Tensor]:
        """Index of data sets and starts ``(q, a)``: those not finished, as many of each data set as the most of any."""
        unfinished = (~self.finished).sum(1)
        sets = unfinished.nonzero().squeeze(-1)
        if 2 * len(sets) <= len(self.sets):
            part = self.whole.on_sets(sets)
            if part is not None:
                self.objective, self.sets = part, sets
        starts = self.finished[self.sets].to(torch.int8).argsort(dim=1, stable=True)[:, : int(unfinished.max())]
        return self.sets.unsqueeze(1), starts

    def _store(
        self, active: tuple[Tensor, Tensor], theta: Tensor, at: Evaluation, damping: Tensor, finished: Tensor
    ) -> None:
        self.theta[active] = theta
        for whole, part in zip(self.current, at, strict=True):
            whole[active] = part
        self.damping[active] = damping
        self.finished[active] = finished
        self.escaped[active] = finished


def _is_usable(at: Evaluation) -> Tensor:
    """Where value and derivatives are numbers, ``(r, s)``; a sum finds the infinities and NaNs of all entries."""
    return torch.isfinite(at.value) & torch.isfinite(at.gradient.sum(-1)) & torch.isfinite(at.hessian.sum((-1, -2)))


def _without(at: Evaluation, dropped: Tensor) -> Evaluation:
    """The evaluation with ``dropped (r, s)`` starts at minus infinity, where nothing can be climbed."""
    if not bool(dropped.any()):
        return at
    lowest = Evaluation(
        torch.full_like(at.value, -torch.inf), torch.zeros_like(at.gradient), torch.zeros_like(at.hessian)
    )
    return choose_evaluation(dropped, lowest, at)


def _held(objective: SmoothFunction, theta: Tensor, gradient: Tensor) -> Tensor:
    """Parameters at their lower bound that the gradient pushes further down."""
    return (theta <= objective.lower) & (gradient < 0)


def _free_system(objective: SmoothFunction, theta: Tensor, at: Evaluation) -> tuple[Tensor, Tensor]:
    """Gradient and negated Hessian with held parameters cut out (gradient 0, unit row)."""
    held = _held(objective, theta, at.gradient)
    gradient = torch.where(held, 0.0, at.gradient)
    cut = held.unsqueeze(-1) | held.unsqueeze(-2)
    return gradient, torch.where(cut, torch.diag_embed(held.to(gradient.dtype)), -at.hessian)


def _solve(objective: SmoothFunction, theta: Tensor, at: Evaluation, damping: Tensor) -> _Model:
    gradient, matrix = _free_system(objective, theta, at)
    pure = torch.where(damping < _LEAST_DAMPING, torch.zeros_like(damping), damping)
    factor, used = damped_cholesky(matrix, pure)
    step = torch.cholesky_solve(gradient.unsqueeze(-1), factor).squeeze(-1)
    curvature = (step.unsqueeze(-2) @ matrix @ step.unsqueeze(-1)).squeeze(-1).squeeze(-1)
    return _Model(step, (gradient * step).sum(-1) - 0.5 * curvature, used)


def _certificate(objective: SmoothFunction, theta: Tensor, at: Evaluation) -> _Model:
    """The undamped model: what a Newton step from here would gain."""
    return _solve(objective, theta, at, torch.zeros_like(at.value))


def _is_near(objective: SmoothFunction, theta: Tensor, at: Evaluation, tol: float) -> Tensor:
    """Whether the undamped step promises less than ``tol``.

    With the Hessian scaled to a unit diagonal, the gain is at least the squared gradient over a few times P: a cheap
    look that spares most points the Cholesky factors, which take many attempts where the Hessian is indefinite.
    """
    gradient, matrix = _free_system(objective, theta, at)
    size = matrix.diagonal(dim1=-2, dim2=-1).abs()
    size = torch.maximum(size, 1e-10 * size.amax(-1, keepdim=True)).clamp(min=torch.finfo(theta.dtype).tiny)
    near = (gradient.square() / size).sum(-1) < 100.0 * theta.shape[-1] * tol
    return near & (_certificate(objective, theta, at).gain < tol) if bool(near.any()) else near


def predicted_gain(objective: SmoothFunction, theta: Tensor, at: Evaluation) -> Tensor:
    """What one more (damped, where it must be) Newton step from ``theta (r, s, P)`` would add, ``(r, s)``."""
    return _certificate(objective, theta, at).gain


def _ratio(actual: Tensor, promised: Tensor, value: Tensor) -> Tensor:
    """Actual over promised gain; gains lost in rounding count as kept."""
    rounding = 1e-13 * value.abs().clamp(min=1.0)
    kept = (actual.abs() <= rounding) & (promised.abs() <= rounding)
    ratio = torch.where(promised > 0, actual / promised, torch.full_like(actual, -1.0))
    ratio = torch.where(torch.isfinite(actual), ratio, torch.full_like(actual, -1.0))
    return torch.where(kept, torch.ones_like(ratio), ratio)


def _next_damping(damping: Tensor, ratio: Tensor, finished: Tensor) -> Tensor:
    """Less where the quadratic model kept three quarters of its promise, more where less than one quarter.

    Down by 10 and up by 5, so that a damping that swings between two values finds one between them. Below the least
    damping a step is Newton's own: near a maximum convergence is quadratic, and the certificate exact.
    """
    lowered = torch.where(ratio > 0.75, damping * 0.1, damping)
    raised = torch.where(ratio < 0.25, damping.clamp(min=_LEAST_DAMPING) * 5.0, lowered)
    rejected = torch.where(ratio <= 1e-4, damping.clamp(min=1e-4) * 10.0, raised)
    return torch.where(finished, damping, rejected)


class _Spectrum(NamedTuple):
    """Eigenpairs of the negated Hessian with unit diagonal.

    Attributes:
        values: eigenvalues ``(r, s, P)``, which do not depend on the units of the parameters.
        directions: eigenvectors ``(r, s, P, P)`` in the parameters themselves, one a column.
        slopes: derivatives of the log-likelihood along them, ``(r, s, P)``.
        reach: how far along each one parameter has moved by one, ``(r, s, P)``. Objectives take parameters in natural
            units (of standardized data), so that nothing farther away is of interest.
    """

    values: Tensor
    directions: Tensor
    slopes: Tensor
    reach: Tensor

    @classmethod
    def of(cls, objective: SmoothFunction, theta: Tensor, at: Evaluation) -> "_Spectrum":
        gradient, matrix = _free_system(objective, theta, at)
        scale = diagonal_size(matrix).sqrt()
        values, vectors = torch.linalg.eigh(matrix / scale.unsqueeze(-1) / scale.unsqueeze(-2))
        directions = vectors / scale.unsqueeze(-1)
        slopes = (gradient.unsqueeze(-2) @ directions).squeeze(-2)
        return cls(values, directions, slopes, 1.0 / directions.abs().amax(-2))

    def escapes(self) -> Tensor:
        """What a move by the reach promises along each direction of positive curvature, ``(r, s, P)``; 0 elsewhere."""
        promised = -0.5 * self.values * self.reach.square()
        return torch.where(self.values < -_NEGATIVE_CURVATURE, promised, 0.0)

    def gain(self) -> Tensor:
        """The most that moves within the reach along all directions promise together, ``(r, s)``."""
        curvature, slope = self.values.abs().clamp(min=_NEGATIVE_CURVATURE), self.slopes.abs()
        length = torch.minimum(slope / curvature, self.reach)
        return (slope * length - 0.5 * curvature * length.square()).sum(-1)


def _escape(
    objective: SmoothFunction, theta: Tensor, at: Evaluation, where: Tensor, tol: float
) -> tuple[Tensor, Evaluation, Tensor]:
    """Leave saddles along the positive curvature that promises most; the new state and which of ``where`` left."""
    spectrum = _Spectrum.of(objective, theta, at)
    promised, index = spectrum.escapes().max(-1)
    saddle = where & (promised > tol)
    if not bool(saddle.any()):
        return theta, at, torch.zeros_like(where)
    place = index[..., None, None].expand(*theta.shape, 1)
    direction = spectrum.directions.gather(-1, place).squeeze(-1) * spectrum.reach.gather(-1, index.unsqueeze(-1))
    best, best_value = theta, at.value
    # The likelihood rises on both sides of a saddle, and not by the same: both are tried, at several lengths, since
    # the quadratic term promises a rise near the saddle alone.
    for length in _ESCAPE_LENGTHS:
        trial = objective.project(theta + length * direction)
        value = objective.value(trial)
        better = saddle & (value > best_value + 1e-9 * at.value.abs().clamp(min=1.0) * 1e-3)
        best, best_value = choose(better, trial, best), torch.where(better, value, best_value)
    left = saddle & (best_value > at.value)
    if not bool(left.any()):
        return theta, at, left
    there = objective.evaluate(best)
    left = left & _is_usable(there)
    return choose(left, best, theta), choose_evaluation(left, there, at), left


def _is_flat_maximum(objective: SmoothFunction, theta: Tensor, at: Evaluation, tol: float) -> Tensor:
    """Whether a singular Hessian leaves no ascent: no saddle, and negligible gain along every direction."""
    spectrum = _Spectrum.of(objective, theta, at)
    return (spectrum.escapes().amax(-1) <= tol) & (spectrum.gain() < tol)
