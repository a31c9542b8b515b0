"""From noise to sequences: the probability-flow ODE of a denoiser, integrated in torch or by SciPy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from ..._validation import at_least_float32, check_integer, check_positive
from ...numerics.randomness import Randomness, as_generator
from .._steps import divide_by_temperature
from ..noise import centered, gumbel_like
from .losses import Denoiser
from .paths import GumbelSoftmaxPath

Field = Callable[[Tensor, float], Tensor]


class Integrator(ABC):
    """Solves ``dy/dt = field(y, t)`` from time 0 to 1."""

    @abstractmethod
    def integrate(self, field: Field, start: Tensor) -> tuple[list[float], list[Tensor]]:
        """Increasing times from 0 to 1 and the state at each."""


@dataclass(frozen=True)
class Euler(Integrator):
    """``num_steps`` equal steps of the explicit Euler rule: order 1, one evaluation a step."""

    num_steps: int = 50

    def __post_init__(self) -> None:
        check_integer("num_steps", self.num_steps, low=1)

    def integrate(self, field: Field, start: Tensor) -> tuple[list[float], list[Tensor]]:
        """All ``num_steps + 1`` times and states."""
        times, states = _grid(self.num_steps), [start]
        for now, later in pairwise(times):
            states.append(states[-1] + (later - now) * field(states[-1], now))
        return times, states


@dataclass(frozen=True)
class Heun(Integrator):
    """``num_steps`` equal steps of Heun's rule: order 2, two evaluations a step.

    Example:
        >>> times, states = Heun(10).integrate(lambda y, t: y, torch.ones(()))
        >>> states[-1], torch.ones(()).exp()
        (tensor(2.7141), tensor(2.7183))
    """

    num_steps: int = 25

    def __post_init__(self) -> None:
        check_integer("num_steps", self.num_steps, low=1)

    def integrate(self, field: Field, start: Tensor) -> tuple[list[float], list[Tensor]]:
        """All ``num_steps + 1`` times and states."""
        times, states = _grid(self.num_steps), [start]
        for now, later in pairwise(times):
            slope = field(states[-1], now)
            ahead = field(states[-1] + (later - now) * slope, later)
            states.append(states[-1] + (later - now) * (slope + ahead) / 2)
        return times, states


@dataclass(frozen=True)
class SciPyIntegrator(Integrator):
    """``scipy.integrate.solve_ivp`` in float64 on the CPU, all sequences as one system; gradients do not pass.

    Args:
        method: an explicit method of ``solve_ivp``: "RK23", "RK45" or "DOP853".
        rtol: positive relative tolerance of the scores.
        atol: positive absolute tolerance of the scores.
    """

    method: str = "RK45"
    rtol: float = 1e-5
    atol: float = 1e-6

    def __post_init__(self) -> None:
        check_positive("rtol", self.rtol)
        check_positive("atol", self.atol)

    def integrate(self, field: Field, start: Tensor) -> tuple[list[float], list[Tensor]]:
        """The times the solver chose and the state at each."""

        def right_hand_side(t: float, flat: np.ndarray) -> np.ndarray:
            state = torch.from_numpy(flat).reshape(start.shape).to(start)
            return field(state, min(max(t, 0.0), 1.0)).detach().double().cpu().numpy().ravel()

        first = start.detach().double().cpu().numpy().ravel()
        solution = solve_ivp(right_hand_side, (0.0, 1.0), first, method=self.method, rtol=self.rtol, atol=self.atol)
        if not solution.success:
            raise RuntimeError(f"solve_ivp stopped before time 1: {solution.message}")
        states = [torch.from_numpy(column.copy()).reshape(start.shape).to(start) for column in solution.y.T]
        return solution.t.tolist(), states


def _time(scores: Tensor, t: float) -> Tensor:
    """The time ``t`` in float32 at least, so that half precision does not round it."""
    return scores.new_tensor(t, dtype=torch.promote_types(scores.dtype, torch.float32))


def _grid(num_steps: int) -> list[float]:
    return [step / num_steps for step in range(num_steps + 1)]


class Guidance(Protocol):
    """Turns the denoiser's logits into guided ones."""

    def __call__(self, logits: Tensor, generator: Randomness = None) -> Tensor:
        """Guided logits ``(*batch, length, v)``."""


