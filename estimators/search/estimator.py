"""What EM and MLE share: checked data, starts, the climb, the choice of the best end, the result."""

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from mixkit._validation import check_integer, check_positive
from mixkit.mixture import MixtureOfExperts

from ..data.collinearity import collinearity_remark, dependent_columns
from ..data.columns import column_names, with_names
from ..data.dataset import Data, as_data
from ..objectives.autograd import AutogradObjective
from ..objectives.choose import fixes_columns, make_objective
from ..objectives.smooth_gate.objective import SmoothGateObjective
from ..objectives.softmax_gate.laplace_experts import LaplaceObjective
from ..optimizers.newton import Ascent, newton_ascent
from ..optimizers.objective import Objective
from ..penalties.base import Penalty
from ..penalties.build import in_result_coordinates, penalized
from ..penalties.objective import PenalizedObjective
from ..results.build import build_batch, build_result
from ..results.fit_batch import FitBatch
from ..results.fit_result import FitResult
from .optima import Optima, best_end, best_models, concatenated, found_better, surviving
from .standardized import StandardizedObjective
from .starts import MoveAtom, Start, default_starts

__all__ = [
    "Estimator",
]

_LARGEST_HESSIAN = 400  # parameters of a model without linear predictors; above it L-BFGS finishes instead of Newton
_LBFGS_ITERATIONS = 2000
_ROWS_PER_PARAMETER = 20
_GROWTH = 8  # of the subsample, until it is half the data
_ROUNDS, _MOVES = 2, 24  # of moves
_CHOSEN_FLOOR = 1e-4  # of variances: a hundredth of the standard deviation of y is no safeguard but a statement


