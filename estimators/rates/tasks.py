"""One fit of a study: its data, from a seed of its own, and the row it leaves."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mixkit.mixture import MixtureOfExperts

from ..result import FitBatch
from .losses import Fitted
from .starts import Problem

if TYPE_CHECKING:
    from .study import RateStudy

__all__ = ["Row", "Task", "draw_data", "run_task"]


class Task(NamedTuple):
    """Which fit: a candidate's name, a sample size and a replicate."""

    candidate: str
    n: int
    replicate: int


@dataclass(frozen=True)
class Row:
    """What a study keeps of one fit.

    Attributes:
        task: which fit.
        losses: by name; empty if the fit failed.
        llf: log-likelihood of the fit.
        truth_llf: log-likelihood of the truth on the same data.
        converged: whether the estimator says that it converged.
        grad_norm: largest entry of the gradient per observation, in standardised units.
        predicted_gain: what one more Newton step would add to the log-likelihood.
        iterations: iterations of the estimator's last climb.
        seconds: time the fit took.
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


def _generators(study: "RateStudy", task: Task, count: int) -> list[np.random.Generator]:
    """Streams of one replicate: by its number and, unless samples are nested, its size. Candidates share the data."""
    key = (task.replicate,) if study.nested else (task.n, task.replicate)
    sequence = np.random.SeedSequence(study.seed, spawn_key=key)
    return [np.random.default_rng(child) for child in sequence.spawn(count)]


def draw_data(study: "RateStudy", n: int, replicate: int) -> tuple[Tensor, Tensor]:
    """The sample of a size and replicate: ``x (n, d)`` and ``y (n,)``.

    Covariates, choice of expert and noise come from streams of their own, so that nested samples are nested.
    """
    for_x, for_expert, for_noise, _ = _generators(study, Task("", n, replicate), 4)
    x = torch.as_tensor(study.covariates.draw(n, study.truth.num_features, for_x), dtype=torch.float64)
    with torch.no_grad():
        law = study.truth_model(x)
    cumulative = law.log_weights.exp().cumsum(-1).numpy()
    passed = for_expert.random((n, 1)) * cumulative[:, -1:] >= cumulative
    expert = torch.as_tensor((passed & (cumulative < cumulative[:, -1:])).sum(-1, keepdims=True))
    noise = torch.as_tensor(for_noise.standard_normal((n, 1)))
    y = law.components.mean.gather(-1, expert) + law.components.stddev.gather(-1, expert) * noise
    return x, y.squeeze(-1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums are split among threads, and their last bits with them: one thread gives one answer everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def run_task(study: "RateStudy", task: Task) -> Row:
    """Draw the data, fit, measure. A fit that raises leaves a row that says so."""
    with _one_thread():
        started = time.perf_counter()
        try:
            x, y = draw_data(study, task.n, task.replicate)
            fit = _fit(study, task, x, y)
            seconds = time.perf_counter() - started
            return _row(study, task, fit, float(study.truth_model.log_prob(x, y).sum().detach()), seconds)
        except (ArithmeticError, RuntimeError, ValueError) as error:
            nan = float("nan")
            message = f"{type(error).__name__}: {error}"
            return Row(task, {}, nan, nan, False, nan, nan, 0, time.perf_counter() - started, {}, message)


def _fit(study: "RateStudy", task: Task, x: Tensor, y: Tensor) -> FitBatch:
    candidate = study.candidates[task.candidate]
    d, k = study.truth.num_features, study.experts_of(task.candidate)

    def build(num_experts: int) -> MixtureOfExperts:
        return candidate.template(d, num_experts)

    selected = build(k).gate.selection.num_selected
    rng = _generators(study, task, 4)[3]
    problem = Problem(x, y, build, k, 1 if selected is None else selected, study.truth_model, rng)
    return (candidate.start or study.start).fit(candidate.estimator, problem)


def _row(study: "RateStudy", task: Task, fit: FitBatch, truth_llf: float, seconds: float) -> Row:
    fitted = Fitted(fit.models[0], study.truth_model, study.covariates)
    losses: dict[str, float] = {}
    for loss in study.losses:
        losses |= loss.values(fitted)
    parameters = {name: value.detach().flatten().tolist() for name, value in fitted.model.named_parameters()}
    return Row(
        task,
        losses,
        float(fit.llf[0]),
        truth_llf,
        bool(fit.converged[0]),
        float(fit.grad_norm[0]),
        float(fit.predicted_gain[0]),
        fit.num_iterations,
        seconds,
        parameters,
        "",
    )
