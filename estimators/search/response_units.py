"""Responses moved and scaled for a search, and what the families of experts make of that."""

from typing import NamedTuple

import torch
from torch import Tensor

from mixkit.experts import (
    Covariance,
    DiagonalCovariance,
    Experts,
    FullCovariance,
    LocationExperts,
    MultivariateGaussianExperts,
    SphericalCovariance,
)

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
    if isinstance(experts, MultivariateGaussianExperts) and isinstance(experts.covariance, SphericalCovariance):
        scale = scale.square().mean(-1, keepdim=True).sqrt().expand_as(scale)
    return ResponseUnits(mean, scale)


def _has_scale(experts: Experts) -> bool:
    if isinstance(experts, MultivariateGaussianExperts):
        known = type(experts.covariance) in (FullCovariance, DiagonalCovariance, SphericalCovariance)
        return known and all(parameter.requires_grad for parameter in experts.covariance.parameters())
    if not isinstance(experts, LocationExperts) or experts.scale_name is None:
        return False
    return bool(getattr(experts, experts.scale_name).requires_grad)


@torch.no_grad()
def restore_spread(experts: Experts, scale: Tensor) -> None:
    """Change scales of experts of ``(y - mean) / scale`` in place into those of y; ``scale`` is ``()`` or ``(p,)``."""
    if isinstance(experts, MultivariateGaussianExperts):
        _restore_covariance(experts.covariance, scale)
    elif isinstance(experts, LocationExperts) and experts.scale_name is not None:
        getattr(experts, experts.scale_name).add_(scale.log())


def _restore_covariance(covariance: Covariance, scale: Tensor) -> None:
    if isinstance(covariance, FullCovariance):
        logs = covariance.factor.diagonal(dim1=-2, dim2=-1) + scale.log()
        covariance.factor.mul_(scale.unsqueeze(-1)).diagonal(dim1=-2, dim2=-1).copy_(logs)
    elif isinstance(covariance, DiagonalCovariance):
        covariance.log_std.add_(scale.log())
    elif isinstance(covariance, SphericalCovariance):
        covariance.log_std.add_(scale[..., 0].log())
