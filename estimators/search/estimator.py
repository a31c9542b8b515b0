"""What EM and MLE share: checked data, starts, the climb, the choice of the best end, the result."""

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from tqdm.auto import tqdm

from mixkit.mixture import MixtureOfExperts

from ..data.collinearity import CollinearityWarning, dependence_remark, dependent_columns
from ..data.columns import column_names
from ..data.dataset import Data, as_data
from ..data.units import taken_group_column
from ..objectives.autograd import AutogradObjective
from ..objectives.choose import fixes_columns
from ..objectives.smooth_gate.objective import SmoothGateObjective
from ..optimizers.newton import Ascent
from ..optimizers.objective import Objective
from ..penalties.build import holds_slopes
from ..penalties.objective import PenalizedObjective
from ..results.build import build_batch, build_result
from ..results.fit_batch import FitBatch
from ..results.fit_result import FitResult
from .optima import Optima
from .plausibility import spurious_remarks
from .search import Search
from .settings import SearchSettings
from .standardized import StandardizedObjective
from .starts import Start

__all__ = ["Estimator"]

_LARGEST_HESSIAN = 400  # parameters of a model without linear predictors; above it L-BFGS finishes instead of Newton
_LBFGS_ITERATIONS = 2000
_ROUNDS = 2  # of moves


