"""Label switching undone: experts of a refit in the order of the fit that they repeat."""

import copy
from functools import singledispatch

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import alike_experts, reorder_experts

from ..data.unit_posterior import log_joint, unit_log_responsibilities
from ..objectives.softmax_gate.likelihood import posterior
from ..objectives.softmax_gate.objective import LinearObjective
from ..optimizers.objective import Objective

__all__ = ["align_experts", "expert_agreement", "is_renumbered"]

_ROWS = 2_000  # most observations that experts are compared on, where each refit is a computation of its own
_SAME_DISTRIBUTION = 1e-8


def is_renumbered(objective: Objective, theta: Tensor, reference: Tensor, model: MixtureOfExperts) -> Tensor:
    """Which vectors ``(m, P)`` have experts in another order than ``reference (P,)``, ``(m,)`` bool."""
    orders = _best_orders(expert_agreement(objective, theta, reference, model), alike_experts(model, model.num_experts))
    return (orders != torch.arange(orders.shape[-1], device=orders.device)).any(-1)


@singledispatch
def expert_agreement(objective: Objective, theta: Tensor, reference: Tensor, model: MixtureOfExperts) -> Tensor:
    """Observations that expert j of the fit shares with l of each refit, ``(m, k, k)``; see :func:`align_experts`."""
    twin = copy.deepcopy(model).to(torch.float64)
    target = _responsibilities(objective, reference, twin)
    return torch.stack([target @ _responsibilities(objective, vector, twin).mT for vector in theta])


@expert_agreement.register
def _(objective: LinearObjective, theta: Tensor, reference: Tensor, model: MixtureOfExperts) -> Tensor:
    layout, total = objective.layout, theta.new_zeros((len(theta), objective.k, objective.k))
    for chunk in objective.design.chunks():
        target, found = (
            posterior(chunk, layout.unpack(vectors[None]), layout, objective.experts).responsibilities[0]
            for vectors in (reference[None], theta)
        )
        total += target @ found.mT
    return total


@singledispatch
def align_experts(objective: Objective, theta: Tensor, reference: Tensor, model: MixtureOfExperts) -> Tensor:
    r"""Renumber the experts of each refit so that they share the most observations with those of the fit.

    Two experts are the same to the extent that both are responsible for the same observations: the assignment maximizes
    the sum over experts of :math:`\sum_i r_{ij} r^*_{ij}`. Units do not matter, and every family has responsibilities.

    Args:
        objective: of the original data.
        theta: refits as parameter vectors of ``objective``, ``(m, P)``.
        reference: the fit itself, ``(P,)``.
        model: gives the form.

    Returns:
        ``(m, P)``. A refit whose experts cannot be renumbered (parts of a neural network) stays as it is.
    """
    twin, aligned = copy.deepcopy(model).to(torch.float64), theta.clone()
    alike = alike_experts(model, model.num_experts)
    for index, order in enumerate(_best_orders(expert_agreement(objective, theta, reference, model), alike)):
        if order.tolist() != sorted(order.tolist()):
            aligned[index] = _renumbered(objective, theta[index], twin, order)
    return aligned


def _responsibilities(objective: Objective, vector: Tensor, model: MixtureOfExperts) -> Tensor:
    """``(k, n)`` at some of the observations, or ``(k, g)`` of groups that share an expert."""
    objective.write(vector, model)
    units, data = objective.data.units, objective.data
    with torch.no_grad():
        if units is not None:
            power = None if units.power is None else units.power[0]
            return unit_log_responsibilities(log_joint(model(data.x[0]), data.y[0], units, power)).exp().mT
        x, y = _some(objective)
        return model(x).log_responsibilities(y).exp().mT


def _some(objective: Objective) -> tuple[Tensor, Tensor]:
    """At most ``_ROWS`` observations, evenly spaced in the data."""
    step = -(-objective.n // _ROWS)
    return objective.data.x[0, ::step], objective.data.y[0, ::step]


def _renumbered(objective: Objective, vector: Tensor, model: MixtureOfExperts, order: Tensor) -> Tensor:
    """The vector of a model with rows of its parameters in ``order``, if that leaves the distribution as it is."""
    objective.write(vector, model)
    x, y = _some(objective)
    with torch.no_grad():
        before = model.log_prob(x, y)
        reorder_experts(model, order.tolist())
        is_same = torch.allclose(model.log_prob(x, y), before, rtol=_SAME_DISTRIBUTION, atol=_SAME_DISTRIBUTION)
    return objective.read(model)[0, 0] if is_same else vector


@align_experts.register
def _(objective: LinearObjective, theta: Tensor, reference: Tensor, model: MixtureOfExperts) -> Tensor:
    layout = objective.layout
    orders = _best_orders(expert_agreement(objective, theta, reference, model), alike_experts(model, model.num_experts))
    blocks = layout.unpack(theta[None])
    index = orders[None, :, :, None]
    gate, expert, *constants = (
        block.gather(2, index.expand_as(block)) for block in (blocks.gate, blocks.expert, *blocks.constants)
    )
    return layout.pack(blocks._replace(gate=layout.relative(gate), expert=expert, constants=constants))[0]


def _best_orders(agreement: Tensor, alike: Tensor) -> Tensor:
    """For each expert of the fit the refit's expert that it is matched to, ``(m, k)``, from ``(m, k, k)``.

    Only experts that are ``alike (k, k)`` bool are exchanged.
    """
    k = agreement.shape[-1]
    if not bool(alike.all()):
        agreement = torch.where(alike.to(agreement.device), agreement, -1.0 - agreement.sum())
    own = torch.arange(k, device=agreement.device)
    orders = own.repeat(len(agreement), 1)
    for index in (agreement.argmax(-1) != own).any(-1).nonzero().squeeze(-1).tolist():
        _, columns = linear_sum_assignment(agreement[index].numpy(force=True), maximize=True)
        orders[index] = torch.as_tensor(columns).to(orders)
    return orders
