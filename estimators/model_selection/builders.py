"""From names or factories of gates and experts to a function that builds a mixture of k experts."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from mixkit.experts import Experts, family_by_name, family_names
from mixkit.gates import Gate, gate_by_name, gate_names
from mixkit.mixture import MixtureOfExperts

__all__ = ["Builder", "ExpertsFactory", "GateFactory", "model_builder"]

Builder = Callable[[int], MixtureOfExperts]
GateFactory = Callable[[int, int], Gate]
ExpertsFactory = Callable[[int, int], Experts]

_SEED = 0  # of the parameters a model is built with; no fit starts from them


def model_builder(
    num_features: int,
    *,
    gate: str | GateFactory,
    experts: str | ExpertsFactory,
    model: Builder | None,
    offset: bool = False,
) -> Builder:
    """A function of k that builds a model, checks its number of experts and leaves torch's random state alone.

    Args:
        num_features: number of columns of the covariates.
        gate: a word of :func:`mixkit.gates.gate_by_name`, or a function of ``(d, k)`` that returns a gate.
        experts: a word of :func:`mixkit.experts.family_by_name` for a family that needs no options (linear
            predictors), or a function of ``(d, k)``.
        model: a function of k that returns the whole mixture, in place of the two.
        offset: whether the last column is an offset, which d does not count. Gates are built without it too where
            a function of experts takes it from d by itself.

    Raises:
        TypeError: if an argument is neither a name nor a function, or a function returns something else.
        ValueError: for an unknown name, a model of another number of experts than asked for, or ``offset`` with a
            ``model`` or experts that have none.
    """
    if model is not None and not callable(model):
        raise TypeError(f"model must be a function of k that returns a MixtureOfExperts, got {type(model).__name__}")
    named = {name: partial(gate_by_name, name) for name in gate_names(with_options=False)}
    make_gate, make_experts = _factory("gate", gate, named), _factory("experts", _experts_of(experts, offset), {})

    def build(k: int) -> MixtureOfExperts:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(_SEED)
            if model is not None:
                return _with_offset(_checked(model(k), k), offset)
            made = make_experts(num_features - offset, k)
            columns = num_features - len(getattr(made, "known_columns", ()))
            return _with_offset(MixtureOfExperts(make_gate(columns, k), made), offset)

    return build


def _experts_of(experts: Any, offset: bool) -> Any:
    """A function of ``(d, k)`` in place of a name."""
    if not isinstance(experts, str):
        return experts
    named = {name: partial(family_by_name, name) for name in family_names(with_options=False)}
    return partial(_factory("experts", experts, named), offset=offset)


def _factory(name: str, value: Any, known: dict[str, Any]) -> Any:
    if callable(value):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a name or a function of (d, k), got {type(value).__name__}")
    if value not in known:
        raise ValueError(f"{name} must be one of {sorted(known)} or a function of (d, k), got {value!r}")
    return known[value]


def _with_offset(built: MixtureOfExperts, offset: bool) -> MixtureOfExperts:
    if offset and not built.has_offset:
        raise ValueError("offset must be False for experts without one, got True; build LinearPredictor(offset=True)")
    return built


def _checked(built: Any, k: int) -> MixtureOfExperts:
    if not isinstance(built, MixtureOfExperts):
        raise TypeError(f"model must return a mixkit.MixtureOfExperts, got {type(built).__name__}")
    if built.num_experts != k:
        raise ValueError(
            f"model must return a mixture of k = {k} experts when called with {k}, got {built.num_experts}"
        )
    return built
