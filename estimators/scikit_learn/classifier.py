"""The scikit-learn face of mixtures of multinomial logit experts."""

import copy
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d, validate_data
from torch import Tensor

from mixkit._validation import check_integer, check_non_negative
from mixkit.experts import CategoricalExperts
from mixkit.experts.predictors import LinearPredictor
from mixkit.gates import Gate
from mixkit.mixture import MixtureOfExperts

from ..data.columns import column_names
from ..data.units import taken_group_column
from ..em import EM
from ..penalties import Ridge
from ..search.estimator import Estimator
from .base import MixtureFace, unchanged_by_errors

__all__ = ["MixtureOfExpertsClassifier"]


class MixtureOfExpertsClassifier(ClassifierMixin, MixtureFace):
    r"""Mixture-of-experts classification, :math:`P(y = c \mid x) = \sum_j w_j(x) \, \mathrm{softmax}(A_j x + b_j)_c`.

    Experts are multinomial logit regressions. Labels that a hyperplane separates have no finite maximum-likelihood
    estimate, so slopes of gate and experts are penalized, as in scikit-learn's ``LogisticRegression``, which is the
    case of one expert. Intercepts are not penalized, and one may still have no finite estimate where an expert never
    meets a class.

    Args:
        n_experts: number of experts k; at most the number of observations.
        gate: a word of :func:`mixkit.gates.gate_by_name` ("softmax", "constant", "sigmoid", "laplace", ...), or a
            :class:`~mixkit.gates.Gate` for the data's number of covariates.
        experts: :class:`~mixkit.experts.CategoricalExperts` for the data's number of classes; None for linear ones.
        ridge: strength of the ridge penalty on standardized slopes of gate and experts
            (:class:`~estimators.penalties.Ridge`), non-negative; 0 for maximum likelihood.
        n_init: number of starts.
        max_iter: most Newton iterations of a start.
        tol: a fit has converged when one more Newton step would add less than this to what is maximized.
        warm_start: whether ``fit`` starts from the fit before alone, as long as that has the same form.
        estimator: an :class:`~estimators.search.estimator.Estimator` to use in place of :class:`~estimators.em.EM`;
            ``ridge``, ``n_init``, ``max_iter``, ``tol`` and ``random_state`` are then its own.
        random_state: seed, ``numpy.random.RandomState`` or None, as everywhere in scikit-learn.

    Attributes:
        classes_: the labels, sorted.
        log_likelihood_: total log-likelihood of the training data.
        converged_: whether the fit reached a maximum.
        n_iter_: EM and Newton iterations of the start that won.
        result_: the :class:`~estimators.results.fit_result.FitResult`: standard errors, summary; classes by their
            index.
        coef_: slopes of linear experts, ``(k, d)`` or ``(k, m, d)``; ``intercept_`` their intercepts.
        aic_: Akaike's criterion; ``bic_`` Schwarz's.
        n_features_in_: number of covariates.
        feature_names_in_: their names, if x had any.

    Raises:
        ValueError: for NaN, infinities, wrong shapes, labels of one class, or a gate or experts of another size.

    Source: Jordan and Jacobs (1994), Neural Computation 6, 181-214.

    Example:
        >>> import numpy as np
        >>> from estimators import MixtureOfExpertsClassifier
        >>> x = np.random.default_rng(0).uniform(-1.0, 1.0, size=(400, 2))
        >>> y = np.where(x[:, 0] * x[:, 1] > 0, "same", "other")  # no hyperplane separates these
        >>> model = MixtureOfExpertsClassifier(n_experts=2, ridge=0.1, random_state=0).fit(x, y)
        >>> model.predict([[0.5, 0.5], [-0.5, 0.5]]), model.score(x, y) > 0.95
        (array(['same', 'other'], dtype='<U5'), True)
    """

    def __init__(
        self,
        n_experts: int = 2,
        *,
        gate: str | Gate = "softmax",
        experts: CategoricalExperts | None = None,
        ridge: float = 1.0,
        n_init: int = 10,
        max_iter: int = 200,
        tol: float = 1e-9,
        warm_start: bool = False,
        estimator: Estimator | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_experts = n_experts
        self.gate = gate
        self.experts = experts
        self.ridge = ridge
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.estimator = estimator
        self.random_state = random_state

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None, weights_of: str = "groups"
    ) -> "MixtureOfExpertsClassifier":
        """Fit by penalized maximum likelihood.

        Args:
            X: covariates ``(n, d)``; a pandas frame gives the feature names.
            y: labels ``(n,)``, of any type.
            sample_weight: ``(n,)``, non-negative; observations of weight zero are left out.
            groups: labels ``(n,)`` of rows that share an expert, or the name of a column of the frame X, then no
                covariate; see :meth:`estimators.Estimator.fit`.
            weights_of: whether ``sample_weight`` is that of "groups" or of "rows" where there are groups.
        """
        with unchanged_by_errors(self):
            return self._fit(X, y, sample_weight, groups, weights_of)

    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any, weights_of: str) -> "MixtureOfExpertsClassifier":
        self._check_no_masks(X=X, y=y, sample_weight=sample_weight)
        X, groups = taken_group_column(X, groups)
        self._columns = column_names(X)
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        groups = self._of_positive_rows(groups, sample_weight)
        X, y, sample_weight = self._positive_rows(X, y, sample_weight)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must hold at least 2 classes, got {len(self.classes_)} class")
        model = self._model(X.shape[1])
        self.result_ = self._result_of(
            model, X, labels.astype(np.float64), sample_weight, groups=groups, weights_of=weights_of
        )
        self._report(self.result_)
        return self

    def _estimator(self) -> Estimator:
        if self.estimator is not None:
            return self.estimator
        strength = check_non_negative("ridge", self.ridge)
        penalty = Ridge(gate=strength, experts=strength) if strength else None
        return EM(n_init=self.n_init, max_iter=self.max_iter, tol=self.tol, penalty=penalty, random_state=self._seed())

    def _model(self, d: int) -> MixtureOfExperts:
        k = check_integer("n_experts", self.n_experts, low=1)
        settings: dict[str, Any] = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(0)}
        gate = self._new_gate(d, k, settings)
        experts = copy.deepcopy(self.experts)
        if experts is None:
            experts = CategoricalExperts(LinearPredictor(d, k, response_dim=len(self.classes_) - 1, **settings))
        if not isinstance(experts, CategoricalExperts):
            raise TypeError(f"experts must be mixkit.experts.CategoricalExperts, got {type(experts).__name__}")
        if experts.num_classes != len(self.classes_):
            raise ValueError(f"experts must have the {len(self.classes_)} classes of y, got {experts.num_classes}")
        return MixtureOfExperts(gate, experts)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Log-probabilities of the classes, ``(n, C)``."""
        law = self.predict_distribution(X)
        joint = law.log_weights.unsqueeze(-1) + law.components.log_probs  # type: ignore[union-attr]
        return _array(torch.log_softmax(torch.logsumexp(joint, -2), -1))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes, ``(n, C)``, in the order of ``classes_``."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row, ``(n,)``."""
        best = self.predict_log_proba(X).argmax(1)
        return self.classes_[best]

    def gate_weights(self, X: Any) -> np.ndarray:
        """Weights of the experts at each row of X, ``(n, k)``."""
        return _array(self.predict_distribution(X).log_weights.exp())

    def responsibilities(self, X: Any, y: Any) -> np.ndarray:
        """Posterior probability of each expert given x and the label y, ``(n, k)``.

        Args:
            X: covariates ``(n, d)``.
            y: labels ``(n,)``.

        Raises:
            ValueError: if a label is not among ``classes_``, or there is not one for each row of X.
        """
        law = self.predict_distribution(X)
        y = column_or_1d(y)
        if len(y) != len(law.log_weights):
            raise ValueError(f"y must have one label for each of {len(law.log_weights)} rows of X, got {len(y)}")
        unknown = ~np.isin(y, self.classes_)
        if unknown.any():
            raise ValueError(f"y must hold labels of {list(self.classes_)}, got {y[unknown][0]!r}")
        index = torch.as_tensor(np.searchsorted(self.classes_, y), dtype=torch.float64)
        return _array(law.log_responsibilities(index).exp())


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.numpy(force=True)
