"""One fit for each number of experts, each started from the one before, so that the likelihood never falls with k."""

import copy
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from mixkit.mixture import MixtureOfExperts

from ..data.dataset import Data
from ..data.unit_posterior import log_joint, unit_log_prob
from ..results.fit_result import FitResult
from ..search.estimator import Estimator
from ..search.starts import SplitAtom, Start
from .builders import Builder
from .nesting import duplicate_expert

__all__ = ["Step", "fit_from", "fit_path", "is_at_least", "log_density"]

_ROUNDING = 1e-9  # log-likelihoods that differ relatively by less are one


class Step(NamedTuple):
    """A fit of the path, and where its log-likelihood came from: "starts", or "nested" in the fit before."""

    result: FitResult
    origin: str


def is_at_least(llf: float, other: float) -> bool:
    """Whether ``llf`` is no lower than ``other`` beyond rounding."""
    return llf >= other - _ROUNDING * (1.0 + abs(other))


def fit_path(
    build: Builder, data: Data, sizes: Sequence[int], estimator: Estimator, entropy: int, *, progress: bool = False
) -> list[Step]:
    """Fits of one data set for every k from ``sizes[0]`` to ``sizes[-1]``, of which those in ``sizes`` are returned.

    Each fit starts from the estimator's own starts and from splits of every expert of the fit before, and makes the
    moves that the estimator's own fits make. If it ends below the fit before all the same (in what is maximized, the
    log-likelihood less the penalty), that one, with an expert duplicated, is climbed from. The random numbers of each k
    are its own: the fit of one size does not depend on which larger ones are asked for.
    """
    steps: list[Step] = []
    every = range(sizes[0], sizes[-1] + 1)
    for k in tqdm(every, disable=not progress, desc="number of experts", unit="fit"):
        before = steps[-1].result if steps else None
        steps.append(_step(build(k), data, before, estimator, np.random.default_rng([entropy, k])))
    return [steps[k - sizes[0]] for k in sizes]


def _step(
    model: MixtureOfExperts, data: Data, before: FitResult | None, estimator: Estimator, rng: np.random.Generator
) -> Step:
    own = estimator._chosen_starts()
    if before is None:
        return Step(fit_from(estimator, model, data, own, rng), "starts")
    result = fit_from(estimator, model, data, [*own, SplitAtom(before.model)], rng)
    if is_at_least(result.objective_value, before.objective_value):
        return Step(result, "starts")
    steps = [Step(result, "starts"), *_nested(model, data, before, estimator, rng)]
    return max(steps, key=lambda step: step.result.objective_value)


def _nested(
    model: MixtureOfExperts, data: Data, before: FitResult, estimator: Estimator, rng: np.random.Generator
) -> list[Step]:
    """Fits that start at the fit before, one expert duplicated, each expert in turn."""
    starts = [duplicate_expert(before.model, model, expert) for expert in range(before.model.num_experts)]
    return [
        Step(fit_from(estimator, start, data, [], rng, at_model=True), "nested")
        for start in starts
        if start is not None
    ]


def fit_from(
    estimator: Estimator,
    model: MixtureOfExperts,
    data: Data,
    starts: Sequence[Start],
    rng: np.random.Generator,
    *,
    at_model: bool = False,
) -> FitResult:
    """Fit by a copy of ``estimator`` with other starts, without remarks on singular information or progress bars.

    It makes as many rounds of moves as ``estimator`` would from its own starts, none ``at_model``.

    With ``at_model`` the climb is on all the data from the first: on a part of it, it could end below the model.
    """
    changed = copy.copy(estimator)
    changed.n_moves = 0 if at_model else estimator._rounds_of_moves(model, is_default=estimator.starts is None)
    if at_model:
        changed.subsample = max(changed.subsample, data.x.shape[1])
    changed.starts, changed.n_init = list(starts), len(starts)
    changed.start_at_model = at_model or estimator.start_at_model
    changed.random_state, changed.progress = rng, False
    weight: Tensor | None = None if data.weight is None else data.weight[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if data.units is None:
            return changed.fit(model, data.x[0], data.y[0], weight)
        kind = "groups" if data.units.power is None else "rows"
        return changed.fit(model, data.x[0], data.y[0], weight, groups=data.units.index, weights_of=kind)


def log_density(model: MixtureOfExperts, data: Data) -> Tensor:
    """Log-density of each observation ``(n,)``, or group ``(g,)`` in its order of appearance, under a fitted model."""
    with torch.no_grad():
        if data.units is None:
            return model.log_prob(data.x[0], data.y[0])
        power = None if data.units.power is None else data.units.power[0]
        return unit_log_prob(log_joint(model(data.x[0]), data.y[0], data.units, power))
