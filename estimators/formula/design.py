"""One matrix of columns, and which of them experts and gate read, share, lack or hold fixed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from mixkit._validation import check_integer
from mixkit.parameters import CoefficientPattern

from .encoder import Encoder, Terms, read_terms

__all__ = ["Design", "DesignWords"]


@dataclass(frozen=True)
class DesignWords:
    """What of a formula makes columns.

    Attributes:
        experts: terms with a coefficient for every expert.
        gate: terms of the gate; None for weights that do not depend on covariates.
        common: terms with one coefficient for all experts, or by terms for those named; others lack them.
        absent: by expert terms that it lacks.
        fixed: by expert and column a value at which its coefficient is held.
    """

    experts: str
    gate: str | None = None
    common: str | Sequence[str] | Mapping[str, Sequence[int]] | None = None
    absent: Mapping[int, str] | None = None
    fixed: Mapping[tuple[int, str], float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.absent, Mapping | None):
            raise TypeError(f"absent must be a mapping of experts to terms, got {type(self.absent).__name__}")
        _check_fixed(self.fixed)
        for who in self.common.values() if isinstance(self.common, Mapping) else ():
            if isinstance(who, str) or not isinstance(who, Iterable):
                raise TypeError(f"common must map terms to sequences of experts, got {who!r}")

    @property
    def expert_terms(self) -> Terms:
        """Terms of the experts, without those in common."""
        return read_terms("formula", self.experts)

    @property
    def common_terms(self) -> tuple[Terms, ...]:
        """Groups of terms in common; their intercepts mean nothing."""
        if not isinstance(self.common, str | Sequence | Mapping | None):
            raise TypeError(f"common must be terms or a mapping of terms, got {type(self.common).__name__}")
        groups = [self.common] if isinstance(self.common, str) else list(self.common or ())
        return tuple(read_terms("common", text) for text in groups)

    def in_words(self) -> dict[str, str]:
        """Terms beside the formula's, by argument."""
        groups = [" + ".join(group.words) for group in self.common_terms]
        if isinstance(self.common, Mapping):
            groups = [f"{text} of {_listed(who)}" for text, who in zip(groups, self.common.values(), strict=True)]
        absent = [f"{text} of {expert}" for expert, text in (self.absent or {}).items()]
        fixed = [f"{name} of {expert} at {value:g}" for (expert, name), value in (self.fixed or {}).items()]
        parts = {"common": (", " if isinstance(self.common, Mapping) else " + ").join(groups)}
        parts |= {"absent": ", ".join(absent), "fixed": ", ".join(fixed)}
        return {name: text for name, text in parts.items() if text}

    @property
    def gate_terms(self) -> Terms | None:
        """Terms of the gate."""
        return None if self.gate is None else read_terms("formula", self.gate)

    @property
    def variables(self) -> frozenset[str]:
        """Names that all the terms read."""
        parts = [self.expert_terms, *self.common_terms, *([self.gate_terms] if self.gate_terms else [])]
        return frozenset().union(*(part.variables for part in parts))


