"""A fit as a table."""

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from ..data.frames import new_frame
from ..statistics.wald import wald_intervals
from .summary_formats import Formatted, Words

__all__ = ["Summary", "table_rows"]

_RULE = 84


@dataclass(frozen=True, repr=False)
class Summary(Formatted):
    """Estimates in rows, statistics in columns; ``print`` and notebooks show a table.

    Attributes:
        head: facts on the fit, pairs of a label and a value.
        names: parameter names ``(P,)``.
        values: ``(P, 6)``: estimate, standard error, z, p value and the ends of an interval. Intervals of positive
            parameters (``std``, ``scale``, ``df``) are computed on the log scale, and have no z or p value.
        notes: remarks below the table.
        level: of the intervals, in (0, 1).
        title: above the table.
    """

    head: list[tuple[str, str]]
    names: list[str]
    values: np.ndarray
    notes: list[str]
    level: float = 0.95
    title: str = "Mixture of Experts Results"

    @property
    def columns(self) -> list[str]:
        """Headings of the six columns."""
        low, high = 0.5 - 0.5 * self.level, 0.5 + 0.5 * self.level
        return ["coef", "std err", "z", "P>|z|", f"[{low:.4g}", f"{high:.4g}]"]

    def to_frame(self) -> Any:
        """The table as a pandas frame, parameters in rows; ``ImportError`` without pandas."""
        return new_frame(self.values, index=self.names, columns=self.columns)

    def words(self) -> Words:
        """The table in words."""
        rows = [[_cell(*cell).strip() for cell in zip(row, _WIDTHS, _DECIMALS, strict=True)] for row in self.values]
        return Words(self.title, self.head, self.columns, list(zip(self.names, rows, strict=True)), self.notes)

    def __str__(self) -> str:
        """The table as text."""
        lines = [self.title.center(_RULE), *self._head_lines()]
        width = max([_RULE - 64, *(len(name) for name in self.names)])
        rule = max(_RULE, width + 64)
        heading = " " * width + "".join(f"{column:>{size}}" for column, size in zip(self.columns, _WIDTHS, strict=True))
        lines += ["=" * rule, heading, "-" * rule]
        for name, row in zip(self.names, self.values, strict=True):
            lines.append(f"{name:<{width}}" + "".join(map(_cell, row, _WIDTHS, _DECIMALS)))
        notes = [textwrap.fill(f"[{i}] {note}", rule, subsequent_indent="    ") for i, note in enumerate(self.notes, 1)]
        return "\n".join([*lines, "=" * rule, *(["Notes:", *notes] if notes else [])])

    def _head_lines(self) -> list[str]:
        half = (len(self.head) + 1) // 2
        left, right = self.head[:half], [*self.head[half:], ("", "")]
        lines = ["=" * _RULE] if self.head else []
        for (label, value), (label_2, value_2) in zip(left, right, strict=False):
            lines.append(f"{_entry(label, value, 42)}   {_entry(label_2, value_2, 39)}".rstrip())
        return lines

    __repr__ = __str__


_WIDTHS = (11, 11, 10, 8, 12, 12)
_DECIMALS = (4, 3, 3, 3, 3, 3)


def _entry(label: str, value: str, width: int) -> str:
    return f"{label}:{value:>{width - len(label) - 1}}" if label else ""


def _cell(value: float, width: int, decimals: int) -> str:
    """A number with a fixed number of decimals, in powers of ten where these would not show it; blank for NaN."""
    if np.isnan(value):
        return " " * width
    is_p_value = width == _WIDTHS[3]
    is_shown = is_p_value or value == 0 or 0.5 * 10.0**-decimals <= abs(value) < 10.0 ** (width - decimals - 3)
    return f"{value:>{width}.{decimals}f}" if is_shown else f"{value:>{width}.{decimals - 1}e}"


def table_rows(estimates: np.ndarray, errors: np.ndarray, positive: np.ndarray, *, level: float) -> np.ndarray:
    """Values of a :class:`Summary`, ``(P, 6)``, from estimates, standard errors, and which are positive, ``(P,)``."""
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where(positive, np.nan, estimates / errors)
    p_value = 2.0 * norm.sf(np.abs(z))
    return np.column_stack([estimates, errors, z, p_value, wald_intervals(estimates, errors, positive, level=level)])
