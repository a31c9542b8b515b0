"""Where the fits of a study start; every report names it. To add a way, subclass :class:`StartPolicy`."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mixkit._validation import check_integer
from mixkit.measure import MixingMeasure
from mixkit.mixture import MixtureOfExperts

from ..results.fit_batch import FitBatch
from ..search.estimator import Estimator
from ..search.starts import SplitAtom, Start

__all__ = ["BatchedStart", "DataDriven", "NearTruth", "Oracle", "Problem", "StartPolicy"]


class Problem(NamedTuple):
    """One data set to fit: ``x (n, d)`` and ``y (n,)``, models of any number of experts, the truth, and randomness."""

    x: Tensor
    y: Tensor
    build: Callable[[int], MixtureOfExperts]
    num_experts: int
    least_experts: int
    truth: MixtureOfExperts
    rng: np.random.Generator


class StartPolicy(ABC):
    """A way to fit one data set: where to start, and from there the study's estimator."""

    @abstractmethod
    def fit(self, estimator: Estimator, problem: Problem) -> FitBatch:
        """The fit, a batch of one."""


class BatchedStart(StartPolicy):
    """A way to fit data sets of one size in one computation; to add one, define :meth:`fit_many`.

    A data set draws from its own ``rng`` and nowhere else, so that its fit is the same, but for rounding, whatever it
    is batched with.
    """

    @abstractmethod
    def fit_many(self, estimator: Estimator, problems: Sequence[Problem]) -> FitBatch:
        """The fits of problems that differ in their data and their randomness alone.

        Several are given only where the estimator's starts see all of the data, at most twice its ``subsample``.
        """

    def fit(self, estimator: Estimator, problem: Problem) -> FitBatch:
        """The fit of one data set."""
        return self.fit_many(estimator, [problem])


@dataclass(frozen=True)
class _Seeded(Start):
    """A start that draws from a data set's own stream."""

    start: Start
    rng: np.random.Generator

    def at(self, rows: Tensor, n: int) -> "_Seeded":
        """The start at some rows, on the same stream."""
        return _Seeded(self.start.at(rows, n), self.rng)

    def responsibilities(self, x: Tensor, y: Tensor, k: int, rng: np.random.Generator) -> Tensor:
        """The guesses of the start."""
        return self.start.responsibilities(x, y, k, self.rng)


def _run(
    estimator: Estimator,
    model: MixtureOfExperts,
    problems: Sequence[Problem],
    starts: Sequence[Sequence[Start]],
    *,
    start_at_model: bool = False,
) -> FitBatch:
    """Fit each data set from its own starts, with the other settings of the estimator."""
    own = copy.copy(estimator)
    own.random_state, own.progress = problems[0].rng, False
    own.start_at_model = start_at_model or estimator.start_at_model
    seeded = [[_Seeded(start, p.rng) for start in chosen] for p, chosen in zip(problems, starts, strict=True)]
    x, y = (torch.stack(parts) for parts in zip(*((p.x, p.y) for p in problems), strict=True))
    return own.fit_many(model, x, y, starts=seeded)


@dataclass(frozen=True)
class DataDriven(BatchedStart):
    """Nothing but the data: the estimator's own starts, and every atom of the fit with one expert fewer split in turn.

    Fits with fewer experts serve as starts alone, so where the estimator's starts run on a subsample so do these.

    Args:
        split: whether to split the smaller fit, which costs a fit of each smaller number of experts, and finds maxima
            that random starts miss.

    Example:
        >>> from estimators import EM
        >>> from estimators.rates import Candidate
        >>> Candidate(EM(n_init=4), 3, start=DataDriven()).start
        DataDriven(split=True)
    """

    split: bool = True

    def fit_many(self, estimator: Estimator, problems: Sequence[Problem]) -> FitBatch:
        """The fits, grown from fewer experts."""
        k, first = problems[0].num_experts, problems[0]
        own = estimator._chosen_starts()
        starts: list[Sequence[Start]] = [own for _ in problems]
        if self.split and k > max(first.least_experts, 1):
            parts = [_subsample(estimator, problem)._replace(num_experts=k - 1) for problem in problems]
            starts = [[SplitAtom(smaller), *own] for smaller in self.fit_many(estimator, parts).models]
        return _run(estimator, first.build(k), problems, starts)


def _subsample(estimator: Estimator, problem: Problem) -> Problem:
    """The problem on as many of its observations as the estimator's starts run on, drawn by chance."""
    n, size = len(problem.x), estimator.subsample
    if n <= 2 * size:
        return problem
    rows = torch.as_tensor(np.sort(problem.rng.choice(n, size, replace=False)))
    return problem._replace(x=problem.x[rows], y=problem.y[rows])


