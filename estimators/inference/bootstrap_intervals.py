"""Confidence intervals from the replicates of a bootstrap, by several rules."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from ..statistics.wald import wald_intervals

__all__ = ["INTERVALS", "Replicates", "acceleration", "unresolved"]

_FEWEST = 3  # replicates outside an end
_LEAST_SHARE = 1.0 / 30.0  # of the replicates that the level leaves outside


class Replicates(NamedTuple):
    """What intervals are made of.

    Estimates ``params (P,)``, their ``replicates (m, P)`` without failures (columns of NaN for undetermined
    parameters), ``is_positive (P,)`` bool, ``acceleration (P,)``.
    """

    params: np.ndarray
    replicates: np.ndarray
    is_positive: np.ndarray
    acceleration: np.ndarray


def acceleration(influence: np.ndarray) -> np.ndarray:
    r"""How fast an estimate's standard error changes with the parameter, :math:`\sum l_i^3 / (6 (\sum l_i^2)^{3/2})`.

    Args:
        influence: l, what each observation adds to the estimate to first order, ``(n, P)``.

    Returns:
        ``(P,)``; zero where no observation has an influence.

    Source: Efron (1987), Journal of the American Statistical Association 82, 171-185, section 7.
    """
    size = np.sqrt(np.square(influence).sum(0))
    unit = influence / np.where(size > 0, size, 1.0)
    return np.asarray((unit**3).sum(0) / 6.0)


def percentile(found: Replicates, level: float) -> np.ndarray:
    """The quantiles of the replicates."""
    tails = np.array([0.5 - 0.5 * level, 0.5 + 0.5 * level])
    return _quantiles(found.replicates, np.tile(tails, (len(found.params), 1)))


def basic(found: Replicates, level: float) -> np.ndarray:
    """The estimate less the quantiles of the replicates' errors, those of positive parameters on the log scale."""
    ends = percentile(found, level)[:, ::-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.square(found.params)[:, None] / ends
    return np.where(found.is_positive[:, None], ratio, 2.0 * found.params[:, None] - ends)


def normal(found: Replicates, level: float) -> np.ndarray:
    """The estimate plus and minus a normal quantile of standard errors, of positive parameters on the log scale."""
    errors = found.replicates.std(0, ddof=1)
    plain = wald_intervals(found.params, errors, np.zeros_like(found.is_positive), level=level)
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log(np.where(found.is_positive, found.replicates, 1.0)).std(0, ddof=1)
    factor = np.exp(norm.ppf(0.5 + 0.5 * level) * logs)[:, None] ** np.array([-1.0, 1.0])
    return np.where(found.is_positive[:, None], found.params[:, None] * factor, plain)


def bias_corrected(found: Replicates, level: float) -> np.ndarray:
    """Quantiles of the replicates, shifted by twice how far their median lies from the estimate.

    Source: Efron (1981), Canadian Journal of Statistics 9, 139-172.
    """
    return accelerated(_without_acceleration(found), level)


def accelerated(found: Replicates, level: float) -> np.ndarray:
    r"""Quantiles at :math:`\Phi(z_0 + (z_0 + z) / (1 - a (z_0 + z)))`, z those of a normal distribution.

    The bias is :math:`z_0 = \Phi^{-1}(\text{share of replicates below the estimate})`, a the acceleration. Where such a
    level lies among the last few replicates (see :func:`unresolved`), the ends are those of :func:`percentile`.

    Source: DiCiccio and Efron (1996), Statistical Science 11, 189-228, section 2.
    """
    tails = _adjusted_tails(found, level)
    ends, plain = _quantiles(found.replicates, tails), percentile(found, level)
    return np.where(_is_noise(tails, len(found.replicates), level)[:, None], plain, ends)


def unresolved(found: Replicates, level: float, method: str) -> np.ndarray:
    """Of which parameters a method's levels lie among the last few replicates, ``(P,)`` bool.

    A corrected level that leaves fewer than three replicates outside, and less than a thirtieth of what the level
    itself leaves there, is noise: at a gate that is nearly a step whole tails of replicates run away, and one of them
    would be the end.
    """
    if method not in _CORRECTED:
        return np.zeros(len(found.params), dtype=bool)
    tails = _adjusted_tails(_CORRECTED[method](found), level)
    return _is_noise(tails, len(found.replicates), level) & ~np.isnan(found.replicates).all(0)


def _is_noise(tails: np.ndarray, num_replicates: int, level: float) -> np.ndarray:
    outside = (num_replicates + 1) * np.minimum(tails, 1.0 - tails).min(1)
    nominal = (num_replicates + 1) * (0.5 - 0.5 * level)
    return np.asarray(outside < min(_FEWEST, _LEAST_SHARE * nominal))


def _adjusted_tails(found: Replicates, level: float) -> np.ndarray:
    """Levels ``(P, 2)`` of the quantiles that are corrected for bias and acceleration."""
    below = (found.replicates < found.params).mean(0) + 0.5 * (found.replicates == found.params).mean(0)
    least = 0.5 / len(found.replicates)
    z = norm.ppf(np.clip(below, least, 1.0 - least))[:, None]
    moved = z + norm.ppf([0.5 - 0.5 * level, 0.5 + 0.5 * level])
    stretched = 1.0 - found.acceleration[:, None] * moved
    with np.errstate(divide="ignore"):
        return np.asarray(norm.cdf(z + moved / np.where(stretched > 0, stretched, 0.0)))


def _without_acceleration(found: Replicates) -> Replicates:
    return found._replace(acceleration=np.zeros_like(found.params))


_CORRECTED: dict[str, Callable[[Replicates], Replicates]] = {"bc": _without_acceleration, "bca": lambda found: found}


def _quantiles(values: np.ndarray, tails: np.ndarray) -> np.ndarray:
    """Quantiles ``(P, 2)`` of the columns of ``values (m, P)`` at probabilities ``tails (P, 2)``.

    Order statistic j of m stands at j / (m + 1): then an interval from the q-th least to the q-th largest misses with
    probability 2 q / (m + 1) exactly, if the estimate's error and the replicates' are of one law.
    """
    ordered, last = np.sort(values, axis=0), len(values) - 1
    place = np.clip(tails * (len(values) + 1) - 1.0, 0.0, last)
    low = np.floor(place).astype(np.intp)
    share, columns = place - low, np.arange(values.shape[1])[:, None]
    lower, upper = ordered[low, columns], ordered[np.minimum(low + 1, last), columns]
    return np.where(share > 0, lower + share * (upper - lower), lower)


INTERVALS: dict[str, Callable[[Replicates, float], np.ndarray]] = {
    "percentile": percentile,
    "bc": bias_corrected,
    "bca": accelerated,
    "basic": basic,
    "normal": normal,
}
"""Rules by name."""
