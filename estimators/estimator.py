"""What EM and MLE share: checked data, starts, the climb, the choice of the best end, the result."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from mixkit._validation import check_integer, check_positive
from mixkit.mixture import MixtureOfExperts

from .autograd import AutogradObjective
from .data import Data, as_data, dependent_columns
from .general.objective import SmoothGateObjective
from .initialization import Start, default_starts
from .linear.objective import LinearObjective
from .multilinear.objective import MultiLinearObjective
from .newton import Ascent, newton_ascent
from .objective import Evaluation, Objective
from .result import FitBatch, FitResult, build_batch, build_result

__all__ = ["Estimator", "make_objective", "ranking"]

_LARGEST_HESSIAN = 400  # parameters of a model without linear predictors; above it L-BFGS finishes instead of Newton
_LBFGS_ITERATIONS = 2000
_ROWS_PER_PARAMETER = 20
_SAME_VALUE = 1e-6  # two ends whose log-likelihoods differ relatively by less are one


class Climb(NamedTuple):
    """Where starts ended, the values on the way (one ``(r, s)`` tensor an iteration), and those of all the ends."""

    ascent: Ascent
    values: list[Tensor]
    ends: Tensor


def make_objective(model: MixtureOfExperts, data: Data, variance_floor: float, pinned: Tensor) -> Objective:
    """The fastest objective that supports the model."""
    if LinearObjective.supports(model):
        return LinearObjective(model, data.x, data.y, data.weight, variance_floor=variance_floor, pinned_columns=pinned)
    if MultiLinearObjective.supports(model):
        return MultiLinearObjective(model, data, variance_floor=variance_floor, pinned_columns=pinned)
    if SmoothGateObjective.supports(model):
        return SmoothGateObjective(model, data, variance_floor=variance_floor)
    return AutogradObjective(model, data, variance_floor=variance_floor)


class Estimator(ABC):
    """Maximum likelihood by many starts, run together, each climbed to a maximum.

    Args:
        n_init: number of starts.
        starts: ways to start, used in turn (see :mod:`estimators.initialization`); None for the default mixture of
            k-means, local regressions and random partitions. A :class:`~estimators.initialization.SplitAtom` counts as
            one but makes several guesses.
        start_at_model: also start from the parameters the model has.
        max_iter: most Newton iterations of a start.
        tol: a start has converged when one more Newton step is predicted to add less than this to the
            log-likelihood, and no direction of positive curvature is left.
        variance_floor: least variance of an expert, as a share of the variance of y.
        subsample: with more than twice as many observations, the starts run on a random subset of this size (at least
            20 observations a parameter), and only the ``n_keep`` best different ends climb on all the data.
        n_keep: see ``subsample``.
        random_state: seed or ``numpy.random.Generator`` of the starts.
        progress: whether to show a progress bar.

    Raises:
        ValueError: if an argument is out of its range; from a fit, if no start has a finite log-likelihood.
    """

    def __init__(
        self,
        *,
        n_init: int = 10,
        starts: Sequence[Start] | None = None,
        start_at_model: bool = False,
        max_iter: int = 200,
        tol: float = 1e-9,
        variance_floor: float = 1e-6,
        subsample: int = 3_000,
        n_keep: int = 4,
        random_state: int | np.random.Generator | None = None,
        progress: bool = False,
    ) -> None:
        self.n_init = check_integer("n_init", n_init, low=0 if start_at_model else 1)
        self.starts = starts
        self.start_at_model = start_at_model
        self.max_iter = check_integer("max_iter", max_iter, low=1)
        self.tol = float(check_positive("tol", tol))
        self.variance_floor = float(check_positive("variance_floor", variance_floor))
        self.subsample = check_integer("subsample", subsample, low=100)
        self.n_keep = check_integer("n_keep", n_keep, low=1)
        self.random_state = random_state
        self.progress = progress

    def __repr__(self) -> str:
        """The settings."""
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"

    @abstractmethod
    def _climb(self, objective: Objective, theta: Tensor, callback: Callable[[Tensor], None]) -> Ascent:
        """From ``theta (r, s, P)`` to maxima."""

    def _climb_on(self, objective: Objective, theta: Tensor, callback: Callable[[Tensor], None]) -> Ascent:
        """From ``theta`` that are maxima of a subsample."""
        return self._climb(objective, theta, callback)

    def fit(self, model: MixtureOfExperts, x: Any, y: Any, sample_weight: Any = None) -> FitResult:
        """Fit a copy of ``model`` to one data set.

        Args:
            model: gives the form; its parameters are a start only with ``start_at_model``.
            x: covariates ``(n, d)``.
            y: responses ``(n,)``, or ``(n, p)`` for experts of a vector response.
            sample_weight: ``(n,)``, non-negative; None for ones.

        Returns:
            The fit with the highest log-likelihood among all starts, degenerate ones (an expert on fewer
            observations than it has coefficients, or a variance at its floor) coming last.

        Raises:
            TypeError: if an argument is not numeric.
            ValueError: for NaN, infinities, wrong shapes, fewer observations than experts, negative weights.
        """
        started = time.perf_counter()
        data = as_data(model, x, y, sample_weight, is_batch=False)
        objective, climb = self._run(model, data)
        seconds = time.perf_counter() - started
        return build_result(model, objective, climb.ascent, climb.values, climb.ends, seconds, self)

    def fit_many(self, model: MixtureOfExperts, x: Any, y: Any, sample_weight: Any = None) -> FitBatch:
        """Fit one model to each of ``r`` data sets at once; ``x (r, n, d)``, ``y (r, n)``, otherwise as :meth:`fit`.

        Only for models with linear predictors are the data sets one computation; others run one after another.
        """
        data = as_data(model, x, y, sample_weight, is_batch=True)
        objective, climb = self._run(model, data)
        return build_batch(model, objective, climb.ascent)

    def ends(self, model: MixtureOfExperts, data: Data) -> tuple[Objective, Ascent]:
        """The log-likelihood of ``r`` checked data sets, and the best end on each, ``theta (r, 1, P)``."""
        objective, climb = self._run(model, data)
        return objective, climb.ascent

    def _run(self, model: MixtureOfExperts, data: Data) -> tuple[Objective, Climb]:
        rng = np.random.default_rng(self.random_state)
        pinned = dependent_columns(data)
        objective = make_objective(model, data, self.variance_floor, pinned)
        with tqdm(disable=not self.progress, unit="iteration", desc=f"{type(self).__name__}, n={objective.n}") as bar:
            size = max(self.subsample, _ROWS_PER_PARAMETER * objective.num_params)
            if objective.n <= 2 * size:
                theta = self._first(model, objective, data, self._starts(), rng)
                return objective, _best(objective, self._climbed(objective, theta, bar))
            rows = torch.as_tensor(np.sort(rng.choice(objective.n, size, replace=False)))
            part = data.take(rows)
            small = make_objective(model, part, self.variance_floor, pinned)
            starts = [start.at(rows, objective.n) for start in self._starts()]
            ends = self._climbed(small, self._first(model, small, part, starts, rng), bar)
            theta = self._carried(small, objective, ends.ascent)
            climb = _best(objective, self._climbed(objective, theta, bar, is_near=True))
            return objective, climb._replace(ends=ends.ends)

    def _climbed(self, objective: Objective, theta: Tensor, bar: Any, *, is_near: bool = False) -> Climb:
        values: list[Tensor] = []

        def record(value: Tensor) -> None:
            values.append(value.detach().clone())
            bar.update()
            bar.set_postfix({"log-likelihood": f"{float(value.max()):.6g}"})

        ascent = (self._climb_on if is_near else self._climb)(objective, theta, record)
        return Climb(ascent, values, ascent.value)

    def _first(
        self,
        model: MixtureOfExperts,
        objective: Objective,
        data: Data,
        starts: Sequence[Start],
        rng: np.random.Generator,
    ) -> Tensor:
        """Parameters ``(r, s, P)`` at which the climbs start."""
        parts = [objective.read(model).expand(len(data.x), 1, -1)] if self.start_at_model else []
        if starts:
            guesses = [
                torch.cat([start.responsibilities(x, y, model.num_experts, rng) for start in starts])
                for x, y in zip(data.x, data.y, strict=True)
            ]
            parts.append(objective.from_responsibilities(torch.stack(guesses)))
        return torch.cat(parts, 1)

    def _starts(self) -> Sequence[Start]:
        if self.starts is None:
            return default_starts(self.n_init)
        starts = list(self.starts)
        return [starts[i % len(starts)] for i in range(max(self.n_init, len(starts)))] if starts else []

    def _carried(self, small: Objective, full: Objective, ends: Ascent) -> Tensor:
        """The best different ends on a subsample, at most ``n_keep`` a data set, as parameters on all the data."""
        order = ranking(small, ends).argsort(dim=1, descending=True, stable=True)
        kept = _padded([_distinct(value, rank, self.n_keep) for value, rank in zip(ends.value, order, strict=True)])
        kept = kept.to(order.device)
        return full.carry(ends.theta.gather(1, kept.unsqueeze(-1).expand(-1, -1, ends.theta.shape[-1])), small)

    def _finish(self, objective: Objective, theta: Tensor, callback: Callable[[Tensor], None]) -> Ascent:
        """The second-order finish; L-BFGS for models with too many parameters for it."""
        if isinstance(objective, AutogradObjective) and objective.num_params > _LARGEST_HESSIAN:
            return objective.climb(theta, _LBFGS_ITERATIONS)
        return newton_ascent(objective, theta, max_iter=self.max_iter, tol=self.tol, callback=callback)


def ranking(objective: Objective, ends: Ascent) -> Tensor:
    """How good each end is, ``(r, s)``: its log-likelihood, but degenerate ends below all others."""
    at_floor = (ends.theta <= objective.lower).any(-1)
    starved = (objective.shares(ends.theta) < objective.num_features + 2).any(-1)
    finite = torch.where(torch.isfinite(ends.value), ends.value, torch.full_like(ends.value, -1e300))
    spread = 1.0 + 2.0 * finite.abs().amax(1, keepdim=True)
    return torch.where(at_floor | starved, finite - spread, finite)


def _best(objective: Objective, climb: Climb) -> Climb:
    """The best end of each data set alone: every tensor with s = 1."""
    if not bool(torch.isfinite(climb.ascent.value).any(1).all()):
        raise ValueError(
            "no start has a finite log-likelihood: y may be impossible under the experts, or x or y too extreme; "
            "rescale them or try other starts"
        )
    best = ranking(objective, climb.ascent).argmax(1)
    rows = torch.arange(len(best), device=best.device)
    ascent = climb.ascent
    evaluation = Evaluation(*(part[rows, best].unsqueeze(1) for part in ascent.evaluation))
    chosen = ascent._replace(
        theta=ascent.theta[rows, best].unsqueeze(1),
        value=ascent.value[rows, best].unsqueeze(1),
        predicted_gain=ascent.predicted_gain[rows, best].unsqueeze(1),
        converged=ascent.converged[rows, best].unsqueeze(1),
        evaluation=evaluation,
    )
    return Climb(chosen, [value[rows, best].unsqueeze(1) for value in climb.values], ascent.value)


def _distinct(value: Tensor, order: Tensor, count: int) -> list[int]:
    """The first of ``order`` with different values, at most ``count``."""
    kept: list[int] = []
    for index in order.tolist():
        gaps = [abs(float(value[index] - value[other])) for other in kept]
        if all(gap > _SAME_VALUE * (1.0 + abs(float(value[index]))) for gap in gaps):
            kept.append(index)
        if len(kept) == count:
            break
    return kept


def _padded(rows: list[list[int]]) -> Tensor:
    """Rows of one length: shorter ones repeat their first entry."""
    width = max(len(row) for row in rows)
    return torch.tensor([row + [row[0]] * (width - len(row)) for row in rows])
