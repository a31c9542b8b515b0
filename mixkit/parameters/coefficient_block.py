"""The coefficients of a pattern that are one parameter: all slopes, or all intercepts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["FIXED", "CoefficientBlock"]

FIXED = -1


@dataclass(frozen=True)
class CoefficientBlock:
    """Some columns of a pattern, whose F free coefficients are a parameter ``(..., F)``.

    Attributes:
        index: ``(k, c)``: the number of the free coefficient of each entry, -1 where the entry is fixed.
        fixed: ``(k, c)``: values of the fixed entries, 0 for free ones.

    Example:
        >>> block = CoefficientBlock(((0, 1), (0, -1)), ((0.0, 0.0), (0.0, 3.0)))
        >>> block.full(torch.tensor([1.0, 2.0]))
        tensor([[1., 2.],
                [1., 3.]])
        >>> block.columns, block.experts
        ((0, 1), ((0, 1), (0,)))
    """

    index: tuple[tuple[int, ...], ...]
    fixed: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, index: Sequence[Sequence[int]], fixed: Sequence[Sequence[float]], columns: slice) -> "CoefficientBlock":
        """Those of some ``columns``, numbered anew in the order in which they appear, row by row."""
        numbers: dict[int, int] = {}
        rows = tuple(
            tuple(FIXED if entry == FIXED else numbers.setdefault(entry, len(numbers)) for entry in row[columns])
            for row in index
        )
        return cls(rows, tuple(tuple(row[columns]) for row in fixed))

    @property
    def num_experts(self) -> int:
        """The number k of experts."""
        return len(self.index)

    @cached_property
    def num_free(self) -> int:
        """The number F of free coefficients."""
        return 1 + max((entry for row in self.index for entry in row), default=FIXED)

    @cached_property
    def has_values(self) -> bool:
        """Whether an entry is fixed at another value than 0."""
        return any(value != 0.0 for row in self.fixed for value in row)

    @cached_property
    def columns(self) -> tuple[int, ...]:
        """The column of each free coefficient, ``(F,)``."""
        found = {entry: column for row in self.index for column, entry in enumerate(row)}
        return tuple(found[number] for number in range(self.num_free))

    @cached_property
    def experts(self) -> tuple[tuple[int, ...], ...]:
        """The experts that have each free coefficient, ``(F,)``."""
        return tuple(tuple(j for j, row in enumerate(self.index) if f in row) for f in range(self.num_free))

    @cached_property
    def references(self) -> tuple[int, ...]:
        """For each coefficient that of the last expert in its column, if one number may be added to the whole column.

        That is where no entry of the column is fixed; -1 elsewhere. ``(F,)``.
        """
        last = self.index[-1]
        is_free = [all(row[column] != FIXED for row in self.index) for column in range(len(last))]
        return tuple(last[column] if is_free[column] else FIXED for column in self.columns)

    @cached_property
    def cancelling(self) -> tuple[int, ...]:
        """Columns whose coefficient all experts share, which no comparison of experts sees."""
        width = len(self.index[0])
        entries = [{row[column] for row in self.index} for column in range(width)]
        return tuple(c for c in range(width) if len(entries[c]) == 1 and FIXED not in entries[c])

    def index_tensor(self) -> Tensor:
        """The index, ``(k, c)``, long."""
        return torch.tensor(self.index, dtype=torch.long).reshape(self.num_experts, -1)

    def fixed_tensor(self, like: Tensor | None = None) -> Tensor:
        """The fixed values, ``(k, c)``; in float64 unless ``like`` has another dtype."""
        values = torch.tensor(self.fixed, dtype=torch.float64).reshape(self.num_experts, -1)
        return values if like is None else values.to(like)

    def first_entries(self) -> Tensor:
        """For each free coefficient the place of its first entry in the flattened index, ``(F,)``."""
        flat = [entry for row in self.index for entry in row]
        return torch.tensor([flat.index(number) for number in range(self.num_free)], dtype=torch.long)

    def full(self, free: Tensor, index: Tensor | None = None) -> Tensor:
        """All coefficients ``(..., k, c)`` from the free ones ``(..., F)``; ``index`` is the block's as a tensor."""
        index = self.index_tensor().to(free.device) if index is None else index
        padded = torch.cat([free, free.new_zeros((*free.shape[:-1], 1))], -1)
        full = padded[..., index]
        return full + self.fixed_tensor(full) if self.has_values else full

    def without_values(self) -> "CoefficientBlock":
        """The block with zeros in place of the values of its fixed entries."""
        return replace(self, fixed=tuple((0.0,) * len(row) for row in self.fixed))

    def permuted(self, free: Tensor, orders: Tensor) -> Tensor:
        """Free coefficients ``(s, ..., F)`` of experts in other orders ``(s, k)``, read off as :meth:`read` does."""
        full = self.full(free)
        index = orders.reshape(len(orders), *(1,) * (full.ndim - 3), -1, 1).expand(full.shape)
        return self.read(full.gather(-2, index))

    def read(self, full: Tensor) -> Tensor:
        """The free coefficients ``(..., F)`` of all ``(..., k, c)``: of a shared one that of its first expert."""
        return full.flatten(-2)[..., self.first_entries().to(full.device)]

    def pinned(self) -> Tensor:
        """Which free coefficients are the reference of their column, ``(F,)`` bool."""
        return torch.tensor([f == reference for f, reference in enumerate(self.references)], dtype=torch.bool)

    def relative(self, free: Tensor) -> Tensor:
        """Free coefficients ``(..., F)`` less that of the reference of their column, where there is one."""
        if not self.num_free:
            return free
        padded = torch.cat([free, torch.zeros_like(free[..., :1])], -1)
        return free - padded[..., torch.tensor(self.references, device=free.device)]

    def centered(self, free: Tensor) -> Tensor:
        """Free coefficients less the mean over experts of their column, where one number may be added to it."""
        if not self.num_free:
            return free
        means = self.full(free).mean(-2)[..., torch.tensor(self.columns, device=free.device)]
        has_reference = torch.tensor([reference != FIXED for reference in self.references], device=free.device)
        return torch.where(has_reference, free - means, free)

    def who(self, number: int, first_expert: int = 0, *, is_part: bool = False) -> str:
        """The experts of a coefficient in words: ``2``, ``0+1``, or ``common`` to all.

        Args:
            number: of the coefficient.
            first_expert: number of the block's first expert.
            is_part: whether there are experts beside those of the block, so that common would say too much.
        """
        experts = self.experts[number]
        if len(experts) == self.num_experts > 1 and not is_part:
            return "common"
        return "+".join(str(first_expert + expert) for expert in experts)
