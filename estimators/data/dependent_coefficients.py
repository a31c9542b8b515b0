"""Coefficients of a pattern that the others determine: of what each part of a model reads, and no more."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mixkit.experts import Experts
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import CoefficientPattern

from .triangle import triangle

__all__ = ["dependent_coefficients", "families_of", "has_pattern"]

_COLLINEAR = 1e-9  # as of columns: what is left of a column of length one outside the others' span
_CONSTANT = 1e-13


def has_pattern(model: MixtureOfExperts) -> bool:
    """Whether a part of a model has a pattern of coefficients."""
    return any(isinstance(getattr(part, "pattern", None), CoefficientPattern) for part in model.modules())


def families_of(model: MixtureOfExperts) -> list[Experts]:
    """The families of experts of a model, side by side or of one response each, in order; one if they are no more."""
    return list(getattr(model.experts, "families", [model.experts]))


def dependent_coefficients(model: MixtureOfExperts, x: Tensor) -> Tensor:
    """Coefficients of covariates ``(1 + f, k, d)`` bool that the data do not determine.

    Those of the gate, then of each of f families, whose own experts come first. A free coefficient multiplies its
    column at the rows of the experts that have it, and the columns of all free coefficients of a part, one above the
    other for every expert, have to be independent: one that is a linear combination of those of earlier covariates and
    of the intercepts is dependent.

    Args:
        model: of d covariates.
        x: data sets ``(r, n, d)``.
    """
    k, d = model.num_experts, x.shape[-1]
    families = families_of(model)
    found = torch.zeros((1 + len(families), k, d), dtype=torch.bool, device=x.device)
    gate = _pattern(model.gate.score, k, d)
    for rows in x:
        moved, lost = _columns(rows)
        found[0] |= _dependent(gate, moved, lost, is_relative=model.gate.shift_invariant)
        for place, family in enumerate(families):
            own = _pattern(getattr(family, "predictor", None), family.num_experts, d)
            found[1 + place, : family.num_experts] |= _dependent(own, moved, lost, is_relative=False)
    return found


def _pattern(part: object, k: int, d: int) -> CoefficientPattern:
    """That of a part, or one that says what a part without one reads."""
    pattern = getattr(part, "pattern", None)
    if isinstance(pattern, CoefficientPattern):
        return pattern
    has_slopes = any(getattr(part, name, None) is not None for name in ("weight", "slope"))
    return CoefficientPattern.of(k, d, columns=None if has_slopes else ())


def _columns(x: Tensor) -> tuple[Tensor, Tensor]:
    """The triangular factor ``(D, D)`` of a column of ones and the covariates in their own units, centered and not.

    Returns:
        Factors ``(d + 1, 2 d + 1)`` of ones, centered covariates, and covariates; and the columns that are constant.
    """
    std, mean = torch.std_mean(x, 0, correction=0)
    highest, lowest = x.amax(0), x.amin(0)
    size = torch.maximum(highest, -lowest)
    constant = std <= _CONSTANT * size
    factor = torch.where(constant, 0.0, 1.0 / torch.where(constant, 1.0, std))
    upper = triangle(torch.cat([x.new_ones((len(x), 1)), x], -1), torch.cat([mean[:1] * 0, mean]), _with_one(factor))
    upper = torch.nn.functional.pad(upper, (0, 0, 0, max(0, x.shape[-1] + 1 - len(upper))))
    centered = upper[:, 1:]
    unit = torch.where(size > 0, size, 1.0)
    raw = centered * torch.where(constant, 0.0, std / unit) + upper[:, :1] * (mean / unit)
    return torch.cat([upper[:, :1], centered, raw], -1), constant


def _with_one(factor: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(factor[:1]), factor])


def _dependent(pattern: CoefficientPattern, columns: Tensor, constant: Tensor, *, is_relative: bool) -> Tensor:
    """Which coefficients ``(k, d)`` are dependent."""
    slopes, d = pattern.slopes, pattern.num_features
    intercepts = pattern.intercepts
    pins = (intercepts.pinned() & is_relative, slopes.pinned() & is_relative)
    blocks, numbers = [], []
    for j in range(pattern.num_experts):
        row = []
        for number in range(intercepts.num_free):
            if not pins[0][number]:
                row.append(columns[:, :1] * float(j in intercepts.experts[number]))
        for number in _by_column(slopes.columns):
            if not pins[1][number]:
                column = slopes.columns[number]
                place = 1 + column if pattern.can_shift[column] else 1 + d + column
                row.append(columns[:, place : place + 1] * float(j in slopes.experts[number]))
        blocks.append(torch.cat(row, -1) if row else columns[:, :0])
    numbers = [number for number in _by_column(slopes.columns) if not pins[1][number]]
    stacked = torch.cat(blocks)
    length = stacked.norm(dim=0)
    upper = torch.linalg.qr(stacked / torch.where(length > 0, length, 1.0), mode="r").R
    diagonal = torch.zeros(stacked.shape[-1], dtype=stacked.dtype, device=stacked.device)
    diagonal[: min(upper.shape)] = upper.diagonal().abs()
    lost = diagonal[len(diagonal) - len(numbers) :] <= _COLLINEAR
    found = torch.zeros((pattern.num_experts, d), dtype=torch.bool, device=columns.device)
    for number, is_lost in zip(numbers, lost.tolist(), strict=True):
        if is_lost:
            found[list(slopes.experts[number]), slopes.columns[number]] = True
    return found


def _by_column(columns: Sequence[int]) -> list[int]:
    """Numbers of free slopes, those of earlier columns first."""
    return sorted(range(len(columns)), key=lambda number: columns[number])
