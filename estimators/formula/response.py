"""The left side of a formula: numbers, one column or several, or classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from .encoder import Encoder, check_seen, plain_level, read_terms
from .extras import frame_packages
from .words import has_arithmetic

__all__ = ["Labels", "Response", "response_variables"]


class Labels(Enum):
    """What the left side of a formula has to be for a family."""

    NUMBERS = "numbers"
    CLASSES = "classes"
    LEVELS = "ordered levels"


def response_variables(text: str) -> frozenset[str]:
    """Names that the left side reads.

    Raises:
        ValueError: if it computes outside brackets, or reads no column.
    """
    if has_arithmetic(text, "-*/^%:"):
        raise ValueError(f"formula must compute its response in brackets, as I(y**2) or log(y), got {text!r}")
    variables = read_terms("formula", f"0 + {text}").variables
    if not variables:
        raise ValueError(f"formula must have a column in its response, got {text!r}")
    return variables


@dataclass(frozen=True, eq=False)
class Response:
    """How the response is computed from a frame.

    Attributes:
        words: the left side of the formula.
        encoder: of numbers; None for classes.
        classes: levels of a column of classes, in their order.
    """

    words: str
    encoder: Encoder | None = None
    classes: list[Any] | None = None

    @classmethod
    def learned(cls, words: str, frame: Any, labels: Labels) -> tuple["Response", np.ndarray]:
        """The response of a fit, with its values ``(n,)`` or ``(n, p)``; indices of classes where these are wanted.

        Raises:
            ValueError: if it is not numeric, or there are classes in an expression.
        """
        if labels is not Labels.NUMBERS:
            name = words.strip("`")
            if name not in frame.columns:
                raise ValueError(f"formula must have a column of {labels.value} on its left, got {words!r}")
            if labels is Labels.LEVELS:
                _check_ordered(name, frame[name])
            response = cls(words, classes=_levels(frame[name]))
            return response, response.values(frame)
        _check_numeric(words, frame)
        encoder, matrix, _ = Encoder.learned(read_terms("formula", f"0 + {words}"), _plain(words, frame))
        return cls(words, encoder=encoder), _squeezed(matrix)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the responses."""
        return (self.words,) if self.encoder is None else self.encoder.columns

    def values(self, frame: Any) -> np.ndarray:
        """The response ``(n,)`` or ``(n, p)`` of another pandas frame.

        Raises:
            ValueError: if a class is none of the fit, or a value is not finite.
        """
        if self.encoder is not None:
            _check_numeric(self.words, frame)
            return _squeezed(self.encoder.encoded(_plain(self.words, frame)))
        name, classes = self.words.strip("`"), self.classes or []
        column = frame[name]
        check_seen(column, classes, name)
        places = {label: float(place) for place, label in enumerate(classes)}
        return np.array([places[label] for label in column])


def _check_ordered(name: str, column: Any) -> None:
    is_ordered = column.cat.ordered if hasattr(column, "cat") else column.dtype.kind in "biuf"
    if not is_ordered:
        raise ValueError(
            f"formula must have ordered levels on its left, numbers or an ordered category, got {name!r} of dtype "
            f"{column.dtype}"
        )


def _squeezed(matrix: Any) -> np.ndarray:
    values = matrix.to_numpy()
    return values[:, 0] if values.shape[1] == 1 else values


def _levels(column: Any) -> list[Any]:
    """Categories in their order, or the sorted values."""
    if hasattr(column, "cat"):
        return [label for label in column.cat.categories if (column == label).any()]
    levels: Sequence[Any] = sorted(column.unique())
    return [plain_level(label) for label in levels]


def _check_numeric(words: str, frame: Any) -> None:
    _, pandas = frame_packages()
    for name in sorted(response_variables(words)):
        if name in frame.columns and not pandas.api.types.is_numeric_dtype(frame[name].dtype):
            raise ValueError(
                f"formula must have a numeric response, got column {name!r} of dtype {frame[name].dtype}; classes are "
                "for family='categorical'"
            )


def _plain(words: str, frame: Any) -> Any:
    """Truth values of the response as numbers, which would be categories."""
    names = [name for name in response_variables(words) if name in frame.columns and frame[name].dtype.kind == "b"]
    return frame.assign(**{name: frame[name].astype(float) for name in names}) if names else frame
