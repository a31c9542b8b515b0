"""What estimators accept as data: checked, float64, with leading data sets."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixkit._validation import check_choice
from mixkit.gates.scores import ConstantScore
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import CoefficientPattern, has_form
from mixkit.parameters.coefficient_block import FIXED

from .columns import column_names
from .patterns import pattern_of
from .tensors import numeric_tensor
from .units import WEIGHTS_OF, Units, group_labels

__all__ = ["Data", "as_data", "check_constant_within", "gate_columns"]


class Data(NamedTuple):
    """Observations of ``r`` data sets: ``x (r, n, d)``, ``y (r, n)`` or ``(r, n, p)``, ``weight (r, n)`` or None.

    ``units`` says which rows share an expert, in all data sets the same ones; None where each has its own. ``weight``
    is then that of the row's unit times the power of the row's density.
    """

    x: Tensor
    y: Tensor
    weight: Tensor | None
    units: Units | None = None

    def take(self, rows: Tensor) -> "Data":
        """The same rows of every data set."""
        weight = None if self.weight is None else self.weight[:, rows]
        return Data(self.x[:, rows], self.y[:, rows], weight, None if self.units is None else self.units.take(rows))

    def sets(self, sets: Tensor) -> "Data":
        """Some of the data sets."""
        x, y, weight, units = self
        weight = None if weight is None else weight[sets]
        return Data(x[sets], y[sets], weight, None if units is None else units.sets(sets))

    def rows_of(self, units: Tensor) -> Tensor:
        """Positions of the rows of some ``units (q,)``; of rows themselves."""
        return units if self.units is None else self.units.rows_of(units)

    def with_unit_factors(self, factors: Tensor) -> "Data":
        """One data set as often as there are rows of ``factors (m, g)``, which multiply the weights of its units."""
        x, y, weight, units = self
        if units is None:
            raise ValueError("data must have groups, got none")
        size = (len(factors), *units.index.shape)
        rows = units.on_rows(factors)
        power = None if units.power is None else units.power.expand(size)
        own = factors if units.weight is None else units.weight * factors
        return Data(
            x.expand(size + x.shape[2:]),
            y.expand(size + y.shape[2:]),
            rows if weight is None else weight * rows,
            Units(units.index, own, power),
        )

    def parts(self) -> list[Tensor | None]:
        """All the tensors there are, in one order: what tells data sets apart."""
        parts = [self.x, self.y, self.weight]
        units = self.units
        return parts if units is None else [*parts, units.index, units.weight, units.power]

    def positive_rows(self) -> Tensor | None:
        """Positions of the rows whose weight is positive in some data set; None if that is all of them."""
        is_positive = None if self.weight is None else (self.weight > 0).any(0)
        return None if is_positive is None or bool(is_positive.all()) else is_positive.nonzero().squeeze(-1)

    def ordered_rows(self) -> Tensor | None:
        """Positions of all rows such that those of a unit stand together; None if they do."""
        if self.units is None or self.units.is_ordered:
            return None
        return self.units.index.argsort(stable=True)

    @property
    def num_units(self) -> int:
        """Rows, or groups of rows that share an expert."""
        return self.x.shape[1] if self.units is None else self.units.count

    @property
    def unit_weight(self) -> Tensor | None:
        """How often each unit counts, ``(r, g)``; None for ones."""
        return self.weight if self.units is None else self.units.weight

    @property
    def unit_rows(self) -> Tensor | None:
        """The first row of each unit, ``(g,)``; None where each row is one."""
        return None if self.units is None else self.units.first


def as_data(
    model: MixtureOfExperts,
    x: Any,
    y: Any,
    sample_weight: Any,
    *,
    is_batch: bool,
    groups: Any = None,
    weights_of: str = "groups",
) -> Data:
    """Check data against each other and the model; rows stay in their order.

    Raises:
        TypeError: if an argument is not numeric.
        ValueError: if shapes disagree, an entry is NaN or infinite, there are fewer observations (of positive weight)
            than experts, a weight is negative or none is positive, or y is no response of the model's family.
    """
    names = column_names(x) if groups is not None else None
    x, y = numeric_tensor("x", x), numeric_tensor("y", y)
    if not is_batch:
        x, y = x.unsqueeze(0), y.unsqueeze(0)
    if x.ndim != 3:
        raise ValueError(
            f"x must have shape {'(r, n, d)' if is_batch else '(n, d)'}, got {tuple(x.shape[1 - is_batch :])}"
        )
    if y.shape[:2] != x.shape[:2]:
        raise ValueError(f"y must have one row for each of the {x.shape[1]} rows of x, got shape {tuple(y.shape[1:])}")
    if x.shape[1] < model.num_experts:
        raise ValueError(f"x must have at least as many rows as experts, {model.num_experts}, got {x.shape[1]}")
    if x.shape[2] == 0:
        raise ValueError("x must have at least one covariate, got none")
    _check_model(model, x.shape[2])
    model.experts.check_rows(x, y)
    if y.ndim > 2 and len(model.experts(x[:, :1].to(_dtype(model))).event_shape) == 0:
        raise ValueError(f"y must have shape (n,) for experts of a scalar response, got {tuple(y.shape[1:])}")
    data = Data(x, y, _weights(sample_weight, x, is_batch, model.num_experts))
    check_choice("weights_of", weights_of, WEIGHTS_OF)
    return data if groups is None else _grouped(model, data, groups, weights_of, names)


def _grouped(model: MixtureOfExperts, data: Data, groups: Any, weights_of: str, names: Sequence[str] | None) -> Data:
    """The data with units; groups of one row each are rows."""
    codes, labels = group_labels("groups", groups)
    if len(codes) != data.x.shape[1]:
        raise ValueError(f"groups must have one label for each of the {data.x.shape[1]} rows of x, got {len(codes)}")
    if len(labels) == len(codes):
        return data
    units = Units.of(codes, data.weight, weights_of, labels, data.x)
    check_constant_within(data.x, units, gate_columns(model, data.x.shape[2]), names, labels)
    is_used = torch.ones(len(labels)) if data.weight is None else units.total(data.weight) > 0
    fewest = int((is_used > 0).sum(-1).min())
    if fewest < model.num_experts:
        raise ValueError(
            f"groups must be at least as many as experts, {model.num_experts}, got {fewest} of positive weight"
        )
    return data._replace(units=units)


def gate_columns(model: MixtureOfExperts, d: int) -> list[int]:
    """Positions of the columns of x ``(n, d)`` that the gate reads."""
    gate, seen = model.gate, range(d - model.num_known)
    if gate.temperature.depends_on_x or not gate.selection.reads_scores_alone:
        return list(seen)
    if has_form(gate.score, ConstantScore):
        return []
    pattern = pattern_of(gate.score)
    return list(seen) if pattern is None else [column for column in seen if _is_read(pattern, column)]


def _is_read(pattern: CoefficientPattern, column: int) -> bool:
    """Whether some expert has a coefficient of a column, free or fixed at another value than zero."""
    rows = zip(pattern.index, pattern.fixed, strict=True)
    return any(index[column] != FIXED or fixed[column] != 0.0 for index, fixed in rows)


def check_constant_within(
    x: Tensor, units: Units, columns: Sequence[int], names: Sequence[str] | None, labels: Sequence[Any]
) -> None:
    """Raise ``ValueError`` if one of some ``columns`` of ``x (r, n, d)`` varies between the rows of a unit.

    Args:
        x: covariates.
        units: which rows share an expert.
        columns: those that the gate reads.
        names: of the columns, ``(d,)``; None for their numbers.
        labels: of the units, ``(g,)``.
    """
    first = units.first.to(x.device)[units.index.to(x.device)]
    for column in columns:
        values = x[..., column]
        differs = (values != values[:, first]).any(0)
        if bool(differs.any()):
            row = int(differs.nonzero()[0, 0])
            own = [float(values[0, int(first[row])]), float(values[0, row])]
            name = f"column {column}" if names is None else f"column {names[column]!r}"
            raise ValueError(
                f"x must be constant within groups in the columns that the gate reads, got {own} for {name} in group "
                f"{labels[int(units.index[row])]!r}; a gate of constant scores reads none"
            )


def _check_model(model: MixtureOfExperts, d: int) -> None:
    if model.gate.temperature.depends_on_position:  # searches run on subsets of the rows
        raise ValueError(
            "model.gate must have a temperature that does not depend on the place of a row, "
            f"got {type(model.gate.temperature).__name__}"
        )
    bias = model.gate.score.bias
    if bias is not None and bias.ndim > 1:
        raise ValueError(
            f"model must be a single one, got a batch of shape {tuple(bias.shape[:-1])}; build it without batch_shape"
        )
    for part in (model.gate.score, getattr(model.experts, "predictor", None)):
        expected = getattr(part, "num_features", None)
        if expected is not None:
            expected += model.num_known  # the last ones
        if expected is not None and expected != d:
            raise ValueError(
                f"x must have the {expected} covariates of the model's {type(part).__name__}, got {d} columns"
            )


def _dtype(model: MixtureOfExperts) -> torch.dtype:
    return next(model.parameters()).dtype


def _weights(sample_weight: Any, x: Tensor, is_batch: bool, least: int) -> Tensor | None:
    if sample_weight is None:
        return None
    weight = numeric_tensor("sample_weight", sample_weight)
    weight = weight if is_batch else weight.unsqueeze(0)
    if weight.shape != x.shape[:2]:
        raise ValueError(
            f"sample_weight must have one entry a row of x, {x.shape[1]}, got shape {tuple(weight.shape[1:])}"
        )
    if not bool((weight >= 0).all()) or not bool((weight.sum(-1) > 0).all()):
        lowest, total = float(weight.min()), float(weight.sum(-1).min())
        raise ValueError(
            f"sample_weight must be non-negative with a positive sum, got a least of {lowest:g} and a sum of {total:g}"
        )
    positive = int((weight > 0).sum(-1).min())
    if positive < least:
        raise ValueError(f"sample_weight must be positive for as many rows as experts, {least}, got {positive}")
    return weight
