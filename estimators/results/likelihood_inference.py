"""How sure the estimates of a fit are: covariances, standard errors, intervals, functions of the parameters."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from mixkit._validation import check_choice

from ..data.units import check_is_coarser, group_labels
from ..statistics.named_vector import NamedVector
from ..statistics.wald import DeltaEstimate, check_level, delta_method, estimate_at, wald_intervals
from .maximum import COVARIANCES, DataRemovedError, Maximum
from .predictions import FittedMixture
from .profile import profile_intervals

__all__ = ["LikelihoodInference"]


class LikelihoodInference(FittedMixture):
    """The part of a result that rests on the curvature of the likelihood at its maximum.

    Attributes:
        estimates: ``(P,)``, scales on their natural scale (``std``, not its logarithm).
        objective_value: what the fit maximized: the log-likelihood less the penalty.
    """

    estimates: np.ndarray
    objective_value: float
    _maximum: Maximum | None
    _fitted_rows: Tensor | None
    _num_given: int | None

    @property
    def params(self) -> NamedVector:
        """Estimates ``(P,)`` by position or name, ``params["slope[0,bmi]"]``; scales on their natural scale."""
        return NamedVector(self.estimates, self.param_names)

    @property
    def maximum(self) -> Maximum:
        """The parameter vector, its derivatives and the data: what intervals and tests are computed from."""
        if self._maximum is None:
            raise DataRemovedError("this result was made without the data of its fit")
        return self._maximum

    @property
    def is_positive(self) -> np.ndarray:
        """Which parameters are scales, positive by construction, ``(P,)`` bool."""
        return self.maximum.to_user.is_positive.numpy(force=True)

    def cov_params(self, cov_type: str = "observed", *, groups: Any = None) -> np.ndarray:
        r"""Covariance of the estimates ``(P, P)``, NaN where the data do not determine a parameter.

        With H the Hessian of the log-likelihood, :math:`s_i` the gradient of observation i's, :math:`w_i` its weight:

        ========== ==================================================== =====================================
        cov_type   formula                                              right if
        ========== ==================================================== =====================================
        observed   :math:`(-H)^{-1}`                                    the model holds; weights are counts
        sandwich   :math:`H^{-1} (\sum_i w_i^2 s_i s_i^\top) H^{-1}`    rows are independent, any distribution or weight
        opg        :math:`(\sum_i w_i s_i s_i^\top)^{-1}`               the model holds; weights are counts
        cluster    the sandwich of sums of :math:`w_i s_i` over groups  groups of rows are independent
        ========== ==================================================== =====================================

        Where groups of rows share an expert, i counts these groups. "cluster" is for rows that have each an expert of
        their own and depend all the same; with G groups it has the factor :math:`G / (G - 1)`
        (:func:`~estimators.statistics.covariance.clustered`).

        Args:
            cov_type: one of the four.
            groups: labels ``(n,)`` of the rows that the fit was given, for "cluster".

        Raises:
            TypeError: if ``groups`` are no labels.
            ValueError: for another type, or ``groups`` of another length, of one label alone, that part rows that share
                an expert, or with another type; ``DataRemovedError`` if it needs data that were removed.
        """
        return self.maximum.user_covariance(cov_type, self._clusters(cov_type, groups)).numpy(force=True)

    def _clusters(self, cov_type: str, groups: Any) -> Tensor | None:
        """The cluster of each unit of the fit, ``(g,)``; None without groups."""
        if groups is None:
            return None
        if cov_type != "cluster":
            raise ValueError(f"groups must be None for cov_type={cov_type!r}; they are for 'cluster'")
        codes, labels = group_labels("groups", groups)
        rows, data = self._fitted_rows, self.maximum.data
        given = data.x.shape[1] if rows is None else self._num_given
        if len(codes) != given:
            raise ValueError(f"groups must have one label for each of the {given} rows of the fit, got {len(codes)}")
        own = torch.as_tensor(codes).to(data.x.device)
        own = own if rows is None else own[rows]
        if data.units is not None:
            check_is_coarser(own, data.units, labels)
            own = own[data.units.first]
        return own.unique(return_inverse=True)[1]

    def standard_errors(self, cov_type: str = "observed", *, groups: Any = None) -> NamedVector:
        """Standard errors ``(P,)``, the roots of the diagonal of :meth:`cov_params`."""
        with np.errstate(invalid="ignore"):
            return NamedVector(np.sqrt(np.diag(self.cov_params(cov_type, groups=groups))), self.param_names)

    @property
    def bse(self) -> NamedVector:
        """Standard errors ``(P,)`` from the observed information; NaN for parameters that the data do not determine."""
        return self.standard_errors()

    def conf_int(
        self, *, level: float = 0.95, cov_type: str = "observed", method: str = "wald", groups: Any = None
    ) -> np.ndarray:
        """Confidence intervals ``(P, 2)``; those of positive parameters are computed on the log scale.

        Args:
            level: probability of covering the truth, in (0, 1): 0.95 where other libraries ask for alpha = 0.05. Levels
                below one half are allowed.
            cov_type: of standard errors, for ``method="wald"`` (see :meth:`cov_params`).
            method: "wald", or "profile" for the parameters at which the likelihood, maximized over all others, has
                fallen by half a chi-square quantile (:func:`estimators.inference.profile_intervals`, which is slower
                and right where the likelihood is not quadratic).
            groups: for ``cov_type="cluster"`` (see :meth:`cov_params`).

        Raises:
            TypeError: if ``level`` is not a number, or is given by position.
            ValueError: if ``level`` is not in (0, 1), or for another covariance or method.
        """
        check_choice("cov_type", cov_type, COVARIANCES)
        rule = _METHODS[check_choice("method", method, _METHODS)]
        return rule(self, cov_type, groups, check_level(level))

    def delta_method(
        self,
        function: Callable[[Mapping[str, Tensor]], Tensor],
        *,
        level: float = 0.95,
        cov_type: str = "observed",
        groups: Any = None,
    ) -> DeltaEstimate:
        """A differentiable function of the parameters, with standard error and interval to first order.

        Args:
            function: of a mapping from ``param_names`` to scalar tensors, e.g.
                ``lambda p: -p["intercept[0]"] / p["slope[0,x0]"]``; returns a tensor of any shape.
            level: of the interval, in (0, 1).
            cov_type: of the estimates (see :meth:`cov_params`).
            groups: for ``cov_type="cluster"``.

        Raises:
            KeyError: if ``function`` asks for a name that is not in ``param_names``.
            TypeError: if it does not return a tensor.
            ValueError: if its value does not depend on the parameters differentiably.
        """
        named = dict(zip(self.param_names, self.params.tolist(), strict=True))
        return delta_method(function, named, self.cov_params(cov_type, groups=groups), level=level)

    def mean_conf_int(
        self, x: Any, *, level: float = 0.95, cov_type: str = "observed", groups: Any = None
    ) -> DeltaEstimate:
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

        covariance = self.maximum.covariance(cov_type, self._clusters(cov_type, groups))
        return estimate_at(mean, self.maximum.theta, covariance, level=level)


def _wald(fit: LikelihoodInference, cov_type: str, groups: Any, level: float) -> np.ndarray:
    return wald_intervals(fit.params, fit.standard_errors(cov_type, groups=groups), fit.is_positive, level=level)


def _profile(fit: LikelihoodInference, cov_type: str, groups: Any, level: float) -> np.ndarray:
    return profile_intervals(fit, level=level)


_METHODS: dict[str, Callable[[LikelihoodInference, str, Any, float], np.ndarray]] = {"wald": _wald, "profile": _profile}
