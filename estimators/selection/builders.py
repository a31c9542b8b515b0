"""From names or factories of gates and experts to a function that builds a mixture of k experts."""

from collections.abc import Callable
from typing import Any

import torch

from mixkit.experts import Experts, GaussianExperts, PoissonExperts, StudentTExperts
from mixkit.gates import Gate, constant_gate, laplace_gate, sigmoid_gate, softmax_gate
from mixkit.mixture import MixtureOfExperts
from mixkit.predictors import LinearPredictor

__all__ = ["Builder", "ExpertsFactory", "GateFactory", "model_builder"]

Builder = Callable[[int], MixtureOfExperts]
GateFactory = Callable[[int, int], Gate]
ExpertsFactory = Callable[[int, int], Experts]

_SEED = 0  # of the parameters a model is built with; no fit starts from them
_GATES: dict[str, GateFactory] = {
    "softmax": softmax_gate,
    "constant": lambda d, k: constant_gate(k),
    "sigmoid": sigmoid_gate,
    "laplace": laplace_gate,
}
_EXPERTS: dict[str, ExpertsFactory] = {
    "gaussian": lambda d, k: GaussianExperts(LinearPredictor(d, k)),
    "student_t": lambda d, k: StudentTExperts(LinearPredictor(d, k)),
    "poisson": lambda d, k: PoissonExperts(LinearPredictor(d, k)),
}


def model_builder(
    num_features: int, *, gate: str | GateFactory, experts: str | ExpertsFactory, model: Builder | None
) -> Builder:
    """A function of k that builds a model, checks its number of experts and leaves torch's random state alone.

    Args:
        num_features: number of covariates d.
        gate: "softmax", "constant", "sigmoid" or "laplace", or a function of ``(d, k)`` that returns a gate.
        experts: "gaussian", "student_t" or "poisson" (linear predictors), or a function of ``(d, k)``.
        model: a function of k that returns the whole mixture, in place of the two.

    Raises:
        TypeError: if an argument is neither a name nor a function, or a function returns something else.
        ValueError: for an unknown name, or a model of another number of experts than asked for.
    """
    if model is not None and not callable(model):
        raise TypeError(f"model must be a function of k that returns a MixtureOfExperts, got {type(model).__name__}")
    make_gate, make_experts = _factory("gate", gate, _GATES), _factory("experts", experts, _EXPERTS)

    def build(k: int) -> MixtureOfExperts:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(_SEED)
            if model is None:
                return MixtureOfExperts(make_gate(num_features, k), make_experts(num_features, k))
            return _checked(model(k), k)

    return build


def _factory(name: str, value: Any, known: dict[str, Any]) -> Any:
    if callable(value):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a name or a function of (d, k), got {type(value).__name__}")
    if value not in known:
        raise ValueError(f"{name} must be one of {sorted(known)} or a function of (d, k), got {value!r}")
    return known[value]


def _checked(built: Any, k: int) -> MixtureOfExperts:
    if not isinstance(built, MixtureOfExperts):
        raise TypeError(f"model must return a mixkit.MixtureOfExperts, got {type(built).__name__}")
    if built.num_experts != k:
        raise ValueError(
            f"model must return a mixture of k = {k} experts when called with {k}, got {built.num_experts}"
        )
    return built