class Estimator(ABC):
    """Maximum likelihood by many starts, run together, each climbed to a maximum.

    Args:
        n_init: number of starts.
        starts: ways to start, used in turn (see :mod:`estimators.search.starts`); None for the default mixture of
            k-means, local regressions and random partitions. A :class:`~estimators.search.starts.SplitAtom` counts as
            one but makes several guesses.
        start_at_model: also start from the parameters the model has.
        max_iter: most Newton iterations of a start.
        tol: a start has converged when one more Newton step is predicted to add less than this to the
            log-likelihood, and no direction of positive curvature is left. If the mean weight is below 1, ``tol`` is
            multiplied by it.
        variance_floor: least variance of an expert, as a share of the variance of y. The default only stops variances
            on their way to zero, and ends at it come last; a floor of 1e-4 or more is a constraint like another.
        subsample: with more than twice as many observations, the starts run on a random subset of this size (at least
            20 observations a parameter), and only the ``n_keep`` best different ends, without those clearly beaten,
            climb on a subset eight times as large, and so on to all the data.
        n_keep: see ``subsample``.
        n_moves: most rounds of moves: climbs from up to 24 starts that each have one expert of the best end moved
            elsewhere (:class:`~estimators.search.starts.MoveAtom`), until a round finds nothing better. Starts that
            agree on an end are no sign that it is the best, for they resemble each other. None for two rounds where
            the starts are the default ones and derivatives are in closed form, else for none.
        penalty: subtracted from the log-likelihood (see :mod:`estimators.penalties`); None for maximum likelihood.
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
        n_moves: int | None = None,
        penalty: Penalty | None = None,
        random_state: int | np.random.Generator | None = None,
        progress: bool = False,
    ) -> None:
        self.n_init = check_integer("n_init", n_init, low=0 if start_at_model else 1)
        self.starts = _checked_starts(starts)
        self.start_at_model = start_at_model
        self.max_iter = check_integer("max_iter", max_iter, low=1)
        self.tol = float(check_positive("tol", tol))
        self.variance_floor = float(check_positive("variance_floor", variance_floor))
        self.subsample = check_integer("subsample", subsample, low=100)
        self.n_keep = check_integer("n_keep", n_keep, low=1)
        self.n_moves = None if n_moves is None else check_integer("n_moves", n_moves, low=0)
        self.penalty = penalty
        self.random_state = _checked_seed(random_state)
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
            x: covariates ``(n, d)``; a frame gives its columns' names to the parameters.
            y: responses ``(n,)``, or ``(n, p)`` for experts of a vector response.
            sample_weight: ``(n,)``, non-negative; None for ones. Rows of weight zero are left out, and not counted.

        Returns:
            The fit with the highest log-likelihood among all starts. Where the likelihood has no bound, degenerate
            ends (an expert on fewer observations than it has coefficients, or a variance at a floor below 1e-4) come
            last; a higher one that was set aside is named in ``warnings``.

        Raises:
            TypeError: if an argument is not numeric.
            ValueError: for NaN, infinities, wrong shapes, fewer observations than experts, negative weights.
        """
        started = time.perf_counter()
        settings, data = self._on_positive_rows(as_data(model, x, y, sample_weight, is_batch=False))
        names = column_names(x)
        is_fixed = fixes_columns(model)
        pinned = dependent_columns(data, has_offset=model.has_offset, names=names, is_fixed=is_fixed)
        objective, optima = settings._search(model, data, pinned)
        seconds = time.perf_counter() - started
        result = build_result(
            model, objective, optima.ascent, optima.values, optima.end_values, seconds, self._snapshot(), names
        )
        result.warnings += [optima.set_aside] if optima.set_aside else []
        remark = collinearity_remark(pinned, is_fixed=is_fixed)
        result.warnings += [with_names(remark, names) if names else remark] if remark else []
        return result

    def _on_positive_rows(self, data: Data) -> tuple[Self, Data]:
        """The rows of one data set that have a weight, and the estimator with its starts on those."""
        rows = data.positive_rows()
        if rows is None:
            return self, data
        twin, n = copy.copy(self), data.x.shape[1]
        twin.starts = None if self.starts is None else [start.at(rows, n) for start in self.starts]
        return twin, data.take(rows)

    def _warm_start(self, extra_starts: int = 0) -> Self:
        """A copy that climbs from the model it is given, and from ``extra_starts`` of the default starts."""
        warm = copy.copy(self)
        warm.start_at_model, warm.n_init, warm.starts = True, extra_starts, None if extra_starts else []
        warm.subsample = 2**62  # a model at a maximum of all the data needs no climb on a part of them
        return warm

    def _snapshot(self) -> Self:
        """The settings as they are now, which later changes do not touch."""
        twin = copy.copy(self)
        twin.starts = None if self.starts is None else list(self.starts)
        return twin

    def fit_many(
        self,
        model: MixtureOfExperts,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        starts: Sequence[Sequence[Start]] | None = None,
    ) -> FitBatch:
        """Fit one model to each of ``r`` data sets at once; ``x (r, n, d)``, ``y (r, n)``, otherwise as :meth:`fit`.

        Only for models with linear predictors are the data sets one computation; others run one after another.

        Args:
            model: as for :meth:`fit`.
            x: covariates ``(r, n, d)``.
            y: responses ``(r, n)``.
            sample_weight: ``(r, n)``, non-negative; None for ones. Rows of weight zero stay, and count for nothing.
            starts: those of each data set, as many guesses for one as for another, in place of the estimator's.

        Returns:
            The fits. A data set on which no start has a finite log-likelihood gets NaN for all its numbers, and a
            ``NoFiniteStartWarning`` names it; the others are fitted as if it were not there.

        Raises:
            TypeError: if an argument is not numeric.
            ValueError: as for :meth:`fit`, and if no data set has a start with a finite log-likelihood.
        """
        data = as_data(model, x, y, sample_weight, is_batch=True)
        if starts is not None and len(starts) != len(data.x):
            raise ValueError(f"starts must be given for each of {len(data.x)} data sets, got {len(starts)}")
        pinned = dependent_columns(data, has_offset=model.has_offset, is_fixed=fixes_columns(model))
        objective, optima = self._search(model, data, pinned, starts)
        return build_batch(model, objective, optima.ascent)

    def _best_optima(self, model: MixtureOfExperts, data: Data) -> tuple[Objective, Ascent]:
        """The log-likelihood of ``r`` checked data sets, and the best end on each, ``theta (r, 1, P)``."""
        pinned = dependent_columns(data, has_offset=model.has_offset, is_fixed=fixes_columns(model))
        objective, optima = self._search(model, data, pinned)
        return objective, optima.ascent

    def _search(
        self, model: MixtureOfExperts, data: Data, pinned: Tensor, own: Sequence[Sequence[Start]] | None = None
    ) -> tuple[Objective, Optima]:
        rng = np.random.default_rng(self.random_state)
        whole = self._objective(model, data, pinned)

        def level(rows: Tensor | None) -> tuple[Data, Objective]:
            if rows is None:
                return data, whole
            part = data.take(rows)
            return part, self._objective(model, part, pinned)

        with tqdm(disable=not self.progress, unit="iteration", desc=f"{type(self).__name__}, n={whole.n}") as bar:
            first, *larger = self._levels(whole, rng)
            part, objective = level(first)
            starts = _on_rows([self._chosen_starts()] * len(data.x) if own is None else own, first, whole.n)
            optima = self._climbed(objective, self._first(model, objective, part, starts, rng), bar)
            rounds = self._rounds_of_moves(model, is_default=self.starts is None and own is None)
            optima = self._moved(model, objective, part, optima, rng, bar, rounds)
            end_values = optima.end_values
            for rows in larger:
                kept, source = surviving(model, objective, part, optima.ascent, self.n_keep), objective
                part, objective = level(rows)
                optima = self._climbed(objective, objective.transfer(kept, source), bar, is_near=True)
            best = best_end(whole, optima)
            whole, ascent = in_result_coordinates(whole, best.ascent)
            return whole, best._replace(ascent=ascent, end_values=end_values)

    def _levels(self, objective: Objective, rng: np.random.Generator) -> Iterator[Tensor | None]:
        """Rows to climb on, one random subset after another, each larger than the one before; at last None, for all."""
        size = max(self.subsample, _ROWS_PER_PARAMETER * objective.num_params)
        while objective.n > 2 * size:
            yield torch.as_tensor(np.sort(rng.choice(objective.n, size, replace=False)))
            size *= _GROWTH
        yield None

    def _objective(self, model: MixtureOfExperts, data: Data, pinned: Tensor) -> Objective:
        objective = make_objective(model, data, self.variance_floor, pinned)
        if isinstance(objective, AutogradObjective):
            objective = StandardizedObjective.of(model, data, self.variance_floor, objective)
        objective = penalized(objective, self.penalty, model)
        objective.least_observations = _coefficients(model, data)
        objective.has_chosen_floor = self.variance_floor >= _CHOSEN_FLOOR
        return objective

    def _climbed(self, objective: Objective, theta: Tensor, bar: Any, *, is_near: bool = False) -> Optima:
        values: list[Tensor] = []

        def record(value: Tensor) -> None:
            values.append(value.detach().clone())
            bar.update()
            bar.set_postfix({"log-likelihood": f"{float(value.max()):.6g}"})

        ascent = (self._climb_on if is_near else self._climb)(objective, theta, record)
        return Optima(ascent, values, ascent.value)

    def _rounds_of_moves(self, model: MixtureOfExperts, *, is_default: bool) -> int:
        """Most rounds of moves in fits of a model from starts that are the default ones, or others."""
        if self.n_moves is not None:
            return self.n_moves
        is_fast = fixes_columns(model) or SmoothGateObjective.supports(model)
        return _ROUNDS if is_default and not self.start_at_model and is_fast else 0

    def _moved(
        self,
        model: MixtureOfExperts,
        objective: Objective,
        data: Data,
        optima: Optima,
        rng: np.random.Generator,
        bar: Any,
        rounds: int,
    ) -> Optima:
        """Climbs from what moves of an expert make of the best end, as long as that finds better ones."""
        # Each start climbs to the maximum of its own basin. A move takes one expert from where two do the work of one
        # to where one does that of two, at once: EM would have to carry it there through models that fit worse.
        for _ in range(rounds if model.num_experts > 1 else 0):
            starts = [[MoveAtom(fitted, _MOVES)] for fitted in best_models(model, objective, optima)]
            theta = _from_guesses(objective, data, starts, model.num_experts, rng)
            count, optima = optima.end_values.shape[1], concatenated(optima, self._climbed(objective, theta, bar))
            if not found_better(optima, count):
                break
        return optima

    def _first(
        self,
        model: MixtureOfExperts,
        objective: Objective,
        data: Data,
        starts: Sequence[Sequence[Start]],
        rng: np.random.Generator,
    ) -> Tensor:
        """Parameters ``(r, s, P)`` at which the climbs start."""
        parts = [objective.read(model).expand(len(data.x), 1, -1)] if self.start_at_model else []
        if any(starts):
            parts.append(_from_guesses(objective, data, starts, model.num_experts, rng))
        if not parts:
            raise ValueError("starts must hold one start or more where start_at_model is False, got none")
        return torch.cat(parts, 1)

    def _chosen_starts(self) -> Sequence[Start]:
        """The starts of a fit: ``n_init`` default ones, or those given in turn, each at least once."""
        starts = default_starts(self.n_init) if self.starts is None else list(self.starts)
        if self.starts is not None and starts:
            starts = [starts[i % len(starts)] for i in range(max(self.n_init, len(starts)))]
        return starts

    def _finish(self, objective: Objective, theta: Tensor, callback: Callable[[Tensor], None]) -> Ascent:
        """The second-order finish; L-BFGS for models with too many parameters for it."""
        is_large = objective.num_params > _LARGEST_HESSIAN and objective.is_by_autograd
        if is_large and isinstance(objective, AutogradObjective | StandardizedObjective | PenalizedObjective):
            return objective.climb(theta, _LBFGS_ITERATIONS)
        tol = self.tol * min(1.0, float(objective.mean_weight.min()))
        if isinstance(objective, LaplaceObjective):
            return objective.ascend(theta, self.max_iter, tol, callback)
        return newton_ascent(objective, theta, max_iter=self.max_iter, tol=tol, callback=callback)


