"""One of the estimators that a study compares: the estimator, the model it fits, and where it starts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch

from mixkit._validation import check_integer
from mixkit.experts import linear_gaussian_experts
from mixkit.gates import Gate, softmax_gate
from mixkit.mixture import MixtureOfExperts

from ..search.estimator import Estimator
from .starts import StartPolicy

__all__ = ["Candidate", "check_gate"]

_GLOBAL_RANDOM_STATE = Lock()  # workers may be threads, and gates may draw from the global state


@dataclass(frozen=True, eq=False)
class Candidate:
    """An estimator at work on a model.

    Args:
        estimator: any :class:`~estimators.Estimator`; its ``random_state`` and ``progress`` are set by the study.
        num_experts: experts k of the fitted model, at least as many as the truth has; those of the truth if None.
        gate: from a number of experts to the gate to fit, a function; softmax gates if None, which a study whose data
            come from another gate refuses. What it draws is fixed by the study.
        start: where fits start; the study's policy if None.

    Raises:
        TypeError: if ``estimator`` is not an estimator, ``gate`` no function or ``start`` no start policy.
        ValueError: if ``num_experts`` is less than 1.

    Example:
        >>> from estimators import EM
        >>> from mixkit import topk_gate
        >>> candidate = Candidate(EM(), 3, gate=lambda k: topk_gate(2, k, 1))
        >>> candidate.template(2, 3).gate.selection.num_selected
        1
    """

    estimator: Estimator
    num_experts: int | None = None
    gate: Callable[[int], Gate] | None = None
    start: StartPolicy | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.estimator, Estimator):
            raise TypeError(f"estimator must be an estimators.Estimator, got {type(self.estimator).__name__}")
        if self.num_experts is not None:
            check_integer("num_experts", self.num_experts, low=1)
        if isinstance(self.gate, Gate) or not (self.gate is None or callable(self.gate)):
            raise TypeError(f"gate must be a function from a number of experts to a Gate, got {_kind(self.gate)}")
        if not isinstance(self.start, StartPolicy | None):
            raise TypeError(f"start must be a StartPolicy or None, got {_kind(self.start)}")

    def new_gate(self, num_features: int, num_experts: int) -> Gate:
        """A gate to fit; the same every time."""
        with _fixed_random_state():
            return self._gate(num_features, num_experts)

    def template(self, num_features: int, num_experts: int) -> MixtureOfExperts:
        """A float64 model to fit; the same every time."""
        with _fixed_random_state():
            gate = self._gate(num_features, num_experts)
            return MixtureOfExperts(gate, linear_gaussian_experts(num_features, num_experts)).to(torch.float64)

    def _gate(self, num_features: int, num_experts: int) -> Gate:
        return softmax_gate(num_features, num_experts) if self.gate is None else self.gate(num_experts)


def check_gate(name: str, gate: Any, num_features: int, num_experts: int) -> None:
    """Raise unless this is a gate of so many experts that takes so many covariates."""
    if not isinstance(gate, Gate):
        raise TypeError(f"{name} must be a mixkit Gate, got {_kind(gate)}")
    if gate.num_experts != num_experts:
        raise ValueError(f"{name} must have {num_experts} experts, got {gate.num_experts}")
    if gate.score.num_features not in (None, num_features):
        raise ValueError(f"{name} must take {num_features} covariates, got {gate.score.num_features}")


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {value!r}" if isinstance(value, str) else type(value).__name__


@contextmanager
def _fixed_random_state() -> Iterator[None]:
    with _GLOBAL_RANDOM_STATE, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield
