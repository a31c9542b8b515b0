"""A fit in progress: rows go in as they come, an estimate comes out at any time."""

import copy
import time
import warnings
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixkit.mixture import MixtureOfExperts

from ..data.collinearity import CollinearityWarning, dependence_remark, dependent_columns
from ..data.columns import column_names, ordered_covariates
from ..data.dataset import Data
from ..objectives.autograd import AutogradObjective
from ..objectives.softmax_gate.objective import LinearObjective
from ..optimizers.objective import Objective
from ..results.fit_result import FitResult
from ..search.estimator import Estimator
from ..statistics.covariance import inverse_information, propagate, warn_undetermined
from .gradient import GradientRecursion
from .linear import LinearRecursion
from .recursion import Recursion
from .result import StreamResult
from .rows import Rows, checked_rows
from .start import start_remarks

__all__ = ["Stream", "StreamSettings"]


@dataclass(frozen=True, eq=False)
class StreamSettings:
    """How a stream goes on; see :class:`~estimators.StochasticEM`, which makes them.

    Attributes:
        starter: estimator of the first rows.
        start_rows: rows of the start.
        batch_size: rows of a block.
        power: a, the decay of the steps.
        finish: whether models of the fast family take the second-order step.
        variance_floor: least variance of an expert, as a share of that of y in the first rows.
    """

    starter: Estimator
    start_rows: int
    batch_size: int
    power: float
    finish: bool
    variance_floor: float


