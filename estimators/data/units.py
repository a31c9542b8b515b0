"""Units: rows, or groups of rows that share an expert."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixkit._validation import check_choice

from .tensors import check_not_masked

__all__ = ["WEIGHTS_OF", "Units", "check_is_coarser", "group_labels", "taken_group_column"]

WEIGHTS_OF = ("groups", "rows")


@dataclass(frozen=True, eq=False)
class Units:
    r"""Which rows share an expert, and what counts how often.

    The log-likelihood of g units is
    :math:`\sum_u W_u \log \sum_j w_j(x_u) \prod_{i \in u} f_j(y_i \mid x_i)^{v_i}`.

    Attributes:
        index: the unit of each row, ``(n,)``, from 0 to g - 1 in order of first appearance.
        weight: W, how often each unit counts, ``(r, g)``; None for ones.
        power: v, to what power the density of each row is raised, ``(r, n)``; None for ones.
    """

    index: Tensor
    weight: Tensor | None = None
    power: Tensor | None = None

    @classmethod
    def of(
        cls, codes: np.ndarray, sample_weight: Tensor | None, weights_of: str, labels: list[Any], like: Tensor
    ) -> "Units":
        """Units from the codes ``(n,)`` and ``labels (g,)`` of their groups, on the device of ``like``.

        Raises:
            ValueError: if weights of groups differ between the rows of one.
        """
        index = torch.as_tensor(codes).to(like.device)
        if sample_weight is None:
            return cls(index)
        sample_weight = sample_weight.to(like.device)
        if check_choice("weights_of", weights_of, WEIGHTS_OF) == "rows":
            own = cls(index, None, sample_weight)
            total = own.total(sample_weight)
            return own if bool((total > 0).all()) else replace(own, weight=(total > 0).to(total))
        first = sample_weight[:, cls(index).first]
        differs = (first[:, index] != sample_weight).any(0)
        if bool(differs.any()):
            row = int(differs.nonzero()[0, 0])
            group = int(index[row])
            weights = [float(first[0, group]), float(sample_weight[0, row])]
            raise ValueError(
                f"sample_weight must be one number for all rows of a group, got {weights} in group {labels[group]!r}; "
                "for weights of rows within groups say weights_of='rows'"
            )
        return cls(index, first)

    @cached_property
    def count(self) -> int:
        """Number of units g."""
        return int(self.index.max()) + 1

    @property
    def is_ordered(self) -> bool:
        """Whether the rows of each unit stand together, in the order of the units."""
        return bool((self.index[1:] >= self.index[:-1]).all())

    @cached_property
    def first(self) -> Tensor:
        """The first row of each unit, ``(g,)``."""
        n = len(self.index)
        rows = torch.arange(n, device=self.index.device)
        first = rows.new_full((self.count,), n)
        return first.scatter_reduce(0, self.index, rows, "amin")

    def take(self, rows: Tensor) -> "Units":
        """The units of some rows, numbered anew in their order of appearance there."""
        kept = self.index[rows.to(self.index.device)]
        codes, labels = group_labels("groups", kept.tolist())
        weight = None if self.weight is None else self.weight[:, labels]
        power = None if self.power is None else self.power[:, rows]
        return Units(torch.as_tensor(codes).to(kept.device), weight, power)

    def sets(self, sets: Tensor) -> "Units":
        """The units of some of the data sets."""
        weight, power = (None if part is None else part[sets] for part in (self.weight, self.power))
        return Units(self.index, weight, power)

    def rows_of(self, units: Tensor) -> Tensor:
        """Positions of the rows of some ``units (q,)``, in order."""
        chosen = torch.zeros(self.count, dtype=torch.bool, device=self.index.device)
        chosen[units.to(chosen.device)] = True
        return chosen[self.index].nonzero().squeeze(-1)

    def total(self, values: Tensor) -> Tensor:
        """Sums ``(..., g)`` over the rows of each unit, of ``values (..., n)``, without powers."""
        sums = values.new_zeros((*values.shape[:-1], self.count))
        return sums.index_add(-1, self.index.to(values.device), values)

    def pooled(self, values: Tensor, power: Tensor | None) -> Tensor:
        """The same with each row's value times its ``power``, broadcast to ``values``; power 0 takes a row out."""
        return self.total(values if power is None else torch.where(power > 0, power * values, 0.0))

    def on_rows(self, values: Tensor) -> Tensor:
        """Each unit's value at all its rows: ``(..., n)`` from ``(..., g)``."""
        return values.index_select(-1, self.index.to(values.device))


def check_is_coarser(clusters: Tensor, units: Units, labels: Sequence[Any]) -> None:
    """Raise ``ValueError`` if rows of one unit have different ``clusters (n,)``, which ``labels`` name."""
    first = clusters[units.first][units.index]
    parted = (first != clusters).nonzero().squeeze(-1)
    if len(parted):
        row = int(parted[0])
        got = [labels[int(first[row])], labels[int(clusters[row])]]
        raise ValueError(f"groups must not part rows that share an expert, got {got} for rows of one expert")


def taken_group_column(x: Any, groups: Any) -> tuple[Any, Any]:
    """Covariates and groups; where ``groups`` names a column of the frame ``x``, the frame without it and the column.

    Raises:
        ValueError: if ``x`` has no such column.
    """
    if not isinstance(groups, str):
        return x, groups
    columns = list(getattr(x, "columns", []))
    if groups not in columns:
        raise ValueError(f"groups must be labels, or the name of a column of the frame x, {columns}, got {groups!r}")
    rest = x[[column for column in columns if column != groups]]
    return rest, x[groups]


def group_labels(name: str, groups: Any) -> tuple[np.ndarray, list[Any]]:
    """Codes ``(n,)`` from 0 on in order of first appearance, and the labels ``(g,)`` that they stand for.

    Args:
        name: of the argument.
        groups: hashable labels, in any container.

    Raises:
        TypeError: if ``groups`` are no labels, or one cannot be hashed.
        ValueError: if they do not stand in one dimension, or one is missing.

    Example:
        >>> group_labels("groups", ["b", "a", "b"])
        (array([0, 1, 0]), ['b', 'a'])
    """
    numbers: dict[Any, int] = {}
    try:
        codes = np.array([numbers.setdefault(label, len(numbers)) for label in _listed(name, groups)], dtype=np.int64)
    except TypeError as error:
        raise TypeError(
            f"{name} must be hashable labels, one for each row, got {type(groups).__name__}: {error}"
        ) from error
    missing = [place for place, label in enumerate(numbers) if _is_missing(label)]
    if missing:
        row = int(np.flatnonzero(np.isin(codes, missing))[0])
        raise ValueError(f"{name} must have a label for every row, got a missing one in row {row}")
    return codes, list(numbers)


def _listed(name: str, groups: Any) -> list[Any]:
    if isinstance(groups, str | bytes):
        raise TypeError(f"{name} must be labels, one for each row, got {groups!r}")
    check_not_masked(name, groups)
    shape = getattr(groups, "shape", None)
    if shape is not None and len(shape) != 1:
        raise ValueError(f"{name} must have one label for each row, shape (n,), got shape {tuple(shape)}")
    return list(groups.tolist()) if hasattr(groups, "tolist") else list(groups)


def _is_missing(label: Any) -> bool:
    """None, and what does not equal itself: NaN, NaT; pandas' NA says neither yes nor no."""
    if label is None:
        return True
    try:
        return not bool(label == label)
    except (TypeError, ValueError):
        return True
