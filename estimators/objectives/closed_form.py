"""Weighted maximum likelihood in closed form, for the families that have it; a family joins by registering."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mixkit.experts import Experts, MixedExperts, MultivariateGaussianExperts
from mixkit.experts.predictors import ConstantPredictor, LinearPredictor
from mixkit.parameters import has_form

from ..data.patterns import pattern_of
from ..optimizers.linalg import solve_ascent
from .floors import location_variance

__all__ = ["closed_form", "fit_weighted"]

WeightedFit = Callable[[Experts, Tensor, Tensor, Tensor, Tensor], bool]

_FITS: dict[type[Experts], WeightedFit] = {}


def closed_form(family: type[Experts]) -> Callable[[WeightedFit], WeightedFit]:
    """Register a function as the closed form of a family, with the arguments of :func:`fit_weighted`.

    It serves subclasses, too, but for those that override what the family computes.
    """

    def register(function: WeightedFit) -> WeightedFit:
        _FITS[family] = function
        return function

    return register


def fit_weighted(experts: Experts, x: Tensor, y: Tensor, resp: Tensor, variance_floor: Tensor) -> bool:
    """Set the parameters of unbatched ``experts`` to their weighted maximum-likelihood values.

    Args:
        experts: changed in place.
        x: ``(n, d)``.
        y: ``(n,)`` or ``(n, p)``.
        resp: weights ``(n, k)``.
        variance_floor: least variance of each location.

    Returns:
        Whether the family has a closed form; if not, nothing is changed.
    """
    found = next((fit for family, fit in _FITS.items() if has_form(experts, family)), None)
    return found is not None and found(experts, x, y, resp, variance_floor)


@closed_form(MixedExperts)
def _mixed(experts: Experts, x: Tensor, y: Tensor, resp: Tensor, variance_floor: Tensor) -> bool:
    """Every family of its own, if all that have parameters have a closed form."""
    families: Any = experts.families
    before, first = copy.deepcopy(experts.state_dict()), 0
    for family in families:
        own, first = resp[:, first : first + family.num_experts], first + family.num_experts
        floor = variance_floor * location_variance(family, y.unsqueeze(0))
        if any(True for _ in family.parameters()) and not fit_weighted(family, x, y, own, floor):
            experts.load_state_dict(before)
            return False
    return True


@closed_form(MultivariateGaussianExperts)
def _multivariate_gaussian(experts: Experts, x: Tensor, y: Tensor, resp: Tensor, variance_floor: Tensor) -> bool:
    predictor: Any = experts.predictor
    is_linear = has_form(predictor, LinearPredictor)
    if pattern_of(predictor) is not None:
        return False
    if not is_linear and not has_form(predictor, ConstantPredictor):
        return False
    ones = torch.ones_like(x[:, :1])
    design = torch.cat([x, ones], -1) if is_linear else ones
    weighted_design = resp.mT.unsqueeze(-1) * design  # (k, n, D)
    gram = weighted_design.mT @ design
    cross = weighted_design.mT @ y  # (k, D, p)
    solution = torch.stack([solve_ascent(column, -gram) for column in cross.unbind(-1)], -1)
    residual = y - design @ solution  # (k, n, p)
    scatter = (resp.mT.unsqueeze(-1) * residual).mT @ residual
    with torch.no_grad():
        if is_linear:
            predictor.slope.copy_(solution[:, :-1].mT)
        predictor.intercept.copy_(solution[:, -1])
    covariance: Any = experts.covariance
    covariance.update(scatter, resp.sum(0), variance_floor)
    return True
