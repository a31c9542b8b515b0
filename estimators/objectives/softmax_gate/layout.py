"""Which entries of the coefficient blocks are free parameters, and where they stand in the parameter vector."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor

from mixkit.gates.selections import Dense, Selection
from mixkit.parameters import has_form

from .blocks import FIXED, CoefficientRows, first_places, known_part, numbered, relative_rows
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
        gate: which coefficients of the gate are free.
        expert: which of the experts.
        shared_constants: for each constant, whether all experts share it.
        selection: which experts the gate keeps.
        scaling: of the covariates; selection by slope ranks on unscaled ones.
    """

    def __init__(
        self,
        gate: CoefficientRows,
        expert: CoefficientRows,
        shared_constants: list[bool],
        *,
        selection: Selection,
        scaling: Scaling,
    ) -> None:
        self.k, self.width = gate.index.shape
        self.num_constants = len(shared_constants)
        has_reference = bool((gate.index[-1] == FIXED).all())
        self.num_gate_rows = self.k - 1 if has_reference else self.k
        self.selection, self._scaling = selection, scaling
        device = gate.index.device
        block = self.k * self.width
        self.gate_positions = torch.arange(self.num_gate_rows * self.width, device=device)
        self.expert_positions = block + torch.arange(block, device=device)
        self.constant_positions = 2 * block + torch.arange(self.num_constants * self.k, device=device)
        self.index = _numbered(gate.index, expert.index, shared_constants)
        self.num_params = int(self.index.max()) + 1
        self.index[self.index < 0] = self.num_params
        self.num_gate_params = _count(self.index[:block], self.num_params)
        self._is_selection = not has_form(selection, Dense)
        self._references = gate.references
        self.is_plain = gate.is_plain and expert.is_plain
        self.offset: Tensor | None = None

    def without_selection(self) -> "Layout":
        """The same layout with every expert kept."""
        dense = copy.copy(self)
        dense._is_selection = False
        return dense

    def on_sets(self, sets: Tensor, scaling: Scaling) -> "Layout":
        """The layout of some of the data sets."""
        other = copy.copy(self)
        other._scaling = scaling
        other.offset = None if self.offset is None else self.offset[sets]
        return other

    def with_known(self, known: Coefficients) -> "Layout":
        """The layout with ``known (r, 1, k, D)`` coefficients added, those at zero of all that are free.

        Those of the first expert of a shared coefficient, and so all of coefficients of one expert, are zero: the free
        coefficient itself makes up for what is known of it.
        """
        other, full = copy.copy(self), known.flatten()[:, 0]
        other.offset = known_part(full, self.index, self.num_params, self._references, self.k * self.width)
        return other

    def relative(self, gate: Tensor) -> Tensor:
        """Rows of the gate ``(..., k, D)`` less that of the reference expert, in the columns that have one."""
        return relative_rows(gate, self._references)

    def expansion(self) -> Tensor:
        """Matrices ``(k, D + q, E)`` from the experts' E parameters to each expert's coefficients and constants."""
        slopes = self.index[self.expert_positions].reshape(self.k, self.width)
        constants = self.index[self.constant_positions].reshape(self.num_constants, self.k).mT
        places = torch.cat([slopes, constants], -1) - self.num_gate_params
        size = self.num_params - self.num_gate_params
        return torch.nn.functional.one_hot(places, size + 1)[..., :size].to(self._scaling.x_std)

    def gate_expansion(self) -> Tensor:
        """The matrix ``(g D, G)`` from the gate's parameters to its coefficients."""
        places = self.index[self.gate_positions].clamp(max=self.num_gate_params)
        return torch.nn.functional.one_hot(places, self.num_gate_params + 1)[..., :-1].to(self._scaling.x_std)

    def unpack(self, theta: Tensor) -> Coefficients:
        """Blocks of coefficients at ``theta (r, s, P)``; those that are not free have their known values."""
        full = torch.cat([theta, theta.new_zeros((*theta.shape[:-1], 1))], -1)[..., self.index]
        if self.offset is not None:
            full = full + self.offset.unsqueeze(1)
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
        return full[..., first_places(self.index, self.num_params)[:-1]]

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


def _numbered(gate: Tensor, expert: Tensor, shared_constants: list[bool]) -> Tensor:
    """For each full coefficient its parameter, in the order in which they appear; -1 if it is not free."""
    k, block = len(gate), gate.numel()
    experts = torch.arange(k, device=gate.device)
    first = [torch.where(torch.as_tensor(shared, device=gate.device), 0, experts) for shared in shared_constants]
    numbers = [gate.flatten(), torch.where(expert == FIXED, FIXED, expert + block).flatten()]
    numbers += [2 * block + k * place + own for place, own in enumerate(first)]
    return numbered(torch.cat(numbers))


def _count(index: Tensor, num_params: int) -> int:
    """How many different parameters there are among entries of the index."""
    return int(torch.where(index < num_params, index, FIXED).max()) + 1
