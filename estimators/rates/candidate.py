"""One of the estimators that a study compares: the estimator, the model it fits, and where it starts."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import torch

from mixkit._validation import check_integer
from mixkit.experts import linear_gaussian_experts
from mixkit.gates import Gate, softmax_gate
from mixkit.mixture import MixtureOfExperts

from ..estimator import Estimator
from .starts import StartPolicy

__all__ = ["Candidate"]

_GLOBAL_RANDOM_STATE = Lock()  # workers may be threads, and gates may draw from the global state


@dataclass(frozen=True, eq=False)
class Candidate:
    """An estimator at work on a model.

    Args:
        estimator: any :class:`~estimators.Estimator`; its ``random_state`` and ``progress`` are set by the study.
        num_experts: experts k of the fitted model, at least as many as the truth has; those of the truth if None.
        gate: from a number of experts to the gate to fit; softmax gates if None. What it draws is fixed by the
            study.
        start: where fits start; the study's policy if None.

    Raises:
        TypeError: if ``estimator`` is not an estimator.
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

    def template(self, num_features: int, num_experts: int) -> MixtureOfExperts:
        """A float64 model to fit; the same every time."""
        with _GLOBAL_RANDOM_STATE, torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            gate = softmax_gate(num_features, num_experts) if self.gate is None else self.gate(num_experts)
            return MixtureOfExperts(gate, linear_gaussian_experts(num_features, num_experts)).to(torch.float64)
