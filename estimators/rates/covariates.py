"""How a study draws its covariates; to add a way, subclass :class:`Covariates`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

__all__ = ["Covariates", "GridCovariates", "NormalCovariates", "UniformCovariates"]


class Covariates(ABC):
    """A distribution, or a grid, of covariates.

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
    """Independent and uniform on ``[low, high]^d``.

    Args:
        low: lower end.
        high: upper end.

    Raises:
        ValueError: unless ``low`` is below ``high`` and both are finite.

    Example:
        >>> import numpy as np
        >>> UniformCovariates(-1.0, 1.0).draw(3, 2, np.random.default_rng(0)).shape
        (3, 2)
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        _check_ends(self.low, self.high)

    def draw(self, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
        """Covariates ``(n, d)``."""
        return self.low + (self.high - self.low) * rng.random((n, d))


@dataclass(frozen=True)
class NormalCovariates(Covariates):
    """Independent and normal, of mean zero.

    Args:
        std: standard deviation.

    Raises:
        ValueError: if ``std`` is not positive and finite.

    Example:
        >>> import numpy as np
        >>> round(float(NormalCovariates(2.0).draw(10_000, 1, np.random.default_rng(0)).std()), 1)
        2.0
    """

    std: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.std < np.inf:
            raise ValueError(f"std must be positive and finite, got {self.std}")

    def draw(self, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
        """Covariates ``(n, d)``."""
        return self.std * rng.standard_normal((n, d))


@dataclass(frozen=True)
class GridCovariates(Covariates):
    """The grid ``linspace(low, high, n)``, for one covariate; samples on it are not nested.

    Args:
        low: first point.
        high: last point.

    Raises:
        ValueError: unless ``low`` is below ``high`` and both are finite.

    Example:
        >>> import numpy as np
        >>> GridCovariates().draw(3, 1, np.random.default_rng(0)).ravel()
        array([0. , 0.5, 1. ])
    """

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
