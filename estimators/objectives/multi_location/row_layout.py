"""Which entries of the matrix of all coefficients are free, and where they stand in the parameter vector."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mixkit.gates.scores import LinearScore
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import has_form

from ..softmax_gate.blocks import (
    FIXED,
    CoefficientRows,
    first_places,
    known_part,
    numbered,
    pinned_rows,
    relative_rows,
)
from .families import Block

__all__ = ["RowLayout"]


@dataclass(frozen=True)
class RowLayout:
    """The map between the parameter vector ``theta (r, s, P)`` and coefficients ``(r, s, m, D)``.

    Attributes:
        index: ``(m, D)``: the parameter of each coefficient, P where there is none.
        num_params: P.
        num_scores: how many rows are gate scores; the last expert's is none of them where it is zero.
        references: the gate's reference expert in each column, -1 where there is none among its rows, ``(D,)``.
        fixed: values of the coefficients that are not free, in the units of the data, ``(m, D)``.
        can_shift: covariates whose zero may be any, ``(d,)`` bool.
        is_plain: whether no part has a pattern.
        offset: what is added to the free coefficients, ``(r, m, D)``, or None.
    """

    index: Tensor
    num_params: int
    num_scores: int
    references: Tensor
    fixed: Tensor
    can_shift: Tensor
    is_plain: bool
    offset: Tensor | None = None

    @classmethod
    def of(cls, model: MixtureOfExperts, blocks: list[Block], pinned: Tensor, d: int) -> "RowLayout":
        """That of a model of d covariates, ``pinned`` coefficients of which are zero."""
        k, score = model.num_experts, model.gate.score
        has_weight = has_form(score, LinearScore)
        gate = CoefficientRows.of(score, k, pinned_rows(pinned, k, d), has_slopes=has_weight, is_relative=True)
        own = [block.coefficients(pinned_rows(pinned, block.k, d, 1 + part)) for part, block in enumerate(blocks)]
        num_scores = k - 1 if gate.is_plain else k
        entries, values, size = [gate.index[:num_scores]], [gate.fixed[:num_scores]], k * (d + 1)
        for block, rows in zip(blocks, own, strict=True):
            numbers, fixed = (part.to(gate.index.device) for part in block.entries(rows, d + 1))
            entries.append(torch.where(numbers == FIXED, FIXED, numbers + size))
            values.append(fixed)
            size += 2 * (block.k * block.num_arguments + 1) * (d + 2)
        index = numbered(torch.cat(entries).flatten()).reshape(-1, d + 1)
        num_params = int(index.max()) + 1 if index.numel() else 0
        known = [gate, *(rows for rows in own if rows is not None)]
        can_shift = torch.stack([rows.can_shift for rows in known]).all(0)
        index = torch.where(index == FIXED, num_params, index)
        is_plain = all(rows.is_plain for rows in known)
        references = gate.references if num_scores == k else torch.full_like(gate.references, FIXED)
        return cls(index, num_params, num_scores, references, torch.cat(values), can_shift, is_plain)

    def with_known(self, full: Tensor) -> "RowLayout":
        """The layout with what is known added: ``full (r, 1, m, D)``, where all free coefficients are zero."""
        num_gate = self.num_scores * len(self.references)
        flat = known_part(full[:, 0].flatten(1), self.index.flatten(), self.num_params, self.references, num_gate)
        return replace(self, offset=flat.unflatten(-1, self.index.shape))

    def on_set(self, index: int) -> "RowLayout":
        """The layout of one data set."""
        return self if self.offset is None else replace(self, offset=self.offset[index : index + 1])

    def unpack(self, theta: Tensor) -> Tensor:
        """Coefficients ``(r, s, m, D)``; those that are not free have their known values."""
        full = torch.cat([theta, theta.new_zeros((*theta.shape[:-1], 1))], -1)[..., self.index]
        return full if self.offset is None else full + self.offset.unsqueeze(1)

    def pack(self, rows: Tensor) -> Tensor:
        """The parameter vector read off coefficients ``(..., m, D)``, off the first of those that share one."""
        return rows.flatten(-2)[..., first_places(self.index.flatten(), self.num_params)[:-1]]

    def pack_means(self, rows: Tensor) -> Tensor:
        """The same, each parameter the mean of the coefficients that share it."""
        count = torch.bincount(self.index.flatten(), minlength=self.num_params + 1)[:-1]
        return self.pull_gradient(rows) / count

    def pull_gradient(self, full: Tensor) -> Tensor:
        """Gradient in ``theta`` from one in the coefficients ``(..., m, D)``."""
        return self._pulled(full.flatten(-2))

    def pull_hessian(self, full: Tensor) -> Tensor:
        """Hessian in ``theta`` from one in the coefficients, ``(..., m D, m D)``."""
        return self._pulled(self._pulled(full).mT)

    def _pulled(self, full: Tensor) -> Tensor:
        out = full.new_zeros((*full.shape[:-1], self.num_params + 1))
        return out.index_add(-1, self.index.flatten(), full)[..., :-1]

    def relative(self, rows: Tensor) -> Tensor:
        """Coefficients ``(..., m, D)``, those of the gate less the reference expert's."""
        if self.is_plain or self.num_scores == 0:
            return rows
        gate = relative_rows(rows[..., : self.num_scores, :], self.references)
        return torch.cat([gate, rows[..., self.num_scores :, :]], -2)

    @property
    def free(self) -> Tensor:
        """Which coefficients are free, ``(m, D)`` bool."""
        return self.index < self.num_params
