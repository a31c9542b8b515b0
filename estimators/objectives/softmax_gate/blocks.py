"""Which coefficients of a gate's score and of the experts' locations are free, as index matrices of experts by columns.

A matrix ``(k, D)`` has one row an expert and the intercept as its last column. Parts without a pattern have one, too: a
coefficient of its own for every expert and column, or intercepts alone.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...data.patterns import pattern_of

__all__ = [
    "FIXED",
    "PREDICTOR_NAMES",
    "SCORE_NAMES",
    "CoefficientRows",
    "first_places",
    "full_places",
    "known_part",
    "named_coefficients",
    "numbered",
    "pinned_rows",
    "relative_rows",
]

FIXED = -1
SCORE_NAMES = ("weight", "bias")
PREDICTOR_NAMES = ("slope", "intercept")


@dataclass(frozen=True)
class CoefficientRows:
    """The coefficients of one part of a model.

    Attributes:
        index: ``(k, D)``: the number of each free coefficient, -1 where it is fixed.
        fixed: ``(k, D)``: its value in the units of the data where it is, else 0.
        references: ``(D,)``: the expert at whose entry a column is held at zero, since one number may be added to the
            whole column; -1 where there is none.
        can_shift: ``(d,)`` bool: covariates whose zero may be any, since intercepts make up for it.
        is_plain: whether there is no pattern.
    """

    index: Tensor
    fixed: Tensor
    references: Tensor
    can_shift: Tensor
    is_plain: bool

    @classmethod
    def of(cls, part: nn.Module, k: int, pinned: Tensor, *, has_slopes: bool, is_relative: bool) -> "CoefficientRows":
        """Those of a score or a predictor.

        Args:
            part: which.
            k: number of experts.
            pinned: coefficients of covariates held at zero, ``(k, d)`` bool.
            has_slopes: whether a part without a pattern has coefficients of covariates.
            is_relative: whether one number may be added to a column.
        """
        pattern, device = pattern_of(part), pinned.device
        d = pinned.shape[-1]
        if pattern is None:
            index = torch.arange(k * (d + 1), device=device).reshape(k, d + 1)
            index[:, :d] = torch.where(pinned | (not has_slopes), FIXED, index[:, :d])
            fixed = torch.zeros((k, d + 1), dtype=torch.float64, device=device)
            references = torch.full((d + 1,), k - 1 if is_relative else FIXED, device=device)
            can_shift = torch.ones(d, dtype=torch.bool, device=device)
        else:
            index = torch.tensor(pattern.index, device=device)
            fixed = torch.tensor(pattern.fixed, dtype=torch.float64, device=device)
            references = _references(index, is_relative)
            index[:, :d] = torch.where(pinned, FIXED, index[:, :d])
            can_shift = torch.tensor(pattern.can_shift, device=device)
        columns = torch.arange(d + 1, device=device)
        own = index[references.clamp(min=0), columns]
        index = torch.where((index == own) & (references != FIXED), FIXED, index)
        return cls(index, fixed, references, can_shift, pattern is None)

    def without(self) -> "CoefficientRows":
        """As many coefficients, none of them free."""
        none = torch.full_like(self.index, FIXED)
        return replace(self, index=none, fixed=torch.zeros_like(self.fixed), references=none[0])


def _references(index: Tensor, is_relative: bool) -> Tensor:
    """For each column the first expert that shares the coefficient of the last, ``(D,)``."""
    first = (index == index[-1]).to(torch.int8).argmax(0)
    is_free = (index != FIXED).all(0)
    return torch.where(is_free & is_relative, first, FIXED)


def named_coefficients(part: nn.Module, prefix: str, names: tuple[str, str], rows: Tensor) -> dict[str, Tensor]:
    """What the parameters of a part are, or where they stand, by name in the model, from that of all ``rows (k, D)``.

    Args:
        part: a score or a predictor.
        prefix: its name in the model.
        names: of its slopes and its intercepts.
        rows: coefficients, or their places; with a pattern of vectors ``(p, k, D)``.
    """
    pattern = pattern_of(part)
    if pattern is None:
        found = {f"{prefix}.{names[1]}": rows[:, -1]}
        if getattr(part, names[0], None) is not None:
            found[f"{prefix}.{names[0]}"] = rows[:, :-1]
        return found
    blocks = ((names[1], pattern.intercepts, rows[..., -1:]), (names[0], pattern.slopes, rows[..., :-1]))
    return {f"{prefix}.free_{name}": block.read(own) for name, block, own in blocks if block.num_free}


def full_places(
    part: nn.Module, prefix: str, names: tuple[str, str], places: dict[str, Tensor], sizes: tuple[int, int, int]
) -> Tensor:
    """Where each coefficient of a part stands in a vector, ``(k, D)``, from the places of its parameters by name.

    Args:
        part: a score or a predictor.
        prefix: its name in the model.
        names: of its slopes and its intercepts.
        places: by name of the parameter.
        sizes: k, D, and the size of the vector, the place of what is not free.
    """
    k, width, size = sizes
    found = torch.full((k, width), size)
    pattern = pattern_of(part)
    slopes, intercepts = slice(0, width - 1), slice(width - 1, width)
    if pattern is None:
        found[:, -1] = places[f"{prefix}.{names[1]}"]
        if (slope := places.get(f"{prefix}.{names[0]}")) is not None:
            found[:, :-1] = slope
        return found
    for name, block, columns in ((names[0], pattern.slopes, slopes), (names[1], pattern.intercepts, intercepts)):
        own = places.get(f"{prefix}.free_{name}", found.new_zeros(0))
        found[:, columns] = torch.cat([own, found.new_full((1,), size)])[block.index_tensor()]
    return found


def pinned_rows(pinned: Tensor, k: int, d: int, part: int = 0) -> Tensor:
    """Coefficients ``(k, d)`` bool of a part of a model that are held at zero.

    Args:
        pinned: covariates ``(d,)`` or more, whose coefficients all are; or ``(1 + f, k, d)``, those of the gate and of
            each of f families of experts.
        k: number of experts of the part.
        d: number of covariates.
        part: 0 for the gate, 1 + i for family i.
    """
    return pinned[:d].expand(k, d) if pinned.ndim == 1 else pinned[part, :k]


def numbered(entries: Tensor) -> Tensor:
    """Entries ``(F,)`` numbered by their values in the order in which these appear first; -1 stays."""
    order, size = torch.arange(len(entries), device=entries.device), int(entries.max()) + 1 if len(entries) else 0
    slots = torch.where(entries == FIXED, size, entries)
    earliest = order.new_full((size + 1,), len(entries)).scatter_reduce(0, slots, order, "amin")[slots]
    is_first = (earliest == order) & (entries != FIXED)
    return torch.where(entries == FIXED, FIXED, (is_first.cumsum(0) - 1)[earliest])


def first_places(index: Tensor, num_params: int) -> Tensor:
    """Where each of P parameters, and P itself, appears first in an index ``(F,)``, ``(P + 1,)``."""
    order = torch.arange(len(index), device=index.device)
    return order.new_zeros(num_params + 1).scatter_reduce(0, index, order, "amin", include_self=False)


def relative_rows(gate: Tensor, references: Tensor) -> Tensor:
    """Rows ``(..., k, D)`` less that of the reference expert, in the columns that have one."""
    columns = torch.arange(len(references), device=gate.device)
    rows = gate[..., references.clamp(min=0), columns]
    return gate - torch.where(references != FIXED, rows, 0.0).unsqueeze(-2)


def known_part(full: Tensor, index: Tensor, num_params: int, references: Tensor, num_gate: int) -> Tensor:
    """What is to be added to free coefficients laid out by an index, ``(r, F)``.

    Args:
        full: coefficients ``(r, F)``, rows of the gate first, where all free ones are zero in the units of the data.
        index: ``(F,)``: the parameter of each; P where there is none.
        num_params: P.
        references: of the gate's columns, ``(D,)``, by the row of its expert.
        num_gate: how many of the coefficients are the gate's.
    """
    own = torch.where(index < num_params, full[:, first_places(index, num_params)[index]], 0.0)
    width = len(references)
    columns = torch.arange(num_gate, device=full.device) % width
    rows = references[columns].clamp(min=0) * width + columns
    is_reference = (index[:num_gate] == num_params) & (references[columns] != FIXED)
    own[:, :num_gate] = torch.where(is_reference, full[:, rows], own[:, :num_gate])
    return full - own
