r"""Maximum-likelihood volumes, shapes and orientations from scatter matrices.

With W the scatter and n the weight of each expert, minus twice the log-likelihood is the sum over experts of
:math:`n_j \log |\Sigma_j| + \mathrm{tr}(\Sigma_j^{-1} W_j)`.

Source: Celeux and Govaert (1995), Gaussian parsimonious clustering models, Pattern Recognition 28, 781-793; for
common orientations of several shapes Browne and McNicholas (2014), Advances in Data Analysis and Classification 8,
217-226.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Axes", "Structure", "estimate"]

_ROUNDS = 200  # of alternations between parts that have closed forms given each other
_TOLERANCE = 1e-12  # relative change of the variances at which they stop


class Structure(NamedTuple):
    """Which parts each expert has of its own; an orientation of None is that of the axes."""

    own_volume: bool
    own_shape: bool
    own_orientation: bool | None


class Axes(NamedTuple):
    """Ellipsoids: axes as columns ``(k, p, p)`` and the variances along them ``(k, p)``."""

    axes: Tensor
    variances: Tensor


def estimate(
    structure: Structure, scatter: Tensor, weight: Tensor, axes: Tensor, variances: Tensor, floor: Tensor
) -> Axes:
    """Estimates that are as likely as ``axes``, ``variances`` or likelier: a maximum, where no better is near.

    Args:
        structure: what experts share.
        scatter: ``(k, p, p)``.
        weight: ``(k,)``.
        axes: of the structure, ``(k, p, p)``.
        variances: ``(k, p)``.
        floor: least variance along an axis, ``()``.
    """
    weight = weight.clamp(min=torch.finfo(weight.dtype).tiny)
    if structure.own_orientation:
        axes = torch.linalg.eigh(scatter).eigenvectors
    elif structure.own_orientation is False and bool((variances.amax(-1) <= (1.0 + 1e-9) * variances.amin(-1)).all()):
        axes = torch.linalg.eigh(scatter.sum(0)).eigenvectors.expand_as(axes)  # of spheres all axes are as likely
    for _ in range(_ROUNDS):
        before = variances
        if structure.own_orientation is False:
            axes = _common_axes(structure, scatter, axes, variances)
        along = (axes * (scatter @ axes)).sum(-2)
        variances = _variances(structure, along.clamp(min=weight.unsqueeze(-1) * floor), weight, variances)
        if bool(((variances - before).abs() <= _TOLERANCE * variances).all()):
            break
    return Axes(_proper(axes), variances)


def _variances(structure: Structure, along: Tensor, weight: Tensor, present: Tensor) -> Tensor:
    """Variances ``(k, p)`` from sums of squares along the axes ``(k, p)``; by alternation if only shapes are shared."""
    if structure.own_shape:
        return along / weight.unsqueeze(-1) if structure.own_volume else _equal_volumes(along, weight)
    if not structure.own_volume:
        return (along.sum(0) / weight.sum()).expand_as(along)
    shape = _shape(present)[:1]
    for _ in range(_ROUNDS):
        volume = (along / shape).mean(-1, keepdim=True) / weight.unsqueeze(-1)
        before, shape = shape, _shape((along / volume).sum(0, keepdim=True))
        if bool(((shape - before).abs() <= _TOLERANCE * shape).all()):
            break
    return shape * (along / shape).mean(-1, keepdim=True) / weight.unsqueeze(-1)


def _equal_volumes(along: Tensor, weight: Tensor) -> Tensor:
    size = along.log().mean(-1, keepdim=True).exp()
    return along / size * (size.sum() / weight.sum())


def _shape(values: Tensor) -> Tensor:
    """The values over their geometric mean."""
    return torch.exp(values.log() - values.log().mean(-1, keepdim=True))


def _common_axes(structure: Structure, scatter: Tensor, axes: Tensor, variances: Tensor) -> Tensor:
    """Axes that all experts share, given their variances."""
    if not structure.own_shape:  # those of the scatter in units of each one's volume
        volume = variances.log().mean(-1).exp()
        return torch.linalg.eigh((scatter / volume[:, None, None]).sum(0)).eigenvectors.expand_as(axes)
    # The trace is concave in the axes once the largest eigenvalue is taken off the scatter: it lies below its tangent,
    # and the rotation that lowers that most is a polar factor.
    largest = torch.linalg.eigvalsh(scatter)[..., -1:]
    precision, common = 1.0 / variances.unsqueeze(-2), axes[0]
    for _ in range(_ROUNDS):
        slope = ((scatter @ common - largest.unsqueeze(-1) * common) * precision).sum(0)
        left, _, right = torch.linalg.svd(-slope)
        before, common = common, left @ right
        if bool((common - before).abs().max() <= _TOLERANCE):
            break
    return common.expand_as(axes)


def _proper(axes: Tensor) -> Tensor:
    """Axes with signs such that each points where its own coordinate grows, and they are a rotation."""
    signs = torch.where(axes.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)
    axes = axes * signs.unsqueeze(-2)
    reflected = torch.linalg.det(axes) < 0
    first = torch.where(reflected, -1.0, 1.0).unsqueeze(-1)
    return torch.cat([axes[..., :1] * first.unsqueeze(-1), axes[..., 1:]], -1)
