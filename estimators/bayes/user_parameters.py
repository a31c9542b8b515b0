"""Parameters as users read them: gates relative to the last expert, scales on their natural scale, names as in fits."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mixkit.parameters import Axis, Place, free_mask, relative_to_reference

from ..objectives.softmax_gate.objective import LinearObjective
from ..optimizers.parameter_map import Entry
from .model import BayesianMixtureOfExperts

__all__ = ["reported", "user_entries"]


def reported(bayes: BayesianMixtureOfExperts, draws: Mapping[str, Tensor]) -> tuple[list[str], Tensor]:
    """Names ``(P,)`` and values ``(*batch, P)`` of draws by name ``(*batch, *shape)``.

    They are those of :attr:`FitResult.params <estimators.results.fit_result.FitResult.params>`; in the same order, but
    for experts of several locations or families, which fits list expert by expert.
    """
    names: list[str] = []
    columns: list[Tensor] = []
    values = {
        name: record.transform.value(_identified(bayes, name, draws[name])) for name, record in bayes.records.items()
    }
    for record, index in user_entries(bayes):
        names.append(record.label(index))
        at: Any = (..., *index)
        columns.append(values[record.name][at])
    return names, torch.stack(columns, -1)


def user_entries(bayes: BayesianMixtureOfExperts) -> list[Entry]:
    """What each of :func:`reported` is an entry of, in that order."""
    entries = []
    for name, record in bayes.records.items():
        mask = free_mask(record, bayes.model.get_parameter(name))
        entries += [Entry(record, tuple(index)) for index in mask.nonzero().tolist()]
    return sorted(entries, key=_place) if LinearObjective.supports(bayes.model) else entries


def _identified(bayes: BayesianMixtureOfExperts, name: str, value: Tensor) -> Tensor:
    """Rows of the gate minus that of the last expert, where they are determined up to a translation."""
    return relative_to_reference(bayes.records[name], value, value.ndim - len(bayes.shapes[name]))


def _place(entry: Entry) -> tuple[float, ...]:
    """Where an entry stands in a fit: gates by expert, experts by expert, then constants; intercepts after slopes."""
    record, index = entry
    if record.place is Place.FAMILY:
        return (2.0,)  # sorting is stable
    group = 0.0 if record.family is None else 1.0
    if record.pattern is not None:  # where the coefficient appears first
        is_slope = record.axes[-1] is Axis.COEFFICIENT
        column = float(record.pattern.columns[index[-1]]) if is_slope else math.inf
        return group, float(record.pattern.experts[index[-1]][0]), column
    return group, float(index[0]), float(index[1]) if len(index) > 1 else math.inf
