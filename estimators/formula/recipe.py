"""A formula with all that it takes to encode a frame as a fit did; it travels with the result."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .design import Design
from .encoder import Encoder
from .extras import formulaic_package
from .frames import columns_of, is_frame, taken_columns
from .response import Response, response_variables

__all__ = ["Recipe", "complete_columns", "missing_counts", "read_columns"]


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a frame becomes covariates ``(n, d)``, known columns last, and a response.

    Attributes:
        text: the formula and the terms beside it, in words.
        design: columns of experts and gate.
        response: the left side.
        known: encoders of an offset and of numbers of trials, in the order in which a model takes them.
    """

    text: str
    design: Design
    response: Response
    known: dict[str, Encoder]

    @property
    def names(self) -> list[str]:
        """What the columns are called ``(d,)``; one that nobody reads stands where there is none."""
        known = [f"{role}({encoder.columns[0]})" for role, encoder in self.known.items()]
        return [*self.design.columns, *known] or ["none"]

    def reads(self, data: Any) -> bool:
        """Whether something is a frame that can be encoded."""
        return is_frame(data)

    def covariates(self, data: Any) -> np.ndarray:
        """The columns ``(n, d)`` of a frame, encoded as those of the fit.

        Raises:
            TypeError: if ``data`` is no frame.
            ValueError: if a column is absent, a value missing or not finite, or a level unseen.
        """
        encoders = [part for part in (self.design.experts, self.design.gate, *self.known.values()) if part is not None]
        return self.matrix(complete_columns(data, (name for part in encoders for name in part.terms.variables)))

    def values(self, data: Any) -> np.ndarray:
        """The response ``(n,)`` or ``(n, p)`` of a frame; classes as their indices.

        Raises:
            TypeError: if ``data`` is no frame.
            ValueError: if a column is absent, a value missing or not finite, or a class unseen.
        """
        return self.response.values(complete_columns(data, response_variables(self.response.words)))

    def matrix(self, frame: Any) -> np.ndarray:
        """The columns ``(n, d)`` of a pandas frame without missing values."""
        known = [encoder.encoded(frame).to_numpy() for encoder in self.known.values()]
        columns = np.column_stack([self.design.encoded(frame), *known])
        return columns if columns.shape[1] else np.zeros((len(frame), 1))


def read_columns(data: Any, names: Iterable[str]) -> Any:
    """The columns of a frame that terms read, as a pandas frame; codings such as ``Treatment`` are none.

    Raises:
        TypeError: if ``data`` is no frame.
        ValueError: if a column is absent.
    """
    own, words = columns_of(data), set(names)
    codings = set(formulaic_package().transforms.TRANSFORMS) - set(own)
    wanted = sorted(words - codings) or own[:1]  # of a formula without columns the rows alone count
    return taken_columns(data, wanted)


def complete_columns(data: Any, names: Iterable[str]) -> Any:
    """:func:`read_columns` of a frame that has no missing values there.

    Raises:
        TypeError: if ``data`` is no frame.
        ValueError: if a column is absent, or a value missing.
    """
    frame = read_columns(data, names)
    found = missing_counts(frame)
    if found:
        raise ValueError(f"data must have no missing values in the columns of the formula, got {', '.join(found)}")
    return frame


def missing_counts(frame: Any) -> list[str]:
    """Words for the missing values of each column that has some."""
    return [f"{int(count)} in {name!r}" for name, count in frame.isna().sum().items() if count]
