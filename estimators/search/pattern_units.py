"""Standardized data before parts with patterns of coefficients: what may move, and known values in other units.

A covariate keeps its zero where intercepts do not absorb its shift, and a response where an intercept is known. Known
coefficients other than zero have other values in other units; all data sets then share units as they share the pattern.
"""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mixkit.experts.predictors import LinearPredictor
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import CoefficientBlock, CoefficientPattern, patterned_parts

from ..data.patterns import pattern_of
from .response_units import ResponseUnits

__all__ = ["absorbed_shift", "kept_by_patterns", "restore_patterned", "shared_response", "shared_scale", "with_units"]


def kept_by_patterns(model: nn.Module, center: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Centers and scales ``(r, d)`` of covariates as far as patterns in a model allow them, its values kept."""
    for _, part in patterned_parts(model):
        pattern: Any = part.pattern
        has_value = _valued(pattern).to(center.device)
        can_shift = torch.tensor(pattern.can_shift, device=center.device)
        center = torch.where(has_value | ~can_shift, 0.0, center)
        scale = torch.where(has_value, 1.0, scale)
    return center, scale


def _valued(pattern: CoefficientPattern) -> Tensor:
    """Covariates with a known coefficient other than zero, ``(d,)`` bool."""
    return (pattern.slopes.fixed_tensor() != 0).any(0)


def shared_scale(model: MixtureOfExperts, scale: Tensor, std: Tensor) -> Tensor:
    """Scales ``(r, d)`` in which covariates with a known coefficient have the mean over data sets of their ``std``."""
    for _, part in patterned_parts(model):
        pattern: Any = part.pattern
        scale = torch.where(_valued(pattern).to(scale.device), std.mean(0), scale)
    return scale


def shared_response(model: MixtureOfExperts, response: ResponseUnits) -> ResponseUnits | None:
    """The units of the response that the experts' pattern allows; None if those are others.

    An intercept that is known allows no shift, and values of coordinates that have scales of their own no change.
    """
    pattern = pattern_of(getattr(model.experts, "predictor", None))
    if pattern is None:
        return response
    is_moved = bool((response.mean != 0).any())
    if is_moved and any(entry < 0 for row in pattern.intercepts.index for entry in row):
        return None
    if not _has_values(pattern):
        return response
    if response.scale.ndim > 1 and bool((response.scale != 1).any()):
        return None
    return ResponseUnits(response.mean, response.scale.mean(0, keepdim=True).expand_as(response.scale))


def with_units(model: MixtureOfExperts, scale: Tensor, response_scale: Tensor) -> MixtureOfExperts:
    """The model whose known coefficients have their values in the units ``scale (d,)`` of covariates and response.

    It is the model itself where there are none.
    """
    parts = [(name, part) for name, part in patterned_parts(model) if _has_values(part.pattern)]
    if not parts:
        return model
    twin = copy.deepcopy(model)
    for name, _ in parts:
        part: Any = twin.get_submodule(name)
        d, is_response = part.pattern.num_features, part is getattr(twin.experts, "predictor", None)
        unit = response_scale if is_response else torch.ones_like(response_scale)
        factors = torch.cat([scale[:d], torch.ones_like(scale[:1])]) / unit.reshape(-1)[:1]
        fixed = [[v * f for v, f in zip(row, factors.tolist(), strict=True)] for row in part.pattern.fixed]
        part.pattern = replace(part.pattern, fixed=tuple(tuple(row) for row in fixed))
    return twin


def _has_values(pattern: CoefficientPattern | None) -> bool:
    return pattern is not None and (pattern.slopes.has_values or pattern.intercepts.has_values)


def restore_patterned(
    part: LinearPredictor, center: Tensor, scale: Tensor, response: tuple[Tensor, Tensor] | None
) -> None:
    """Free coefficients of standardized covariates in place as those of the data.

    Args:
        part: with a pattern.
        center: of the covariates, ``(d,)``.
        scale: of the covariates, ``(d,)``.
        response: mean and scale of the response, ``()`` or ``(p,)``, where the part predicts it.
    """
    slope, intercept = (getattr(part, f"free_{name}") for name in part.coefficient_names)
    pattern: Any = part.pattern
    if response is not None:
        mean, unit = (value.unsqueeze(-1) if value.ndim else value for value in response)
        intercept.mul_(unit).add_(mean)
        slope.mul_(unit)
    slope.div_(scale[list(pattern.slopes.columns)])
    intercept.sub_(absorbed_shift(slope, pattern.slopes, pattern.intercepts, center))


def absorbed_shift(slopes: Tensor, own: CoefficientBlock, level: CoefficientBlock, center: Tensor) -> Tensor:
    """What free intercepts ``(..., F)`` of a pattern have to absorb of free ``slopes`` at a center of covariates.

    It is the same for all experts that share an intercept wherever the covariate can be shifted.
    """
    return level.read((own.without_values().full(slopes) @ center).unsqueeze(-1))
