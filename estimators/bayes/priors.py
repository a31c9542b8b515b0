r"""Default priors, weakly informative on the scale of the data, and how a user's take their place.

With s_x the standard deviations and m_x the means of the covariates, and (m, s) those of the location's response (y
itself for location-scale families; the logarithm of its mean and 1 for counts):

===================================  ============================================================================
parameter                            prior of every entry, independent
===================================  ============================================================================
weight of a linear gate              N(0, 3.5 / s_x)
bias of a gate                       N(0, 3.5) for the score at m_x; N(0, 1.5) where scores do not depend on x
centre, direction of a gate          N(m_x, 2 s_x), N(0, 1)
slope of an expert                   N(0, 2.5 s / s_x)
intercept of an expert               N(m, 2.5 s) for the location at m_x
log of a scale                       N(log s - 1, 1.5): scales from 0.02 s to 7 s with probability 0.95
log of degrees of freedom            N(log 15, 1)
any other parameter                  N(0, 1)
===================================  ============================================================================

All experts have one prior, so the posterior does not change when experts are permuted; gates have no reference expert
here, their translation has a prior of its own. A family joins with ``part_priors`` or ``location_unit``.

Source: the scaling by the data follows Gelman, Jakulin, Pittau, Su (2008), Annals of Applied Statistics 2, 1360-1383;
the prior of the degrees of freedom has the range of Juarez and Steel (2010), JBES 28, 52-66.
"""

import math
from collections.abc import Callable, Mapping
from functools import singledispatch
from typing import NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from mixkit.experts import (
    DiagonalCovariance,
    Experts,
    FullCovariance,
    LocationExperts,
    MultivariateGaussianExperts,
    PoissonExperts,
    SphericalCovariance,
)
from mixkit.mixture import MixtureOfExperts
from mixkit.predictors import ConstantPredictor, LinearPredictor
from mixkit.scores import (
    ActivationScore,
    ConstantScore,
    CosineScore,
    DistanceScore,
    LinearScore,
    QuadraticScore,
    Score,
)

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
    """Centre and scale on which the locations of a family live, each ``()`` or ``(p,)``."""
    return y.new_zeros(()), y.new_ones(())


@location_unit.register
def _(experts: LocationExperts, y: Tensor) -> tuple[Tensor, Tensor]:
    return moments(y) if experts.scale_name is not None else (y.new_zeros(()), y.new_ones(()))


@location_unit.register
def _(experts: MultivariateGaussianExperts, y: Tensor) -> tuple[Tensor, Tensor]:
    return moments(y)


@location_unit.register
def _(experts: PoissonExperts, y: Tensor) -> tuple[Tensor, Tensor]:
    return (y.mean() + 1e-2).log(), y.new_ones(())


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
    units = Units(*moments(x), *location_unit(model.experts, y))
    priors: dict[str, Prior] = {}
    for path, part in model.named_modules():
        prefix = f"{path}." if path else ""
        own = part_priors(part, units, prefix)
        for name, _ in part.named_parameters(recurse=False):
            priors[prefix + name] = own.get(name, dist.Normal(x.new_zeros(()), 1.0))
    return priors


def _normal(mean: Tensor, std: Tensor | float) -> Distribution:
    return dist.Normal(mean, torch.as_tensor(std).to(mean), validate_args=False)


@part_priors.register
def _(part: Score, units: Units, prefix: str) -> dict[str, Prior]:
    return {"bias": _normal(units.x_mean.new_zeros(()), _GATE)}


@part_priors.register
def _(part: ConstantScore, units: Units, prefix: str) -> dict[str, Prior]:
    return {"bias": _normal(units.x_mean.new_zeros(()), _GATE_CONSTANT)}


@part_priors.register
def _(part: LinearScore, units: Units, prefix: str) -> dict[str, Prior]:
    def bias(given: Mapping[str, Tensor]) -> Distribution:
        return _normal(-(given[f"{prefix}weight"] @ units.x_mean), _GATE)

    return {"weight": _normal(torch.zeros_like(units.x_std), _GATE / units.x_std), "bias": bias}


@part_priors.register
def _(part: ActivationScore, units: Units, prefix: str) -> dict[str, Prior]:
    weight = _normal(torch.zeros_like(units.x_std), _GATE / units.x_std)
    return {"weight": weight, "bias": _normal(units.x_mean.new_zeros(()), _GATE)}


@part_priors.register
def _(part: QuadraticScore, units: Units, prefix: str) -> dict[str, Prior]:
    rows, columns = torch.triu_indices(len(units.x_std), len(units.x_std))
    products = units.x_mean[rows] * units.x_mean[columns]

    def bias(given: Mapping[str, Tensor]) -> Distribution:
        at_mean = given[f"{prefix}weight"] @ units.x_mean + given[f"{prefix}quadratic"] @ products
        return _normal(-at_mean, _GATE)

    return {
        "weight": _normal(torch.zeros_like(units.x_std), _GATE / units.x_std),
        "quadratic": _normal(torch.zeros_like(products), _GATE / (units.x_std[rows] * units.x_std[columns])),
        "bias": bias,
    }


@part_priors.register
def _(part: DistanceScore, units: Units, prefix: str) -> dict[str, Prior]:
    return {
        "centre": _normal(units.x_mean, 2.0 * units.x_std),
        "bias": _normal(units.x_mean.new_zeros(()), _GATE),
    }


@part_priors.register
def _(part: CosineScore, units: Units, prefix: str) -> dict[str, Prior]:
    zero = units.x_mean.new_zeros(())
    return {"weight": _normal(zero, 1.0), "bias": _normal(zero, _GATE)}


@part_priors.register
def _(part: LinearPredictor, units: Units, prefix: str) -> dict[str, Prior]:
    def intercept(given: Mapping[str, Tensor]) -> Distribution:
        return _normal(units.mean - given[f"{prefix}slope"] @ units.x_mean, _EXPERT * units.std)

    scale = _EXPERT * units.std.unsqueeze(-1) / units.x_std
    return {"slope": _normal(torch.zeros_like(scale), scale), "intercept": intercept}


@part_priors.register
def _(part: ConstantPredictor, units: Units, prefix: str) -> dict[str, Prior]:
    return {"intercept": _normal(units.mean, _EXPERT * units.std)}


def _log_scale(std: Tensor) -> Distribution:
    return _normal(std.log() - _LOG_SCALE_BELOW, _LOG_SCALE_STD)


@part_priors.register
def _(part: LocationExperts, units: Units, prefix: str) -> dict[str, Prior]:
    priors: dict[str, Prior] = {"log_df": _normal(units.x_mean.new_tensor(math.log(15.0)), 1.0)}
    if part.scale_name is not None:
        priors[part.scale_name] = _log_scale(units.std)
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
