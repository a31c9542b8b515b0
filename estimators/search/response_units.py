"""Responses moved and scaled for a search, and what the families of experts make of that."""

from typing import NamedTuple

import torch
from torch import Tensor

from mixkit.experts import Experts
from mixkit.parameters import Axis, Place, module_records

from ..objectives.softmax_gate.design import response_moments

__all__ = ["ResponseUnits", "response_units", "restore_spread"]


class ResponseUnits(NamedTuple):
    """Mean and scale of the response of each data set, ``(r,)`` or ``(r, p)``: a search sees ``(y - mean) / scale``."""

    mean: Tensor
    scale: Tensor

    @classmethod
    def none(cls, y: Tensor) -> "ResponseUnits":
        """Those of responses that stay as they are."""
        return cls(torch.zeros_like(y[:, 0]), torch.ones_like(y[:, 0]))

    def standardized(self, y: Tensor) -> Tensor:
        """The response ``(r, n, ...)`` in these units."""
        return (y - self.mean.unsqueeze(1)) / self.scale.unsqueeze(1)


def response_units(experts: Experts, y: Tensor, weight: Tensor | None) -> ResponseUnits | None:
    """Weighted means and standard deviations, of each coordinate; None unless the family has location and scale.

    A spherical covariance has one scale for all coordinates: the root of the mean of their variances.
    """
    if not _has_scale(experts):
        return None
    mean, scale = response_moments(y, weight)
    spreads = [r for r in module_records(experts) if r.place is Place.FAMILY and r.units.location_power]
    if y.ndim == 3 and any(Axis.RESPONSE not in record.axes for record in spreads):
        scale = scale.square().mean(-1, keepdim=True).sqrt().expand_as(scale)
    return ResponseUnits(mean, scale)


def _has_scale(experts: Experts) -> bool:
    own = [record for record in module_records(experts) if record.place is Place.FAMILY]
    return experts.is_location_scale and all(experts.get_parameter(record.name).requires_grad for record in own)


@torch.no_grad()
def restore_spread(experts: Experts, scale: Tensor) -> None:
    """Change scales of experts of ``(y - mean) / scale`` in place into those of y; ``scale`` is ``()`` or ``(p,)``."""
    for record in module_records(experts) if bool((scale != 1.0).any()) else ():
        power = record.units.location_power
        if record.place is Place.FAMILY and power:
            value = experts.get_parameter(record.name)
            along = scale.reshape(-1)[-1]
            if Axis.RESPONSE in record.axes:
                along = scale.reshape(-1, *(1,) * (len(record.axes) - 1 - record.axes.index(Axis.RESPONSE)))
            is_log = record.transform.is_log(tuple(value.shape)).to(value.device)
            value.copy_(torch.where(is_log, value + power * along.log(), value * along**power))
