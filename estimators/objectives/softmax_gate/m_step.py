"""M-steps of models with linear predictors, from sums over the observations.

The gate takes one Newton step of its multinomial logit; Gaussian experts are weighted least squares in closed form; any
other family takes one Newton step of its weighted log-likelihood, unless a better one is registered with
``register_step``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixkit.experts import GaussianExperts, LocationExperts
from mixkit.parameters import has_form

from ...optimizers.linalg import solve_ascent
from ..packed_symmetric import block_matrix, unpack_symmetric
from .design import Chunk
from .layout import Coefficients, Layout
from .likelihood import Posterior, against, weighted, weighted_units
from .tied_step import tied_gate_step, tied_newton_step, tied_solution

__all__ = [
    "ExpertStep",
    "GateSums",
    "NewtonStep",
    "expert_columns",
    "expert_step",
    "gate_step",
    "gate_sums",
    "least_squares",
    "register_step",
]

_LARGEST_MOVE = 5.0  # in units of standardized covariates, per M-step
_NEGLIGIBLE_WEIGHT = 1e-8  # an expert with less responsibility than this (in observations) keeps its coefficients


class GateSums(NamedTuple):
    """Gradient ``(r, s, g D)`` and Hessian ``(r, s, g D, g D)`` of the expected gate log-likelihood."""

    gradient: Tensor
    hessian: Tensor


def gate_sums(chunk: Chunk, state: Posterior, layout: Layout) -> GateSums:
    """One chunk's contribution to the gate's Newton step."""
    g = layout.num_gate_rows
    w = weighted_units(state.weights[:, :, :g], chunk)
    r = weighted_units(chunk.of_units(state.responsibilities[:, :, :g]), chunk)
    gradient = against(r - w, chunk.gate_design.mT).flatten(-2)
    pairs = torch.cat([w[:, :, i : i + 1] * state.weights[:, :, : i + 1] for i in range(g)], -2)
    diagonal = torch.arange(g, device=w.device)
    pairs[:, :, diagonal * (diagonal + 3) // 2] -= w
    return GateSums(gradient, block_matrix(against(pairs, chunk.gate_outer), g, layout.width))


def gate_step(gate: Tensor, sums: GateSums, layout: Layout) -> Tensor:
    """One Newton step of the gate's coefficients ``(r, s, k, D)``; pinned entries stay zero."""
    if not layout.is_plain:
        return tied_gate_step(gate, sums.gradient, sums.hessian, layout)
    free = layout.index[layout.gate_positions] < layout.num_params
    step = torch.zeros_like(sums.gradient)
    step[..., free] = solve_ascent(sums.gradient[..., free], sums.hessian[..., free, :][..., free])
    step = step.clamp(-_LARGEST_MOVE, _LARGEST_MOVE)
    moved = gate.clone()
    moved[:, :, : layout.num_gate_rows] += step.unflatten(-1, (layout.num_gate_rows, layout.width))
    return moved


class ExpertStep(ABC):
    """The M-step of a family of experts: sums over the observations, then an update from the sums."""

    is_exact: bool
    """Whether the update reaches the maximum, so that it cannot lower the likelihood."""

    @abstractmethod
    def sums(self, chunk: Chunk, state: Posterior, layout: Layout) -> tuple[Tensor, ...]:
        """One chunk's contribution; contributions add up."""

    @abstractmethod
    def update(self, old: Coefficients, sums: tuple[Tensor, ...], layout: Layout) -> Coefficients:
        """New expert coefficients and constants (the gate's are passed on)."""


class GaussianStep(ExpertStep):
    """Weighted least squares, then the weighted mean of the squared residuals."""

    is_exact = True

    def __init__(self, shared_std: bool) -> None:
        self.shared_std = shared_std

    def sums(self, chunk: Chunk, state: Posterior, layout: Layout) -> tuple[Tensor, ...]:
        """Weighted moments: x x', x y, y^2 and 1 for every expert."""
        r = weighted(state.responsibilities, chunk)
        r_y = r * chunk.y
        return against(r, chunk.outer), against(r_y, chunk.design.mT), (r_y * chunk.y).sum(-1), r.sum(-1)

    def update(self, old: Coefficients, sums: tuple[Tensor, ...], layout: Layout) -> Coefficients:
        """Closed form; an expert without weight keeps its coefficients."""
        moment, cross, square, total = sums
        gram = unpack_symmetric(moment, layout.width)
        if layout.is_plain:
            solution = least_squares(gram, cross, layout)
        else:
            precision = torch.exp(-2.0 * old.constants[0]).squeeze(-1)
            solution = tied_solution(gram, cross, precision, total, old, layout)
        residual = square - 2.0 * (solution * cross).sum(-1) + _quadratic(solution, gram)
        if self.shared_std:
            residual, total_std = residual.sum(-1, keepdim=True).expand_as(residual), total.sum(-1, keepdim=True)
        else:
            total_std = total
        tiny = torch.finfo(total.dtype).tiny
        log_std = 0.5 * torch.log((residual / total_std.clamp(min=tiny)).clamp(min=tiny))
        kept = (total > _NEGLIGIBLE_WEIGHT).unsqueeze(-1) | (not layout.is_plain)
        kept_std = (total_std > _NEGLIGIBLE_WEIGHT).expand_as(total).unsqueeze(-1)
        return Coefficients(
            old.gate,
            torch.where(kept, solution, old.expert),
            [torch.where(kept_std, log_std.unsqueeze(-1), old.constants[0])],
        )


