"""Which entries of the coefficient blocks are free parameters, and where they stand in the parameter vector."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor

from mixkit.gates.selections import Dense, Selection
from mixkit.parameters import has_form

from .design import Scaling

__all__ = ["Coefficients", "Layout"]


class Coefficients(NamedTuple):
    """Coefficients (or a gradient in them) in blocks: gate and expert ``(r, s, k, D)``, constants ``(r, s, k, 1)``.

    The last of the D columns is the intercept.
    """

    gate: Tensor
    expert: Tensor
    constants: list[Tensor]

    def flatten(self) -> Tensor:
        """The full coefficient vector ``(r, s, F)``: gate rows, expert rows, constants."""
        parts = [self.gate, self.expert, *self.constants]
        return torch.cat([part.flatten(-2) for part in parts], -1)


class Layout:
    """The map between the parameter vector ``theta (r, s, P)`` and the full coefficient vector ``(r, s, F)``.

    Args:
        k: number of experts.
        gate_columns: which of the D columns the gate uses, ``(D,)`` bool.
        expert_columns: which the experts use, ``(D,)`` bool.
        shared_constants: for each constant, whether all experts share it.
        has_reference: whether the last expert's gate row is pinned at zero.
        selection: which experts the gate keeps.
        scaling: of the covariates; selection by slope ranks on unscaled ones.
    """

    def __init__(
        self,
        k: int,
        gate_columns: Tensor,
        expert_columns: Tensor,
        shared_constants: list[bool],
        *,
        has_reference: bool,
        selection: Selection,
        scaling: Scaling,
    ) -> None:
        self.k, self.width, self.num_constants = k, len(gate_columns), len(shared_constants)
        self.num_gate_rows = k - 1 if has_reference else k
        self.selection, self._scaling = selection, scaling
        device = gate_columns.device
        block = k * self.width
        self.gate_positions = torch.arange(self.num_gate_rows * self.width, device=device)
        self.expert_positions = block + torch.arange(block, device=device)
        self.constant_positions = 2 * block + torch.arange(self.num_constants * k, device=device)
        self.index = self._index(gate_columns, expert_columns, shared_constants)
        self.num_params = int(self.index.max()) + 1
        self.index[self.index < 0] = self.num_params
        self.num_gate_params = int((self.index[:block] < self.num_params).sum())
        self._is_selection = not has_form(selection, Dense)

    def without_selection(self) -> "Layout":
        """The same layout with every expert kept."""
        dense = copy.copy(self)
        dense._is_selection = False
        return dense

    def with_scaling(self, scaling: Scaling) -> "Layout":
        """The same layout for other data sets."""
        other = copy.copy(self)
        other._scaling = scaling
        return other

    def _index(self, gate_columns: Tensor, expert_columns: Tensor, shared: list[bool]) -> Tensor:
        """For each full coefficient its parameter, -1 if pinned at zero."""
        gate = gate_columns.repeat(self.k, 1)
        gate[self.num_gate_rows :] = False
        expert = expert_columns.repeat(self.k, 1)
        own = torch.ones((self.num_constants, self.k), dtype=torch.bool, device=gate.device)
        for row, is_shared in enumerate(shared):
            own[row, 1:] = not is_shared
        free = torch.cat([gate.flatten(), expert.flatten(), own.flatten()])
        index = torch.where(free, free.cumsum(0) - 1, -1)
        start = 2 * self.k * self.width
        for row, is_shared in enumerate(shared):
            if is_shared:
                index[start + row * self.k : start + (row + 1) * self.k] = index[start + row * self.k]
        return index

    def unpack(self, theta: Tensor) -> Coefficients:
        """Blocks of coefficients at ``theta (r, s, P)``; pinned entries are zero."""
        full = torch.cat([theta, theta.new_zeros((*theta.shape[:-1], 1))], -1)[..., self.index]
        block = self.k * self.width
        shape = (self.k, self.width)
        constants = (
            full[..., 2 * block :].unflatten(-1, (self.num_constants, self.k, 1)) if self.num_constants else None
        )
        return Coefficients(
            full[..., :block].unflatten(-1, shape),
            full[..., block : 2 * block].unflatten(-1, shape),
            [] if constants is None else list(constants.unbind(-3)),
        )

    def pack(self, coefficients: Coefficients) -> Tensor:
        """The parameter vector whose entries are read off ``coefficients`` (the first of a shared entry's)."""
        full = coefficients.flatten()
        order = torch.arange(len(self.index), device=full.device)
        first = order.new_zeros(self.num_params + 1).scatter_reduce(0, self.index, order, "amin", include_self=False)
        return full[..., first[:-1]]

    def pull_gradient(self, full: Tensor) -> Tensor:
        """Gradient in ``theta`` from one in the full coefficient vector."""
        out = full.new_zeros((*full.shape[:-1], self.num_params + 1))
        return out.index_add(-1, self.index, full)[..., :-1]

    def pull_hessian(self, full: Tensor) -> Tensor:
        """Hessian in ``theta`` from one in the full coefficient vector."""
        return self.pull_gradient(self.pull_gradient(full).mT)

    def select(self, scores: Tensor, gate: Tensor) -> Tensor:
        """Scores ``(r, s, k, c)`` with -inf where the gate's selection leaves an expert out."""
        if not self._is_selection:
            return scores
        shift = (self._scaling.x_mean / self._scaling.x_std)[:, None, None]
        bias = gate[..., -1:] - (gate[..., :-1] * shift).sum(-1, keepdim=True)
        rows = scores.mT
        return self.selection(rows, slope_scores=(scores - bias).mT, x=rows).mT
