"""Laws of decay that a loss may follow, linear in their coefficients on the log scale; compared by AIC."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from ..data.tensors import check_not_masked

__all__ = [
    "LAWS",
    "LawFit",
    "LogarithmicLaw",
    "PiecewisePowerLaw",
    "PowerLaw",
    "PowerLawWithLog",
    "RateLaw",
    "compare_laws",
    "required_size",
]

Array = NDArray[np.float64]
_LARGEST_LOG = 100.0
_GRID = 4001


@dataclass(frozen=True)
class LawFit:
    """A law fitted to ``log loss`` by least squares.

    Attributes:
        law: the law, with its breakpoint if it has one.
        coefficients: of the law's columns.
        rss: residual sum of squares.
        aic: ``m log(rss / m) + 2 p``, with p coefficients (and breakpoint) and m sizes.
    """

    law: "RateLaw"
    coefficients: Array
    rss: float
    aic: float

    def predict(self, n: Array | float) -> Array:
        """The loss at sample sizes ``n``."""
        log_n = np.log(np.atleast_1d(np.asarray(n, dtype=np.float64)))
        return np.exp(self.law.columns(log_n) @ self.coefficients)


class RateLaw(ABC):
    """A form of ``log loss`` as a function of ``log n``."""

    name: ClassVar[str]
    num_hidden: ClassVar[int] = 0

    @abstractmethod
    def columns(self, log_n: Array) -> Array:
        """The regressors ``(m, p)`` at ``log_n (m,)``; the first is the constant."""

    def fit(self, log_n: Array, log_loss: Array) -> LawFit:
        """Least squares."""
        columns = self.columns(log_n)
        coefficients, *_ = np.linalg.lstsq(columns, log_loss, rcond=None)
        rss = float(np.square(log_loss - columns @ coefficients).sum())
        m, p = len(log_n), columns.shape[1] + self.num_hidden
        return LawFit(
            self, np.asarray(coefficients, dtype=np.float64), rss, m * float(np.log(max(rss, 1e-300) / m)) + 2 * p
        )


@dataclass(frozen=True)
class PowerLaw(RateLaw):
    """``c n^s``.

    Example:
        >>> import numpy as np
        >>> sizes = np.array([100.0, 1000.0, 10_000.0])
        >>> PowerLaw().fit(np.log(sizes), np.log(3 * sizes**-0.5)).coefficients.round(3)
        array([ 1.099, -0.5  ])
    """

    name = "power"

    def columns(self, log_n: Array) -> Array:
        """Constant and log n."""
        return np.column_stack([np.ones_like(log_n), log_n])


@dataclass(frozen=True)
class PowerLawWithLog(RateLaw):
    """``c n^s (log n)^q``.

    Example:
        >>> import numpy as np
        >>> sizes = np.geomspace(100, 1e6, 5)
        >>> fit = PowerLawWithLog().fit(np.log(sizes), np.log(sizes**-0.5 * np.log(sizes)))
        >>> fit.coefficients[1:].round(3)  # s and q
        array([-0.5,  1. ])
    """

    name = "power with log factor"

    def columns(self, log_n: Array) -> Array:
        """Constant, log n and log log n."""
        return np.column_stack([np.ones_like(log_n), log_n, np.log(log_n)])


@dataclass(frozen=True)
class LogarithmicLaw(RateLaw):
    """``c (log n)^q``, slower than every power.

    Example:
        >>> import numpy as np
        >>> sizes = np.geomspace(100, 1e6, 5)
        >>> LogarithmicLaw().fit(np.log(sizes), np.log(2 / np.log(sizes))).predict(1e12).round(4)
        array([0.0724])
    """

    name = "logarithmic"

    def columns(self, log_n: Array) -> Array:
        """Constant and log log n."""
        return np.column_stack([np.ones_like(log_n), np.log(log_n)])


@dataclass(frozen=True)
class PiecewisePowerLaw(RateLaw):
    """On the log scale quadratic in log n up to a breakpoint, and linear, with the same slope, beyond it.

    After the piecewise power law of Jain et al. (2023), arXiv 2303.01598, which separates a regime of small samples
    from the power law that follows. The breakpoint is chosen among the sizes.

    Args:
        log_break: logarithm of the breakpoint; found by ``fit``.

    Example:
        >>> import numpy as np
        >>> log_n = np.log(np.geomspace(100, 1e6, 9))
        >>> fit = PiecewisePowerLaw().fit(log_n, -0.5 * log_n + 0.2 * np.minimum(log_n - log_n[4], 0.0) ** 2)
        >>> round(float(np.exp(fit.law.log_break)))
        10000
    """

    log_break: float = 0.0
    name = "piecewise power"
    num_hidden = 1

    def columns(self, log_n: Array) -> Array:
        """Constant, log n, and the squared distance below the breakpoint."""
        below = np.minimum(log_n - self.log_break, 0.0)
        return np.column_stack([np.ones_like(log_n), log_n, below**2])

    def fit(self, log_n: Array, log_loss: Array) -> LawFit:
        """Least squares at the best breakpoint that leaves three sizes at or beyond it."""
        breaks = np.sort(log_n)[2:-2] if len(log_n) > 4 else np.sort(log_n)[:1]
        fits = [RateLaw.fit(PiecewisePowerLaw(float(b)), log_n, log_loss) for b in breaks]
        return min(fits, key=lambda fit: fit.rss)


LAWS: tuple[RateLaw, ...] = (PowerLaw(), PowerLawWithLog(), LogarithmicLaw(), PiecewisePowerLaw())


def compare_laws(sizes: Array, loss: Array, laws: tuple[RateLaw, ...] = LAWS) -> list[LawFit]:
    """Every law that has fewer parameters than there are sizes, fitted, best AIC first.

    Args:
        sizes: sample sizes ``(m,)``, at least 3.
        loss: a positive loss at each, ``(m,)``.
        laws: those to try.

    Raises:
        ValueError: if sizes are below 3, or a loss is not positive.

    Example:
        >>> import numpy as np
        >>> sizes = np.geomspace(100, 1e5, 12)
        >>> compare_laws(sizes, 3 / np.log(sizes))[0].law.name
        'logarithmic'
    """
    check_not_masked("sizes", sizes)
    check_not_masked("loss", loss)
    sizes, loss = np.asarray(sizes, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    if (sizes < 3).any():
        raise ValueError(f"sizes must be at least 3, got {sizes.min():g}")
    if not (loss > 0).all():
        raise ValueError(f"loss must be positive, got a smallest entry of {loss.min():g}")
    log_n, log_loss = np.log(sizes), np.log(loss)
    fits = [law.fit(log_n, log_loss) for law in laws if law.columns(log_n).shape[1] + law.num_hidden < len(sizes)]
    return sorted(fits, key=lambda fit: fit.aic)


def required_size(fit: LawFit, loss: float, *, smallest: float = 3.0) -> float:
    """The sample size beyond which a law stays below a loss; infinity if that is beyond e^100.

    Args:
        fit: a fitted law.
        loss: to reach, positive.
        smallest: sample size above which to look.

    Raises:
        ValueError: if ``loss`` is not positive.

    Example:
        >>> import numpy as np
        >>> sizes = np.geomspace(100, 1e4, 8)
        >>> round(required_size(PowerLaw().fit(np.log(sizes), np.log(sizes**-0.5)), 1e-3))
        1000000
    """
    if not loss > 0:
        raise ValueError(f"loss must be positive, got {loss}")

    def gap(log_n: Array) -> Array:
        return fit.law.columns(np.atleast_1d(log_n)) @ fit.coefficients - np.log(loss)

    grid = np.linspace(np.log(smallest), _LARGEST_LOG, _GRID)
    above = np.flatnonzero(gap(grid) > 0)
    if not len(above):
        return smallest
    if above[-1] == len(grid) - 1:
        return float("inf")
    return float(np.exp(brentq(lambda log_n: float(gap(log_n)[0]), *grid[above[-1] : above[-1] + 2])))