def least_squares(gram: Tensor, cross: Tensor, layout: Layout) -> Tensor:
    """The solution of each expert's own equations, ``(r, s, k, D)``; zero in columns that the experts do not use."""
    free = expert_columns(layout)
    solution = torch.zeros_like(cross)
    solution[..., free] = solve_ascent(cross[..., free], -gram[..., free, :][..., free])
    return solution


class NewtonStep(ExpertStep):
    """One damped Newton step of each expert's weighted log-likelihood."""

    is_exact = False

    def sums(self, chunk: Chunk, state: Posterior, layout: Layout) -> tuple[Tensor, ...]:
        """Gradient ``(r, s, k, D + q)`` and Hessian ``(r, s, k, D + q, D + q)`` of every expert."""
        r, covariates = weighted(state.responsibilities, chunk), chunk.design.mT
        first, second = state.terms.first, state.terms.second
        slopes = [against(r * first[0], covariates), *((r * f).sum(-1, keepdim=True) for f in first[1:])]
        corner = unpack_symmetric(against(r * second[0][0], chunk.outer), layout.width)
        size = layout.width + layout.num_constants
        hessian = corner.new_zeros((*corner.shape[:-2], size, size))
        hessian[..., : layout.width, : layout.width] = corner
        for i in range(1, layout.num_constants + 1):
            at = layout.width + i - 1
            mixed = against(r * second[i][0], covariates)
            hessian[..., at, : layout.width] = mixed
            hessian[..., : layout.width, at] = mixed
            for j in range(1, i + 1):
                own = (r * second[i][j]).sum(-1)
                hessian[..., at, layout.width + j - 1] = own
                hessian[..., layout.width + j - 1, at] = own
        return torch.cat(slopes, -1), hessian

    def update(self, old: Coefficients, sums: tuple[Tensor, ...], layout: Layout) -> Coefficients:
        """Coefficients after the step; an expert whose derivatives vanish stays."""
        gradient, hessian = sums
        if not layout.is_plain:
            return tied_newton_step(old, gradient, hessian, layout)
        free = torch.cat(
            [expert_columns(layout), torch.ones(layout.num_constants, dtype=torch.bool).to(hessian.device)]
        )
        step = torch.zeros_like(gradient)
        step[..., free] = solve_ascent(gradient[..., free], hessian[..., free, :][..., free])
        step = step.clamp(-_LARGEST_MOVE, _LARGEST_MOVE)
        moved = [c + step[..., layout.width + i, None] for i, c in enumerate(old.constants)]
        return Coefficients(old.gate, old.expert + step[..., : layout.width], moved)


_STEPS: dict[type[LocationExperts], Callable[[Any], ExpertStep]] = {
    GaussianExperts: lambda experts: GaussianStep(experts.shared_std)
}


def register_step(family: type[LocationExperts], make: Callable[[Any], ExpertStep]) -> None:
    """Give a family, and subclasses that do not change its density, an M-step; ``make`` takes the experts."""
    _STEPS[family] = make


def expert_step(experts: LocationExperts) -> ExpertStep:
    """The M-step of a family: the one registered for it, else Newton's."""
    make = next((make for family, make in _STEPS.items() if has_form(experts, family)), None)
    return NewtonStep() if make is None else make(experts)


def expert_columns(layout: Layout) -> Tensor:
    """Which of the D columns the experts use."""
    return layout.index[layout.expert_positions[: layout.width]] < layout.num_params


def _quadratic(vector: Tensor, matrix: Tensor) -> Tensor:
    return (vector.unsqueeze(-2) @ matrix @ vector.unsqueeze(-1)).squeeze(-1).squeeze(-1)
