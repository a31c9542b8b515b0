"""How a study draws its covariates; to add a way, subclass :class:`Covariates`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

__all__ = ["Covariates", "GridCovariates", "NormalCovariates", "UniformCovariates"]


class Covariates(ABC):
    """A law, or a grid, of covariates.

    Attributes:
        is_nested: whether the first rows of a larger draw are a smaller one, given one state of the generator.
    """

    is_nested: bool = True

    @abstractmethod
    def draw(self, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
        """Covariates ``(n, d)``, float64."""


def _check_ends(low: float, high: float) -> None:
    if not np.isfinite([low, high]).all() or not low < high:
        raise ValueError(f"low must be below high and both finite, got {low} and {high}")


@dataclass(frozen=True)
class UniformCovariates(Covariates):
    """Independent and uniform on ``[low, high]^d``."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        _check_ends(self.low, self.high)

    def draw(self, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
        """Covariates ``(n, d)``."""
        return self.low + (self.high - self.low) * rng.random((n, d))


@dataclass(frozen=True)
class NormalCovariates(Covariates):
    """Independent and normal, of mean zero and standard deviation ``std``."""

    std: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.std < np.inf:
            raise ValueError(f"std must be positive and finite, got {self.std}")

    def draw(self, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
        """Covariates ``(n, d)``."""
        return self.std * rng.standard_normal((n, d))


@dataclass(frozen=True)
class GridCovariates(Covariates):
    """The grid ``linspace(low, high, n)``, for one covariate."""

    low: float = 0.0
    high: float = 1.0
    is_nested = False

    def __post_init__(self) -> None:
        _check_ends(self.low, self.high)

    def draw(self, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
        """Covariates ``(n, 1)``; nothing is drawn.

        Raises:
            ValueError: if d is not 1.
        """
        if d != 1:
            raise ValueError(f"a grid needs one covariate, got {d}")
        return np.linspace(self.low, self.high, n)[:, None]
