"""Held-out log-densities for each number of experts."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.model_selection import KFold
from torch import Tensor
from tqdm.auto import tqdm

from mixkit._validation import check_integer
from mixkit.mixture import MixtureOfExperts

from ..data.dataset import Data
from ..results.fit_result import FitResult
from ..search.estimator import Estimator
from .path import fit_from, log_density

__all__ = ["HeldOut", "held_out", "make_folds"]

Array = NDArray[np.float64]


class HeldOut(NamedTuple):
    """Log-densities of observations under fits that have not seen them.

    ``log_density (len(sizes), n)``, NaN for observations that no fold holds out; ``weight (n,)``, theirs, zero there.
    Where rows share an expert by group, the n observations are the groups.
    """

    log_density: Array
    weight: Array

    @property
    def mean(self) -> Array:
        """Mean held-out log-density of an observation in nats, one for each size."""
        return np.array([self._average(row)[0] for row in self.log_density])

    @property
    def _used(self) -> NDArray[np.bool_]:
        return self.weight > 0

    @property
    def best(self) -> int:
        """The position of the size of the highest mean."""
        return int(np.argmax(self.mean))

    @property
    def std_error(self) -> Array:
        """Standard errors of :attr:`mean`, from the spread of the log-densities over observations."""
        return np.array([self._average(row)[1] for row in self.log_density])

    def deficit(self, index: int) -> tuple[float, float]:
        """How far a size lies below the best in mean log-density, and the standard error of this difference.

        The difference is taken observation by observation, so that what makes an observation hard for every size falls
        out of the standard error: it is much smaller than those of the two means.
        """
        return self._average(self.log_density[self.best] - self.log_density[index])

    def one_standard_error(self) -> int:
        """The position of the first size whose mean lies within one standard error of the best mean from it.

        The rule of Breiman, Friedman, Olshen and Stone (1984, section 3.4.3), with the standard error of the best mean
        itself: parsimonious where sizes hardly differ. For a sharper comparison of two sizes see :meth:`deficit`.
        """
        least = self.mean[self.best] - self.std_error[self.best]
        return int(np.argmax(self.mean >= least))

    def _average(self, rows: Array) -> tuple[float, float]:
        """The weighted mean over observations held out, and its standard error."""
        share = self.weight[self._used] / self.weight.sum()
        mean = float(share @ rows[self._used])
        with np.errstate(invalid="ignore"):  # a mean of -inf, of impossible observations, has no standard error
            return mean, float(np.sqrt(np.square(share * (rows[self._used] - mean)).sum()))


def make_folds(folds: Any, n: int, rng: np.random.Generator) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Numbers of n rows, or groups, of training and test sets, from a number of folds or a splitter of scikit-learn's.

    Raises:
        TypeError: if ``folds`` is neither.
        ValueError: if there are fewer than 2 folds, more than rows, or a row is held out twice.
    """
    if hasattr(folds, "split"):
        pairs = [(np.asarray(train), np.asarray(test)) for train, test in folds.split(np.zeros((n, 1)))]
        held = np.concatenate([test for _, test in pairs])
        if len(np.unique(held)) != len(held):
            raise ValueError("folds must hold out every row at most once, got a splitter that repeats some")
        return pairs
    count = check_integer("folds", folds, low=2, high=n)
    splitter = KFold(count, shuffle=True, random_state=int(rng.integers(2**31)))
    return list(splitter.split(np.zeros((n, 1))))


def held_out(
    fits: Sequence[FitResult],
    data: Data,
    folds: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]],
    estimator: Estimator,
    entropy: int,
    *,
    n_jobs: int | None = 1,
    progress: bool = False,
) -> HeldOut:
    """Refit every size on every training set and take the log-density of what was left out.

    A refit starts from the fit to all the data, which the likelihood of the training set alone moves away from, and
    from half as many fresh starts as the estimator has. The random numbers depend on the size and the fold alone, so
    the result does not depend on ``n_jobs``.
    """
    tasks = [(i, j, *pair) for j, pair in enumerate(folds) for i in range(len(fits))]
    calls = (
        delayed(_one)(fits[i].model, data, train, test, estimator, [entropy, fits[i].model.num_experts, j + 1])
        for i, j, train, test in tasks
    )
    done = Parallel(n_jobs=n_jobs, return_as="generator")(calls)
    values = np.full((len(fits), data.num_units), np.nan)
    bar = tqdm(done, total=len(tasks), disable=not progress, desc="cross-validation", unit="fit")
    for (i, _, _, test), row in zip(tasks, bar, strict=True):
        values[i, test] = row
    own = data.unit_weight
    weight = np.ones(values.shape[1]) if own is None else own[0].numpy(force=True).copy()
    return HeldOut(values, np.where(np.isnan(values).any(0), 0.0, weight))


def _one(
    full: MixtureOfExperts,
    data: Data,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    estimator: Estimator,
    seed: list[int],
) -> Array:
    rows, left_out = (data.rows_of(torch.as_tensor(units)) for units in (train, test))
    starts = estimator._chosen_starts()
    fresh = [start.at(rows, data.x.shape[1]) for start in starts[: (len(starts) + 1) // 2]]
    rng = np.random.default_rng(seed)
    result = fit_from(estimator, full, data.take(rows), fresh, rng, at_model=True)
    held: Tensor = log_density(result.model, data.take(left_out))
    return held.numpy(force=True)