class FlowSample(NamedTuple):
    """What a flow generates.

    Attributes:
        tokens: ``(*batch, length)``, the largest entry at time 1.
        log_x: ``(*batch, length, v)``, the last point of the simplex.
        times: the integrator's times, from 0 to 1.
        trajectory: the point ``log_x`` at each of them, the first being noise.
    """

    tokens: Tensor
    log_x: Tensor
    times: list[float]
    trajectory: list[Tensor]


@torch.no_grad()
def sample_flow(
    denoiser: Denoiser,
    path: GumbelSoftmaxPath,
    shape: Sequence[int],
    *,
    num_categories: int,
    integrator: Integrator | None = None,
    guidance: Guidance | None = None,
    generator: Randomness = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> FlowSample:
    """Generate sequences by following the marginal velocity from noise.

    In the scores ``y`` of ``x_t = softmax(y / temperature(t))`` the flow is ``dy/dt = signal'(t) p_theta(. | x_t)``:
    each score grows with the probability the denoiser gives its token. No point ever leaves the simplex, and no
    gradient is kept.

    Args:
        denoiser: logits of each token, see ``Denoiser``.
        path: a path with ``signal(0) = 0``, whose start is noise alone.
        shape: ``(*batch, length)``.
        num_categories: ``v``.
        integrator: default ``Heun(25)``.
        guidance: for example ``StraightThroughGuidance``.
        generator: source of the first noise, and of guidance.
        dtype: of the states, the default dtype unless told.
        device: of the states.

    Raises:
        ValueError: if the path's signal at time 0 is not zero: the distribution to start from would depend on the data.

    Example:
        >>> from mixkit.relaxations.flows import gumbel_softmax_path
        >>> generator = torch.Generator().manual_seed(0)
        >>> always_two = lambda log_x, t: torch.tensor([0.0, 0.0, 9.0]).expand(log_x.shape)
        >>> sample_flow(always_two, gumbel_softmax_path(), (1, 4), num_categories=3, generator=generator).tokens
        tensor([[2, 2, 2, 2]])
    """
    check_integer("num_categories", num_categories, low=2)
    if abs(float(path.signal(torch.zeros((), dtype=torch.float64)))) > 1e-12:
        raise ValueError(
            "path must have signal(0) = 0 to be sampled from noise (gumbel_softmax_path has); "
            f"got {float(path.signal(torch.zeros(())))}, under which the start depends on the data"
        )
    empty = torch.empty(*shape, num_categories, dtype=dtype, device=device)
    generator = as_generator(generator, empty.device)
    start = gumbel_like(empty, generator=generator).to(empty.dtype)

    def log_point(scores: Tensor, t: float) -> Tensor:
        tempered = divide_by_temperature(centered(scores), path.temperature(_time(scores, t)))
        return torch.log_softmax(tempered, dim=-1).to(scores.dtype)

    def field(scores: Tensor, t: float) -> Tensor:
        times = scores.new_full(scores.shape[:-2], t)
        logits = denoiser(log_point(scores, t), times)
        if guidance is not None:
            logits = guidance(logits, generator)
        posterior = torch.softmax(at_least_float32(logits), dim=-1)
        return (path.signal.derivative(_time(scores, t)) * posterior).to(scores.dtype)

    times, states = (integrator or Heun()).integrate(field, start)
    trajectory = [log_point(scores, t) for t, scores in zip(times, states, strict=True)]
    return FlowSample(states[-1].argmax(-1), trajectory[-1], times, trajectory)
