"""Checks of logits and temperatures that step aside while a function transform or a compiler traces the call."""

import torch
from torch import Tensor, nn

from .._validation import can_read_values, check_integer, check_no_nan, check_positive, check_tensor

__all__ = ["check_logits", "check_subset_logits", "check_temperature"]


def check_logits(logits: Tensor, name: str = "logits") -> Tensor:
    """Return ``logits (*batch, k)`` if they are floating, hold no NaN or +inf, and no row is all -inf.

    One reduction finds every fault: the largest entry of a row is finite exactly if the row is acceptable.
    """
    check_tensor(name, logits)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(
            f"{name} must have at least one category in its last dimension, got shape {tuple(logits.shape)}"
        )
    if not can_read_values(logits) or torch.isfinite(logits.detach().amax(-1)).all():
        return logits
    check_no_nan(name, logits)
    raise ValueError(f"{name} must have a finite entry in every row, got a row that is all -inf")


def check_subset_logits(logits: Tensor, num_selected: int, name: str = "logits") -> Tensor:
    """Return ``logits (*batch, k)`` if every row has at least ``num_selected`` finite entries, and no NaN or +inf."""
    check_logits(logits, name)
    check_integer("num_selected", num_selected, low=1, high=logits.shape[-1])
    if not can_read_values(logits):
        return logits
    fewest = int(torch.isfinite(logits.detach()).sum(-1).min()) if logits.numel() else num_selected
    if fewest < num_selected:
        raise ValueError(
            f"{name} must have at least num_selected={num_selected} finite entries in every row, got {fewest}"
        )
    return logits


def check_temperature(temperature: float | Tensor, name: str = "temperature") -> float | Tensor:
    """Return ``temperature`` if it is a positive finite number or a tensor of such."""
    if isinstance(temperature, nn.Module):
        raise TypeError(
            f"{name} must be a number or a tensor here; a Temperature module goes into the estimator's class"
        )
    if isinstance(temperature, Tensor) and not can_read_values(temperature):
        return temperature
    return check_positive(name, temperature)