def _checked_starts(starts: Any) -> Sequence[Start] | None:
    if starts is None:
        return None
    if not isinstance(starts, Sequence) or not all(isinstance(start, Start) for start in starts):
        raise TypeError(f"starts must be a list of estimators.search.starts.Start or None, got {starts!r}")
    return starts


def _checked_seed(random_state: Any) -> Any:
    try:
        np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        rule = "a non-negative integer, a numpy.random.Generator or None"
        raise type(error)(f"random_state must be {rule}, got {random_state!r}") from error
    return random_state


def _coefficients(model: MixtureOfExperts, data: Data) -> int:
    """Numbers of the response that an expert's own parameters can reproduce; of a module at most those of a line."""
    count = sum(parameter.numel() for parameter in model.experts.parameters() if parameter.requires_grad)
    own = -(-count // (model.num_experts * data.y[0, 0].numel()))
    return max(1, min(own, data.x.shape[-1] + 2))


def _on_rows(starts: Sequence[Sequence[Start]], rows: Tensor | None, n: int) -> Sequence[Sequence[Start]]:
    """The starts of each data set, of which those that hold a guess of all n observations give that of ``rows``."""
    return starts if rows is None else [[start.at(rows, n) for start in own] for own in starts]


def _from_guesses(
    objective: Objective, data: Data, starts: Sequence[Sequence[Start]], k: int, rng: np.random.Generator
) -> Tensor:
    """Parameters ``(r, s, P)`` fitted to the guesses of each data set's starts."""
    guesses = [
        torch.cat([start.responsibilities(x, y, k, rng) for start in own])
        for x, y, own in zip(data.x, data.y, starts, strict=True)
        if own
    ]
    if len({len(guess) for guess in guesses}) > 1 or len(guesses) < len(starts):
        raise ValueError("starts must make as many guesses for one data set as for another, got different numbers")
    return objective.from_responsibilities(torch.stack(guesses))
