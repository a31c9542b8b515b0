"""The parametric bootstrap of the likelihood ratio: how many experts?"""

import copy
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mixkit._validation import check_integer
from mixkit.experts import linear_gaussian_experts
from mixkit.gates import softmax_gate
from mixkit.mixture import MixtureOfExperts

from ..data.dataset import Data, as_data
from ..em import EM
from ..replication.experiment import Experiment, run_experiment, seed_of
from ..replication.fingerprint import describe, digest
from ..results.fit_result import FitResult
from ..search.estimator import Estimator
from ..search.starts import SplitAtom, default_starts
from .resampling import Parametric

__all__ = ["BootstrapLRT", "bootstrap_lrt"]


@dataclass(frozen=True, eq=False, repr=False)
class BootstrapLRT:
    """A bootstrap test of k experts against k + 1.

    Attributes:
        statistic: twice the difference of the log-likelihoods on the data.
        replicates: the same on data simulated from the fit of k experts ``(m,)``; NaN where a fit failed.
        small: the fit of k experts.
        large: the fit of k + 1.
    """

    statistic: float
    replicates: np.ndarray
    small: FitResult
    large: FitResult

    @property
    def num_failed(self) -> int:
        """Replicates without a statistic; they do not count."""
        return int(np.isnan(self.replicates).sum())

    @property
    def p_value(self) -> float:
        """Share of statistics, that of the data among them, at least as large as that of the data."""
        found = self.replicates[~np.isnan(self.replicates)]
        return float((1 + (found >= self.statistic).sum()) / (1 + len(found)))

    def __repr__(self) -> str:
        """The figures in a line."""
        k = self.small.model.num_experts
        return (
            f"BootstrapLRT({k} against {k + 1} experts, statistic={self.statistic:.4f}, p={self.p_value:.4g}, "
            f"{len(self.replicates)} replicates, {self.num_failed} failed)"
        )


