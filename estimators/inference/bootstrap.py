"""The bootstrap of a fit: refits of resampled data."""

import copy
import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mixkit._validation import check_choice, check_integer
from mixkit.mixture import MixtureOfExperts

from ..data.dataset import Data
from ..optimizers.objective import Objective
from ..penalties.build import without_penalty
from ..replication.experiment import Experiment, run_experiment, seed_of
from ..replication.fingerprint import describe, digest
from ..results.alignment import align_experts
from ..results.fit_result import FitResult
from ..search.estimator import Estimator
from .bootstrap_result import BootstrapResult
from .resampling import RESAMPLINGS, Resampling

__all__ = ["bootstrap"]

_ROWS_AT_ONCE = 50_000  # observations of a group of refits that are one computation
_LARGEST_GROUP = 50


def bootstrap(
    result: FitResult,
    num_replicates: int = 999,
    *,
    resampling: str | Resampling = "case",
    extra_starts: int = 0,
    estimator: Estimator | None = None,
    random_state: int | np.random.Generator | None = None,
    n_jobs: int | None = None,
    path: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> BootstrapResult:
    """Refit resampled data, to see how estimates vary.

    Each refit climbs from the estimate to a maximum by Newton's method; models with linear predictors are refitted many
    data sets at a time. Experts are renumbered to match those of the fit (by the observations that they are responsible
    for), so label switching does not widen intervals. Replicate b draws from ``SeedSequence(seed, spawn_key=(b,))``, so
    numbers do not depend on ``n_jobs``, and more replicates extend fewer.

    Args:
        result: a fit with its data.
        num_replicates: number of refits, m.
        resampling: "case" (rows drawn with replacement), "parametric" (responses drawn from the fit at the same
            covariates), "weights" (exponential random weights), or a :class:`~estimators.inference.Resampling`.
        extra_starts: starts of each refit from its data, beside the estimate; the best end counts.
        estimator: refits with this in place of the fit's own settings; its starts count as they are.
        random_state: seed or ``numpy.random.Generator``; a seed is needed with ``path``.
        n_jobs: joblib workers; those of the enclosing ``parallel_config``, or 1, if None.
        path: a file that keeps finished replicates. Stopped at any moment and called again, only missing ones run.
        progress: whether to show a progress bar.

    Returns:
        Replicates with standard errors and intervals; those that failed or did not converge are counted.

    Raises:
        TypeError: if an argument is of another kind.
        ValueError: for another ``resampling``, a result without data, parametric resampling of weighted data;
            ``ResultsFileError`` for a file that cannot be used, ``StudyMismatchError`` for one of another design.

    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap; for mixtures, O'Hagan, Murphy, Scrucca and
    Gormley (2019), Computational Statistics 34, 1779-1813.

    Example:
        >>> import torch
        >>> from estimators import EM
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_tone
        >>> g = torch.Generator().manual_seed(0)
        >>> model = MixtureOfExperts(softmax_gate(1, 2, generator=g), linear_gaussian_experts(1, 2, generator=g))
        >>> result = EM(random_state=0).fit(model, *load_tone())
        >>> bootstrap(result, 50, resampling="parametric", random_state=0)
        BootstrapResult(50 replicates, 0 failed, 0 not converged)
    """
    if not isinstance(result, FitResult):
        raise TypeError(
            f"result must be a FitResult (that of a fitted regressor is its .result_), got {type(result).__name__}"
        )
    check_integer("num_replicates", num_replicates, low=2)
    check_integer("extra_starts", extra_starts, low=0)
    if not isinstance(resampling, Resampling):
        resampling = RESAMPLINGS[check_choice("resampling", resampling, RESAMPLINGS)]
    resampling.check(result.maximum.data)
    refit = result.estimator._warm_start(extra_starts) if estimator is None else copy.copy(estimator)
    refit.progress = False
    seed = seed_of(random_state, is_resumable=path is not None)
    experiment = _Refits(result.model, result.maximum.objective, result.maximum.theta, resampling, refit, seed)
    label = f"bootstrap, n={result.nobs}"
    records = run_experiment(experiment, num_replicates, path=path, n_jobs=n_jobs, progress=progress, label=label)
    return BootstrapResult.of(result, records)


@dataclass(eq=False)
class _Refits(Experiment):
    """The refits of a bootstrap; a record holds users' parameters, log-likelihood and whether it converged."""

    model: MixtureOfExperts
    objective: Objective
    theta: torch.Tensor
    resampling: Resampling
    estimator: Estimator
    seed: int

    def __post_init__(self) -> None:
        largest = _LARGEST_GROUP if self.objective.is_batched else 1
        self.group_size = max(1, min(largest, _ROWS_AT_ONCE // self.objective.n))

    def design(self) -> dict[str, str]:
        settings = copy.copy(self.estimator)
        settings.random_state = None
        to_user = self.objective.user_map()
        return {
            "data": digest(*self.objective.data.parts()),
            "parameters": " ".join(map("{}={:.5g}".format, to_user.names, to_user.values(self.theta).tolist())),
            "resampling": describe(self.resampling),
            "estimator": describe(settings),
            "seed": str(self.seed),
        }

    def run(self, replicates: list[int]) -> list[dict[str, Any]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return self._fit(replicates)
            except (ArithmeticError, RuntimeError, ValueError) as error:
                if len(replicates) == 1:
                    return [_failed(error)]
            return [record for replicate in replicates for record in self.run([replicate])]

    def _fit(self, replicates: list[int]) -> list[dict[str, Any]]:
        rngs = [self.generator(replicate) for replicate in replicates]
        data: Data = self.resampling.draw(self.model, self.objective.data, rngs)
        estimator = copy.copy(self.estimator)
        estimator.random_state = rngs[0]
        objective, ascent = estimator._best_optima(self.model, data)
        if objective.num_params != self.objective.num_params:
            raise ValueError("a covariate is constant, or a combination of others, in the resampled data")
        theta = self.objective.transfer(ascent.theta, objective)[:, 0]
        aligned = align_experts(without_penalty(self.objective), theta, self.theta, self.model)
        params = self.objective.user_map().values(aligned)
        if not bool(torch.isfinite(params).all()):
            raise ValueError("an estimate is not finite")
        llf = objective.log_likelihood(ascent.theta)[:, 0]
        columns = zip(params.tolist(), llf.tolist(), ascent.converged[:, 0].tolist(), strict=True)
        return [{"params": p, "llf": v, "converged": c, "error": ""} for p, v, c in columns]


def _failed(error: Exception) -> dict[str, Any]:
    return {"params": None, "llf": None, "converged": False, "error": f"{type(error).__name__}: {error}"}
