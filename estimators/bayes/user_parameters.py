"""Parameters as users read them: gates relative to the last expert, scales on their natural scale, names as in fits."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..objectives.parameter_names import entry_name, is_logarithm, reading_order
from ..objectives.softmax_gate.objective import LinearObjective
from .model import BayesianMixtureOfExperts

__all__ = ["reported"]


def reported(bayes: BayesianMixtureOfExperts, draws: Mapping[str, Tensor]) -> tuple[list[str], Tensor]:
    """Names ``(P,)`` and values ``(*batch, P)`` of draws by name ``(*batch, *shape)``.

    They are those of :attr:`FitResult.params <estimators.results.fit_result.FitResult.params>`, in the same order, but
    for experts with several predictors (categorical, zero-inflated, vector responses), which fits name by class or
    response.
    """
    is_linear = LinearObjective.supports(bayes.model)
    constants = [name.removeprefix("log_") for name in getattr(bayes.model.experts, "constant_names", ())]
    names: list[str] = []
    columns: list[Tensor] = []
    for name in sorted(bayes.shapes, key=reading_order):
        value, shape = draws[name], bayes.shapes[name]
        if name in bayes.translated:
            value = _relative(value, len(shape))
        if is_logarithm(name):
            value = value.exp()
        for entry in np.ndindex(*value.shape[value.ndim - len(shape) :]):
            names.append(entry_name(name, entry))
            columns.append(value[(..., *entry)])
    if is_linear:
        order = sorted(range(len(names)), key=lambda i: _place(names[i], constants))
        names, columns = [names[i] for i in order], [columns[i] for i in order]
    return names, torch.stack(columns, -1)


def _relative(value: Tensor, ndim: int) -> Tensor:
    """Rows of the gate minus that of the last expert, which is left out."""
    dim = value.ndim - ndim
    k = value.shape[dim]
    return value.narrow(dim, 0, k - 1) - value.narrow(dim, k - 1, 1)


def _place(name: str, constants: list[str]) -> tuple[int, int, float]:
    """Where a name stands in a fit: gates by expert, experts by expert, then constants; intercepts after slopes."""
    label, _, inside = name.rstrip("]").partition("[")
    expert, _, column = inside.partition(",")
    groups = {"gate_weight": 0, "gate_bias": 0, "slope": 1, "intercept": 1}
    group = groups[label] if label in groups else 2 + constants.index(label)
    return group, int(expert), int(column[1:]) if column else float("inf")