@dataclass(frozen=True, eq=False)
class Design:
    """Columns of experts and gate; those of one name are one column.

    Attributes:
        experts: encoder of the experts' terms.
        gate: encoder of the gate's terms; None for constant weights.
        columns: names of the columns ``(d,)``, without intercepts.
        common: columns with a coefficient in common, each with those that share and alone have it; None for all.
        absent: by expert the columns without a coefficient; "intercept" among them.
        fixed: by expert and column the value at which a coefficient is held.
    """

    experts: Encoder
    gate: Encoder | None
    columns: tuple[str, ...]
    common: dict[str, tuple[int, ...] | None] = field(default_factory=dict)
    absent: dict[int, tuple[str, ...]] = field(default_factory=dict)
    fixed: dict[tuple[int, str], float] = field(default_factory=dict)

    @classmethod
    def learned(cls, words: DesignWords, frame: Any) -> tuple["Design", np.ndarray]:
        """The design of a fit, with its columns ``(n, d)`` there."""
        own, groups = words.expert_terms, words.common_terms
        joint = own
        for group in groups:
            repeated = sorted(set(group.words) & set(joint.words))
            if repeated:
                raise ValueError(f"common must not repeat terms of the experts or of another part, got {repeated}")
            joint = joint + group
        if not joint.words and not joint.intercept:
            raise ValueError("formula must have terms of the experts, got none and no intercept")
        experts, matrix, made = Encoder.learned(joint, frame)
        gate, gate_matrix = None, None
        if words.gate_terms is not None and (words.gate_terms.words or not words.gate_terms.intercept):
            gate, gate_matrix, _ = Encoder.learned(words.gate_terms, frame)
        columns = _merged(experts, gate)
        design = cls(
            experts,
            gate,
            columns,
            _common(words, groups, made),
            {expert: _absent(expert, text, made) for expert, text in (words.absent or {}).items()},
            _fixed(words.fixed or {}, experts),
        )
        if not _own(experts) and (design.absent or design.fixed):
            raise ValueError("absent and fixed must be None where experts read no column but the intercept")
        return design, _columns(columns, [matrix, gate_matrix])

    def encoded(self, frame: Any) -> np.ndarray:
        """The columns ``(n, d)`` of another pandas frame."""
        return _columns(self.columns, [part.encoded(frame) for part in (self.experts, self.gate) if part is not None])

    def expert_pattern(self, num_experts: int) -> CoefficientPattern | None:
        """The pattern of the experts' coefficients; None where each has its own of every column."""
        own = self.expert_columns
        if own == self.columns and not (self.common or self.absent or self.fixed) and self.experts.terms.intercept:
            return None
        common = {name: list(_all(experts, num_experts)) for name, experts in self.common.items()}
        for expert in self.absent:
            check_integer("absent", expert, low=0, high=num_experts - 1)
        absent = {j: list(self.absent.get(j, ())) for j in range(num_experts)}
        for name, who in common.items():  # experts that are not among those that share a coefficient lack it
            for j in set(range(num_experts)) - set(who) - {j for j, own in self.fixed if own == name}:
                absent[j] += [] if name in absent[j] else [name]
        held = {(j, name) for j, names in absent.items() for name in names} | set(self.fixed)
        common = {name: [j for j in who if (j, name) not in held] for name, who in common.items()}
        return CoefficientPattern.of(
            num_experts,
            list(self.columns),
            columns=list(own),
            common={name: who for name, who in common.items() if len(who) > 1},
            absent=absent,
            fixed={(j, name): value for (j, name), value in self.fixed.items()},
            intercept=self.experts.terms.intercept,
        )

    def gate_pattern(self, num_experts: int) -> CoefficientPattern | None:
        """The pattern of the gate's weights; None where it reads all columns."""
        if self.gate is None or (self.gate_columns == self.columns and self.gate.terms.intercept):
            return None
        return CoefficientPattern.of(
            num_experts,
            list(self.columns),
            columns=list(self.gate_columns),
            intercept=self.gate.terms.intercept,
        )

    @property
    def expert_columns(self) -> tuple[str, ...]:
        """Columns that the experts read."""
        return _own(self.experts)

    @property
    def gate_columns(self) -> tuple[str, ...]:
        """Columns that the gate reads."""
        return () if self.gate is None else _own(self.gate)


_INTERCEPT = "Intercept"


def _listed(experts: Iterable[int]) -> str:
    return " and ".join(map(str, experts))


def _own(encoder: Encoder) -> tuple[str, ...]:
    return tuple(name for name in encoder.columns if name != _INTERCEPT)


def _merged(experts: Encoder, gate: Encoder | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*_own(experts), *(() if gate is None else _own(gate))]))


def _columns(names: Sequence[str], parts: Iterable[Any]) -> np.ndarray:
    """Each column from the first part that has it, ``(n, d)``."""
    found: dict[str, np.ndarray] = {}
    n = 0
    for part in parts:
        if part is not None:
            n = len(part)
            found = {name: part[name].to_numpy() for name in part.columns} | found
    return np.column_stack([found[name] for name in names]) if names else np.zeros((n, 0))


def _common(
    words: DesignWords, groups: Sequence[Terms], made: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[int, ...] | None]:
    experts = list(words.common.values()) if isinstance(words.common, Mapping) else [None] * len(groups)
    return {
        name: None if who is None else tuple(who)
        for group, who in zip(groups, experts, strict=True)
        for term in group.words
        for name in made[term]
    }


def _absent(expert: int, text: str, made: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    terms = read_terms("absent", f"0 + {text}")
    unknown = [term for term in terms.words if term not in made]
    if unknown:
        raise ValueError(f"absent must name terms of the experts, {list(made)}, got {unknown[0]!r}")
    names = [name for term in terms.words for name in made[term]]
    return (*names, "intercept") if terms.intercept else tuple(names)


def _fixed(fixed: Mapping[tuple[int, str], float], experts: Encoder) -> dict[tuple[int, str], float]:
    columns = [*_own(experts), *(["intercept"] if experts.terms.intercept else [])]
    for _, name in fixed:
        if name not in columns:
            raise ValueError(f"fixed must name columns of the experts, {columns}, got {name!r}")
    return dict(fixed)


def _check_fixed(fixed: Any) -> None:
    if not isinstance(fixed, Mapping | None):
        raise TypeError(f"fixed must be a mapping of (expert, column) to values, got {type(fixed).__name__}")
    for key, value in (fixed or {}).items():
        if not isinstance(key, tuple) or len(key) != 2:
            raise TypeError(f"fixed must have pairs (expert, column) as its keys, got {key!r}")
        if not isinstance(value, Real):
            raise TypeError(f"fixed must hold numbers, got {value!r} for {key}")


def _all(experts: tuple[int, ...] | None, num_experts: int) -> Sequence[int]:
    return range(num_experts) if experts is None else experts
