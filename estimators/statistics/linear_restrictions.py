"""Linear restrictions on parameters, written with their names: ``slope[0,x] = 2 * slope[1,x], std[0] = 1``."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .linear_expressions import read_restrictions

__all__ = ["LinearRestrictions", "linear_restrictions"]

_RANK = 1e-10  # restrictions whose part not implied by the others is below this share are taken as implied


class LinearRestrictions(NamedTuple):
    """Restrictions ``matrix @ params = values``.

    Attributes:
        matrix: ``(q, P)``.
        values: ``(q,)``.
        labels: the restrictions in words ``(q,)``.
    """

    matrix: np.ndarray
    values: np.ndarray
    labels: tuple[str, ...]


def linear_restrictions(restrictions: Any, names: Sequence[str]) -> LinearRestrictions:
    """Restrictions from words, a mapping or a matrix.

    Args:
        restrictions: one of

            - words: linear expressions in the names with ``+ - * / ( )`` and numbers, ``"a = 2 * b"``; several are
              separated by commas, or a list of them; ``"a = b = c"`` is two; one without ``=`` is zero;
            - a mapping from expressions to their values, ``{"a - b": 0.0}``;
            - a matrix ``(q, P)``, or one row of it, of a combination that is zero; or a pair of a matrix and values
              ``(q,)``.
        names: of the parameters, P of them. They may hold any characters, also commas and brackets: at each place the
            longest name is read.

    Raises:
        TypeError: for anything else.
        ValueError: if an expression cannot be read or is not linear, if there is none, if one says nothing of the
            parameters, if some follow from the others, or a matrix has another shape or is not finite.

    Example:
        >>> linear_restrictions("slope[0,x] = 2 * slope[1,x]", ["slope[0,x]", "slope[1,x]"]).matrix
        array([[ 1., -2.]])
    """
    if isinstance(restrictions, str):
        found = _parsed([restrictions], names)
    elif isinstance(restrictions, Mapping):
        found = _with_values(restrictions, names)
    elif isinstance(restrictions, list) and restrictions and all(isinstance(text, str) for text in restrictions):
        found = _parsed(restrictions, names)
    else:
        found = _from_matrix(restrictions, names)
    return _checked(found)


def _checked(found: LinearRestrictions) -> LinearRestrictions:
    if not len(found.matrix):
        raise ValueError("restrictions must hold one restriction or more, got none")
    for row, label in zip(found.matrix, found.labels, strict=True):
        if not row.any():
            raise ValueError(f"restrictions must each say something of the parameters, got {label!r}")
    size = np.linalg.norm(found.matrix, axis=1, keepdims=True)
    rank = np.linalg.matrix_rank(found.matrix / size, tol=_RANK)
    if rank < len(found.matrix):
        raise ValueError(
            f"restrictions must not follow from each other, got {len(found.matrix)} of which {rank} are independent: "
            f"{', '.join(found.labels)}"
        )
    return found


def _with_values(restrictions: Mapping[Any, Any], names: Sequence[str]) -> LinearRestrictions:
    if not all(isinstance(text, str) for text in restrictions):
        raise TypeError(f"restrictions must map words to values, got keys {list(restrictions)}")
    return _parsed([f"{text} = {float(value)!r}" for text, value in restrictions.items()], names)


def _from_matrix(restrictions: Any, names: Sequence[str]) -> LinearRestrictions:
    matrix, values = restrictions if isinstance(restrictions, tuple) and len(restrictions) == 2 else (restrictions, 0.0)
    try:
        if restrictions is None:
            raise TypeError("None is no array")
        matrix = np.atleast_2d(np.asarray(matrix, dtype=np.float64))
        values = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"restrictions must be words, a mapping, a matrix, or a matrix and values, got {restrictions!r}"
        ) from error
    if matrix.ndim != 2 or matrix.shape[1] != len(names):
        raise ValueError(f"restrictions must have one column a parameter, {len(names)}, got shape {matrix.shape}")
    if values.shape not in ((), (1,), (len(matrix),)):
        raise ValueError(f"restrictions must have a value a row, {len(matrix)}, got shape {values.shape}")
    if not np.isfinite(matrix).all() or not np.isfinite(values).all():
        raise ValueError("restrictions must be finite, got NaN or infinite entries")
    values = np.broadcast_to(values, (len(matrix),)).copy()
    labels = [_label(row, value, names) for row, value in zip(matrix, values, strict=True)]
    return LinearRestrictions(matrix, values, tuple(labels))


def _label(row: np.ndarray, value: float, names: Sequence[str]) -> str:
    terms = [(name, entry) for name, entry in zip(names, row, strict=True) if entry]
    words = " + ".join(name if entry == 1.0 else f"{entry:g} * {name}" for name, entry in terms)
    return f"{words.replace('+ -', '- ') or '0'} = {value:g}"


def _parsed(texts: Sequence[str], names: Sequence[str]) -> LinearRestrictions:
    rows = [row for text in texts for row in read_restrictions(text, names)]
    matrix = np.array([row.coefficients for row, _ in rows])
    return LinearRestrictions(matrix, np.array([-row.constant for row, _ in rows]), tuple(label for _, label in rows))
