r"""Default priors, weakly informative on the scale of the data, and how a user's take their place.

With s_x the standard deviations and m_x the means of the covariates; m the mean of the family's rough locations at
single responses (y itself for location-scale families, log(y + 1/2) for counts: its ``start_locations``); and s their
standard deviation for families with a scale, 1 for others:

===================================  ============================================================================
parameter                            prior of every entry, independent
===================================  ============================================================================
weight of a linear gate              N(0, 3.5 / s_x)
bias of a gate                       N(0, 3.5) for the score at m_x; N(0, 1.5) where scores do not depend on x
center, direction of a gate          N(m_x, 2 s_x), N(0, 1)
slope of an expert                   N(0, 2.5 s / s_x)
intercept of an expert               N(m, 2.5 s) for the location at m_x
log of a scale                       N(log s - 1, 1.5): scales from 0.02 s to 7 s with probability 0.95
log of degrees of freedom            N(log 15, 1)
any other parameter                  N(0, 1), of which weights of networks: scale the covariates of a network
===================================  ============================================================================

All experts have one prior, so the posterior does not change when experts are permuted; gates have no reference expert
here, their translation has a prior of its own. A family joins with ``part_priors`` or ``location_unit``.

Source: the scaling by the data follows Gelman, Jakulin, Pittau, Su (2008), Annals of Applied Statistics 2, 1360-1383;
the prior of the degrees of freedom has the range of Juarez and Steel (2010), JBES 28, 52-66.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from mixkit.experts import (
    DensityExperts,
    DiagonalCovariance,
    Experts,
    FullCovariance,
    LocationExperts,
    MultivariateGaussianExperts,
    SphericalCovariance,
)
from mixkit.experts.predictors import ConstantPredictor, LinearPredictor
from mixkit.gates.scores import (
    ActivationScore,
    ConstantScore,
    CosineScore,
    DistanceScore,
    LinearScore,
    QuadraticScore,
    Score,
)
from mixkit.mixture import MixtureOfExperts

__all__ = ["Prior", "Units", "default_priors", "location_unit", "part_priors"]

Prior = Distribution | Callable[[Mapping[str, Tensor]], Distribution]
"""A law, or a function of the parameters that have laws, by name, that returns one."""

_GATE, _GATE_CONSTANT = 3.5, 1.5
_EXPERT = 2.5
_LOG_SCALE_BELOW, _LOG_SCALE_STD = 1.0, 1.5


class Units(NamedTuple):
    """Location and scale of the covariates ``(d,)`` and of the experts' locations ``()`` or ``(p,)``."""

    x_mean: Tensor
    x_std: Tensor
    mean: Tensor
    std: Tensor


def moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Means and standard deviations of the columns; a constant's deviation counts as 1."""
    std, mean = torch.std_mean(values, 0, correction=0)
    return mean, torch.where(std > 1e-12 * mean.abs(), std, 1.0)


@singledispatch
def location_unit(experts: Experts, y: Tensor) -> tuple[Tensor, Tensor]:
    """Center and scale on which the locations of a family live, each ``()`` or ``(p,)``."""
    return y.new_zeros(()), y.new_ones(())


@location_unit.register
def _(experts: DensityExperts, y: Tensor) -> tuple[Tensor, Tensor]:
    has_scale = experts.floor_name is not None or getattr(experts, "scale_name", None) is not None
    units = [moments(rows[~rows.isnan()]) for rows in experts.start_locations(y)]
    mean = torch.stack([unit[0] for unit in units])
    std = torch.stack([unit[1] if has_scale else torch.ones_like(unit[1]) for unit in units])
    return (mean, std) if len(units) > 1 or not isinstance(experts, LocationExperts) else (mean[0], std[0])


@location_unit.register
def _(experts: MultivariateGaussianExperts, y: Tensor) -> tuple[Tensor, Tensor]:
    return moments(y)


@singledispatch
def part_priors(part: nn.Module, units: Units, prefix: str) -> dict[str, Prior]:
    """Priors of a module's own parameters by name; those it leaves out have N(0, 1).

    Args:
        part: a score, predictor, family of experts, covariance, ...
        units: of the data.
        prefix: what precedes the part's names in the model, for priors that depend on other parameters.
    """
    return {}


def default_priors(model: MixtureOfExperts, x: Tensor, y: Tensor) -> dict[str, Prior]:
    """A prior for every parameter of ``model``, by its name, on data ``x (n, d)`` and ``y (n,)`` or ``(n, p)``.

    Example:
        >>> import torch
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_faithful
        >>> model = MixtureOfExperts(softmax_gate(1, 2), linear_gaussian_experts(1, 2))
        >>> priors = default_priors(model, *load_faithful())
        >>> priors["experts.predictor.slope"].scale  # 2.5 standard deviations of y over one of x
        tensor([29.7777], dtype=torch.float64)
    """
    unit = y.new_zeros(()), y.new_ones(())
    return _walk(model, "", Units(*moments(x), *unit), y)


def _walk(part: nn.Module, prefix: str, units: Units, y: Tensor) -> dict[str, Prior]:
    """Priors of a module's parameters and of those below it."""
    if isinstance(part, Experts):
        mean, std = location_unit(part, y)
        units = units._replace(mean=mean - units.x_mean[-1] if part.has_offset else mean, std=std)
    own = part_priors(part, units, prefix)
    priors = {
        prefix + name: own.get(name, dist.Normal(y.new_zeros(()), 1.0))
        for name, _ in part.named_parameters(recurse=False)
    }
    for name, child in part.named_children():
        priors |= _walk(child, f"{prefix}{name}.", units, y)
    return priors


