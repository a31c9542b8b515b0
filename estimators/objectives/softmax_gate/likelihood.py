r"""The log-likelihood of a softmax-gated mixture with linear predictors, and its exact derivatives.

With gate scores :math:`u_j`, component log-densities :math:`f_j` at predictors :math:`p_j`, weights
:math:`w = \mathrm{softmax}(u)` and responsibilities :math:`r`, the derivatives of one observation's log-likelihood are

.. math::

    \partial_{u_j} = r_j - w_j, \qquad \partial_{p_j} = r_j f_j',
    \partial_{u_j u_l} = \delta_{jl} (r_j - w_j) + w_j w_l - r_j r_l, \qquad
    \partial_{u_l p_j} = \delta_{jl} r_j f_j' - r_l r_j f_j',
    \partial_{p_j p_l} = \delta_{jl} r_j (f_j'' + f_j' f_j'^\top) - r_j f_j' \, r_l f_l'^\top,

so the Hessian in the parameters is a sum of weighted products of pairs of covariates, one matrix product for all.
Derived here; checked against autograd in the tests. All arrays put experts before observations, ``(r, s, k, c)``.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mixkit.experts import LocationExperts
from mixkit.experts.base import DensityTerms

from .design import Chunk
from .layout import Coefficients, Layout

__all__ = ["Posterior", "against", "log_joint", "posterior", "slopes", "total", "weighted", "weighted_units"]


class Posterior(NamedTuple):
    """What one chunk says at given coefficients of its b units and c rows."""

    log_prob: Tensor  # (r, s, b)
    weights: Tensor  # (r, s, k, b)
    responsibilities: Tensor  # (r, s, k, c): at each row those of its unit
    terms: DensityTerms  # each (r, s, k, c)


def times_design(coefficients: Tensor, design: Tensor) -> Tensor:
    """Predictors ``(r, s, k, c)`` from coefficients ``(r, s, k, D)`` and design ``(r, D, c)``."""
    return (coefficients.flatten(1, 2) @ design).unflatten(1, coefficients.shape[1:3])


def against(rows: Tensor, matrix: Tensor) -> Tensor:
    """Sum over observations: rows ``(r, s, a, c)`` against ``(r, c, b)``, giving ``(r, s, a, b)``."""
    return (rows.flatten(1, 2) @ matrix).unflatten(1, rows.shape[1:3])


def log_weights(chunk: Chunk, coefficients: Coefficients, layout: Layout) -> Tensor:
    """Log gate weights ``(r, s, k, b)``, -inf where unselected."""
    scores = layout.select(times_design(coefficients.gate, chunk.gate_design), coefficients.gate)
    return scores - torch.logsumexp(scores, -2, keepdim=True)


def locations(chunk: Chunk, coefficients: Coefficients) -> Tensor:
    """Locations of the experts ``(r, s, k, c)``."""
    eta = times_design(coefficients.expert, chunk.design)
    return eta if chunk.offset is None else eta + chunk.offset


def log_joint(chunk: Chunk, coefficients: Coefficients, layout: Layout, experts: LocationExperts) -> Tensor:
    """Log weight plus log component density of each unit, ``(r, s, k, b)``."""
    density = experts.log_density(chunk.y, locations(chunk, coefficients), *coefficients.constants)
    return log_weights(chunk, coefficients, layout) + chunk.pooled(density)


def posterior(chunk: Chunk, coefficients: Coefficients, layout: Layout, experts: LocationExperts) -> Posterior:
    """Weights, responsibilities and density derivatives of one chunk (the E-step)."""
    log_weight = log_weights(chunk, coefficients, layout)
    terms = experts.density_terms(chunk.y, locations(chunk, coefficients), *coefficients.constants)
    joint = log_weight + chunk.pooled(terms.log_prob)
    log_prob = torch.logsumexp(joint, -2)
    return Posterior(log_prob, log_weight.exp(), chunk.on_rows(torch.exp(joint - log_prob.unsqueeze(-2))), terms)


def weighted(values: Tensor, chunk: Chunk) -> Tensor:
    """Multiply what rows say by the weights of the rows, if there are any."""
    return values if chunk.weight is None else values * chunk.weight


def weighted_units(values: Tensor, chunk: Chunk) -> Tensor:
    """Multiply what units say by the weights of the units, if there are any."""
    return values if chunk.unit_weight is None else values * chunk.unit_weight


def total(log_prob: Tensor, chunk: Chunk) -> Tensor:
    """The chunk's log-likelihood ``(r, s)`` from that of its units ``(r, s, b)``."""
    weight = chunk.unit_weight
    return log_prob.sum(-1) if weight is None else (log_prob * weight.squeeze(-2)).sum(-1)


def slopes(chunk: Chunk, state: Posterior) -> Coefficients:
    """Gradient of the chunk's log-likelihood in every coefficient."""
    r = weighted(state.responsibilities, chunk)
    own = r if chunk.units is None else weighted_units(chunk.of_units(state.responsibilities), chunk)
    gate = against(own - weighted_units(state.weights, chunk), chunk.gate_design.mT)
    expert = against(r * state.terms.first[0], chunk.design.mT)
    return Coefficients(gate, expert, [(r * f).sum(-1, keepdim=True) for f in state.terms.first[1:]])
