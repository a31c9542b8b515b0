"""From a formula and a frame to a recipe and numbers."""

from typing import Any, NamedTuple

import numpy as np

from mixkit._validation import check_choice, check_integer

from .design import Design, DesignWords
from .encoder import Encoder, Terms, read_terms
from .recipe import Recipe, missing_counts, read_columns
from .response import Labels, Response, response_variables
from .words import has_arithmetic

__all__ = ["Columns", "Learned", "learn"]

_MISSING = ("raise", "drop")


class Columns(NamedTuple):
    """What beside covariates and response may be columns.

    Attributes:
        offset: an expression of columns; None for none.
        trials: likewise, or one number for all rows.
        weights: an expression of columns, or weights ``(n,)``.
        groups: the name of a column, or labels ``(n,)``.
    """

    offset: str | None = None
    trials: str | int | None = None
    weights: Any = None
    groups: Any = None


class Learned(NamedTuple):
    """The numbers of a fit.

    Attributes:
        recipe: how to encode other frames.
        x: covariates ``(n, d)``, known columns last.
        y: responses ``(n,)`` or ``(n, p)``.
        weights: ``(n,)`` or None.
        groups: labels ``(n,)`` or None.
        trials: one number for all rows; None where they are a column, or there are none.
        remarks: what was left out, in words.
    """

    recipe: Recipe
    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None
    groups: np.ndarray | None
    trials: int | None
    remarks: list[str]


def learn(
    text: str, words: DesignWords, response: str, columns: Columns, data: Any, *, missing: str, labels: Labels
) -> Learned:
    """Encode the frame of a fit.

    Args:
        text: the whole formula in words, for tables.
        words: what makes columns.
        response: the left side.
        columns: offset, trials, weights and groups.
        data: a frame.
        missing: "raise" or "drop".
        labels: what the response has to be.

    Raises:
        TypeError: if ``data`` is no frame, or an argument of another type.
        ValueError: for formulas and frames that do not fit each other, and missing values.
    """
    known = _known(columns)
    weights = _expression("weights", columns.weights) if isinstance(columns.weights, str) else None
    groups = _quoted("groups", columns.groups) if isinstance(columns.groups, str) else None
    extra = [terms for terms in (*known.values(), weights, groups) if terms is not None]
    targets = response_variables(response)
    both = sorted(targets & words.variables)
    if both:
        raise ValueError(f"formula must not have its response among the covariates, got {both}")
    variables = targets | words.variables | {name for terms in extra for name in terms.variables}
    whole = read_columns(data, variables)
    frame, kept, remarks = _without_missing(whole, missing)
    is_kept = np.isin(np.arange(len(whole)), kept)
    design, matrix = Design.learned(words, frame)
    left, y = Response.learned(response, frame, labels)
    encoders = {role: _one_column(role, terms, frame) for role, terms in known.items()}
    recipe = Recipe(text, design, left, {role: encoder for role, (encoder, _) in encoders.items()})
    x = np.column_stack([matrix, *(values for _, values in encoders.values())])
    return Learned(
        recipe,
        x if x.shape[1] else np.zeros((len(frame), 1)),
        y,
        _rows("weights", columns.weights, weights, frame, is_kept),
        _labels(columns.groups, groups, frame, is_kept),
        check_integer("trials", columns.trials, low=1) if _is_number(columns.trials) else None,
        remarks,
    )


def _is_number(trials: Any) -> bool:
    return trials is not None and not isinstance(trials, str)


def _known(columns: Columns) -> dict[str, Any]:
    """Terms of the known columns, in the order of a model: offset, then trials."""
    roles = {"offset": columns.offset, "trials": None if _is_number(columns.trials) else columns.trials}
    return {role: _expression(role, text) for role, text in roles.items() if text is not None}


def _expression(name: str, text: Any) -> Terms:
    """One term that computes what the text says: ``log(a) - log(b)`` is a difference here, not a choice of terms."""
    if not isinstance(text, str):
        raise TypeError(f"{name} must be an expression of columns, got {type(text).__name__}")
    return read_terms(name, f"0 + I({text})" if has_arithmetic(text, "+-*/^%") else f"0 + {text}")


def _quoted(name: str, text: str) -> Terms:
    """The column of a name, whatever signs it has."""
    return read_terms(name, f"0 + `{text.strip('`')}`")


def _without_missing(frame: Any, missing: str) -> tuple[Any, np.ndarray, list[str]]:
    """Complete rows, which they are, and what was left out."""
    check_choice("missing", missing, _MISSING)
    is_missing = frame.isna().to_numpy().any(axis=1)
    kept = np.flatnonzero(~is_missing)
    if not is_missing.any():
        return frame, kept, []
    found = ", ".join(missing_counts(frame))
    if missing == "raise":
        raise ValueError(f"data must have no missing values (or say missing='drop'), got {found}")
    if not len(kept):
        raise ValueError(f"data must have a row without missing values, got {found} of {len(frame)} rows")
    remark = f"{int(is_missing.sum())} of {len(frame)} rows were left out for missing values: {found}"
    return frame.iloc[kept].reset_index(drop=True), kept, [remark]


def _one_column(role: str, terms: Any, frame: Any) -> tuple[Encoder, np.ndarray]:
    encoder, matrix, _ = Encoder.learned(terms, frame)
    if matrix.shape[1] != 1 or encoder.categories:
        raise ValueError(f"{role} must be one number a row, got the columns {list(matrix.columns)}")
    return encoder, matrix.to_numpy()


def _rows(name: str, value: Any, terms: Any, frame: Any, is_kept: np.ndarray) -> np.ndarray | None:
    if value is None:
        return None
    if terms is not None:
        return _one_column(name, terms, frame)[1][:, 0]
    return _taken(name, np.asarray(value), is_kept)


def _labels(value: Any, terms: Any, frame: Any, is_kept: np.ndarray) -> Any:
    if value is None:
        return None
    if terms is None:
        return _taken("groups", np.asarray(value), is_kept)
    name = value.strip("`")
    if name not in frame.columns:
        raise ValueError(f"groups must be the name of a column, got {value!r}")
    return frame[name].to_numpy()


def _taken(name: str, values: np.ndarray, is_kept: np.ndarray) -> np.ndarray:
    """The kept rows of an array that has one entry for each row of the data."""
    if values.shape != is_kept.shape:
        raise ValueError(f"{name} must have one entry for each of {len(is_kept)} rows of data, got {values.shape}")
    return values[is_kept]