def _covariates(part: Any, units: Units) -> tuple[Tensor, Tensor]:
    """Means and standard deviations of the covariates a part sees: an offset comes last, and has no coefficient."""
    return units.x_mean[: part.num_features], units.x_std[: part.num_features]


def _normal(mean: Tensor, std: Tensor | float) -> Distribution:
    return dist.Normal(mean, torch.as_tensor(std).to(mean), validate_args=False)


@dataclass(frozen=True, eq=False)
class _AtMean:
    """Prior of a bias or an intercept such that the value at the mean of the covariates is N(mean, std).

    Attributes:
        features: what each coefficient, by its name in the model, is multiplied by at that mean.
        mean: of the value.
        std: of the value.
    """

    features: dict[str, Tensor]
    mean: Tensor
    std: Tensor | float

    def __call__(self, given: Mapping[str, Tensor]) -> Distribution:
        first, *others = (given[name] @ values for name, values in self.features.items())
        return _normal(self.mean - sum(others, first), self.std)


@part_priors.register
def _(part: Score, units: Units, prefix: str) -> dict[str, Prior]:
    return {"bias": _normal(units.x_mean.new_zeros(()), _GATE)}


@part_priors.register
def _(part: ConstantScore, units: Units, prefix: str) -> dict[str, Prior]:
    return {"bias": _normal(units.x_mean.new_zeros(()), _GATE_CONSTANT)}


@part_priors.register
def _(part: LinearScore, units: Units, prefix: str) -> dict[str, Prior]:
    mean, std = _covariates(part, units)
    bias = _AtMean({f"{prefix}weight": mean}, mean.new_zeros(()), _GATE)
    return {"weight": _normal(torch.zeros_like(std), _GATE / std), "bias": bias}


@part_priors.register
def _(part: ActivationScore, units: Units, prefix: str) -> dict[str, Prior]:
    _, std = _covariates(part, units)
    return {"weight": _normal(torch.zeros_like(std), _GATE / std), "bias": _normal(std.new_zeros(()), _GATE)}


@part_priors.register
def _(part: QuadraticScore, units: Units, prefix: str) -> dict[str, Prior]:
    mean, std = _covariates(part, units)
    rows, columns = torch.triu_indices(len(std), len(std))
    products = mean[rows] * mean[columns]
    features = {f"{prefix}weight": mean, f"{prefix}quadratic": products}
    return {
        "weight": _normal(torch.zeros_like(std), _GATE / std),
        "quadratic": _normal(torch.zeros_like(products), _GATE / (std[rows] * std[columns])),
        "bias": _AtMean(features, mean.new_zeros(()), _GATE),
    }


@part_priors.register
def _(part: DistanceScore, units: Units, prefix: str) -> dict[str, Prior]:
    mean, std = _covariates(part, units)
    return {"center": _normal(mean, 2.0 * std), "bias": _normal(mean.new_zeros(()), _GATE)}


@part_priors.register
def _(part: CosineScore, units: Units, prefix: str) -> dict[str, Prior]:
    zero = units.x_mean.new_zeros(())
    return {"weight": _normal(zero, 1.0), "bias": _normal(zero, _GATE)}


@part_priors.register
def _(part: LinearPredictor, units: Units, prefix: str) -> dict[str, Prior]:
    x_mean, x_std = _covariates(part, units)
    intercept = _AtMean({f"{prefix}slope": x_mean}, units.mean, _EXPERT * units.std)
    scale = _EXPERT * units.std.unsqueeze(-1) / x_std
    return {"slope": _normal(torch.zeros_like(scale), scale), "intercept": intercept}


@part_priors.register
def _(part: ConstantPredictor, units: Units, prefix: str) -> dict[str, Prior]:
    return {"intercept": _normal(units.mean, _EXPERT * units.std)}


def _log_scale(std: Tensor) -> Distribution:
    return _normal(std.log() - _LOG_SCALE_BELOW, _LOG_SCALE_STD)


@part_priors.register
def _(part: DensityExperts, units: Units, prefix: str) -> dict[str, Prior]:
    priors: dict[str, Prior] = {"log_df": _normal(units.x_mean.new_tensor(math.log(15.0)), 1.0)}
    scale = part.floor_name or getattr(part, "scale_name", None)
    if scale is not None:
        priors[scale] = _log_scale(units.std.reshape(-1)[-1])
    return priors


@part_priors.register
def _(part: SphericalCovariance, units: Units, prefix: str) -> dict[str, Prior]:
    return {"log_std": _log_scale(units.std.log().mean().exp())}


@part_priors.register
def _(part: DiagonalCovariance, units: Units, prefix: str) -> dict[str, Prior]:
    return {"log_std": _log_scale(units.std)}


@part_priors.register
def _(part: FullCovariance, units: Units, prefix: str) -> dict[str, Prior]:
    """The diagonal of the factor is a log-scale; entries below it are on the scale of their row's response."""
    size = part.response_dim
    on_diagonal = torch.eye(size, dtype=torch.bool, device=units.std.device)
    mean = torch.where(on_diagonal, units.std.log() - _LOG_SCALE_BELOW, 0.0)
    std = torch.where(on_diagonal, _LOG_SCALE_STD, units.std.unsqueeze(-1).expand(size, size))
    return {"factor": _normal(mean, std)}
