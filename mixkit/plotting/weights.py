"""Observations that stand for others: shares, ranks, quantiles and bins by weight."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .canvas import as_array, as_values

__all__ = ["Weights"]


@dataclass(frozen=True)
class Weights:
    """Weights ``values (n,)`` of observations; ones where none are given.

    Example:
        >>> weights = Weights.of([1.0, 3.0, 0.0], 3)
        >>> weights.count, weights.sorted(np.array([5.0, 2.0, 9.0]))
        (1.6, (array([2., 5.]), array([0.375, 0.875])))
    """

    values: np.ndarray

    @classmethod
    def of(cls, sample_weight: Any, n: int) -> "Weights":
        """Those of n observations; ``ValueError`` unless they are finite, non-negative and not all zero."""
        if sample_weight is None:
            return cls(np.ones(n))
        values = as_array(as_values("sample_weight", sample_weight))
        if values.shape != (n,):
            raise ValueError(f"sample_weight must have shape ({n},), got {values.shape}")
        if not (np.isfinite(values).all() and (values >= 0).all() and (values > 0).any()):
            raise ValueError(
                f"sample_weight must be finite, non-negative and not all zero, got values from {values.min()} to "
                f"{values.max()}"
            )
        return cls(values)

    @property
    def total(self) -> float:
        """Their sum."""
        return float(self.values.sum())

    @property
    def count(self) -> float:
        """How many observations of one weight tell as much, ``(sum w)^2 / sum w^2`` (Kish 1965)."""
        return float(self.total**2 / np.square(self.values).sum())

    def sorted(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values of positive weight in order, and the share below each, its own half included."""
        order, below = self._order(values)
        return values[order], below

    def quantile(self, values: np.ndarray, part: np.ndarray, level: float) -> float:
        """A quantile of the values at the indices ``part``."""
        own, below = Weights(self.values[part]).sorted(values[part])
        return float(np.interp(level, below, own))

    def bins(self, values: np.ndarray, count: int) -> list[np.ndarray]:
        """Indices of the observations, by value, in ``count`` parts of about equal weight."""
        order, below = self._order(values)
        return np.split(order, np.searchsorted(below, np.arange(1, count) / count))

    def _order(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(values, kind="stable")
        order = order[self.values[order] > 0]
        weight = self.values[order]
        return order, (np.cumsum(weight) - 0.5 * weight) / weight.sum()
