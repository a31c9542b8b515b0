"""What the densities of a family are densities with respect to: Lebesgue measure on an interval, and unit masses."""

import math
from dataclasses import dataclass

__all__ = ["COUNTS", "POSITIVE_LINE", "REAL_LINE", "DominatingMeasure"]


@dataclass(frozen=True)
class DominatingMeasure:
    """Lebesgue measure on an open interval plus unit masses at values.

    Densities of two families can be added if they are taken with respect to one measure, that is with respect to both
    of these: where one has a unit mass, the other has one too or density zero.

    Attributes:
        interval: where the density with respect to Lebesgue measure may be positive; None if there is none.
        values: where unit masses are.
        has_counts: whether there is one at every non-negative integer.

    Example:
        >>> zero = DominatingMeasure(values=(0.0,))
        >>> POSITIVE_LINE.clash(zero), REAL_LINE.clash(zero), REAL_LINE.clash(COUNTS)
        (None, 0.0, 0.0)
    """

    interval: tuple[float, float] | None = None
    values: tuple[float, ...] = ()
    has_counts: bool = False

    def clash(self, other: "DominatingMeasure") -> float | None:
        """A value at which one has a unit mass and the other a density that would be added to it; None without one."""
        found = self._unit_mass_inside(other), other._unit_mass_inside(self)
        return next((value for value in found if value is not None), None)

    def _unit_mass_inside(self, other: "DominatingMeasure") -> float | None:
        if other.interval is None:
            return None
        low, high = other.interval
        least = math.floor(max(low, -1.0)) + 1.0
        counts = [least + i for i in range(len(other.values) + 1)] if self.has_counts else []  # one is no mass of other
        masses = (*self.values, *counts)
        return next((value for value in masses if low < value < high and not other._has_unit_mass(value)), None)

    def _has_unit_mass(self, value: float) -> bool:
        return value in self.values or (self.has_counts and value >= 0 and value == math.floor(value))


REAL_LINE = DominatingMeasure(interval=(-math.inf, math.inf))
"""Lebesgue measure on the line, or of a vector in each coordinate."""
POSITIVE_LINE = DominatingMeasure(interval=(0.0, math.inf))
"""Lebesgue measure on the positive numbers."""
COUNTS = DominatingMeasure(has_counts=True)
"""A unit mass at every non-negative integer."""