@dataclass(frozen=True)
class Oracle(BatchedStart):
    """Start at the truth; for more experts than it has, at each split of its atoms in turn.

    No one with data alone can do this: it bounds what an estimator could reach, and is quick.

    Example:
        >>> from estimators import EM
        >>> from estimators.rates import Candidate
        >>> Candidate(EM(), 3, start=Oracle()).start
        Oracle()
    """

    def fit_many(self, estimator: Estimator, problems: Sequence[Problem]) -> FitBatch:
        """The fits from the truth on."""
        first = problems[0]
        k, truth = first.num_experts, first.truth
        if k == truth.num_experts:
            model = _at(first.build(k), MixingMeasure.from_module(truth), truth)
            return _run(estimator, model, problems, [[] for _ in problems], start_at_model=True)
        smaller = [truth for _ in problems]
        if k > truth.num_experts + 1:
            smaller = self.fit_many(estimator, [p._replace(num_experts=k - 1) for p in problems]).models
        return _run(estimator, first.build(k), problems, [[SplitAtom(model)] for model in smaller])


@dataclass(frozen=True)
class NearTruth(StartPolicy):
    """Start at a random point near the truth, as published simulations do, or at several.

    Every fitted atom is a true one (each at least once, the rest by chance) plus normal noise; the mass of a true atom
    is shared by those that stand for it. Gate parameters that the model does not learn get no noise.

    Args:
        std: standard deviation of the noise; of variances, and of a temperature that is learned, on the log scale.
        draws: points to start at; the end of the highest log-likelihood counts.
        split: true atoms that the surplus fitted ones stand for, one for each of them; by chance if None.

    Raises:
        ValueError: if ``std`` or ``draws`` is out of range; from a fit, if ``split`` names other than one true atom for
            each surplus one.

    Example:
        >>> from estimators import EM
        >>> from estimators.rates import Candidate
        >>> Candidate(EM(em_iter=0), 3, start=NearTruth(0.1, draws=5, split=(0,))).start
        NearTruth(std=0.1, draws=5, split=(0,))
    """

    std: float = 0.1
    draws: int = 1
    split: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.std < np.inf:
            raise ValueError(f"std must be non-negative and finite, got {self.std}")
        check_integer("draws", self.draws, low=1)

    def fit(self, estimator: Estimator, problem: Problem) -> FitBatch:
        """The best of the fits from perturbed truths."""
        fits = [self._fit_once(estimator, problem) for _ in range(self.draws)]
        return max(fits, key=lambda fit: float(fit.llf[0]))

    def _fit_once(self, estimator: Estimator, problem: Problem) -> FitBatch:
        truth = MixingMeasure.from_module(problem.truth).detach()
        template = problem.build(problem.num_experts)
        surplus = self._surplus(problem, truth.num_experts)
        owner = torch.as_tensor(problem.rng.permutation(np.concatenate([np.arange(truth.num_experts), surplus])))
        model = _at(template, self._perturbed(truth, owner, template, problem.rng), problem.truth)
        with torch.no_grad():
            for parameter in model.gate.temperature.parameters():
                parameter.add_(self.std * torch.as_tensor(problem.rng.standard_normal(parameter.shape)))
        return _run(estimator, model, [problem], [[]], start_at_model=True)

    def _surplus(self, problem: Problem, true_k: int) -> np.ndarray:
        extra = problem.num_experts - true_k
        if self.split is None:
            return problem.rng.integers(true_k, size=extra)
        if len(self.split) != extra or not all(0 <= j < true_k for j in self.split):
            raise ValueError(f"split must name {extra} of the {true_k} true atoms, got {self.split}")
        return np.array(self.split, dtype=np.int64)

    def _perturbed(
        self, truth: MixingMeasure, owner: Tensor, template: MixtureOfExperts, rng: np.random.Generator
    ) -> MixingMeasure:
        def noise(like: Tensor, parameter: Tensor | None = None) -> Tensor:
            drawn = self.std * torch.as_tensor(rng.standard_normal(like.shape))
            return like if parameter is not None and not parameter.requires_grad else like + drawn

        sharing = torch.bincount(owner, minlength=truth.num_experts).double().log()[owner]
        score = template.gate.score
        return MixingMeasure(
            gate_bias=noise(truth.gate_bias[owner] - sharing, score.bias),
            gate_weight=noise(truth.gate_weight[owner], getattr(score, score.weight_name or "", None)),
            slope=noise(truth.slope[owner]),
            intercept=noise(truth.intercept[owner]),
            variance=noise(truth.variance[owner].log()).exp(),
        )


def _at(template: MixtureOfExperts, measure: MixingMeasure, truth: MixtureOfExperts) -> MixtureOfExperts:
    """The template's form with the parameters of a measure, and the true temperature where both learn one."""
    model = measure.to(torch.float64).to_module(template.gate)
    own, other = (dict(m.gate.temperature.named_parameters()) for m in (model, truth))
    with torch.no_grad():
        for name in own.keys() & other.keys():
            own[name].copy_(other[name])
    return model