def bootstrap_lrt(
    x: Any,
    y: Any,
    num_experts: int,
    *,
    groups: Any = None,
    build: Callable[[int], MixtureOfExperts] | None = None,
    estimator: Estimator | None = None,
    num_replicates: int = 99,
    random_state: int | np.random.Generator | None = None,
    n_jobs: int | None = None,
    path: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> BootstrapLRT:
    """Test k experts against k + 1 by simulation from the fit of k.

    The chi-square distribution does not hold for this test: under the null hypothesis the parameters of a surplus
    expert are not determined. Data and replicates are fitted alike: k experts from the estimator's starts (in
    replicates from the simulated truth too), k + 1 from the estimator's starts and from splits of each of the k.

    Args:
        x: covariates ``(n, d)``.
        y: responses ``(n,)``.
        num_experts: experts k under the null hypothesis, at least 1.
        groups: labels ``(n,)`` of rows that share an expert; None where each row has its own.
        build: makes the model of a number of experts; None for a softmax gate and linear Gaussian experts.
        estimator: how fits are made; None for ``EM(n_init=4)``.
        num_replicates: simulated data sets, m; the least possible p value is 1 / (m + 1).
        random_state: seed or ``numpy.random.Generator``; a seed is needed with ``path``.
        n_jobs: joblib workers; those of the enclosing ``parallel_config``, or 1, if None.
        path: a file that keeps finished replicates, as for :func:`~estimators.inference.bootstrap`.
        progress: whether to show a progress bar.

    Raises:
        TypeError: if an argument is of another kind.
        ValueError: for data that cannot be fitted, ``num_experts`` below 1, or a ``build`` whose models have another k;
            ``StudyMismatchError`` if the file is of another design.

    Source: McLachlan (1987), Applied Statistics 36, 318-324.

    Example:
        >>> from mixkit.datasets import load_co2_gnp
        >>> x, y = load_co2_gnp()
        >>> bootstrap_lrt(x, y, 1, num_replicates=3, random_state=0)  # far too few, for speed
        BootstrapLRT(1 against 2 experts, statistic=23.2993, p=0.25, 3 replicates, 0 failed)
    """
    k = check_integer("num_experts", num_experts, low=1)
    check_integer("num_replicates", num_replicates, low=1)
    build = _default_build(np.shape(x)[-1] if np.ndim(x) else 1) if build is None else build
    models = build(k), build(k + 1)
    for model, size in zip(models, (k, k + 1), strict=True):
        if model.num_experts != size:
            raise ValueError(f"build({size}) must have {size} experts, got {model.num_experts}")
    data = as_data(models[0], x, y, None, is_batch=False, groups=groups)
    seed = seed_of(random_state, is_resumable=path is not None)
    settings = copy.copy(EM(n_init=4) if estimator is None else estimator)
    settings.progress = False
    observed = np.random.default_rng(np.random.SeedSequence(seed))
    small, large = _fit_both(models, data, settings, observed, truth=None)
    experiment = _Statistics(models, small.model, data, settings, seed)
    label = f"bootstrap of {k} against {k + 1} experts"
    records = run_experiment(experiment, num_replicates, path=path, n_jobs=n_jobs, progress=progress, label=label)
    statistics = np.array([np.nan if r["statistic"] is None else r["statistic"] for r in records])
    return BootstrapLRT(_statistic(small, large), statistics, small, large)


def _default_build(d: int) -> Callable[[int], MixtureOfExperts]:
    def build(k: int) -> MixtureOfExperts:
        generator = torch.Generator().manual_seed(0)
        gate = softmax_gate(d, k, dtype=torch.float64, generator=generator)
        return MixtureOfExperts(gate, linear_gaussian_experts(d, k, dtype=torch.float64, generator=generator))

    return build


def _fit_both(
    models: tuple[MixtureOfExperts, MixtureOfExperts],
    data: Data,
    settings: Estimator,
    rng: np.random.Generator,
    truth: MixtureOfExperts | None,
) -> tuple[FitResult, FitResult]:
    """Fits of k and k + 1 experts."""
    own = default_starts(settings.n_init) if settings.starts is None else list(settings.starts)
    estimator = copy.copy(settings)
    estimator.random_state, estimator.starts = rng, own
    estimator.start_at_model = settings.start_at_model or truth is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x, y, groups = data.x[0], data.y[0], None if data.units is None else data.units.index
        small = estimator.fit(models[0] if truth is None else truth, x, y, groups=groups)
        estimator.starts, estimator.start_at_model = [SplitAtom(small.model), *own], settings.start_at_model
        return small, estimator.fit(models[1], x, y, groups=groups)


def _statistic(small: FitResult, large: FitResult) -> float:
    return 2.0 * max(large.llf - small.llf, 0.0)


@dataclass(eq=False)
class _Statistics(Experiment):
    """Likelihood ratios of data simulated from ``truth``."""

    models: tuple[MixtureOfExperts, MixtureOfExperts]
    truth: MixtureOfExperts
    data: Data
    estimator: Estimator
    seed: int
    group_size: int = 1

    def design(self) -> dict[str, str]:
        settings = copy.copy(self.estimator)
        settings.random_state = None
        return {
            "data": digest(*self.data.parts()),
            "models": " ".join(" ".join(repr(model).split()) for model in self.models),
            "estimator": describe(settings),
            **({"parameters": describe(self.models)} if settings.start_at_model else {}),
            "seed": str(self.seed),
        }

    def run(self, replicates: list[int]) -> list[dict[str, Any]]:
        return [self._one(replicate) for replicate in replicates]

    def _one(self, replicate: int) -> dict[str, Any]:
        rng = self.generator(replicate)
        try:
            drawn = Parametric().draw(self.truth, self.data, [rng])
            fits = _fit_both(self.models, drawn, self.estimator, rng, self.truth)
            return {"statistic": _statistic(*fits), "error": ""}
        except (ArithmeticError, RuntimeError, ValueError) as error:
            return {"statistic": None, "error": f"{type(error).__name__}: {error}"}