class Stream:
    """One model on its way through a stream; made by :meth:`StochasticEM.stream`.

    The first rows are kept until there are enough to fit the start; later ones are taken in by blocks of equal length.
    So the estimate depends on the rows and their order alone, not on the pieces in which they came.

    Args:
        settings: of the fit.
        model: gives the form; it is copied.

    Attributes:
        nobs: rows seen.
        start_rows: rows of the start.
        feature_names: names of the covariates, if the first rows came in a frame.

    Example:
        >>> import torch
        >>> from estimators import StochasticEM
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_tone
        >>> g = torch.Generator().manual_seed(0)
        >>> model = MixtureOfExperts(softmax_gate(1, 1, generator=g), linear_gaussian_experts(1, 1, generator=g))
        >>> x, y = load_tone()
        >>> stream = StochasticEM(start_rows=100, batch_size=25, random_state=0).stream(model)
        >>> stream.partial_fit(x[:60], y[:60]).partial_fit(x[60:], y[60:]).result()
        StreamResult(k=1, nobs=150, num_blocks=2)
    """

    def __init__(self, settings: StreamSettings, model: MixtureOfExperts) -> None:
        self.settings, self.model, self.nobs = settings, copy.deepcopy(model).eval(), 0
        self.model.to(torch.float64)
        self._rows, self._recursion = Rows(), None
        self.start_rows = settings.start_rows
        self._num_features: int | None = None
        self.feature_names: list[str] | None = None
        self._remarks: list[str] = []
        self._history: list[float] = []
        self._seconds = 0.0
        self._unit = 1.0  # weights are taken in by this: the chances that a recursion weighs are those of whole rows

    _recursion: Recursion | None

    def partial_fit(self, x: Any, y: Any, sample_weight: Any = None) -> "Stream":
        """Take in rows.

        Args:
            x: covariates ``(n, d)``, n any number.
            y: responses ``(n,)``, or ``(n, p)``.
            sample_weight: ``(n,)``, non-negative; None for ones.

        Raises:
            TypeError: if an argument is not numeric.
            ValueError: for NaN, infinities, wrong shapes, other covariates than before, negative weights. Where the
                first rows came in a frame, the columns of later frames go by their names.

        Warns:
            CollinearityWarning: when the start is fitted, if columns of its rows are constant or linear combinations
                of others; where their coefficients are fixed at zero, they stay there for all of the stream.
            IllDeterminedStartWarning: when the start is fitted, if its rows do not determine it: an expert collapsed on
                a few of them, or the information is singular. All its remarks stay in the result's ``warnings``.
        """
        started, names = time.perf_counter(), column_names(x)
        if names is not None and self.feature_names is not None:
            x = ordered_covariates(x, self.feature_names)
        data = checked_rows(self.model, x, y, sample_weight, self._num_features)
        if self._num_features is None:
            self.feature_names = names
        self._num_features = data.x.shape[2]
        self._rows.add(data)
        self.nobs += data.x.shape[1]
        self._go_on()
        self._seconds += time.perf_counter() - started
        return self

    def _go_on(self) -> None:
        """Fit the start and take in whole blocks; what is interrupted keeps its rows, and is done by the next call."""
        if self._recursion is None and self._rows.count >= self.start_rows:
            first = self._rows.first(self.start_rows)
            self._unit = _unit_of(first)
            self._recursion = self._started(_in_units(first, self._unit))
            self._rows.drop(self.start_rows)
        if self._recursion is not None:
            with closing(self._rows.blocks(self.settings.batch_size)) as blocks:
                for block in blocks:
                    recursion = copy.copy(self._recursion)
                    value = _take_in(recursion, _in_units(block, self._unit))
                    self._history.append(value)
                    self._recursion = recursion

    def _fit_start(self, data: Data) -> FitResult:
        weight = None if data.weight is None else data.weight[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.settings.starter.fit(self.model, data.x[0], data.y[0], weight)

    def _dependent(self, data: Data) -> Tensor:
        """Columns that are constant or combinations of others; warns of them."""
        num_known = self.model.num_known
        dependent = dependent_columns(data, model=self.model, num_known=num_known)
        remark = dependence_remark(dependent, data, num_known=num_known, is_fixed=LinearObjective.supports(self.model))
        if remark:
            warnings.warn(remark, CollinearityWarning, stacklevel=2)
        return dependent

    def _started(self, data: Data) -> Recursion:
        fit, settings = self._fit_start(data), self.settings
        blocks = self.start_rows / settings.batch_size
        floor = settings.variance_floor
        pinned = self._dependent(data)
        self._remarks = start_remarks(fit, self.start_rows)
        if LinearObjective.supports(self.model):
            linear = LinearObjective(
                self.model, data.x, data.y, data.weight, variance_floor=floor, pinned_columns=pinned
            )
            start = linear.read(fit.model)
            return LinearRecursion(linear, start, blocks, settings.power, finish=settings.finish)
        objective = AutogradObjective(self.model, data, variance_floor=floor)
        return GradientRecursion(objective, objective.read(fit.model), blocks, settings.power)

    def result(self) -> StreamResult:
        """The estimate from all the rows so far; the stream can go on afterwards.

        Raises:
            ValueError: if no row has come, or fewer than there are experts.

        Warns:
            SingularInformationWarning: if the information summed along the stream leaves parameters without a standard
                error. Models whose curvature is not summed have none at all, without a warning.
            CollinearityWarning: as :meth:`partial_fit`, while the rows are few.
        """
        started = time.perf_counter()
        history = np.array(self._history)
        if self._recursion is None:
            rows = self._rows.all()
            self._dependent(rows)
            fit = self._fit_start(rows)
            covariance, is_positive = fit.cov_params(), fit.is_positive
            model, names, params, blocks = fit.model, list(fit.param_names), fit.estimates, 0
            remarks = list(fit.warnings)
        else:
            recursion = copy.copy(self._recursion)
            if self._rows.count:
                recursion.advance(_in_units(self._rows.all(), self._unit))
            theta, objective, blocks = recursion.estimate(), recursion.objective, recursion.num_blocks
            model = copy.deepcopy(self.model)
            objective.write(theta, model)
            to_user = objective.user_map()
            names, params = list(to_user.names), to_user.values(theta).numpy(force=True)
            remarks = list(self._remarks)
            covariance = _covariance(recursion, theta) / self._unit
            is_positive = to_user.is_positive.numpy(force=True)
        lost = np.isnan(np.diag(covariance))
        if not lost.all() or LinearObjective.supports(self.model):
            warn_undetermined([name for name, is_lost in zip(names, lost, strict=True) if is_lost])
        seconds = self._seconds + time.perf_counter() - started
        found = StreamResult(
            model, names, params, self.nobs, blocks, history, seconds, remarks, is_positive, covariance,
            _num_features=self._num_features,
        )  # fmt: skip
        if self.feature_names is not None:
            found.rename_features(self.feature_names)
        return found


def _unit_of(data: Data) -> float:
    """The mean of the positive weights where it is below one, as weights that sum to one have it; else one."""
    if data.weight is None or not bool((data.weight > 0).any()):
        return 1.0
    return min(1.0, float(data.weight[data.weight > 0].mean()))


def _in_units(data: Data, unit: float) -> Data:
    """Rows with their weights divided by the unit."""
    return data if data.weight is None or unit == 1.0 else data._replace(weight=data.weight / unit)


def _take_in(recursion: Recursion, block: Data) -> float:
    """Advance; the mean log-density of the block before."""
    weight = float(block.x.shape[1]) if block.weight is None else float(block.weight.sum())
    return recursion.advance(block) / max(weight, 1e-300)


def _covariance(recursion: Recursion, theta: Tensor) -> np.ndarray:
    objective: Objective = recursion.objective
    hessian = recursion.hessian()
    if hessian is None:
        return np.full((len(theta), len(theta)), np.nan)
    held = theta <= objective.lower
    inverse = inverse_information(hessian, held)
    return propagate(objective.user_map().jacobian(theta), inverse).numpy(force=True)
