"""The scikit-learn face of the estimators."""

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_array, check_is_fitted, column_or_1d, validate_data
from torch import Tensor

from mixkit._validation import check_integer
from mixkit.experts import Experts, linear_gaussian_experts
from mixkit.gates import Gate
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import CoefficientPattern

from ..data.columns import column_names
from ..data.tensors import check_not_masked, shared_tensor
from ..data.units import taken_group_column
from ..em import EM
from ..penalties import Penalty
from ..results.fit_result import FitResult
from ..search.estimator import Estimator
from ..statistics.covariance import SingularInformationWarning
from ..statistics.wald import check_level
from ..streaming import StochasticEM, Stream, StreamResult
from .base import MixtureFace, unchanged_by_errors

__all__ = ["MixtureOfExpertsRegressor"]

_FEWEST_SAMPLES = 2
_OF_FITS = ("log_likelihood_", "converged_", "n_iter_")
_OF_STREAMS = ("stream_", "n_samples_seen_")


class MixtureOfExpertsRegressor(RegressorMixin, MixtureFace):
    r"""Mixture-of-experts regression, :math:`p(y \mid x) = \sum_j w_j(x) N(y; a_j^\top x + b_j, \sigma_j^2)`.

    Args:
        n_experts: number of experts k; at most the number of observations.
        gate: a word of :func:`mixkit.gates.gate_by_name` ("softmax", "constant", "sigmoid", "laplace", ...), or a
            :class:`~mixkit.gates.Gate` for the data's number of covariates.
        experts: an :class:`~mixkit.experts.Experts`; None for Gaussian experts with linear means.
        gate_columns: covariates that a gate built here reads, by position or name; None for all.
        common: covariates whose slope is common to all experts built here, by position or name; "intercept" among them
            for one intercept. A :class:`~mixkit.parameters.CoefficientPattern` of gates and experts says more.
        shared_std: whether Gaussian experts built here share one standard deviation.
        n_init: number of starts.
        max_iter: most Newton iterations of a start.
        tol: a fit has converged when one more Newton step would add less than this to the log-likelihood.
        variance_floor: least variance of an expert, as a share of the variance of y; from 1e-4 on a constraint like
            another, below it a safeguard: fits that end there come last. None for one that finds lines of little noise
            (see :class:`~estimators.search.settings.SearchSettings`).
        penalty: subtracted from the log-likelihood by ``fit`` (see :mod:`estimators.penalties`); None for maximum
            likelihood.
        warm_start: whether ``fit`` starts from the fit before alone, as long as that has the same form.
        estimator: an :class:`~estimators.search.estimator.Estimator` to use in place of :class:`~estimators.em.EM`;
            ``n_init``, ``max_iter``, ``tol``, ``variance_floor``, ``penalty`` and ``random_state`` are then its own.
        random_state: seed, ``numpy.random.RandomState`` or None, as everywhere in scikit-learn.

    Attributes:
        log_likelihood_: total log-likelihood of the training data.
        converged_: whether the fit reached a maximum.
        n_iter_: EM and Newton iterations of the start that won.
        result_: the :class:`~estimators.results.fit_result.FitResult`: standard errors, summary; after ``partial_fit``
            a :class:`~estimators.streaming.StreamResult`, and the three attributes above are not known.
        n_samples_seen_: rows that ``partial_fit`` has seen.
        measure_: the :class:`~mixkit.measure.MixingMeasure` of a fit that has one.
        coef_: slopes of linear experts, ``(k, d)`` or ``(k, m, d)``; ``intercept_`` their intercepts.
        aic_: Akaike's criterion; ``bic_`` Schwarz's.
        n_features_in_: number of covariates.
        feature_names_in_: their names, if x had any.

    Raises:
        ValueError: for NaN, infinities, wrong shapes, a gate or experts of another size than ``n_experts``, or
            ``gate_columns`` or ``common`` beside a gate, or experts, that are given.

    Example:
        >>> import numpy as np
        >>> from estimators import MixtureOfExpertsRegressor
        >>> rng = np.random.default_rng(0)
        >>> x = rng.uniform(size=(500, 1))
        >>> y = np.where(x[:, 0] < 0.5, 1 + x[:, 0], 3 - 2 * x[:, 0]) + 0.1 * rng.normal(size=500)
        >>> model = MixtureOfExpertsRegressor(n_experts=2, random_state=0).fit(x, y)
        >>> model.predict([[0.25]]).round(1), model.converged_
        (array([1.2]), True)
    """

    _result: FitResult | StreamResult | None

    def __init__(
        self,
        n_experts: int = 2,
        *,
        gate: str | Gate = "softmax",
        experts: Experts | None = None,
        gate_columns: Sequence[int | str] | None = None,
        common: Sequence[int | str] = (),
        shared_std: bool = False,
        n_init: int = 10,
        max_iter: int = 200,
        tol: float = 1e-9,
        variance_floor: float | None = None,
        penalty: Penalty | None = None,
        warm_start: bool = False,
        estimator: Estimator | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_experts = n_experts
        self.gate = gate
        self.experts = experts
        self.gate_columns = gate_columns
        self.common = common
        self.shared_std = shared_std
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.variance_floor = variance_floor
        self.penalty = penalty
        self.warm_start = warm_start
        self.estimator = estimator
        self.random_state = random_state

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None, weights_of: str = "groups"
    ) -> "MixtureOfExpertsRegressor":
        """Fit by maximum likelihood.

        Args:
            X: covariates ``(n, d)``; a pandas frame gives the feature names.
            y: responses ``(n,)``.
            sample_weight: ``(n,)``, non-negative; observations of weight zero are left out.
            groups: labels ``(n,)`` of rows that share an expert, or the name of a column of the frame X, then no
                covariate; see :meth:`estimators.Estimator.fit`.
            weights_of: whether ``sample_weight`` is that of "groups" or of "rows" where there are groups.
        """
        with unchanged_by_errors(self):
            return self._fit(X, y, sample_weight, groups, weights_of)

    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any, weights_of: str) -> "MixtureOfExpertsRegressor":
        self._check_no_masks(X=X, y=y, sample_weight=sample_weight)
        X, groups = taken_group_column(X, groups)
        self._columns = column_names(X)
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=_FEWEST_SAMPLES)
        y = np.asarray(y, dtype=np.float64)
        groups = self._of_positive_rows(groups, sample_weight)
        X, y, sample_weight = self._positive_rows(X, y, sample_weight)
        if len(X) < _FEWEST_SAMPLES:
            raise ValueError(f"sample_weight must be positive for at least 2 observations, got {len(X)}")
        result = self._result_of(self._model(X), X, y, sample_weight, groups=groups, weights_of=weights_of)
        self._forget(_OF_STREAMS)
        self._result = result
        self._report(result)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "MixtureOfExpertsRegressor":
        """Take in more rows, with memory that does not grow: :class:`~estimators.streaming.StochasticEM`.

        Few rows are kept and fitted exactly; from some ten thousand on, each block of rows moves the estimates. After
        ``fit`` its rows come first. Rows should come in random order.

        Args:
            X: covariates ``(n, d)``, n at least 1.
            y: responses ``(n,)``.
            sample_weight: ``(n,)``, non-negative.

        Raises:
            ValueError: if the regressor or its estimator has a penalty, which a stream does not apply; after a fit with
                groups; otherwise as ``fit``.
        """
        for penalty in (self.penalty, getattr(self.estimator, "penalty", None)):
            if penalty is not None:
                raise ValueError(f"penalty must be None for partial_fit, which applies none, got {penalty!r}")
        with unchanged_by_errors(self):
            return self._partial_fit(X, y, sample_weight)

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any) -> "MixtureOfExpertsRegressor":
        self._check_no_masks(X=X, y=y, sample_weight=sample_weight)
        is_first = not hasattr(self, "stream_")
        before = self._result if is_first and hasattr(self, "_result") else None
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, reset=is_first and before is None)
        y = np.asarray(y, dtype=np.float64)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if is_first:
            stream = self._new_stream(X, before)
            self._forget(_OF_FITS)
            self.stream_ = stream
        self.stream_.partial_fit(X, y, sample_weight)
        self.n_samples_seen_ = self.stream_.nobs
        self._result = None
        return self

    def _new_stream(self, X: np.ndarray, before: Any) -> Stream:
        """A stream that has seen the rows of the fit ``before``, if there was one."""
        settings = StochasticEM(starter=self._estimator(), variance_floor=self.variance_floor)
        stream = settings.stream(self._model(X))
        if before is not None:
            data = before.maximum.objective.data
            if data.units is not None:
                raise ValueError("partial_fit must not go on from a fit with groups, whose rows a stream would part")
            stream.partial_fit(data.x[0], data.y[0], None if data.weight is None else data.weight[0])
        return stream

    def _forget(self, names: tuple[str, ...]) -> None:
        for name in names:
            self.__dict__.pop(name, None)

    def _keep(self, result: Any) -> None:
        """Store a result, with the names of the covariates."""
        if hasattr(self, "feature_names_in_"):
            result.rename_features(self.feature_names_in_)
        self._result = result

    @property
    def result_(self) -> Any:
        """The result of the fit; that of a stream is computed when it is asked for.

        As in ``fit``, parameters without a standard error are no warning: ``summary`` says it.
        """
        check_is_fitted(self)
        if self._result is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SingularInformationWarning)
                self._keep(self.stream_.result())
        return self._result

    def _estimator(self) -> Estimator:
        if self.estimator is not None:
            return self.estimator
        return EM(
            n_init=self.n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            variance_floor=self.variance_floor,
            penalty=self.penalty,
            random_state=self._seed(),
        )

    def _model(self, X: np.ndarray) -> MixtureOfExperts:
        k = check_integer("n_experts", self.n_experts, low=1)
        if self.experts is not None and not isinstance(self.experts, Experts):
            raise TypeError(
                "experts must be a mixkit.experts.Experts, such as PoissonExperts(LinearPredictor(d, n_experts)), or "
                f"None, got {self.experts!r}"
            )
        d = X.shape[1] - (0 if self.experts is None else len(self.experts.known_columns))
        generator = torch.Generator().manual_seed(0)
        settings: dict[str, Any] = {"dtype": torch.float64, "generator": generator}
        names = getattr(self, "_columns", None)
        features: int | list[str] = d if names is None else list(names[:d])
        gate = self._gate_of(features, d, k, settings)
        return MixtureOfExperts(gate, self._experts_of(features, d, k, settings))

    def _gate_of(self, features: int | list[str], d: int, k: int, settings: dict[str, Any]) -> Gate:
        if self.gate_columns is None:
            return self._new_gate(d, k, settings)
        pattern = CoefficientPattern.of(k, features, columns=self.gate_columns)
        if not isinstance(self.gate, Gate):
            try:
                return self._new_gate(d, k, settings | {"pattern": pattern})
            except TypeError:
                pass
        raise ValueError(f"gate_columns must be None unless gate names one of linear scores, got gate={self.gate!r}")

    def _experts_of(self, features: int | list[str], d: int, k: int, settings: dict[str, Any]) -> Experts:
        common = list(self.common)
        if self.experts is not None:
            if common:
                raise ValueError(f"common must be empty beside experts, which say their own pattern, got {common}")
            return copy.deepcopy(self.experts)
        pattern = CoefficientPattern.of(k, features, common=common) if common else None
        return linear_gaussian_experts(d, k, shared_std=self.shared_std, pattern=pattern, **settings)

    @property
    def measure_(self) -> Any:
        """The mixing measure of the fit."""
        check_is_fitted(self)
        return self.result_.measure

    def predict(self, X: Any) -> np.ndarray:
        """Conditional means ``(n,)``."""
        return _array(self.predict_distribution(X).mean)

    def predict_quantiles(self, X: Any, quantiles: Any = (0.05, 0.5, 0.95)) -> np.ndarray:
        """Conditional quantiles ``(n, q)`` at ``quantiles (q,)``, probabilities in [0, 1]."""
        law = self.predict_distribution(X)
        levels = shared_tensor(np.atleast_1d(np.asarray(quantiles, dtype=np.float64)))
        return _array(law.icdf(levels.unsqueeze(-1)).mT)

    def predict_interval(self, X: Any, *, level: float = 0.9) -> np.ndarray:
        """Central predictive intervals ``(n, 2)`` that cover a new response with probability ``level``.

        The parameters are taken as known: the interval shows the noise of y, not the uncertainty of the estimates.

        Raises:
            ValueError: if ``level`` is not strictly between 0 and 1.
        """
        level = check_level(level)
        return self.predict_quantiles(X, (0.5 - level / 2.0, 0.5 + level / 2.0))

    def sample(self, X: Any, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Responses drawn at each row of X, ``(n_samples, n)``; ``random_state`` as everywhere in scikit-learn."""
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        law = self.predict_distribution(X)
        return _array(law.sample((n_samples,), generator=torch.Generator().manual_seed(seed)))

    def score_samples(self, X: Any, y: Any = None) -> np.ndarray:
        """Log-density of each observation ``(n,)``; of the conditional mean where ``y`` is None."""
        law = self.predict_distribution(X)
        return _array(law.log_prob(law.mean if y is None else _response(y, len(law.mean))))

    def responsibilities(self, X: Any, y: Any, *, groups: Any = None) -> np.ndarray:
        """Posterior probability of each expert given x and y, ``(n, k)``.

        With ``groups (n,)``, labels of rows that share an expert or the name of a column of the frame X, that of its
        group at each row.
        """
        X, groups = taken_group_column(X, groups)
        law = self.predict_distribution(X)
        if groups is not None:
            X = validate_data(self, X, dtype=np.float64, reset=False)
            return np.asarray(self.result_.responsibilities(X, _response(y, len(law.mean)), groups=groups))
        return _array(law.log_responsibilities(_response(y, len(law.mean))).exp())


def _response(y: Any, n: int) -> Tensor:
    check_not_masked("y", y)
    response = column_or_1d(check_array(y, ensure_2d=False, dtype=np.float64, input_name="y"))
    if len(response) != n:
        raise ValueError(f"y must have one value for each of {n} rows of X, got {len(response)}")
    return shared_tensor(response)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.numpy(force=True)
