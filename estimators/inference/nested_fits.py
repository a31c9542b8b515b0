"""Whether the likelihood-ratio statistic of two fits has a chi-square distribution; if not, why."""

from mixkit.gates.scores import ConstantScore
from mixkit.gates.selections import Dense

from ..results.fit_result import FitResult
from ..results.maximum import DataRemovedError

__all__ = ["obstacle"]


def obstacle(small: FitResult, large: FitResult) -> str | None:
    """Why a chi-square test of ``small`` against ``large`` is not to be trusted, in words; None if it is.

    Both must be unpenalized maxima of models with one number of experts, one family and one form of gate (a constant
    gate is a softmax gate without weights), whose parameters are determined and off their bounds; and every parameter
    of ``small`` must be one of ``large``, by its name, of the same covariates. Models that are nested in another way,
    one coefficient for all experts in several for example, are for
    :func:`~estimators.inference.likelihood_ratio_test`, where nesting is the caller's word.
    """
    checks = (_of_size, _of_form, _of_names, _of_covariates, _of_maxima)
    return next((words for check in checks if (words := check(small, large)) is not None), None)


def _of_size(small: FitResult, large: FitResult) -> str | None:
    k = small.model.num_experts, large.model.num_experts
    if k[0] != k[1]:
        return f"{k[0]} and {k[1]} experts: the statistic has no chi-square distribution (see bootstrap_lrt)"
    if small.df_model >= large.df_model:
        return f"neither has more parameters, {small.df_model} and {large.df_model}"
    return None


def _of_form(small: FitResult, large: FitResult) -> str | None:
    families = type(small.model.experts).__name__, type(large.model.experts).__name__
    if families[0] != families[1]:
        return f"families differ, {families[0]} and {families[1]}"
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


def _names(fit: FitResult) -> list[str]:
    return fit.feature_names or [f"x{place}" for place in range(fit.maximum.data.x.shape[-1])]


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
