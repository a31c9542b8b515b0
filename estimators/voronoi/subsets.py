"""The least worst sum over K of the true atoms, the form a Voronoi loss takes for top-K gates."""

from itertools import combinations

import torch
from torch import Tensor

from .terms import Terms

__all__ = ["largest_sum", "least_largest_sum"]

_GOLDEN = 0.5 * (5.0**0.5 - 1.0)
_SECTIONS = 110


def largest_sum(values: Tensor, count: int) -> Tensor:
    """The sum of the ``count`` largest of ``values (..., k*)``: the maximum over subsets of that size."""
    return values.topk(count, -1).values.sum(-1)


def least_largest_sum(terms: Terms, count: int, *, bias: bool, weight: bool) -> tuple[Tensor, Tensor]:
    """``s`` and ``t_1`` minimising the sum of the ``count`` largest ``|W_j - s W*_j| + c_j(t_1)``; one covariate.

    Convex in both. For given t_1 the minimum in s is at one of finitely many kinks; t_1 is found by golden section.
    """
    points = terms.gate_gap.detach()[..., 0]

    def best(t: Tensor) -> tuple[Tensor, Tensor]:
        return _best_scale(terms, _costs(terms, t), count, bias)

    if not weight:
        t = torch.zeros_like(points[..., 0])
        return best(t)[1], t.unsqueeze(-1)
    low, high = points.amin(-1), points.amax(-1)
    for _ in range(_SECTIONS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        falling = best(left)[0] > best(right)[0]
        low, high = torch.where(falling, left, low), torch.where(falling, high, right)
    candidates = torch.cat([points, (0.5 * (low + high)).unsqueeze(-1)], -1)
    values = torch.stack([best(t)[0] for t in candidates.unbind(-1)], -1)
    t = candidates.gather(-1, values.argmin(-1, keepdim=True)).squeeze(-1)
    return best(t)[1], t.unsqueeze(-1)


def _costs(terms: Terms, t: Tensor) -> Tensor:
    """``c_j(t_1)``, the part of each true atom's loss that s leaves alone, ``(..., k*)``."""
    gap = (terms.gate_gap.detach()[..., 0] - t.unsqueeze(-1)).abs()
    return terms.by_cell(terms.mass.detach() * gap.pow(terms.power) + terms.expert.detach().sum(-1))


def _best_scale(terms: Terms, cost: Tensor, count: int, bias: bool) -> tuple[Tensor, Tensor]:
    """The least value over s and where it is."""
    fitted, true = terms.cell_mass.detach(), terms.true_mass.detach()
    kinks = _kinks(fitted, true, cost) if bias else torch.ones_like(fitted[..., :1])
    gaps = (fitted.unsqueeze(-2) - kinks.unsqueeze(-1) * true.unsqueeze(-2)).abs() + cost.unsqueeze(-2)
    value, index = largest_sum(gaps, count).min(-1)
    return value, kinks.gather(-1, index.unsqueeze(-1)).squeeze(-1)


def _kinks(fitted: Tensor, true: Tensor, cost: Tensor) -> Tensor:
    """Where one term is zero, or two are equal, so that the largest change; non-negative."""
    found = [fitted / true]
    for j, m in combinations(range(fitted.shape[-1]), 2):
        for sign in (1.0, -1.0):
            for side in (1.0, -1.0):
                top = side * fitted[..., j] - sign * fitted[..., m] + cost[..., j] - cost[..., m]
                bottom = side * true[..., j] - sign * true[..., m]
                safe = torch.where(bottom == 0, torch.ones_like(bottom), bottom)
                found.append(torch.where(bottom == 0, 0.0, top / safe).clamp(min=0.0).unsqueeze(-1))
    return torch.cat([*found, torch.zeros_like(found[0][..., :1])], -1)
