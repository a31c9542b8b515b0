"""Floors of scales, relative to the scale of each location or response."""

import math

import torch
from torch import Tensor

from mixkit.experts import Experts
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import Axis, ParameterRecord

__all__ = ["location_variance", "lower_bound"]

_LEAST = 1e-300  # of a variance: responses that are constant have a floor, too


def location_variance(experts: Experts, y: Tensor) -> Tensor:
    """Variance of the locations as far as responses ``y (r, n)`` or ``(r, n, p)`` tell, mean over data sets.

    On the scale on which the experts have theirs: that of the logarithm for log-normal experts; of vectors each
    coordinate's own.
    """
    return torch.stack([experts.location_moments(rows)[1].square() for rows in y]).mean(0)


def lower_bound(
    record: ParameterRecord, model: MixtureOfExperts, shape: tuple[int, ...], y: Tensor, variance_floor: float
) -> Tensor:
    """Lower bounds of a parameter, ``shape``; -inf where there is none.

    Args:
        record: of the parameter.
        model: whose families tell the scale of their locations.
        shape: of the parameter.
        y: responses ``(r, n)`` or ``(r, n, p)``.
        variance_floor: least squared scale relative to that of the locations.
    """
    bound = y.new_full(shape, -math.inf)
    if not record.has_floor or record.family is None:
        return bound
    family = model.get_submodule(record.family)
    y = model.experts.response_of(family, y)
    std = location_variance(family, y).sqrt()  # type: ignore[arg-type]
    if Axis.RESPONSE in record.axes:
        behind = len(record.axes) - 1 - record.axes.index(Axis.RESPONSE)
        std = std.reshape(-1, *(1,) * behind)
    else:
        mean = torch.stack([family.location_moments(rows)[0] for rows in y]).mean(0)  # type: ignore[operator]
        std = family.common_scale(mean, std)  # type: ignore[operator]
    floor = 0.5 * (variance_floor * std.square()).clamp(min=_LEAST).log()
    return torch.where(record.transform.is_log(shape).to(y.device), floor, bound)
