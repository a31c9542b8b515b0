"""Choosing the number of experts: one path of fits, and what each criterion says of it."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from mixkit._validation import check_integer

from ..data.dataset import Data, as_data
from ..data.units import taken_group_column
from ..em import EM
from ..search.estimator import Estimator
from .builders import Builder, ExpertsFactory, GateFactory, model_builder
from .criteria import CRITERIA, Criterion
from .cross_validation import HeldOut, held_out, make_folds
from .expert_selection import CV_NAMES, ExpertSelection
from .path import Step, fit_path

__all__ = ["select_experts"]


def select_experts(
    X: Any,
    y: Any,
    num_experts: Iterable[int] = range(1, 9),
    *,
    criterion: str | Criterion = "bic",
    gate: str | GateFactory = "softmax",
    experts: str | ExpertsFactory = "gaussian",
    model: Builder | None = None,
    offset: bool = False,
    estimator: Estimator | None = None,
    sample_weight: Any = None,
    groups: Any = None,
    weights_of: str = "groups",
    folds: Any = 5,
    random_state: int | np.random.Generator | None = None,
    n_jobs: int | None = 1,
    progress: bool = False,
) -> ExpertSelection:
    r"""Fit mixtures of 1, 2, ... experts and choose how many there are.

    Each k starts from splits of every expert of the fit with k - 1 and from fresh starts; where that ends lower than
    the smaller fit, it climbs from the smaller fit with an expert duplicated. So the maximized log-likelihood does not
    fall with k (for gates whose models nest: dense ones with a bias and softmax; otherwise ``is_monotone`` says whether
    it does). Sizes between those asked for are fitted too, as steps on the way.

    Args:
        X: covariates ``(n, d)``; a pandas frame gives the features' names.
        y: responses ``(n,)``, or ``(n, p)`` for experts of a vector response.
        num_experts: numbers k of experts, increasing.
        criterion: "bic", "icl" or "aic" (see :mod:`estimators.model_selection.criteria`); "cv", the smallest k whose
            cross-validated log-density lies within one standard error of the highest, "cv-max", the k of the highest;
            or a function of ``(result, x, y)`` to be minimized. "aic" and "cv-max" serve prediction: they take too many
            experts with a probability that does not vanish as n grows.
        gate: a word of :func:`mixkit.gates.gate_by_name` ("softmax", "constant", "sigmoid", "laplace", "activation",
            "temperature"), or a function of ``(d, k)`` that returns a gate.
        experts: a word of :func:`mixkit.experts.family_by_name` for a family that needs no options, or a function of
            ``(d, k)`` that returns experts.
        model: a function of k that returns a :class:`~mixkit.mixture.MixtureOfExperts`, in place of ``gate`` and
            ``experts``.
        offset: whether the last column of X is an offset, a known part of every expert's linear predictor such as the
            logarithm of an exposure; d counts the columns before it.
        estimator: with what to fit; :class:`~estimators.em.EM` if None. Its random state is not used.
        sample_weight: ``(n,)``, non-negative.
        groups: labels ``(n,)`` of rows that share an expert, or the name of a column of the frame X; None where each
            row has its own. Criteria then count groups, and folds hold out whole groups.
        weights_of: whether ``sample_weight`` is that of "groups" or of "rows" where there are groups.
        folds: for cross-validation, a number of folds or a splitter of scikit-learn's (of the groups, where there are
            some).
        random_state: seed or generator of the starts and the folds.
        n_jobs: processes for cross-validation (joblib); the result does not depend on it.
        progress: whether to show progress bars.

    Returns:
        The fits, their criteria and the choice.

    Raises:
        TypeError: if an argument is of another kind than stated.
        ValueError: if ``num_experts`` is empty, not increasing, below 1 or above the number of rows (of a training set,
            with cross-validation); for an unknown name; for data as
            :meth:`~estimators.search.estimator.Estimator.fit` says.

    Example:
        >>> from mixkit.datasets import load_faithful
        >>> x, y = load_faithful()
        >>> selection = select_experts(x, y, range(1, 4), random_state=0)
        >>> selection.best_num_experts, selection.choose("aic")
        (2, 3)
        >>> selection.best.converged
        True
    """
    sizes, name = _sizes(num_experts), _criterion_name(criterion)
    X, groups = taken_group_column(X, groups)
    names = [str(column) for column in X.columns] if hasattr(X, "columns") else None
    entropy, units = _entropy(random_state), {"groups": groups, "weights_of": weights_of}
    data, build = _prepare(X, y, sample_weight, units, sizes, gate=gate, experts=experts, model=model, offset=offset)
    pairs = None
    if name in CV_NAMES:
        pairs = make_folds(folds, data.num_units, np.random.default_rng([entropy, 0]))
        _check_sizes(sizes, min(len(train) for train, _ in pairs), f"{_counted(data)} of a training set")
    estimator = EM() if estimator is None else _checked(estimator)
    steps = fit_path(build, data, sizes, estimator, entropy, progress=progress)
    held = None
    if pairs is not None:
        fits = [step.result for step in steps]
        held = held_out(fits, data, pairs, estimator, entropy, n_jobs=n_jobs, progress=progress)
    return _assemble(steps, data, criterion, name, held, names)


def _assemble(
    steps: list[Step], data: Data, criterion: str | Criterion, name: str, held: HeldOut | None, names: list[str] | None
) -> ExpertSelection:
    fits = [step.result for step in steps]
    values = {key: np.array([rule(fit, data) for fit in fits]) for key, rule in CRITERIA.items()}
    if not isinstance(criterion, str):
        values[name] = np.array([float(criterion(fit, data.x[0], data.y[0])) for fit in fits])
        if np.isnan(values[name]).any():
            raise ValueError(f"criterion must return numbers, got NaN from {name} for some k")
    for fit in fits if names else []:
        fit.rename_features(names or [])
    return ExpertSelection(
        num_experts=tuple(fit.model.num_experts for fit in fits),
        criterion=name,
        fits=tuple(fits),
        values=values,
        origins=tuple(step.origin for step in steps),
        held_out=held,
    )


def _prepare(
    X: Any, y: Any, weight: Any, units: dict[str, Any], sizes: list[int], **parts: Any
) -> tuple[Data, Builder]:
    """Checked data and the builder of models; the smallest model tells what data must be like."""
    shape = tuple(np.shape(X))
    if len(shape) != 2:
        raise ValueError(f"X must have shape (n, d), got {shape}")
    build = model_builder(shape[1], **parts)
    data = as_data(build(sizes[0]), X, y, weight, is_batch=False, **units)
    _check_sizes(sizes, data.num_units, _counted(data) if data.units is not None else "rows of X")
    return data, build


def _counted(data: Data) -> str:
    return "rows" if data.units is None else "groups"


def _sizes(num_experts: Any) -> list[int]:
    try:
        sizes = [
            check_integer("num_experts", size, low=1)
            for size in ([num_experts] if np.ndim(num_experts) == 0 else num_experts)
        ]
    except TypeError as error:
        raise TypeError(f"num_experts must hold integers, got {num_experts!r}") from error
    if not sizes:
        raise ValueError("num_experts must hold at least one number of experts, got none")
    if any(later <= earlier for earlier, later in pairwise(sizes)):
        raise ValueError(f"num_experts must be increasing, got {sizes}")
    return sizes


def _check_sizes(sizes: list[int], rows: int, what: str) -> None:
    if sizes[-1] > rows:
        raise ValueError(f"num_experts must hold at most {rows}, the number of {what}, got {sizes[-1]}")


def _criterion_name(criterion: Any) -> str:
    if callable(criterion):
        return str(getattr(criterion, "__name__", type(criterion).__name__))
    options = [*CRITERIA, *CV_NAMES]
    if not isinstance(criterion, str):
        raise TypeError(f"criterion must be one of {options} or a function, got {type(criterion).__name__}")
    if criterion not in options:
        raise ValueError(f"criterion must be one of {options} or a function, got {criterion!r}")
    return criterion


def _entropy(random_state: int | np.random.Generator | None) -> int:
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63))
    if random_state is None:
        return int(np.random.default_rng().integers(2**63))
    return check_integer("random_state", random_state, low=0)


def _checked(estimator: Any) -> Estimator:
    if not isinstance(estimator, Estimator):
        raise TypeError(f"estimator must be an estimators.Estimator, got {type(estimator).__name__}")
    return estimator
