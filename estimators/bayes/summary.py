"""The table of a posterior."""

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.frames import new_frame

__all__ = ["PosteriorSummary"]

_RULE = 88


@dataclass(frozen=True, eq=False, repr=False)
class PosteriorSummary:
    """A table that prints as text; :meth:`to_frame` gives a pandas frame.

    Attributes:
        head: pairs of a label and a value.
        names: parameter names ``(P,)``.
        values: ``(P, 6)``: mean, standard deviation, ends of the interval, effective sample size, split R-hat; for a
            distribution that is not one of draws ``(P, 4)``, without the last two.
        level: of the interval.
        notes: remarks below the table.
        center: what the first column holds.
    """

    head: list[tuple[str, str]]
    names: list[str]
    values: np.ndarray
    level: float
    notes: list[str]
    center: str = "mean"

    @property
    def columns(self) -> list[str]:
        """Column titles."""
        low, high = 0.5 - self.level / 2.0, 0.5 + self.level / 2.0
        return [self.center, "std", f"{low:.4g}", f"{high:.4g}", "ess", "r_hat"][: self.values.shape[1]]

    def to_frame(self) -> Any:
        """The table as a pandas frame."""
        return new_frame(self.values, index=self.names, columns=self.columns)

    def __str__(self) -> str:
        """The table as text."""
        half = (len(self.head) + 1) // 2
        left, right = self.head[:half], [*self.head[half:], ("", "")]
        lines = ["Posterior of a mixture of experts".center(_RULE), "=" * _RULE]
        for (label, value), (label_2, value_2) in zip(left, right, strict=False):
            lines.append(f"{label:<18}{value:>24}    {label_2:<18}{value_2:>24}")
        width = max(28, *(len(name) for name in self.names))
        lines += ["-" * _RULE, " " * width + "".join(f"{column:>10}" for column in self.columns), "-" * _RULE]
        for name, row in zip(self.names, self.values, strict=True):
            numbers = "".join(f"{value:>10.4g}" for value in row[:4])
            quality = f"{row[4]:>10.0f}{'-' if np.isnan(row[5]) else f'{row[5]:.3f}':>10}" if len(row) > 4 else ""
            lines.append(f"{name:<{width}}{numbers}{quality}")
        return "\n".join([*lines, "=" * _RULE, *(textwrap.fill(note, _RULE) for note in self.notes)])

    __repr__ = __str__
