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
here, their translation has a prior of its own. Each record of a parameter (:mod:`mixkit.parameters`) says its prior in
a standardized model, and how it changes with the units. A part joins with its records, a family with
``location_moments``.

Source: the scaling by the data follows Gelman, Jakulin, Pittau, Su (2008), Annals of Applied Statistics 2, 1360-1383;
the prior of the degrees of freedom has the range of Juarez and Steel (2010), JBES 28, 52-66.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import Axis, ParameterRecord, records_of

__all__ = ["Prior", "Units", "default_priors"]

Prior = Distribution | Callable[[Mapping[str, Tensor]], Distribution]
"""A distribution, or a function of the parameters that have one, by name, that returns one."""


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
    x_mean, x_std = moments(x)
    return {record.name: _prior(record, model, x_mean, x_std, y) for record in records_of(model)}


def _prior(record: ParameterRecord, model: MixtureOfExperts, x_mean: Tensor, x_std: Tensor, y: Tensor) -> Prior:
    """The prior of a standardized model, moved to the units of the data as the record says."""
    columns = slice(None, len(x_mean) - model.num_known)
    units = _units_of(
        record, model, Units(x_mean[columns], x_std[columns], x_mean[:0].sum(), x_mean[:0].sum() + 1.0), y
    )
    if record.family is not None and model.get_submodule(record.family).has_offset:
        units = units._replace(mean=units.mean - x_mean[-model.num_known])
    prior, change = record.prior, record.units
    scale = prior.std * units.std**change.location_power
    is_log = record.transform.is_log(tuple(model.get_parameter(record.name).shape)).to(x_mean.device)
    covariates = record.along_covariates(units.x_std)
    if bool(is_log.any()):
        mean = torch.where(is_log, prior.mean + change.location_power * units.std.log(), 0.0)
        return _normal(mean, torch.where(is_log, prior.std, units.std**change.location_power))
    if change.absorbs and covariates is None:
        prefix = f"{record.parent}." if record.parent else ""
        at_mean = {prefix + name: _feature(prefix + name, model, units.x_mean) for name in change.absorbs}
        return _AtMean(at_mean, units.mean if change.is_level else x_mean.new_zeros(()), scale)
    mean = units.mean if change.is_level else x_mean.new_full((), prior.mean)
    if covariates is None:
        return _normal(mean, scale)
    for _ in range(abs(change.covariate_power)):
        scale = scale * covariates if change.covariate_power > 0 else scale / covariates
    return _normal(units.x_mean if change.is_position else torch.zeros_like(scale), scale)


def _units_of(record: ParameterRecord, model: MixtureOfExperts, units: Units, y: Tensor) -> Units:
    """The units of a family's locations, laid along the axis of the parameter that counts them."""
    if record.family is None:
        return units
    family: Any = model.get_submodule(record.family)
    mean, std = family.location_moments(model.experts.response_of(family, y))
    std = torch.where(std > 1e-12 * mean.abs(), std, 1.0)
    at = [i for i, axis in enumerate(record.axes) if axis in (Axis.RESPONSE, Axis.LOCATION, Axis.CLASS)]
    if std.ndim and at:
        shape = (-1, *(1,) * (len(record.axes) - 1 - at[0]))
        return units._replace(mean=mean.reshape(shape), std=std.reshape(shape))
    return units._replace(mean=mean.reshape(-1)[-1], std=family.common_scale(mean, std))


def _feature(name: str, model: MixtureOfExperts, x_mean: Tensor) -> Tensor:
    """What a coefficient is multiplied by at the mean of the covariates."""
    record = next(record for record in records_of(model) if record.name == name)
    along = record.along_covariates(x_mean)
    return x_mean if along is None else along


def _normal(mean: Tensor, std: Tensor | float) -> Distribution:
    return dist.Normal(mean, torch.as_tensor(std, dtype=mean.dtype, device=mean.device), validate_args=False)


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
