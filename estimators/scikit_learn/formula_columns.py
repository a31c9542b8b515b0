"""Terms of a formula as a scikit-learn transformer, so that faces and searches take frames with categories."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ..formula.encoder import Encoder, read_terms
from ..formula.recipe import complete_columns

__all__ = ["FormulaColumns"]


class FormulaColumns(TransformerMixin, BaseEstimator):
    """Encode frames by the terms of a formula; the columns have the names of terms, and there is no intercept.

    For pipelines before :class:`~estimators.MixtureOfExpertsRegressor` and its kin, and for
    :func:`~estimators.select_experts`. Needs the extra ``formula``.

    Args:
        terms: as in :func:`~estimators.fit_formula`, ``"x + C(group) + log(dose)"``.

    Attributes:
        encoder_: levels, knots and means that ``fit`` has learned.

    Raises:
        TypeError: if ``X`` is no frame, or ``terms`` no string.
        ValueError: for terms that cannot be read or computed, absent columns, missing values and unseen levels.

    Example:
        >>> from sklearn.pipeline import make_pipeline
        >>> from estimators import FormulaColumns, MixtureOfExpertsRegressor
        >>> data = {"x": [0.0, 1.0, 2.0, 3.0], "group": ["a", "b", "a", "b"]}
        >>> list(FormulaColumns("x * group").fit_transform(data).columns)
        ['x', 'group[T.b]', 'x:group[T.b]']
        >>> model = make_pipeline(FormulaColumns("x + group"), MixtureOfExpertsRegressor(n_experts=1))
        >>> model.fit(data, [0.0, 1.5, 2.0, 3.4]).predict(data).shape
        (4,)
    """

    def __init__(self, terms: str = "1") -> None:
        self.terms = terms

    def fit(self, X: Any, y: Any = None) -> "FormulaColumns":
        """Learn the levels, knots and means of a frame ``X``; ``y`` is not used."""
        terms = read_terms("terms", self.terms)
        self.encoder_, _, _ = Encoder.learned(terms, complete_columns(X, terms.variables))
        return self

    def transform(self, X: Any) -> Any:
        """The columns ``(n, d)`` of a frame, as a pandas frame."""
        check_is_fitted(self)
        columns = self.encoder_.encoded(complete_columns(X, self.encoder_.terms.variables))
        return columns[list(self.get_feature_names_out())]

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns; ``input_features`` is not used."""
        check_is_fitted(self)
        return np.array([name for name in self.encoder_.columns if name != "Intercept"], dtype=object)
