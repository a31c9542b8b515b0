"""What a fit returns: estimates, standard errors, and how it got there."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from torch.func import functional_call

from mixkit._validation import check_choice
from mixkit.measure import MixingMeasure
from mixkit.mixture import MixtureOfExperts

from ..statistics.wald import DeltaEstimate, check_level, delta_method, estimate_at, wald_intervals
from .effective_df import effective_df
from .maximum import KINDS, DataRemovedError, Maximum
from .predictions import FittedMixture
from .summary import Summary, build_summary

if TYPE_CHECKING:
    from ..search.estimator import Estimator


__all__ = [
    "FitResult",
]


@dataclass(eq=False, repr=False)
class FitResult(FittedMixture):
    """A fitted mixture of experts.

    Attributes:
        model: the fitted model, float64.
        param_names: names of the free parameters ``(P,)``; the last expert's gate is the reference, at zero.
        params: estimates ``(P,)``, scales on their natural scale (``std``, not its logarithm).
        llf: total log-likelihood; without the penalty, if there is one.
        converged: whether the end is a maximum: one more Newton step would gain less than the tolerance, and no
            direction of positive curvature is left.
        grad_norm: largest entry of the gradient divided by the sum of the weights, in standardized units.
        predicted_gain: what one more Newton step would add to ``llf`` (NaN if no Hessian was computed).
        history: log-likelihood after each iteration of the start that won.
        start_llf: log-likelihood at the end of every start.
        nobs: number of observations, rows of positive weight.
        seconds: time the fit took.
        warnings: what a reader should know, in words.
        objective_value: what the fit maximized: ``llf`` less the penalty. So are ``history`` and ``start_llf``.
        feature_names: names of the covariates ``(d,)``; None where they had none.
    """

    model: MixtureOfExperts
    param_names: list[str]
    params: np.ndarray
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
    _num_features: int | None = None
    _maximum: Maximum | None = None
    _estimator: "Estimator | None" = None
    _effective_df: float | None = None
    _num_redundant: int = 0

    @property
    def maximum(self) -> Maximum:
        """The parameter vector, its derivatives and the data: what intervals and tests are computed from."""
        if self._maximum is None:
            raise DataRemovedError("this result was made without the data of its fit")
        return self._maximum

    @property
    def estimator(self) -> "Estimator":
        """A copy of the estimator that made the result, with its settings."""
        if self._estimator is None:
            raise DataRemovedError("this result was made without its estimator")
        return copy.copy(self._estimator)

    @property
    def is_positive(self) -> np.ndarray:
        """Which parameters are scales, positive by construction, ``(P,)`` bool."""
        return self.maximum.to_user.is_positive.numpy(force=True)

    @property
    def is_penalized(self) -> bool:
        """Whether the fit maximized something else than the log-likelihood."""
        return abs(self.objective_value - self.llf) > 1e-9 * (1.0 + abs(self.llf))

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

    def cov_params(self, kind: str = "observed") -> np.ndarray:
        r"""Covariance of the estimates ``(P, P)``, NaN where the data do not determine a parameter.

        With H the Hessian of the log-likelihood, :math:`s_i` the gradient of observation i's, :math:`w_i` its weight:

        ========== ==================================================== =====================================
        kind       formula                                              right if
        ========== ==================================================== =====================================
        observed   :math:`(-H)^{-1}`                                    the model holds; weights are counts
        sandwich   :math:`H^{-1} (\sum_i w_i^2 s_i s_i^\top) H^{-1}`    rows are independent, any distribution or weight
        opg        :math:`(\sum_i w_i s_i s_i^\top)^{-1}`               the model holds; weights are counts
        ========== ==================================================== =====================================

        Args:
            kind: one of the three.

        Raises:
            ValueError: for another kind; ``DataRemovedError`` if it needs data that were removed.
        """
        return self.maximum.user_covariance(kind).numpy(force=True)

    def standard_errors(self, kind: str = "observed") -> np.ndarray:
        """Standard errors ``(P,)``, the roots of the diagonal of :meth:`cov_params`."""
        with np.errstate(invalid="ignore"):
            return np.sqrt(np.diag(self.cov_params(kind)))

    @property
    def bse(self) -> np.ndarray:
        """Standard errors ``(P,)`` from the observed information; NaN for parameters that the data do not determine."""
        return self.standard_errors()

    def conf_int(self, level: float = 0.95, *, kind: str = "observed", method: str = "wald") -> np.ndarray:
        """Confidence intervals ``(P, 2)``; those of positive parameters are computed on the log scale.

        Args:
            level: probability of covering the truth, in (0, 1).
            kind: of standard errors, for ``method="wald"`` (see :meth:`cov_params`).
            method: "wald", or "profile" for the parameters at which the likelihood, maximized over all others, has
                fallen by half a chi-square quantile (:func:`estimators.inference.profile_intervals`, which is slower
                and right where the likelihood is not quadratic).

        Raises:
            TypeError: if ``level`` is not a number.
            ValueError: if ``level`` is not in (0, 1), or for another kind or method.
        """
        check_choice("kind", kind, KINDS)
        return _METHODS[check_choice("method", method, _METHODS)](self, check_level(level), kind)

    def delta_method(
        self, function: Callable[[Mapping[str, Tensor]], Tensor], level: float = 0.95, *, kind: str = "observed"
    ) -> DeltaEstimate:
        """A differentiable function of the parameters, with standard error and interval to first order.

        Args:
            function: of a mapping from ``param_names`` to scalar tensors, e.g.
                ``lambda p: -p["intercept[0]"] / p["slope[0,x0]"]``; returns a tensor of any shape.
            level: of the interval, in (0, 1).
            kind: of covariance (see :meth:`cov_params`).

        Raises:
            KeyError: if ``function`` asks for a name that is not in ``param_names``.
            TypeError: if it does not return a tensor.
            ValueError: if its value does not depend on the parameters differentiably.
        """
        named = dict(zip(self.param_names, self.params.tolist(), strict=True))
        return delta_method(function, named, self.cov_params(kind), level)

    def mean_conf_int(self, x: Any, level: float = 0.95, *, kind: str = "observed") -> DeltaEstimate:
        """The conditional mean at each row of ``x (n, d)``, with pointwise confidence intervals by the delta method.

        They show how sure the mean is; ``MixtureOfExpertsRegressor.predict_interval`` shows where y may fall.

        Raises:
            TypeError: if ``x``, an array or a frame, is not numeric.
            ValueError: if it is not ``(n, d)`` and finite, or a frame of other columns than those of the fit;
                ``DataRemovedError`` after ``remove_data``.
        """
        points, objective = self.covariates(x), self.maximum.objective

        def mean(theta: Tensor) -> Tensor:
            law = functional_call(self.model, objective.parameters(theta), (points.to(theta.device),))
            return law.mean

        return estimate_at(mean, self.maximum.theta, self.maximum.covariance(kind), level)

    @property
    def df_model(self) -> int:
        """The number of free parameters: P less those that others make up for, as a temperature of a linear gate."""
        return len(self.params) - self._num_redundant

    @property
    def effective_df(self) -> float:
        """P, or the effective number of parameters of a penalized fit (``effective_df.py``)."""
        return effective_df(self) if self._effective_df is None else self._effective_df

    @property
    def aic(self) -> float:
        """Akaike's criterion, ``2 P - 2 llf``, P the effective number of parameters."""
        return 2.0 * self.effective_df - 2.0 * self.llf

    @property
    def bic(self) -> float:
        """Schwarz's criterion, ``P log n - 2 llf``; n is ``nobs``: rows of positive weight, whatever the weight.

        P is the effective number of parameters. Of weights that are counts of equal rows the criterion of the rows
        written out has their sum in place of n.
        """
        return float(np.log(self.nobs)) * self.effective_df - 2.0 * self.llf

    @property
    def measure(self) -> MixingMeasure:
        """The fit as a mixing measure; raises ``TypeError`` for models that have none."""
        return MixingMeasure.from_module(self.model).detach()

    def summary(self, *, kind: str = "observed", level: float = 0.95) -> Summary:
        """A table of estimates, standard errors, z values, p values and intervals; prints as text.

        Args:
            kind: of standard errors (see :meth:`cov_params`).
            level: of the intervals, in (0, 1).
        """
        return build_summary(self, kind, level)

    def to_frame(self, *, kind: str = "observed", level: float = 0.95) -> Any:
        """The table of :meth:`summary` as a pandas frame, a row for each parameter."""
        return self.summary(kind=kind, level=level).to_frame()

    def __repr__(self) -> str:
        """The main figures in a line."""
        state = "converged" if self.converged else "not converged"
        return f"FitResult(k={self.model.num_experts}, llf={self.llf:.6g}, {state}, nobs={self.nobs})"


def _wald(result: FitResult, level: float, kind: str) -> np.ndarray:
    return wald_intervals(result.params, result.standard_errors(kind), result.is_positive, level)


def _profile(result: FitResult, level: float, kind: str) -> np.ndarray:
    from ..inference import profile_intervals  # which imports this module

    return profile_intervals(result, level=level)


_METHODS: dict[str, Callable[[FitResult, float, str], np.ndarray]] = {"wald": _wald, "profile": _profile}
