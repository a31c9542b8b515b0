"""What a fit returns: estimates, standard errors, and how it got there."""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mixkit.measure import MixingMeasure
from mixkit.mixture import MixtureOfExperts

from .covariance import inverse_information, warn_undetermined
from .newton import Ascent
from .objective import Objective
from .summary import Summary, build_summary

_ABRUPT = "where experts change abruptly the gate has no finite estimate, only the border between them has one"
_NOT_CONVERGED = "not converged: the end is no maximum, or lies on a border of a selection"

__all__ = ["FitBatch", "FitResult", "build_batch", "build_result"]


@dataclass(eq=False, repr=False)
class FitResult:
    """A fitted mixture of experts.

    Attributes:
        model: the fitted model, float64.
        param_names: names of the free parameters ``(P,)``; the last expert's gate is the reference, at zero.
        params: estimates ``(P,)``, scales on their natural scale (``std``, not its logarithm).
        llf: total log-likelihood.
        converged: whether the end is a maximum: one more Newton step would gain less than the tolerance, and no
            direction of positive curvature is left.
        grad_norm: largest entry of the gradient divided by the number of observations, in standardised units.
        predicted_gain: what one more Newton step would add to ``llf`` (NaN if no Hessian was computed).
        history: log-likelihood after each iteration of the start that won.
        start_llf: log-likelihood at the end of every start.
        nobs: number of observations.
        seconds: time the fit took.
        warnings: what a reader should know, in words.
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
    _covariance: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))

    def rename_features(self, names: Sequence[str]) -> None:
        """Put the covariates' names in place of x0, x1, ... in ``param_names``."""
        self.param_names = [
            re.sub(r",x(\d+)\]$", lambda match: f",{names[int(match[1])]}]", name) for name in self.param_names
        ]

    def cov_params(self) -> np.ndarray:
        """Covariance of the estimates ``(P, P)`` from the observed information; NaN where it is singular."""
        return self._covariance.copy()

    @property
    def bse(self) -> np.ndarray:
        """Standard errors ``(P,)``; NaN for parameters that the data do not determine."""
        with np.errstate(invalid="ignore"):
            return np.sqrt(np.diag(self._covariance))

    @property
    def df_model(self) -> int:
        """The number P of free parameters."""
        return len(self.params)

    @property
    def aic(self) -> float:
        """Akaike's criterion, ``2 P - 2 llf``."""
        return 2.0 * self.df_model - 2.0 * self.llf

    @property
    def bic(self) -> float:
        """Schwarz's criterion, ``P log n - 2 llf``."""
        return float(np.log(self.nobs)) * self.df_model - 2.0 * self.llf

    @property
    def measure(self) -> MixingMeasure:
        """The fit as a mixing measure; raises ``TypeError`` for models that have none."""
        return MixingMeasure.from_module(self.model).detach()

    def summary(self) -> Summary:
        """A table of estimates, standard errors, z values and 95% intervals; prints as text."""
        return build_summary(self)

    def __repr__(self) -> str:
        """The main figures in a line."""
        state = "converged" if self.converged else "not converged"
        return f"FitResult(k={self.model.num_experts}, llf={self.llf:.6g}, {state}, nobs={self.nobs})"


@dataclass(eq=False)
class FitBatch:
    """Fits of one model to ``r`` data sets.

    Attributes:
        models: the fitted model of each data set, float64.
        llf: total log-likelihoods ``(r,)``.
        converged: whether each end is a maximum ``(r,)``.
        grad_norm: largest gradient entry per observation ``(r,)``.
        predicted_gain: what one more Newton step would add to each log-likelihood ``(r,)``.
        num_iterations: Newton or EM iterations of the batch.
    """

    models: list[MixtureOfExperts]
    llf: np.ndarray
    converged: np.ndarray
    grad_norm: np.ndarray
    predicted_gain: np.ndarray
    num_iterations: int

    @property
    def measure(self) -> MixingMeasure:
        """All the fits as one batched mixing measure."""
        measures = [MixingMeasure.from_module(model).detach() for model in self.models]
        names = ("gate_bias", "gate_weight", "slope", "intercept", "variance")
        return MixingMeasure(*(torch.stack([getattr(m, name) for m in measures]) for name in names))

    def __len__(self) -> int:
        """The number r of data sets."""
        return len(self.models)


def _grad_norm(objective: Objective, ascent: Ascent) -> Tensor:
    gradient = ascent.evaluation.gradient[:, 0]
    held = (ascent.theta[:, 0] <= objective.lower) & (gradient < 0)
    return torch.where(held, 0.0, gradient).abs().amax(-1) / objective.n


def build_result(
    model: MixtureOfExperts, objective: Objective, ascent: Ascent, values: list[Tensor], ends: Tensor, seconds: float
) -> FitResult:
    """The result of one data set from its best end."""
    theta = ascent.theta[0, 0]
    fitted = copy.deepcopy(model).to(torch.float64).eval()
    objective.write(theta, fitted)
    estimate = objective.estimate(theta, _covariance(objective, ascent))
    undetermined = estimate.covariance.diagonal().isnan()
    names = [name for name, missing in zip(estimate.names, undetermined.tolist(), strict=True) if missing]
    if ascent.evaluation.hessian.numel():
        warn_undetermined(names)
    return FitResult(
        model=fitted,
        param_names=estimate.names,
        params=estimate.values.numpy(force=True),
        llf=float(ascent.value),
        converged=bool(ascent.converged),
        grad_norm=float(_grad_norm(objective, ascent)),
        predicted_gain=float(ascent.predicted_gain),
        history=np.array([float(value) for value in values]),
        start_llf=ends[0].numpy(force=True),
        nobs=objective.n,
        seconds=seconds,
        warnings=_remarks(objective, ascent, names),
        _covariance=estimate.covariance.numpy(force=True),
    )


def _covariance(objective: Objective, ascent: Ascent) -> Tensor:
    theta, gradient = ascent.theta[0, 0], ascent.evaluation.gradient[0, 0]
    if not ascent.evaluation.hessian.numel():
        return theta.new_full((len(theta), len(theta)), torch.nan)
    return inverse_information(ascent.evaluation.hessian[0, 0], (theta <= objective.lower) & (gradient < 0))


def _remarks(objective: Objective, ascent: Ascent, undetermined: list[str]) -> list[str]:
    remarks = [] if bool(ascent.converged) else [_NOT_CONVERGED]
    if bool((ascent.theta <= objective.lower).any()):
        remarks.append("a variance is at its floor: an expert may have collapsed on a few observations")
    starved = (objective.shares(ascent.theta)[0, 0] < objective.num_features + 2).nonzero().squeeze(-1).tolist()
    if starved:
        remarks.append(f"experts {starved} have fewer observations than coefficients")
    if undetermined:
        remarks.append(f"no standard error for {', '.join(undetermined)}: the observed information is singular")
    if any(name.startswith("gate") for name in undetermined):
        remarks.append(_ABRUPT)
    return remarks


def build_batch(model: MixtureOfExperts, objective: Objective, ascent: Ascent) -> FitBatch:
    """The results of all data sets from their best ends."""
    models = [copy.deepcopy(model).to(torch.float64).eval() for _ in ascent.theta]
    for index, fitted in enumerate(models):
        objective.write(ascent.theta[index, 0], fitted, index)
    columns = [ascent.value[:, 0], ascent.converged[:, 0], _grad_norm(objective, ascent), ascent.predicted_gain[:, 0]]
    llf, converged, grad_norm, gain = (column.numpy(force=True) for column in columns)
    return FitBatch(models, llf, converged, grad_norm, gain, ascent.num_iterations)
