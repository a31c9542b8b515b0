"""Weighted maximum likelihood in closed form, for the families that have it; a family joins by registering."""

from functools import singledispatch

import torch
from torch import Tensor

from mixkit.experts import Experts, MultivariateGaussianExperts
from mixkit.experts.predictors import ConstantPredictor, LinearPredictor

from ..optimizers.linalg import solve_ascent

__all__ = ["fit_weighted"]


@singledispatch
def fit_weighted(experts: Experts, x: Tensor, y: Tensor, resp: Tensor, variance_floor: float) -> bool:
    """Set the parameters of unbatched ``experts`` to their weighted maximum-likelihood values.

    Args:
        experts: changed in place.
        x: ``(n, d)``.
        y: ``(n,)`` or ``(n, p)``.
        resp: weights ``(n, k)``.
        variance_floor: least variance.

    Returns:
        Whether the family has a closed form; if not, nothing is changed.
    """
    return False


@fit_weighted.register
def _(experts: MultivariateGaussianExperts, x: Tensor, y: Tensor, resp: Tensor, variance_floor: float) -> bool:
    predictor = experts.predictor
    if not isinstance(predictor, LinearPredictor | ConstantPredictor):
        return False
    is_linear = isinstance(predictor, LinearPredictor)
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
            predictor.slope.copy_(solution[:, :-1].mT)  # type: ignore[operator]
        predictor.intercept.copy_(solution[:, -1])
    experts.covariance.update(scatter, resp.sum(0), variance_floor)
    return True
