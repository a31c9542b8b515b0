"""The fits of a study: their data, each from a seed of its own, and the rows they leave."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixkit.mixture import MixtureOfExperts

from ..replication.parallel import one_thread
from ..replication.record_store import Key
from ..results.fit_batch import FitBatch
from .design import StudyDesign, Task
from .losses import Fitted
from .starts import BatchedStart, Problem

__all__ = ["Row", "draw_data", "run_block", "run_task"]

_FAILURES = (ArithmeticError, RuntimeError, ValueError)  # of a fit or a loss: kept and counted


@dataclass(frozen=True)
class Row:
    """What a study keeps of one fit.

    Attributes:
        task: which fit.
        losses: by name; empty if the fit failed.
        llf: log-likelihood of the fit.
        truth_llf: log-likelihood of the truth on the same data.
        converged: whether the estimator says that it converged.
        grad_norm: largest entry of the gradient per observation, in standardized units.
        predicted_gain: what one more Newton step would add to the log-likelihood.
        iterations: iterations of the estimator's last climb; of a block the most of any fit.
        seconds: time the fit took; of a block its share.
        parameters: of the fitted model, flat, by name.
        error: why there is no fit; empty if there is one.
    """

    task: Task
    losses: dict[str, float]
    llf: float
    truth_llf: float
    converged: bool
    grad_norm: float
    predicted_gain: float
    iterations: int
    seconds: float
    parameters: dict[str, list[float]]
    error: str

    def to_record(self) -> tuple[Key, dict[str, Any]]:
        """The task, and all the rest by name: what a file keeps."""
        record = dict(vars(self))
        return tuple(record.pop("task")), record

    @classmethod
    def of_record(cls, key: Key, record: dict[str, Any]) -> "Row":
        """The row that :meth:`to_record` made this of."""
        candidate, n, replicate = key
        return cls(Task(str(candidate), int(n), int(replicate)), **record)


def _generators(design: StudyDesign, task: Task, count: int) -> list[np.random.Generator]:
    """Streams of one replicate: by its number and, unless samples are nested, its size. Candidates share the data."""
    key = (task.replicate,) if design.nested else (task.n, task.replicate)
    sequence = np.random.SeedSequence(design.seed, spawn_key=key)
    return [np.random.default_rng(child) for child in sequence.spawn(count)]


def draw_data(design: StudyDesign, n: int, replicate: int) -> tuple[Tensor, Tensor]:
    """The sample of a size and replicate: ``x (n, d)`` and ``y (n,)``.

    Covariates, choice of expert and noise come from streams of their own, so that nested samples are nested.

    Example:
        >>> import torch
        >>> from estimators import EM
        >>> from estimators.rates import ExactLoss, RateStudy, UniformCovariates
        >>> from mixkit import MixingMeasure
        >>> truth = MixingMeasure(*(torch.tensor(v).double() for v in ([0.0, 0.0], [[4.0], [0.0]], [[2.0], [-2.0]],
        ...     [0.0, 1.0], [0.1, 0.1])))
        >>> study = RateStudy(truth, UniformCovariates(), EM(), [ExactLoss()], [100], num_replicates=1, seed=0)
        >>> x, y = draw_data(study, 100, 0)
        >>> tuple(x.shape), tuple(y.shape)
        ((100, 1), (100,))
    """
    for_x, for_expert, for_noise, _ = _generators(design, Task("", n, replicate), 4)
    x = torch.as_tensor(design.covariates.draw(n, design.truth.num_features, for_x), dtype=torch.float64)
    with torch.no_grad():
        law = design.truth_model(x)
    cumulative = law.log_weights.exp().cumsum(-1).numpy()
    passed = for_expert.random((n, 1)) * cumulative[:, -1:] >= cumulative
    expert = torch.as_tensor((passed & (cumulative < cumulative[:, -1:])).sum(-1, keepdims=True))
    noise = torch.as_tensor(for_noise.standard_normal((n, 1)))
    y = law.components.mean.gather(-1, expert) + law.components.stddev.gather(-1, expert) * noise
    return x, y.squeeze(-1)


def run_block(design: StudyDesign, block: Sequence[Task]) -> list[Row]:
    """The rows of a block of replicates (see :func:`~estimators.rates.batches.blocks_of`), fitted in one computation.

    If that raises they are fitted one by one, so that one bad data set spoils no other.
    """
    if len(block) > 1:
        with one_thread(), suppress(*_FAILURES):
            return _run_together(design, block)
    return [run_task(design, task) for task in block]


def _run_together(design: StudyDesign, block: Sequence[Task]) -> list[Row]:
    started = time.perf_counter()
    problems = [_problem(design, task) for task in block]
    candidate = design.candidates[block[0].candidate]
    start = candidate.start or design.start
    if not isinstance(start, BatchedStart):
        raise TypeError(f"start must be a BatchedStart to fit {len(block)} replicates at once, got {start!r}")
    fit = start.fit_many(candidate.estimator, problems)
    seconds = (time.perf_counter() - started) / len(block)
    return [
        _measured(design, task, problem, fit, index, seconds)
        for index, (task, problem) in enumerate(zip(block, problems, strict=True))
    ]


def run_task(design: StudyDesign, task: Task) -> Row:
    """Draw the data, fit, measure. A fit that raises leaves a row that says so."""
    with one_thread():
        started = time.perf_counter()
        try:
            problem = _problem(design, task)
            candidate = design.candidates[task.candidate]
            fit = (candidate.start or design.start).fit(candidate.estimator, problem)
        except _FAILURES as error:
            return _failed(task, time.perf_counter() - started, error)
        return _measured(design, task, problem, fit, 0, time.perf_counter() - started)


def _problem(design: StudyDesign, task: Task) -> Problem:
    x, y = draw_data(design, task.n, task.replicate)
    candidate = design.candidates[task.candidate]
    d, k = design.truth.num_features, design.experts_of(task.candidate)

    def build(num_experts: int) -> MixtureOfExperts:
        return candidate.template(d, num_experts)

    selected = build(k).gate.selection.num_selected
    rng = _generators(design, task, 4)[3]
    return Problem(x, y, build, k, 1 if selected is None else selected, design.truth_model, rng)


def _failed(task: Task, seconds: float, error: Exception) -> Row:
    nan = float("nan")
    return Row(task, {}, nan, nan, False, nan, nan, 0, seconds, {}, f"{type(error).__name__}: {error}")


def _measured(design: StudyDesign, task: Task, problem: Problem, fit: FitBatch, index: int, seconds: float) -> Row:
    """The row of one fit of a batch; a fit without an end, or a loss that raises, is a failure of its own."""
    if not np.isfinite(fit.llf[index]):
        return _failed(task, seconds, ValueError("no start has a finite log-likelihood"))
    fitted = Fitted(fit.models[index], design.truth_model, design.covariates)
    losses: dict[str, float] = {}
    try:
        for loss in design.losses:
            losses |= loss.values(fitted)
    except _FAILURES as error:
        return _failed(task, seconds, error)
    return Row(
        task,
        losses,
        float(fit.llf[index]),
        float(design.truth_model.log_prob(problem.x, problem.y).sum().detach()),
        bool(fit.converged[index]),
        float(fit.grad_norm[index]),
        float(fit.predicted_gain[index]),
        fit.num_iterations,
        seconds,
        {name: value.detach().flatten().tolist() for name, value in fitted.model.named_parameters()},
        "",
    )
