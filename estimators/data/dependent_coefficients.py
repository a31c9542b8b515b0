"""Coefficients of a pattern that the others determine: of what each part of a model reads, and no more."""

import torch
from torch import Tensor

from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import CoefficientPattern
from mixkit.parameters.coefficient_block import CoefficientBlock

from .patterns import families_of, pattern_or_own
from .spread import spread
from .triangle import COLLINEAR, triangle

__all__ = ["dependent_coefficients"]


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
    gate = pattern_or_own(model.gate.score, k, d)
    for rows in x:
        moved = _columns(rows)
        found[0] |= _dependent(gate, moved, is_relative=model.gate.shift_invariant)
        for place, family in enumerate(families):
            own = pattern_or_own(getattr(family, "predictor", None), family.num_experts, d)
            found[1 + place, : family.num_experts] |= _dependent(own, moved, is_relative=False)
    return found


def _columns(x: Tensor) -> Tensor:
    """Of a column of ones and the covariates ``(n, d)``, what determines their inner products.

    Returns:
        Factors ``(d + 1, 2 d + 1)`` of ones, centered covariates over their standard deviations, and covariates over
        their largest absolute values.
    """
    mean, std, constant, factor = spread(x)
    size = torch.maximum(x.amax(0), -x.amin(0))
    ones = x.new_ones((len(x), 1))
    upper = triangle(torch.cat([ones, x], -1), torch.cat([mean.new_zeros(1), mean]), torch.cat([ones[0], factor]))
    upper = torch.nn.functional.pad(upper, (0, 0, 0, max(0, x.shape[-1] + 1 - len(upper))))
    centered = upper[:, 1:]
    unit = torch.where(size > 0, size, 1.0)
    raw = centered * torch.where(constant, 0.0, std / unit) + upper[:, :1] * (mean / unit)
    return torch.cat([upper[:, :1], centered, raw], -1)


def _dependent(pattern: CoefficientPattern, columns: Tensor, *, is_relative: bool) -> Tensor:
    """Which coefficients ``(k, d)`` are dependent, of ``columns`` as :func:`_columns` gives them."""
    slopes, intercepts, d = pattern.slopes, pattern.intercepts, pattern.num_features
    levels = _counted(intercepts, is_relative)
    numbers = sorted(_counted(slopes, is_relative), key=lambda number: slopes.columns[number])
    places = [1 + (0 if pattern.can_shift[column] else d) + column for column in slopes.columns]
    read = [(0, intercepts.experts[number]) for number in levels]
    read += [(places[number], slopes.experts[number]) for number in numbers]
    at = [place for place, _ in read]
    has = columns.new_tensor([[float(j in experts) for _, experts in read] for j in range(pattern.num_experts)])
    stacked = (columns[:, at] * has[:, None]).flatten(0, 1)
    length = stacked.norm(dim=0)
    upper = torch.linalg.qr(stacked / torch.where(length > 0, length, 1.0), mode="r").R
    diagonal = torch.zeros(stacked.shape[-1], dtype=stacked.dtype, device=stacked.device)
    diagonal[: min(upper.shape)] = upper.diagonal().abs()
    lost = diagonal[len(diagonal) - len(numbers) :] <= COLLINEAR
    found = torch.zeros((pattern.num_experts, d), dtype=torch.bool, device=columns.device)
    for number, is_lost in zip(numbers, lost.tolist(), strict=True):
        if is_lost:
            found[list(slopes.experts[number]), slopes.columns[number]] = True
    return found


def _counted(block: CoefficientBlock, is_relative: bool) -> list[int]:
    """Numbers of a block's free coefficients, without references that cancel."""
    return [number for number, is_pinned in enumerate(block.pinned().tolist()) if not (is_pinned and is_relative)]
