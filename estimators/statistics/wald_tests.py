"""Wald tests of linear restrictions that hold together."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import chi2

from .covariance import propagate
from .linear_restrictions import LinearRestrictions

__all__ = ["WaldTest", "combination_covariance", "wald_test"]


@dataclass(frozen=True)
class WaldTest:
    """A test that several restrictions hold together.

    Attributes:
        statistic: chi-square distributed if they hold; NaN where the data do not determine a parameter in them.
        df: the number of restrictions.
        p_value: probability that a chi-square variable of ``df`` degrees of freedom exceeds the statistic.
        restrictions: in words ``(q,)``.
    """

    statistic: float
    df: int
    p_value: float
    restrictions: tuple[str, ...]

    def __str__(self) -> str:
        """The figures in a line."""
        return (
            f"Wald test of {', '.join(self.restrictions)}: {self.statistic:.4f}, df {self.df}, p = {self.p_value:.4g}"
        )


def wald_test(params: np.ndarray, covariance: np.ndarray, restrictions: LinearRestrictions) -> WaldTest:
    r"""The statistic :math:`(R\hat\theta - q)^\top (R C R^\top)^{-1} (R\hat\theta - q)`, chi-square of as many degrees.

    Args:
        params: estimates ``(P,)``.
        covariance: C of the estimates, ``(P, P)``; may hold NaN.
        restrictions: R and q.

    Source: Wald (1943), Transactions of the American Mathematical Society 54, 426-482.

    Example:
        >>> import numpy as np
        >>> from estimators.statistics.linear_restrictions import linear_restrictions
        >>> print(wald_test(np.array([1.0, 3.0]), np.eye(2), linear_restrictions("a = b", ["a", "b"])))
        Wald test of a = b: 2.0000, df 1, p = 0.1573
    """
    difference = restrictions.matrix @ params - restrictions.values
    spread = combination_covariance(covariance, restrictions)
    size, statistic = np.sqrt(np.diag(spread)), np.nan
    if np.isfinite(size).all() and (size > 0).all():
        scaled = difference / size  # units of the restrictions do not matter
        statistic = float(scaled @ np.linalg.solve(spread / np.outer(size, size), scaled))
    df = len(difference)
    return WaldTest(statistic, df, float(chi2.sf(statistic, df)), restrictions.labels)


def combination_covariance(covariance: np.ndarray, restrictions: LinearRestrictions) -> np.ndarray:
    """Covariance ``(q, q)`` of the combinations; NaN where the data do not determine a parameter in one."""
    rows, matrix = (torch.from_numpy(np.ascontiguousarray(part)) for part in (restrictions.matrix, covariance))
    return propagate(rows, matrix).numpy()
