"""Results from the ends of a search."""

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import num_redundant

from ..data.columns import with_names
from ..optimizers.newton import Ascent
from ..optimizers.objective import Objective, UserMap
from ..statistics.covariance import warn_undetermined
from .fit_batch import FitBatch, NoFiniteStartWarning
from .fit_result import FitResult
from .maximum import Maximum

__all__ = ["build_batch", "build_result"]

_ABRUPT = "where experts change abruptly the gate has no finite estimate, only the border between them has one"
_AT_FLOOR = "a variance is at its floor: an expert may have collapsed on a few observations"
_ON_LINES = (
    "a variance is at the least that double precision tells from zero: observations lie on the line of an expert"
)
_NOT_CONVERGED = "not converged: the end is no maximum, or lies on a border of a selection"


def _grad_norm(objective: Objective, ascent: Ascent) -> Tensor:
    gradient = ascent.evaluation.gradient[:, 0]
    at_bound = (ascent.theta[:, 0] <= objective.lower) & (gradient < 0)
    if not gradient.shape[-1]:
        return torch.zeros_like(objective.total_weight)
    return torch.where(at_bound, 0.0, gradient).abs().amax(-1) / objective.total_weight


def build_result(
    model: MixtureOfExperts,
    objective: Objective,
    ascent: Ascent,
    values: list[Tensor],
    end_values: Tensor,
    seconds: float,
    estimator: Any = None,
    features: Sequence[str] | None = None,
) -> FitResult:
    """The result of one data set from its best end; ``features (d,)`` are the covariates' names, if they have any."""
    maximum = Maximum.of(objective, ascent)
    fitted = copy.deepcopy(model).to(torch.float64).eval()
    objective.write(maximum.theta, fitted)
    zeroed = set(objective.zeroed)
    names = [name for name in _undetermined(maximum) if name not in zeroed]
    if maximum.hessian.numel():
        warn_undetermined([with_names(name, features) for name in names] if features else names)
    result = FitResult(
        model=fitted,
        param_names=list(maximum.to_user.names),
        estimates=maximum.to_user.values(maximum.theta).numpy(force=True),
        llf=float(objective.log_likelihood(ascent.theta)),
        converged=bool(ascent.converged),
        grad_norm=float(_grad_norm(objective, ascent)),
        predicted_gain=float(ascent.predicted_gain),
        history=np.array([float(value) for value in values]),
        start_llf=end_values[0].numpy(force=True),
        nobs=objective.n,
        num_groups=None if objective.data.units is None else objective.data.num_units,
        seconds=seconds,
        warnings=_remarks(model, objective, ascent, maximum.to_user, names),
        objective_value=float(ascent.value),
        _num_features=objective.data.x.shape[-1],
        _maximum=maximum,
        _estimator=estimator,
        _num_redundant=num_redundant(model),
    )
    if features:
        result.rename_features(features)
    return result


def _undetermined(maximum: Maximum) -> list[str]:
    """Names of the parameters without a standard error, where a Hessian was computed."""
    if not maximum.hessian.numel():
        return list(maximum.to_user.names)
    missing = maximum.user_covariance("observed").diagonal().isnan().tolist()
    return [name for name, is_missing in zip(maximum.to_user.names, missing, strict=True) if is_missing]


def _remarks(
    model: MixtureOfExperts, objective: Objective, ascent: Ascent, to_user: UserMap, undetermined: list[str]
) -> list[str]:
    remarks = [] if bool(ascent.converged) else [_NOT_CONVERGED]
    if bool(objective.at_floor(ascent.theta).any()):
        remarks.append(_ON_LINES if objective.end_rules.is_lowered else _AT_FLOOR)
    is_starved = objective.observations(ascent.theta)[0, 0] < objective.end_rules.least_observations
    starved = is_starved.nonzero().squeeze(-1).tolist()
    if starved:
        remarks.append(f"experts {starved} have fewer observations than coefficients")
    if zeroed := objective.zeroed:
        remarks.append(f"the lasso set {', '.join(zeroed)} to zero; other errors take that as known")
    if undetermined:
        remarks.append(f"no standard error for {', '.join(undetermined)}: the observed information is singular")
    is_sharp = model.gate.shift_invariant and model.gate.score.is_homogeneous  # its weights may grow without end
    if is_sharp and bool(ascent.converged) and _gate_names(to_user) & set(undetermined):
        remarks.append(_ABRUPT)
    return remarks


def _gate_names(to_user: UserMap) -> set[str]:
    """Names of the gate's parameters, but for a redundant temperature and what goes with it."""
    return {name for name, entry in zip(to_user.names, to_user.entries, strict=True) if entry.record.family is None}


def build_batch(model: MixtureOfExperts, objective: Objective, ascent: Ascent) -> FitBatch:
    """The results of all data sets from their best ends; NaN, with a warning, for those that have none."""
    lost = ~torch.isfinite(ascent.value[:, 0])
    if bool(lost.any()):
        warnings.warn(
            f"data sets {lost.nonzero().squeeze(-1).tolist()} of {len(lost)} have no start with a finite "
            "log-likelihood: their results are NaN; y may be impossible under the experts, or x or y too extreme",
            NoFiniteStartWarning,
            stacklevel=3,
        )
    theta = ascent.theta.masked_fill(lost[:, None, None], torch.nan)
    models = [copy.deepcopy(model).to(torch.float64).eval() for _ in ascent.theta]
    for index, fitted in enumerate(models):
        objective.write(theta[index, 0], fitted, index)
    llf_of_all = objective.log_likelihood(theta.nan_to_num(0.0))[:, 0]
    columns = [llf_of_all, ascent.converged[:, 0], _grad_norm(objective, ascent), ascent.predicted_gain[:, 0]]
    columns = [columns[1], *(column.masked_fill(lost, torch.nan) for column in (columns[0], *columns[2:]))]
    converged, llf, grad_norm, gain = (column.numpy(force=True) for column in columns)
    return FitBatch(models, llf, converged, grad_norm, gain, ascent.num_iterations)
