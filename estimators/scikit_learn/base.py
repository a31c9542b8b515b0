"""What the scikit-learn faces of the estimators share: rows, gates by name, reports, predicted distributions."""

import copy
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from mixkit.experts.predictors import LinearPredictor
from mixkit.gates import Gate, gate_by_name, gate_names
from mixkit.mixture import ExpertMixture, MixtureOfExperts
from mixkit.parameters import patterned_parts

from ..data.collinearity import CollinearityWarning
from ..data.columns import are_same, column_names, with_names
from ..data.tensors import check_not_masked, shared_tensor
from ..data.units import group_labels
from ..results.fit_result import FitResult
from ..search.estimator import Estimator
from ..statistics.covariance import SingularInformationWarning

__all__ = ["MixtureFace", "unchanged_by_errors"]


@contextmanager
def unchanged_by_errors(face: BaseEstimator) -> Iterator[None]:
    """What a face holds is put back if the block raises: a fit that fails leaves the one before whole."""
    before = dict(vars(face))
    try:
        yield
    except BaseException:
        vars(face).clear()
        vars(face).update(before)
        raise


class MixtureFace(BaseEstimator):
    """A mixture of experts fitted to ``X (n, d)`` and y.

    With ``gate``, ``max_iter``, ``warm_start`` and ``random_state``.
    """

    @staticmethod
    def _check_no_masks(**parts: Any) -> None:
        for name, part in parts.items():
            check_not_masked(name, part)

    def _positive_rows(self, X: np.ndarray, y: np.ndarray, sample_weight: Any) -> tuple[np.ndarray, np.ndarray, Any]:
        """The rows whose weight is positive, with their checked weights."""
        if sample_weight is None:
            return X, y, None
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        return X[weight > 0], y[weight > 0], weight[weight > 0]

    @staticmethod
    def _of_positive_rows(groups: Any, sample_weight: Any) -> Any:
        """The labels of the rows whose weight is positive, in an object to which no other rows belong."""
        if groups is None or sample_weight is None:
            return groups
        codes, labels = group_labels("groups", groups)
        weight = np.asarray(sample_weight, dtype=np.float64)
        if len(codes) != len(weight):
            raise ValueError(f"groups must have one label for each of the {len(weight)} rows of X, got {len(codes)}")
        return [labels[code] for code in codes[weight > 0]]

    def _result_of(
        self, model: MixtureOfExperts, X: np.ndarray, y: np.ndarray, sample_weight: Any, **units: Any
    ) -> FitResult:
        """The fit, with the names of the covariates; its warnings go on to the caller of ``fit``.

        Those of a singular information do not: ``summary`` says it, and predictions do not suffer.
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", CollinearityWarning)
            warnings.simplefilter("ignore", SingularInformationWarning)
            model, estimator = self._start_of(model)
            result = estimator.fit(model, X, y, sample_weight, **units)
        names = getattr(self, "feature_names_in_", None)
        if names is not None:
            result.rename_features(names)
        for warning in caught:
            text = str(warning.message)
            warnings.warn(text if names is None else with_names(text, names), warning.category, stacklevel=4)
        return result

    @abstractmethod
    def _estimator(self) -> Estimator:
        """What fits the model."""

    def _start_of(self, model: MixtureOfExperts) -> tuple[MixtureOfExperts, Estimator]:
        """The model and what fits it: with ``warm_start`` from the fit before, if that is a model of the same form."""
        estimator = self._estimator()
        before = getattr(self, "result_", None) if self.warm_start else None
        if before is None or not _have_one_form(before.model, model):
            return model, estimator
        return before.model, estimator._warm_start()

    @property
    def coef_(self) -> np.ndarray:
        """Slopes of the experts ``(k, d)``, or ``(k, m, d)`` of m locations each; of linear predictors alone."""
        return self._linear_part("slope")

    @property
    def intercept_(self) -> np.ndarray:
        """Intercepts of the experts ``(k,)``, or ``(k, m)`` of m locations each; of linear predictors alone."""
        return self._linear_part("intercept")

    def _linear_part(self, name: str) -> np.ndarray:
        check_is_fitted(self)
        predictor = getattr(self.result_.model.experts, "predictor", None)
        if not isinstance(predictor, LinearPredictor):
            raise AttributeError(f"only experts with a LinearPredictor have coefficients, got {predictor!r}")
        return getattr(predictor, name).numpy(force=True).copy()

    @property
    def aic_(self) -> float:
        """Akaike's criterion of the fit; streams have none."""
        return self._criterion("aic")

    @property
    def bic_(self) -> float:
        """Schwarz's criterion of the fit; streams have none."""
        return self._criterion("bic")

    def _criterion(self, name: str) -> float:
        check_is_fitted(self)
        if not isinstance(self.result_, FitResult):
            raise AttributeError("a stream has no log-likelihood of its rows, and so no criteria")
        return float(getattr(self.result_, name))

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _new_gate(self, d: int, k: int, settings: dict[str, Any]) -> Gate:
        """A copy of the gate, or a new one of its name, checked to have k experts."""
        if isinstance(self.gate, Gate):
            gate = copy.deepcopy(self.gate)
        elif isinstance(self.gate, str) and self.gate in gate_names(with_options=False):
            gate = gate_by_name(self.gate, d, k, **settings)
        else:
            raise ValueError(
                f"gate must be a Gate or one of {sorted(gate_names(with_options=False))}, got {self.gate!r}"
            )
        if gate.num_experts != k:
            raise ValueError(f"gate must have n_experts={k} experts, got {gate.num_experts}")
        return gate

    def _report(self, result: Any) -> None:
        """Set the attributes that say how the fit went, and warn if it did not converge."""
        self.log_likelihood_ = result.llf
        self.converged_ = result.converged
        self.n_iter_ = max(1, len(result.history))
        if not self.converged_:
            warnings.warn(
                f"the fit did not reach a maximum in {len(result.history)} iterations (predicted gain "
                f"{result.predicted_gain:.2g}); raise max_iter or n_init, or add a penalty if parameters run to "
                "infinity, as intercepts do where an expert never meets a class or a count but zero",
                ConvergenceWarning,
                stacklevel=4,
            )

    def predict_distribution(self, X: Any) -> ExpertMixture:
        """The distribution of y (of a classifier: of the class index) at each row of X, batch shape ``(n,)``."""
        check_is_fitted(self)
        self._check_no_masks(X=X)
        names, fitted = column_names(X), getattr(self, "_columns", None)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        if (
            names is not None and fitted is not None and not are_same(names, fitted)
        ):  # scikit-learn looks at strings alone
            raise ValueError(f"X must have the columns of the fit in their order, {fitted}, got {names}")
        with torch.no_grad():
            return self.result_.model(shared_tensor(X))


def _have_one_form(first: MixtureOfExperts, second: MixtureOfExperts) -> bool:
    """Whether two models are made of the same parts, of the same sizes."""
    shapes = [{name: part.shape for name, part in model.state_dict().items()} for model in (first, second)]
    patterns = [[part.pattern for _, part in patterned_parts(model)] for model in (first, second)]
    return shapes[0] == shapes[1] and patterns[0] == patterns[1] and repr(first) == repr(second)
