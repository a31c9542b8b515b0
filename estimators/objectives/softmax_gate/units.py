"""From standardized coefficients to the parameters of a module and to those users read, and back."""

from collections.abc import Callable

import torch
from torch import Tensor

from .design import Scaling
from .layout import Coefficients

__all__ = ["linear_map", "to_standardized", "to_user_units"]


def to_user_units(
    coefficients: Coefficients, scaling: Scaling, temperature: float, scale_constant: int | None
) -> Coefficients:
    """Coefficients ``(r, s, k, D)`` in the units of the data, from those of standardized data."""
    y_std = scaling.y_std[:, None, None, None]
    expert = _unscale(coefficients.expert, scaling) * y_std
    expert = _add_intercept(expert, scaling.y_mean[:, None, None])
    constants = list(coefficients.constants)
    if scale_constant is not None:
        constants[scale_constant] = constants[scale_constant] + y_std.log()
    return Coefficients(temperature * _unscale(coefficients.gate, scaling), expert, constants)


def to_standardized(
    coefficients: Coefficients, scaling: Scaling, temperature: float, scale_constant: int | None
) -> Coefficients:
    """The inverse of :func:`to_user_units`."""
    y_std = scaling.y_std[:, None, None, None]
    expert = _add_intercept(coefficients.expert, -scaling.y_mean[:, None, None]) / y_std
    constants = list(coefficients.constants)
    if scale_constant is not None:
        constants[scale_constant] = constants[scale_constant] - y_std.log()
    return Coefficients(_scale(coefficients.gate, scaling) / temperature, _scale(expert, scaling), constants)


def _unscale(block: Tensor, scaling: Scaling) -> Tensor:
    slope = block[..., :-1] / scaling.x_std[:, None, None]
    intercept = block[..., -1:] - (slope * scaling.x_mean[:, None, None]).sum(-1, keepdim=True)
    return torch.cat([slope, intercept], -1)


def _scale(block: Tensor, scaling: Scaling) -> Tensor:
    slope = block[..., :-1]
    intercept = block[..., -1:] + (slope * scaling.x_mean[:, None, None]).sum(-1, keepdim=True)
    return torch.cat([slope * scaling.x_std[:, None, None], intercept], -1)


def _add_intercept(block: Tensor, shift: Tensor) -> Tensor:
    return torch.cat([block[..., :-1], block[..., -1:] + shift.unsqueeze(-1)], -1)


def linear_map(function: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """Matrix ``(F, P)`` of an affine ``function`` from ``(s, P)`` to ``(s, F)``, found by applying it to a basis."""
    size = like.shape[-1]
    basis = torch.cat([like.new_zeros((1, size)), torch.eye(size, dtype=like.dtype, device=like.device)])
    images = function(basis)
    return (images[1:] - images[:1]).mT
