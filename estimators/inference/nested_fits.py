"""Whether the likelihood-ratio statistic of two fits has a chi-square distribution; if not, why."""

import torch

from mixkit.gates.scores import ConstantScore
from mixkit.gates.selections import Dense

from ..data.patterns import families_of, pattern_or_own
from ..results.fit_result import FitResult
from ..results.maximum import DataRemovedError

__all__ = ["obstacle"]


def obstacle(small: FitResult, large: FitResult) -> str | None:
    """Why a chi-square test of ``small`` against ``large`` is not to be trusted, in words; None if it is.

    Both must be unpenalized maxima of models with one number of experts, one family and one form of gate (a constant
    gate is a softmax gate without weights), whose parameters are determined and off their bounds; every parameter of
    ``small`` must be one of ``large``, by its name, of the same covariates; and what is known in ``large``, offsets,
    trials and coefficients that are held or absent, must be so in ``small``. Models that are nested in another way,
    one coefficient for all experts in several for example, are for
    :func:`~estimators.inference.likelihood_ratio_test`, where nesting is the caller's word.
    """
    checks = (_of_size, _of_form, _of_names, _of_covariates, _of_known, _of_held, _of_maxima)
    return next((words for check in checks if (words := check(small, large)) is not None), None)


def _of_size(small: FitResult, large: FitResult) -> str | None:
    k = small.model.num_experts, large.model.num_experts
    if k[0] != k[1]:
        return f"{k[0]} and {k[1]} experts: the statistic has no chi-square distribution (see bootstrap_lrt)"
    if small.df_model >= large.df_model:
        return f"neither has more parameters, {small.df_model} and {large.df_model}"
    return None


def _of_form(small: FitResult, large: FitResult) -> str | None:
    families = [_families(small), _families(large)]
    if families[0] != families[1]:
        return f"families differ, {' and '.join(', '.join(names) for names in families)}"
    for part in ("normalizer", "selection", "temperature"):
        kinds = [type(getattr(fit.model.gate, part)).__name__ for fit in (small, large)]
        if kinds[0] != kinds[1]:
            return f"gates differ, {kinds[0]} and {kinds[1]}"
    scores = small.model.gate.score, large.model.gate.score
    if type(scores[0]) is not type(scores[1]) and not isinstance(scores[0], ConstantScore):
        return f"gates differ, {type(scores[0]).__name__} and {type(scores[1]).__name__}"
    if not isinstance(large.model.gate.selection, Dense):
        return "the gate selects experts, and the likelihood is not continuous"
    return None


def _families(fit: FitResult) -> list[str]:
    return [type(family).__name__ for family in families_of(fit.model)]


def _of_names(small: FitResult, large: FitResult) -> str | None:
    other = [name for name in small.param_names if name not in large.params]
    if other:
        shown = ", ".join(other[:3]) + (" and others" if len(other) > 3 else "")
        return f"not nested by their names: {shown} is in the smaller alone"
    return None


def _of_covariates(small: FitResult, large: FitResult) -> str | None:
    try:
        columns = [dict(zip(_names(fit), fit.maximum.data.x[0].unbind(-1), strict=True)) for fit in (small, large)]
    except DataRemovedError:
        return None
    used = [name for name in columns[0] if any(param.endswith(f",{name}]") for param in small.param_names)]
    other = [name for name in used if name not in columns[1] or not bool((columns[0][name] == columns[1][name]).all())]
    return f"covariates {', '.join(other)} differ in value" if other else None


def _of_known(small: FitResult, large: FitResult) -> str | None:
    roles = [list(fit.model.experts.known_columns) for fit in (small, large)]
    if roles[0] != roles[1]:
        return f"known columns differ, {roles[0]} and {roles[1]}"
    try:
        first, second = (
            fit.maximum.data.x[0, :, fit.maximum.data.x.shape[-1] - len(roles[0]) :] for fit in (small, large)
        )
    except DataRemovedError:
        return None
    return None if torch.equal(first, second) else f"known columns {', '.join(roles[0])} differ in value"


def _of_held(small: FitResult, large: FitResult) -> str | None:
    own, other = _held(small), _held(large)
    for key in own | other:
        value = other.get(key, 0.0)
        if value is not None and own.get(key, 0.0) != value:
            return f"a coefficient of {key[-1]} is held at {value:g} in the larger, and not in the smaller"
    return None


def _held(fit: FitResult) -> dict[tuple[int, int, str], float | None]:
    """By part of the model, expert and covariate the value at which a coefficient is held; None of free ones."""
    model = fit.model
    names = _names(fit)
    d = len(names) - model.num_known
    parts: list[tuple[object, int]] = [(model.gate.score, model.num_experts)]
    parts += [(getattr(family, "predictor", None), family.num_experts) for family in families_of(model)]
    held: dict[tuple[int, int, str], float | None] = {}
    for place, (part, k) in enumerate(parts):
        pattern = pattern_or_own(part, k, d)
        for expert, (index, fixed) in enumerate(zip(pattern.index, pattern.fixed, strict=True)):
            columns = zip([*names[:d], "intercept"], index, fixed, strict=True)
            held |= {(place, expert, name): value if number < 0 else None for name, number, value in columns}
    return held


def _names(fit: FitResult) -> list[str]:
    count = fit.maximum.data.x.shape[-1] if fit._num_features is None else fit._num_features
    return fit.feature_names or [f"x{place}" for place in range(count)]


def _of_maxima(small: FitResult, large: FitResult) -> str | None:
    for which, fit in (("smaller", small), ("larger", large)):
        if fit.is_penalized:
            return f"the {which} maximized a penalized likelihood"
        if not fit.converged:
            return f"the {which} did not converge"
        if bool(fit.maximum.at_bound.any()):
            return f"a parameter of the {which} is at its bound"
        if any(value != value for value in fit.bse.tolist()):
            return f"the {which} has parameters that the data do not determine"
    return None
