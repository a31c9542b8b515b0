"""What estimators accept as data: checked, float64, with leading data sets."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixkit.mixture import MixtureOfExperts

from .tensors import numeric_tensor

__all__ = [
    "Data",
    "as_data",
]


class Data(NamedTuple):
    """Observations of ``r`` data sets: ``x (r, n, d)``, ``y (r, n)`` or ``(r, n, p)``, ``weight (r, n)`` or None."""

    x: Tensor
    y: Tensor
    weight: Tensor | None

    def take(self, rows: Tensor) -> "Data":
        """The same rows of every data set."""
        weight = None if self.weight is None else self.weight[:, rows]
        return Data(self.x[:, rows], self.y[:, rows], weight)

    def positive_rows(self) -> Tensor | None:
        """Positions of the rows whose weight is positive in some data set; None if that is all of them."""
        is_positive = None if self.weight is None else (self.weight > 0).any(0)
        return None if is_positive is None or bool(is_positive.all()) else is_positive.nonzero().squeeze(-1)


def as_data(model: MixtureOfExperts, x: Any, y: Any, sample_weight: Any, *, is_batch: bool) -> Data:
    """Check data against each other and the model.

    Raises:
        TypeError: if an argument is not numeric.
        ValueError: if shapes disagree, an entry is NaN or infinite, there are fewer observations (of positive weight)
            than experts, a weight is negative or none is positive, or y is no response of the model's family.
    """
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
    return Data(x, y, _weights(sample_weight, x, is_batch, model.num_experts))


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
