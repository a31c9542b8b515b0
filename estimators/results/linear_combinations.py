"""Linear combinations of parameters, estimated and tested one by one."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from ..statistics.linear_restrictions import LinearRestrictions
from ..statistics.wald import check_level
from ..statistics.wald_tests import combination_covariance
from .summary import Summary

__all__ = ["LinearCombinations", "linear_combinations"]


@dataclass(frozen=True, eq=False, repr=False)
class LinearCombinations:
    """Estimates of linear combinations of the parameters, each tested by itself.

    Attributes:
        value: the combinations at the estimates, ``(q,)``.
        hypothesized: what they are under the restrictions, ``(q,)``.
        std_error: standard errors ``(q,)``; NaN where the data do not determine a parameter in one.
        z: ``(value - hypothesized) / std_error``, standard normal if the restriction holds, ``(q,)``.
        p_value: two-sided, ``(q,)``.
        interval: of the combinations, ``(q, 2)``.
        level: of the intervals, in (0, 1).
        restrictions: in words ``(q,)``.
    """

    value: np.ndarray
    hypothesized: np.ndarray
    std_error: np.ndarray
    z: np.ndarray
    p_value: np.ndarray
    interval: np.ndarray
    level: float
    restrictions: tuple[str, ...]

    def summary(self) -> Summary:
        """The figures as a table: text, HTML, LaTeX, Markdown, a pandas frame."""
        values = np.column_stack([self.value, self.std_error, self.z, self.p_value, self.interval])
        return Summary([], list(self.restrictions), values, [], self.level, "Linear Combinations of Parameters")

    def to_frame(self) -> Any:
        """The figures as a pandas frame, a row for each restriction; ``ImportError`` without pandas."""
        return self.summary().to_frame()

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return self.summary().as_html()

    def __str__(self) -> str:
        """A table with a row for each restriction; its first column is the combination, not its distance to a value."""
        return str(self.summary())

    __repr__ = __str__


def linear_combinations(
    params: np.ndarray, covariance: np.ndarray, restrictions: LinearRestrictions, *, level: float = 0.95
) -> LinearCombinations:
    """Each restriction tested by itself against the normal distribution.

    Args:
        params: estimates ``(P,)``.
        covariance: of the estimates, ``(P, P)``; may hold NaN.
        restrictions: q of them.
        level: of the intervals, in (0, 1).

    Raises:
        TypeError: if ``level`` is not a number.
        ValueError: if it is not strictly between 0 and 1.

    Example:
        >>> import numpy as np
        >>> from estimators.statistics.linear_restrictions import linear_restrictions
        >>> linear_combinations(np.array([1.0, 3.0]), np.eye(2), linear_restrictions("a = b", ["a", "b"])).z.round(3)
        array([-1.414])
    """
    value = restrictions.matrix @ params
    error = np.sqrt(np.diag(combination_covariance(covariance, restrictions)))
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (value - restrictions.values) / error
    half = norm.ppf(0.5 + 0.5 * check_level(level)) * error
    interval = np.stack([value - half, value + half], -1)
    p_value = 2.0 * norm.sf(np.abs(z))
    return LinearCombinations(value, restrictions.values, error, z, p_value, interval, level, restrictions.labels)
