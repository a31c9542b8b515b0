"""Fits of models written as formulas."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mixkit._validation import check_integer
from mixkit.gates import Gate

from ..em import EM
from ..results.fit_result import FitResult
from ..search.estimator import Estimator
from .design import DesignWords
from .extras import frame_packages
from .learn import Columns, Learned, learn
from .model import Family, ModelWords, families_in_order, labels_of
from .words import split_formula

__all__ = ["fit_formula"]


def fit_formula(
    formula: str,
    data: Any,
    num_experts: int = 2,
    *,
    family: Family = "gaussian",
    common: str | Sequence[str] | Mapping[str, Sequence[int]] | None = None,
    absent: Mapping[int, str] | None = None,
    fixed: Mapping[tuple[int, str], float] | None = None,
    groups: Any = None,
    offset: str | None = None,
    weights: Any = None,
    trials: str | int | None = None,
    gate: str | Gate = "softmax",
    missing: str = "raise",
    family_options: Mapping[str, Any] | None = None,
    gate_options: Mapping[str, Any] | None = None,
    weights_of: str = "groups",
    estimator: Estimator | None = None,
    **settings: Any,
) -> FitResult:
    r"""Fit a mixture of regressions that a formula describes: ``"y ~ terms of the experts | terms of the gate"``.

    **Without** ``|`` **the gate is constant**: weights that do not depend on covariates, as in R's flexmix. Terms are
    those of ``formulaic``, which are nearly R's: ``a + b``, ``a:b``, ``a * b``, ``- 1`` for no intercept, categories
    (text, booleans, ``C(x)``), ``log(x)``, ``I(x**2)``, ``bs(x, df=4)``, ``poly(x, 2)``, ``center(x)``, functions of
    ``np``. Parameters go by their terms: ``result.params["slope[0,log(x)]"]``. The result encodes new frames as that
    of the fit: ``result.predict(frame)``.

    Args:
        formula: as above; the left side may be an expression, or several columns ``a + b``.
        data: a pandas, polars or pyarrow frame, or a mapping of columns.
        num_experts: number of experts k.
        family: a name of :func:`mixkit.experts.family_by_name`; a mapping of the responses to names
            ``{"weight": "gaussian", "visits": "poisson"}``; or experts that take all the columns.
        common: terms, beside those of the formula, whose coefficients all experts share; or a mapping of terms to the
            experts that share them, ``{"x1 + x2": (0, 1)}``; the others lack them.
        absent: by expert the terms that it lacks, ``{2: "x1 + x2"}``.
        fixed: by expert and column the value at which a coefficient is held, ``{(0, "x1"): 1.0}``; "intercept" too.
        groups: the column, or labels ``(n,)``, of groups of rows that share an expert (see ``EM.fit``).
        offset: an expression of columns that is added to every location, ``"log(hours)"``.
        weights: an expression of columns, or weights ``(n,)``, non-negative.
        trials: numbers of trials of binomial responses, an expression of columns or one number for all rows.
        gate: a name of :func:`mixkit.gates.gate_by_name`, or a gate that takes all the columns.
        missing: "raise" an error, or "drop" rows with a missing value in a column that is read;
            ``result.warnings`` then says how many.
        family_options: further arguments of the family, ``{"shared_std": True}``.
        gate_options: further arguments of the gate, ``{"num_selected": 1}``.
        weights_of: what ``weights`` count where there are groups (see ``EM.fit``).
        estimator: what fits; :class:`~estimators.em.EM` with ``settings`` if None.
        **settings: those of :class:`~estimators.em.EM`: ``random_state``, ``n_init``, ``penalty``, ...

    Raises:
        ImportError: without the extra ``formula``.
        TypeError: if an argument is of another type, or the family has no such option.
        ValueError: for a formula that cannot be read, a term that is not in the data, missing values, a response that
            is no number or is among its covariates, and whatever ``EM.fit`` refuses.

    Example:
        >>> import numpy as np
        >>> from estimators import fit_formula
        >>> rng = np.random.default_rng(0)
        >>> x, side = rng.uniform(size=300), rng.choice(["left", "right"], 300)
        >>> is_first = rng.uniform(size=300) < np.where(side == "left", 0.8, 0.3)
        >>> y = np.where(is_first, 1.0 + x, 3.0 - x) + 0.1 * rng.normal(size=300)
        >>> result = fit_formula("y ~ x | side", {"y": y, "x": x, "side": side}, 2, random_state=0, n_init=3)
        >>> result.param_names[:3], result.predict({"x": [0.5], "side": ["left"]}).shape
        (['gate_weight[0,side[T.right]]', 'gate_bias[0]', 'slope[0,x]'], (1,))
    """
    check_integer("num_experts", num_experts, low=1)
    words = split_formula(formula)
    terms = DesignWords(words.experts, words.gate, common, absent, fixed)
    columns = Columns(offset, trials, weights, groups)
    text = _text(formula, terms, columns)
    learned = learn(text, terms, words.response, columns, data, missing=missing, labels=labels_of(family))
    family = families_in_order(family, learned.recipe.response.columns)
    model = ModelWords(family, gate, dict(family_options or {}), dict(gate_options or {}))
    built = model.build(
        learned.recipe.design,
        num_experts,
        torch.as_tensor(np.array(learned.y)),
        roles=tuple(learned.recipe.known),
        trials=learned.trials,
    )
    return _fitted(_estimator(estimator, settings), built, learned, weights_of)


def _estimator(estimator: Estimator | None, settings: Mapping[str, Any]) -> Estimator:
    if estimator is None:
        return EM(**settings)
    if not isinstance(estimator, Estimator):
        raise TypeError(f"estimator must be an estimators.Estimator, got {type(estimator).__name__}")
    if settings:
        raise TypeError(f"settings must be the estimator's own where one is given, got {sorted(settings)}")
    return estimator


def _fitted(estimator: Estimator, model: Any, learned: Learned, weights_of: str) -> FitResult:
    _, pandas = frame_packages()
    x = pandas.DataFrame(learned.x, columns=learned.recipe.names)
    result = estimator.fit(model, x, learned.y, learned.weights, groups=learned.groups, weights_of=weights_of)
    result._recipe = learned.recipe
    result.warnings = [*learned.remarks, *result.warnings]
    return result


def _text(formula: str, terms: DesignWords, columns: Columns) -> str:
    """The formula and what stands beside it, in a line."""
    named = {**terms.in_words(), **columns._asdict()}
    beside = [f"{name}: {value}" for name, value in named.items() if isinstance(value, str | int)]
    return "; ".join([" ".join(formula.split()), *beside])