class Estimator(SearchSettings, ABC):
    """Maximum likelihood by many starts, run together, each climbed to a maximum.

    Settings are those of :class:`~estimators.search.settings.SearchSettings`. A fit raises ``ValueError`` if no start
    has a finite log-likelihood.
    """

    @abstractmethod
    def _climb(self, objective: Objective, theta: Tensor, callback: Callable[[Tensor], None]) -> Ascent:
        """From ``theta (r, s, P)`` to maxima."""

    def _climb_on(self, objective: Objective, theta: Tensor, callback: Callable[[Tensor], None]) -> Ascent:
        """From ``theta`` that are maxima of a subsample."""
        return self._climb(objective, theta, callback)

    def fit(
        self,
        model: MixtureOfExperts,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        groups: Any = None,
        weights_of: str = "groups",
    ) -> FitResult:
        """Fit a copy of ``model`` to one data set.

        Args:
            model: gives the form; its parameters are a start only with ``start_at_model``.
            x: covariates ``(n, d)``; a frame gives its columns' names to the parameters.
            y: responses ``(n,)``, or ``(n, p)`` for experts of a vector response.
            sample_weight: ``(n,)``, non-negative; None for ones. Rows of weight zero are left out, and not counted.
            groups: labels ``(n,)`` of groups of rows that share an expert, or the name of a column of the frame ``x``
                that holds them; None where each row has an expert of its own. See :mod:`estimators.data.units` for the
                likelihood. The gate reads a group's covariates: its columns must not vary within groups.
            weights_of: what ``sample_weight`` says where there are groups: how many equal "groups" each stands for (one
                number for all rows of a group), or how many equal "rows" of its group a row stands for (the power of
                its density).

        Returns:
            The fit with the highest log-likelihood among all starts. Where the likelihood has no bound, ends that are
            not to be trusted come last (see ``spurious``); a higher one that was set aside is named in ``warnings``.

        Raises:
            TypeError: if an argument is not numeric.
            ValueError: for NaN, infinities, wrong shapes, fewer observations than experts, negative weights; for a
                column of the gate, or a weight of groups, that varies within a group.
        """
        started = time.perf_counter()
        x, groups = taken_group_column(x, groups)
        whole = as_data(model, x, y, sample_weight, is_batch=False, groups=groups, weights_of=weights_of)
        return self._fit_checked(model, whole, column_names(x), started)

    def _fit_checked(
        self, model: MixtureOfExperts, whole: Data, names: Sequence[str] | None, started: float | None = None
    ) -> FitResult:
        """Fit one data set that has been checked; ``names (d,)`` of its columns, if they have any."""
        started = time.perf_counter() if started is None else started
        settings, data, rows = self._on_fitted_rows(whole)
        pinned, remark = self._dependent(model, data, names, stacklevel=4)
        objective, optima = settings._search(model, data, pinned)
        seconds = time.perf_counter() - started
        result = build_result(
            model, objective, optima.ascent, optima.values, optima.end_values, seconds, self._snapshot(), names
        )
        result._fitted_rows, result._num_given = rows, whole.x.shape[1]
        result.warnings += [optima.set_aside] if optima.set_aside else []
        result.warnings += spurious_remarks(objective, optima.ascent.theta)
        result.warnings += [remark] if remark else []
        return result

    def fit_many(
        self,
        model: MixtureOfExperts,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        starts: Sequence[Sequence[Start]] | None = None,
        groups: Any = None,
        weights_of: str = "groups",
    ) -> FitBatch:
        """Fit one model to each of ``r`` data sets at once; ``x (r, n, d)``, ``y (r, n)``, otherwise as :meth:`fit`.

        Only for models with linear predictors are the data sets one computation; others run one after another.

        Args:
            model: as for :meth:`fit`.
            x: covariates ``(r, n, d)``.
            y: responses ``(r, n)``.
            sample_weight: ``(r, n)``, non-negative; None for ones. Rows of weight zero stay, and count for nothing.
            starts: those of each data set, as many guesses for one as for another, in place of the estimator's.
            groups: labels ``(n,)``, the same for all data sets, otherwise as for :meth:`fit`.
            weights_of: as for :meth:`fit`.

        Returns:
            The fits. A data set on which no start has a finite log-likelihood gets NaN for all its numbers, and a
            ``NoFiniteStartWarning`` names it; the others are fitted as if it were not there.

        Raises:
            TypeError: if an argument is not numeric.
            ValueError: as for :meth:`fit`, and if no data set has a start with a finite log-likelihood.
        """
        data = as_data(model, x, y, sample_weight, is_batch=True, groups=groups, weights_of=weights_of)
        if starts is not None and len(starts) != len(data.x):
            raise ValueError(f"starts must be given for each of {len(data.x)} data sets, got {len(starts)}")
        rows, n = data.ordered_rows(), data.x.shape[1]
        twin, own = self, starts
        if rows is not None:
            twin, data = self._with_starts_on(rows, n), data.take(rows)
            own = None if starts is None else [[start.at(rows, n) for start in some] for some in starts]
        pinned, _ = self._dependent(model, data, stacklevel=3)
        objective, optima = twin._search(model, data, pinned, own)
        return build_batch(model, objective, optima.ascent)

    def _best_optima(self, model: MixtureOfExperts, data: Data) -> tuple[Objective, Ascent]:
        """The log-likelihood of ``r`` checked data sets, and the best end on each, ``theta (r, 1, P)``."""
        pinned, _ = self._dependent(model, data, stacklevel=3)
        objective, optima = self._search(model, data, pinned)
        return objective, optima.ascent

    def _dependent(
        self, model: MixtureOfExperts, data: Data, names: Sequence[str] | None = None, *, stacklevel: int
    ) -> tuple[Tensor, str]:
        """Columns, or coefficients of columns, that neither the data nor the penalty determine; and the warning."""
        num_known, is_held = model.num_known, holds_slopes(self.penalty, model)
        dependent = dependent_columns(data, model=model, num_known=num_known, is_held=is_held)
        remark = dependence_remark(
            dependent, data, num_known=num_known, names=names, is_fixed=fixes_columns(model), is_held=is_held
        )
        if remark:
            warnings.warn(remark, CollinearityWarning, stacklevel=stacklevel)
        return dependent, remark

    def _search(
        self, model: MixtureOfExperts, data: Data, pinned: Tensor, own: Sequence[Sequence[Start]] | None = None
    ) -> tuple[Objective, Optima]:
        rng = np.random.default_rng(self.random_state)
        search = Search(self, model, pinned, self._climb, self._climb_on, rng)
        whole = search.level(data)
        starts = [self._chosen_starts()] * len(data.x) if own is None else own
        rounds = self._rounds_of_moves(model, is_default=self.starts is None and own is None)
        words = f"{type(self).__name__}, n={whole.objective.n}"
        with tqdm(disable=not self.progress, unit="iteration", desc=words) as bar:
            return search.run(whole, starts, rounds, bar)

    def _rounds_of_moves(self, model: MixtureOfExperts, *, is_default: bool) -> int:
        """Most rounds of moves in fits of a model from starts that are the default ones, or others."""
        if self.n_moves is not None:
            return self.n_moves
        is_fast = fixes_columns(model) or SmoothGateObjective.supports(model)
        return _ROUNDS if is_default and not self.start_at_model and is_fast else 0

    def _finish(self, objective: Objective, theta: Tensor, callback: Callable[[Tensor], None]) -> Ascent:
        """The second-order finish; L-BFGS for models with too many parameters for it."""
        is_large = objective.num_params > _LARGEST_HESSIAN and objective.is_by_autograd
        if is_large and isinstance(objective, AutogradObjective | StandardizedObjective | PenalizedObjective):
            return objective.climb(theta, _LBFGS_ITERATIONS)
        tol = self.tol * min(1.0, float(objective.mean_weight.min()))
        return objective.ascend(theta, self.max_iter, tol, callback)
