"""From a design, names of a family and a gate to a model."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mixkit.experts import (
    CategoricalExperts,
    Experts,
    OrdinalExperts,
    ProductExperts,
    family_by_name,
    family_of,
)
from mixkit.gates import Gate, constant_gate, gate_by_name
from mixkit.mixture import MixtureOfExperts

from .design import Design
from .response import Labels

__all__ = ["Family", "ModelWords", "families_in_order", "labels_of"]

Family = str | Experts | Mapping[str, str]
"""A name, experts, or a name for each of several responses."""

_SEED = 0  # of the parameters a model is built with; no fit starts from them
_LABELS = {CategoricalExperts: Labels.CLASSES, OrdinalExperts: Labels.LEVELS}


def labels_of(family: Family) -> Labels:
    """What responses of a family are.

    Raises:
        TypeError: if ``family`` is neither a name nor a family of experts.
        ValueError: for an unknown name.
    """
    if isinstance(family, Mapping):
        for name, word in family.items():
            if labels_of(word) is not Labels.NUMBERS:
                raise ValueError(
                    f"family must be one of numbers for each of several responses, got {word!r} for {name!r}"
                )
        return Labels.NUMBERS
    if not isinstance(family, str | Experts):
        received = family.__name__ if isinstance(family, type) else type(family).__name__
        raise TypeError(f"family must be a name or a mixkit.experts.Experts, got {received}")
    kind = type(family) if isinstance(family, Experts) else _kind(family)
    return next((labels for base, labels in _LABELS.items() if issubclass(kind, base)), Labels.NUMBERS)


def families_in_order(family: Family, responses: Sequence[str]) -> Family:
    """A mapping in the order of the responses where it names them; as it is if none of its names is a response.

    Raises:
        ValueError: if some of its names are responses, and others are not.
    """
    if not isinstance(family, Mapping) or not set(family) & set(responses):
        return family
    if set(family) != set(responses):
        raise ValueError(
            f"family must have a name for each of {len(responses)} responses, {list(responses)}, got {list(family)}"
        )
    return {name: family[name] for name in responses}


def _kind(family: str) -> type[Experts]:
    try:
        return family_of(family)
    except ValueError as error:
        raise ValueError(str(error).replace("name must", "family must", 1)) from error


@dataclass(frozen=True, eq=False)
class ModelWords:
    """A family and a gate, by name or as they are.

    Attributes:
        family: a name of :func:`mixkit.experts.family_by_name`, one for each of several responses, or experts that take
            all columns.
        gate: a name of :func:`mixkit.gates.gate_by_name`, or a gate that takes all columns.
        family_options: further arguments of the family.
        gate_options: further arguments of the gate.
    """

    family: Family
    gate: str | Gate
    family_options: dict[str, Any] = field(default_factory=dict)
    gate_options: dict[str, Any] = field(default_factory=dict)

    def build(
        self, design: Design, num_experts: int, response: Tensor, *, roles: tuple[str, ...], trials: int | None
    ) -> MixtureOfExperts:
        """A model of k experts for the columns of a design, behind which those of ``roles`` come.

        Raises:
            TypeError: for options that the family or gate does not have.
            ValueError: if the design asks for what the family or gate cannot do.
        """
        settings = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(_SEED)}
        experts = self._experts(design, num_experts, response, roles, trials, settings)
        return MixtureOfExperts(self._gate(design, num_experts, settings), experts)

    def _experts(
        self,
        design: Design,
        k: int,
        response: Tensor,
        roles: tuple[str, ...],
        trials: int | None,
        settings: dict[str, Any],
    ) -> Experts:
        if isinstance(self.family, Experts):
            if design.common or design.absent or design.fixed:
                raise ValueError("common, absent and fixed must be None where family is not a name: its predictor says")
            return copy.deepcopy(self.family)
        options = self._known_options(roles, trials) | self.family_options
        pattern = design.expert_pattern(k)
        reads = bool(design.expert_columns)
        if reads and pattern is not None:
            options["pattern"] = pattern
        d = len(design.columns) if reads else 0
        if isinstance(self.family, Mapping):
            return _product(self.family, d, k, response, options | settings)
        return _named_family(self.family, d, k, response, options | settings)

    def _known_options(self, roles: tuple[str, ...], trials: int | None) -> dict[str, Any]:
        options: dict[str, Any] = {"offset": True} if "offset" in roles else {}
        if "trials" in roles:
            options["trials"] = None
        elif trials is not None:
            options["trials"] = trials
        return options

    def _gate(self, design: Design, k: int, settings: dict[str, Any]) -> Gate:
        if isinstance(self.gate, Gate):
            return copy.deepcopy(self.gate)
        if design.gate is None:
            if self.gate not in ("softmax", "constant"):
                raise ValueError(f"formula must have terms of the gate behind | for gate={self.gate!r}, got none")
            return constant_gate(k, dtype=settings["dtype"])
        if self.gate == "constant":
            raise ValueError("gate must not be 'constant' where formula has terms of the gate behind |")
        pattern = design.gate_pattern(k)
        options = dict(self.gate_options) if pattern is None else {"pattern": pattern, **self.gate_options}
        try:
            return gate_by_name(self.gate, len(design.columns), k, **options, **settings)
        except TypeError as error:
            raise TypeError(
                f"gate {self.gate!r} does not take {sorted(options)}: {error}; a gate that reads some of the columns "
                "has to have a pattern, as 'softmax' has"
            ) from error


def _named_family(name: str, d: int, k: int, response: Tensor, options: dict[str, Any]) -> Experts:
    try:
        return family_by_name(name, d, k, response=response, **options)
    except TypeError as error:
        own = sorted(set(options) - {"dtype", "generator"})
        raise TypeError(f"family {name!r} does not take {own}: {error}") from error


def _product(families: Mapping[str, str], d: int, k: int, response: Tensor, options: dict[str, Any]) -> ProductExperts:
    """Experts of several responses, a family for each column."""
    p = response.shape[1] if response.ndim == 2 else 1
    if len(families) != p:
        raise ValueError(f"family must have a name for each of {p} responses, got {list(families)}")
    columns = response.reshape(len(response), p).unbind(1)
    parts = zip(families.items(), columns, strict=True)
    return ProductExperts({name: _named_family(word, d, k, own, options) for (name, word), own in parts})
