"""Patterns of coefficients: which experts read which columns, and which of them share a coefficient."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import Any

from .._validation import check_integer
from .coefficient_block import FIXED, CoefficientBlock

__all__ = ["CoefficientPattern"]

Column = int | str
INTERCEPT = "intercept"


@dataclass(frozen=True)
class CoefficientPattern:
    r"""Which coefficients of :math:`\eta_j(x) = a_j^\top x + b_j` are free, shared by experts, fixed, or absent.

    The full coefficients, one row :math:`(a_j, b_j)` an expert, are :math:`\text{free}[\text{index}] + \text{fixed}`.
    A free coefficient belongs to one column, and to one expert or several. :meth:`of` builds patterns from words.

    Args:
        index: ``(k, d + 1)``: the number of the free coefficient of each entry, -1 where the entry is fixed. The last
            column is the intercept. Numbers run from 0 without a gap.
        fixed: ``(k, d + 1)``: the value of each fixed entry, 0 where the coefficient is absent; 0 for free entries.

    Raises:
        TypeError: if an entry is no number.
        ValueError: if shapes differ, a coefficient stands in two columns, numbers leave a gap, or a value is not finite
            or given for a free entry.

    Example:
        Experts 0 and 1 have slopes of their own, expert 2 has none, and all share that of ``w``:

        >>> pattern = CoefficientPattern.of(3, ["x1", "w"], common=["w"], absent={2: ["x1"]})
        >>> pattern.index
        ((0, 1, 2), (3, 1, 4), (-1, 1, 5))
        >>> import torch
        >>> from mixkit.experts.predictors import LinearPredictor
        >>> predictor = LinearPredictor(2, 3, pattern=pattern, generator=torch.Generator().manual_seed(0))
        >>> predictor.free_slope.shape, predictor.slope.shape, bool(predictor.slope[2, 0] == 0)
        (torch.Size([3]), torch.Size([3, 2]), True)
    """

    index: tuple[tuple[int, ...], ...]
    fixed: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        """Check both, and keep them as tuples of plain numbers."""
        index = tuple(tuple(check_integer("index", entry, low=FIXED) for entry in row) for row in self.index)
        fixed = tuple(tuple(_finite("fixed", value) for value in row) for row in self.fixed)
        object.__setattr__(self, "index", index)
        object.__setattr__(self, "fixed", fixed)
        shapes = [[len(row) for row in rows] for rows in (index, fixed)]
        if not index or len(set(shapes[0])) != 1 or shapes[0] != shapes[1] or shapes[0][0] < 2:
            raise ValueError(
                "index and fixed must have one row an expert and d + 1 columns, the intercept last, "
                f"got rows of {shapes[0]} and {shapes[1]} columns"
            )
        columns: dict[int, set[int]] = {}
        for row, values in zip(index, fixed, strict=True):
            for column, (entry, value) in enumerate(zip(row, values, strict=True)):
                columns.setdefault(entry, set()).add(column)
                if entry != FIXED and value != 0.0:
                    raise ValueError(f"fixed must be 0 where index has a free coefficient, got {value}")
        own = {entry: found for entry, found in columns.items() if entry != FIXED}
        several = sorted(entry for entry, found in own.items() if len(found) > 1)
        if several or sorted(own) != list(range(len(own))):
            raise ValueError(
                "index must number free coefficients from 0 without a gap, each in one column, got "
                + (f"{several} in several" if several else f"{sorted(own)}")
            )

    @classmethod
    def of(
        cls,
        num_experts: int,
        features: int | Sequence[str],
        *,
        columns: Sequence[Column] | None = None,
        common: Sequence[Column] | Mapping[Any, Sequence[int] | Sequence[Sequence[int]]] = (),
        absent: Mapping[int, Sequence[Column]] | None = None,
        fixed: Mapping[tuple[int, Any], float] | None = None,
        intercept: bool = True,
    ) -> "CoefficientPattern":
        """A pattern in words; where nothing else is said every expert has its own coefficient of every column.

        Columns are positions, or names where ``features`` are names. The intercept is the column "intercept" (or -1).

        Args:
            num_experts: number of experts ``k``.
            features: number of covariates ``d``, or their names.
            columns: which are read; all if None.
            common: columns whose coefficient is common to all experts that have it free; or by column the experts that
                share it, ``{0: (0, 1)}``, or several such groups, ``{0: ((0, 1), (2, 3))}``.
            absent: by expert the columns without a coefficient.
            fixed: by expert and column the value at which a coefficient is held.
            intercept: whether there are intercepts.

        Raises:
            TypeError: if a column is neither a position nor a name.
            ValueError: if there is no such column or expert, or an entry is told to be two things.

        Example:
            >>> CoefficientPattern.of(2, 3, columns=[0, 2], common={2: (0, 1)}, fixed={(1, 0): 1.5}).index
            ((0, -1, 1, 2), (-1, -1, 1, 3))
        """
        names = _Names.of(features)
        k, width = check_integer("num_experts", num_experts, low=1), names.num_features + 1
        read = set(range(width - 1)) if columns is None else {names.place("columns", column) for column in columns}
        if intercept:
            read.add(width - 1)
        values = {(j, c): 0.0 for j in range(k) for c in range(width) if c not in read}
        for entry, value in _held(names, k, absent or {}, fixed or {}).items():
            if entry[1] not in read:
                raise ValueError(f"absent and fixed must name columns that are read, got {entry[1]}")
            values[entry] = value
        owner = {(j, c): j for j in range(k) for c in range(width)}
        for column, group in _groups(names, k, common, values):
            if column not in read:
                raise ValueError(f"common must name columns that are read, got {column}")
            for expert in group:
                if (expert, column) in values or owner[expert, column] != expert:
                    raise ValueError(f"common must not name what is absent, fixed or common, got {(expert, column)}")
                owner[expert, column] = min(group)
        return cls._numbered(k, width, owner, values)

    @classmethod
    def _numbered(
        cls, k: int, width: int, owner: Mapping[tuple[int, int], int], values: Mapping[tuple[int, int], float]
    ) -> "CoefficientPattern":
        """The pattern in which entries of one owner, the least expert of a group, have one number."""
        numbers: dict[tuple[int, int], int] = {}
        rows = []
        for j in range(k):
            row = []
            for c in range(width):
                key = (owner[j, c], c)
                row.append(FIXED if (j, c) in values else numbers.setdefault(key, len(numbers)))
            rows.append(tuple(row))
        fixed = tuple(tuple(values.get((j, c), 0.0) for c in range(width)) for j in range(k))
        return cls(tuple(rows), fixed)

    @property
    def num_experts(self) -> int:
        """The number k of experts."""
        return len(self.index)

    @property
    def num_features(self) -> int:
        """The number d of covariates."""
        return len(self.index[0]) - 1

    @property
    def num_free(self) -> int:
        """How many coefficients are free."""
        return self.slopes.num_free + self.intercepts.num_free

    @cached_property
    def slopes(self) -> CoefficientBlock:
        """The coefficients of the covariates."""
        return CoefficientBlock.of(self.index, self.fixed, slice(0, self.num_features))

    @cached_property
    def intercepts(self) -> CoefficientBlock:
        """The intercepts."""
        return CoefficientBlock.of(self.index, self.fixed, slice(self.num_features, None))

    @cached_property
    def can_shift(self) -> tuple[bool, ...]:
        """For each covariate whether intercepts make up for any change of its zero, ``(d,)``.

        The experts that share a coefficient of it have to be all those of some free intercepts, and its fixed values 0.
        """
        intercept = self.intercepts
        own = [entry for (entry,) in intercept.index]
        found = []
        for column in range(self.num_features):
            groups = [g for c, g in zip(self.slopes.columns, self.slopes.experts, strict=True) if c == column]
            is_plain = all(row[column] == 0.0 for row in self.slopes.fixed)
            is_absorbed = all(own[j] != FIXED and set(intercept.experts[own[j]]) <= set(g) for g in groups for j in g)
            found.append(is_plain and is_absorbed)
        return tuple(found)

    def __str__(self) -> str:
        """Rows of experts: numbers of free coefficients, dots for absent ones, and values after an equals sign.

        Example:
            >>> print(CoefficientPattern.of(2, 2, common=[0], absent={1: [1]}, fixed={(0, "intercept"): 1.5}))
            [0 1 =1.5; 0 . 2]
        """
        held = [[f"={value:g}" if value else "." for value in row] for row in self.fixed]
        rows = [
            [str(entry) if entry != FIXED else value for entry, value in zip(*row, strict=True)]
            for row in zip(self.index, held, strict=True)
        ]
        return f"[{'; '.join(' '.join(row) for row in rows)}]"

    def permuted(self, order: Sequence[int]) -> "CoefficientPattern":
        """The pattern of the experts in another order, expert ``order[j]`` at j, its coefficients numbered anew."""
        numbers: dict[int, int] = {FIXED: FIXED}
        rows = [self.index[j] for j in order]
        index = tuple(tuple(numbers.setdefault(entry, len(numbers) - 1) for entry in row) for row in rows)
        return CoefficientPattern(index, tuple(self.fixed[j] for j in order))

    def is_same_in(self, order: Sequence[int]) -> bool:
        """Whether the pattern of the experts in another order is this one."""
        return self.permuted(order) == self.permuted(range(self.num_experts))


@dataclass(frozen=True)
class _Names:
    """Positions of columns by what users call them."""

    num_features: int
    places: Mapping[Column, int]

    @classmethod
    def of(cls, features: int | Sequence[str]) -> "_Names":
        if isinstance(features, int | Integral):
            d = check_integer("features", features, low=1)
            return cls(d, {INTERCEPT: d})
        names = [str(name) for name in features]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"features must be a number or different names, got {names}")
        places: dict[Column, int] = {INTERCEPT: len(names)}
        return cls(len(names), places | {name: place for place, name in enumerate(names)})

    def place(self, argument: str, column: Column) -> int:
        d = self.num_features
        if isinstance(column, str):
            if column not in self.places:
                raise ValueError(f"{argument} must name columns of {list(self.places)}, got {column!r}")
            return self.places[column]
        if isinstance(column, bool) or not isinstance(column, Integral):
            raise TypeError(f"{argument} must name columns by position or name, got {type(column).__name__}")
        if not -1 <= int(column) < d:
            raise ValueError(f"{argument} must name columns 0 to {d - 1}, or -1 for the intercept, got {column}")
        return int(column) % (d + 1)


def _held(
    names: _Names, k: int, absent: Mapping[int, Sequence[Column]], fixed: Mapping[tuple[int, Any], float]
) -> dict[tuple[int, int], float]:
    """Values of the entries that are absent or fixed."""
    values: dict[tuple[int, int], float] = {}
    for expert, columns in absent.items():
        for column in _sequence("absent", columns):
            values[check_integer("absent", expert, low=0, high=k - 1), names.place("absent", column)] = 0.0
    for (expert, column), value in fixed.items():
        entry = check_integer("fixed", expert, low=0, high=k - 1), names.place("fixed", column)
        if entry in values:
            raise ValueError(f"fixed must not name what is absent, got {(expert, column)}")
        values[entry] = _finite("fixed", value)
    return values


def _groups(
    names: _Names,
    k: int,
    common: Sequence[Column] | Mapping[Any, Sequence[int] | Sequence[Sequence[int]]],
    values: Mapping[tuple[int, int], float],
) -> list[tuple[int, tuple[int, ...]]]:
    """Columns with the experts that share a coefficient of theirs."""
    if not isinstance(common, Mapping):
        places = [names.place("common", column) for column in _sequence("common", common)]
        return [(c, tuple(j for j in range(k) if (j, c) not in values)) for c in places]
    found = []
    for column, experts in common.items():
        several = [experts] if all(isinstance(j, Integral) for j in experts) else experts
        for group in several:
            own = tuple(check_integer("common", j, low=0, high=k - 1) for j in group)  # type: ignore[union-attr]
            found.append((names.place("common", column), own))
    return found


def _sequence(argument: str, columns: Sequence[Column]) -> Sequence[Column]:
    if isinstance(columns, (str, Integral)):
        raise TypeError(f"{argument} must hold sequences of columns, got {columns!r}")
    return columns


def _finite(argument: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{argument} must hold numbers, got {type(value).__name__}")
    if not math.isfinite(float(value)):
        raise ValueError(f"{argument} must hold finite numbers, got {value}")
    return float(value)
