"""What a fit returns: estimates, standard errors, and how it got there."""

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from mixkit._validation import check_choice
from mixkit.measure import MixingMeasure
from mixkit.mixture import MixtureOfExperts

from ..statistics.wald import check_level
from .criteria import InformationCriteria
from .hypothesis_tests import HypothesisTests
from .in_sample import InSample
from .maximum import COVARIANCES, DataRemovedError, Maximum
from .predictions import Recipe
from .saved import Saved
from .summary import Summary, table_rows

__all__ = ["FitResult"]

_COVARIANCE_WORDS = {
    "observed": "observed information",
    "sandwich": "sandwich (robust)",
    "opg": "outer product of scores",
    "cluster": "sandwich by clusters (robust)",
}


@dataclass(eq=False, repr=False)
class FitResult(InformationCriteria, HypothesisTests, InSample, Saved):
    """A fitted mixture of experts: estimates, how the search got there, criteria, tables.

    Predictions are those of :class:`~estimators.results.predictions.FittedMixture`, standard errors and intervals those
    of :class:`~estimators.results.likelihood_inference.LikelihoodInference`, p values and Wald tests those of
    :class:`~estimators.results.hypothesis_tests.HypothesisTests`, criteria those of
    :class:`~estimators.results.criteria.InformationCriteria`, fitted values those of
    :class:`~estimators.results.in_sample.InSample`; :class:`~estimators.results.saved.Saved` reads and writes files.

    Attributes:
        model: the fitted model, float64.
        param_names: names of the free parameters ``(P,)``; the last expert's gate is the reference, at zero.
        estimates: ``(P,)``, scales on their natural scale (``std``, not its logarithm); ``params`` has them by name.
        llf: total log-likelihood; without the penalty, if there is one.
        converged: whether the end is a maximum: one more Newton step would gain less than the tolerance, and no
            direction of positive curvature is left.
        grad_norm: largest entry of the gradient divided by the sum of the weights, in standardized units.
        predicted_gain: what one more Newton step would add to ``llf`` (NaN if no Hessian was computed).
        history: log-likelihood after each iteration of the start that won.
        start_llf: log-likelihood at the end of every start.
        nobs: number of observations, rows of positive weight.
        num_groups: number of groups of rows that share an expert, of positive weight; None where each row has its own.
        seconds: time the fit took.
        warnings: what a reader should know, in words.
        objective_value: what the fit maximized: ``llf`` less the penalty. So are ``history`` and ``start_llf``.
        feature_names: names of the covariates ``(d,)``; None where they had none.
    """

    model: MixtureOfExperts
    param_names: list[str]
    estimates: np.ndarray
    llf: float
    converged: bool
    grad_norm: float
    predicted_gain: float
    history: np.ndarray
    start_llf: np.ndarray
    nobs: int
    seconds: float
    warnings: list[str] = field(default_factory=list)
    objective_value: float = float("nan")
    feature_names: list[str] | None = None
    num_groups: int | None = None
    _num_features: int | None = None
    _maximum: Maximum | None = None
    _estimator: Any = None
    _effective_df: float | None = None
    _num_redundant: int = 0
    _fitted_rows: Tensor | None = None
    _num_given: int | None = None
    _recipe: Recipe | None = None

    @property
    def estimator(self) -> Any:
        """A copy of the estimator that made the result (:class:`~estimators.Estimator`), with its settings."""
        if self._estimator is None:
            raise DataRemovedError("this result was made without its estimator")
        return copy.copy(self._estimator)

    def remove_data(self) -> None:
        """Forget the observations, for a small pickle; what needs them raises ``DataRemovedError`` from then on.

        Estimates, standard errors from the observed information, the summary and the model stay; so do covariances of
        other kinds that were asked for before.
        """
        self._effective_df = self.effective_df
        self.maximum.remove_data()
        if self._estimator is not None:
            self._estimator = self.estimator
            self._estimator.starts = None  # which may hold a guess of every observation

    @property
    def measure(self) -> MixingMeasure:
        """The fit as a mixing measure; raises ``TypeError`` for models that have none."""
        return MixingMeasure.from_module(self.model).detach()

    def summary(self, *, cov_type: str = "observed", level: float = 0.95, groups: Any = None) -> Summary:
        """A table of estimates, standard errors, z values, p values and intervals; prints as text.

        Args:
            cov_type: of standard errors (see :meth:`cov_params`).
            level: of the intervals, in (0, 1).
            groups: for ``cov_type="cluster"``.

        Raises:
            TypeError: if ``level`` is not a number.
            ValueError: for another covariance, or a level outside (0, 1).
        """
        errors = self.standard_errors(check_choice("cov_type", cov_type, COVARIANCES), groups=groups)
        rows = table_rows(self.params, errors, self.is_positive, level=check_level(level))
        reference = f"Expert {self.model.num_experts - 1} is the gate's reference. "
        notes = [
            *([f"Formula: {self.formula}."] if self.formula is not None else []),
            f"{reference if self.model.gate.shift_invariant else ''}Standard errors: {_COVARIANCE_WORDS[cov_type]}.",
            *(f"Warning: {remark}." for remark in self.warnings),
        ]
        return Summary(self._head(cov_type), self.param_names, rows, notes, level)

    def _head(self, cov_type: str) -> list[tuple[str, str]]:
        model = self.model
        return [
            ("Experts", f"{model.num_experts} x {type(model.experts).__name__}"),
            ("Gate", f"{type(model.gate.normalizer).__name__} of {type(model.gate.score).__name__}"),
            ("Method", "Penalized likelihood" if self.is_penalized else "Maximum likelihood"),
            ("Covariance Type", cov_type),
            ("Converged", "yes" if self.converged else "no"),
            ("Starts at this maximum", self._starts_here()),
            ("No. Observations", str(self.nobs)),
            *([] if self.num_groups is None else [("No. Groups", str(self.num_groups))]),
            ("Df Model", f"{self.effective_df:.1f}" if self.is_penalized else str(self.df_model)),
            ("Log-Likelihood", f"{self.llf:.4f}"),
            ("AIC", f"{self.aic:.3f}"),
            ("BIC", f"{self.bic:.3f}"),
            ("Gradient per obs.", f"{self.grad_norm:.1e}"),
        ]

    def _starts_here(self) -> str:
        near = np.abs(self.start_llf - self.start_llf.max()) < 1e-6 * (1.0 + abs(self.llf))
        return f"{int(near.sum())} of {len(near)}"

    def to_frame(self, *, cov_type: str = "observed", level: float = 0.95, groups: Any = None) -> Any:
        """The table of :meth:`summary` as a pandas frame, a row for each parameter."""
        return self.summary(cov_type=cov_type, level=level, groups=groups).to_frame()

    def __repr__(self) -> str:
        """The main figures in a line."""
        state = "converged" if self.converged else "not converged"
        return f"FitResult(k={self.model.num_experts}, llf={self.llf:.6g}, {state}, nobs={self.nobs})"
