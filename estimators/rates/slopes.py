"""Slopes on the log-log scale, with standard errors by the bootstrap over replicates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, trim_mean

from .laws import PowerLaw, RateLaw, required_size

__all__ = ["Slope", "Verdict", "fit_slope", "judge", "median", "required_sample_size", "trimmed_mean"]

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]
_RESAMPLES = 400


def median(samples: Array) -> Array:
    """The median over the last axis.

    Example:
        >>> import numpy as np
        >>> float(median(np.array([1.0, 2.0, 9.0])))
        2.0
    """
    return np.median(samples, axis=-1)


def trimmed_mean(samples: Array) -> Array:
    """The mean over the last axis without the lowest and highest tenth.

    Example:
        >>> import numpy as np
        >>> float(trimmed_mean(np.array([0.0] + [1.0] * 8 + [1e9])))
        1.0
    """
    return np.asarray(trim_mean(samples, 0.1, axis=-1))


@dataclass(frozen=True)
class Slope:
    """A power law ``exp(intercept) n^value`` fitted to a statistic of the losses at each size.

    Attributes:
        value: the slope.
        std_error: its bootstrap standard error.
        intercept: log of the loss at n = 1.
        smallest: smallest sample size of the fit.
        largest: largest sample size of the fit.
        num_sizes: how many sizes.
    """

    value: float
    std_error: float
    intercept: float
    smallest: int
    largest: int
    num_sizes: int


def resampled(samples: Sequence[Array], statistic: Statistic, rng: np.random.Generator, paired: bool) -> Array:
    """The statistic at each size of bootstrap samples of replicates, ``(resamples, sizes)``.

    Paired: one choice of replicates for all sizes, as nested samples need, for theirs are not independent. Choices in
    which some size has no loss at all are left out.
    """
    same = rng.integers(len(samples[0]), size=(_RESAMPLES, len(samples[0]))) if paired else None
    columns = []
    for losses in samples:
        index = same if same is not None else rng.integers(len(losses), size=(_RESAMPLES, len(losses)))
        columns.append(_of_present(statistic, np.asarray(losses)[index]))
    found = np.stack(columns, -1)
    return found[~np.isnan(found).any(1)]


def _of_present(statistic: Statistic, rows: Array) -> Array:
    """The statistic of each row ``(m, r)`` without its NaN, ``(m,)``; NaN where nothing is left."""
    if not np.isnan(rows).any():
        return statistic(rows)
    return np.array([float(statistic(_present(row))) if len(_present(row)) else np.nan for row in rows])


def _present(losses: Array) -> Array:
    losses = np.asarray(losses, dtype=np.float64)
    return losses[~np.isnan(losses)]


def _check(sizes: Sequence[int], samples: Sequence[Array], paired: bool) -> None:
    if len(sizes) != len(samples) or len(sizes) < 2:
        raise ValueError(f"sizes must be two or more, one for each of {len(samples)} samples, got {len(sizes)}")
    for n, losses in zip(sizes, samples, strict=True):
        there = _present(losses) if paired else np.asarray(losses)
        if len(there) < 2 or not np.isfinite(there).all() or not (there > 0).all():
            raise ValueError(f"samples must hold two or more positive losses a size, got others at n = {n}")
    if paired and len({len(losses) for losses in samples}) > 1:
        raise ValueError("samples must have one number of replicates at all sizes to be paired, got several")


def fit_slope(
    sizes: Sequence[int],
    samples: Sequence[Array],
    *,
    statistic: Statistic = median,
    paired: bool = False,
    rng: np.random.Generator | None = None,
) -> Slope:
    """Regress the log of a statistic of the losses on log n.

    Args:
        sizes: sample sizes, two or more.
        samples: the losses of the replicates at each size, positive.
        statistic: of the replicates, such as :func:`median` or :func:`trimmed_mean`.
        paired: whether replicates are the same at all sizes (nested samples): replicate r has place r at every size,
            NaN where it has no loss.
        rng: source of the bootstrap; seeded with 0 if None.

    Raises:
        ValueError: if there are fewer than two sizes or replicates, or a loss is not positive and finite.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> sizes = [100, 1000, 10000]
        >>> slope = fit_slope(sizes, [n**-0.5 * rng.lognormal(size=200) for n in sizes])
        >>> abs(slope.value + 0.5) < 4 * slope.std_error
        True
    """
    _check(sizes, samples, paired)
    rng = np.random.default_rng(0) if rng is None else rng
    log_n = np.log(np.asarray(sizes, dtype=np.float64))
    levels = np.log([float(statistic(_present(losses))) for losses in samples])
    columns = PowerLaw().columns(log_n)
    weights = np.linalg.pinv(columns)
    intercept, value = weights @ levels
    spread = (np.log(resampled(samples, statistic, rng, paired)) @ weights[1]).std(ddof=1)
    return Slope(float(value), float(spread), float(intercept), int(min(sizes)), int(max(sizes)), len(sizes))


@dataclass(frozen=True)
class Verdict:
    """A measured slope against a declared exponent.

    Attributes:
        text: ``agrees``, ``slower`` or ``faster`` (than declared), or ``undecided``.
        z: measured less declared slope, in standard errors.
        false_alarm_rate: how often a slope that is as declared is called slower or faster (the normal approximation).
    """

    text: str
    z: float
    false_alarm_rate: float


def judge(slope: Slope, exponent: float, *, false_alarm_rate: float = 0.01) -> Verdict:
    """Compare a slope with a declared exponent.

    Theory bounds errors from above, so ``slower`` speaks against it and ``faster`` does not; and it speaks of large n,
    so either may mean that the sizes are too small. A standard error of zero gives no verdict but by equality.

    A slope that is neither slower nor faster agrees only if it says something: where its interval at the level
    ``1 - false_alarm_rate`` holds zero as well as the declared exponent, the verdict is ``undecided``. How often a
    slope is called slower or faster does not depend on this. An exponent declared as zero is never undecided.

    Args:
        slope: as measured.
        exponent: as declared, such as -0.5.
        false_alarm_rate: of the two-sided test, in (0, 1).

    Raises:
        ValueError: if ``false_alarm_rate`` is not in (0, 1).

    Example:
        >>> judge(Slope(-0.49, 0.02, 0.0, 100, 1000, 5), -0.5).text
        'agrees'
        >>> judge(Slope(-0.92, 1.12, 0.0, 100, 1000, 5), -0.5).text
        'undecided'
    """
    if not 0 < false_alarm_rate < 1:
        raise ValueError(f"false_alarm_rate must be in (0, 1), got {false_alarm_rate}")
    gap = slope.value - exponent
    z = gap / slope.std_error if slope.std_error > 0 else float(np.copysign(np.inf, gap)) if gap else 0.0
    width = norm.isf(0.5 * false_alarm_rate)
    if abs(z) <= width:
        says_nothing = exponent != 0 and abs(slope.value) <= width * slope.std_error
        return Verdict("undecided" if says_nothing else "agrees", float(z), false_alarm_rate)
    return Verdict("slower" if z > 0 else "faster", float(z), false_alarm_rate)


def required_sample_size(
    sizes: Sequence[int],
    samples: Sequence[Array],
    loss: float,
    *,
    law: RateLaw | None = None,
    level: float = 0.95,
    statistic: Statistic = median,
    paired: bool = False,
    rng: np.random.Generator | None = None,
) -> tuple[float, float]:
    """The sample size that reaches a loss by a law, and an upper confidence bound of it by the bootstrap.

    Args:
        sizes: sample sizes.
        samples: the losses of the replicates at each size.
        loss: to reach.
        law: to extrapolate by; a power law if None.
        level: of the bound.
        statistic: of the replicates.
        paired: whether replicates are the same at all sizes, as for :func:`fit_slope`.
        rng: source of the bootstrap; seeded with 0 if None.

    Raises:
        ValueError: as for :func:`fit_slope`, and if ``loss`` is not positive or ``level`` not in (0, 1).

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> sizes = [100, 1000, 10000]
        >>> n, bound = required_sample_size(sizes, [n**-0.5 * rng.lognormal(size=200) for n in sizes], 1e-3)
        >>> bool(n < bound and 5e5 < n < 2e6)
        True
    """
    _check(sizes, samples, paired)
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    law = PowerLaw() if law is None else law
    rng = np.random.default_rng(0) if rng is None else rng
    log_n = np.log(np.asarray(sizes, dtype=np.float64))

    def size(levels: Array) -> float:
        return required_size(law.fit(log_n, np.log(levels)), loss)

    found = size(np.array([float(statistic(_present(losses))) for losses in samples]))
    draws = [size(levels) for levels in resampled(samples, statistic, rng, paired)]
    return found, float(np.quantile(draws, level, method="higher"))
