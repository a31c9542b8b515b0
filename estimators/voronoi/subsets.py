"""The least worst sum over K of the true atoms, the form a Voronoi loss takes for top-K gates."""

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

from .terms import Terms

__all__ = ["largest_sum", "least_largest_sum"]

_GOLDEN = 0.5 * (5.0**0.5 - 1.0)
_SECTIONS = 110
_ROUNDS = (1.0, 1e-2, 1e-4, 1e-6)  # radii of the balls from which the ellipsoid method starts
_DIGITS = 12  # volumes fall by exp(-1 / (2 (size + 1))) a step: to exp(-12) of each axis in a round
_TINY = 1e-300


def largest_sum(values: Tensor, count: int) -> Tensor:
    """The sum of the ``count`` largest of ``values (..., k*)``: the maximum over subsets of that size."""
    return values.topk(count, -1).values.sum(-1)


def least_largest_sum(terms: Terms, count: int, *, bias: bool, weight: bool) -> tuple[Tensor, Tensor]:
    """``s`` and ``t_1`` minimizing the sum of the ``count`` largest ``|W_j - s W*_j| + c_j(t_1)``.

    Convex in both. For given t_1 the minimum in s is at one of finitely many kinks. With one covariate, t_1 is found by
    golden section; with more, both by the ellipsoid method; either is compared with the kinks in t_1.
    """
    points = terms.gate_gap.detach()

    def best(t: Tensor) -> tuple[Tensor, Tensor]:
        return _best_scale(terms, _costs(terms, t), count, bias)

    if not weight:
        t = torch.zeros_like(points[..., 0, :])
        return best(t)[1], t
    inner = _golden(points, best) if points.shape[-1] == 1 else _ellipsoid(terms, count, bias)
    candidates = torch.cat([points, inner.unsqueeze(-2)], -2)
    values = torch.stack([best(t)[0] for t in candidates.unbind(-2)], -1)
    index = values.argmin(-1)[..., None, None].expand(*points.shape[:-2], 1, points.shape[-1])
    t = candidates.gather(-2, index).squeeze(-2)
    return best(t)[1], t


def _golden(points: Tensor, best: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """The t_1 of one covariate, ``(..., 1)``, at which a convex function is least."""
    low, high = points.amin(-2), points.amax(-2)
    for _ in range(_SECTIONS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        falling = (best(left)[0] > best(right)[0]).unsqueeze(-1)
        low, high = torch.where(falling, left, low), torch.where(falling, high, right)
    return 0.5 * (low + high)


def _costs(terms: Terms, t: Tensor) -> Tensor:
    """``c_j(t_1)``, the part of each true atom's loss that s leaves alone, ``(..., k*)``."""
    gap = torch.linalg.vector_norm(terms.gate_gap.detach() - t.unsqueeze(-2), dim=-1)
    return terms.by_cell(terms.mass.detach() * gap.pow(terms.power) + terms.expert.detach().sum(-1))


def _ellipsoid(terms: Terms, count: int, bias: bool) -> Tensor:
    """t_1 ``(..., d)`` by the ellipsoid method with deep cuts in (t_1, s), every problem of the batch at once.

    The first ellipsoid is a ball around the points and, s scaled alike, the kinks of s, which holds a minimum. Each
    step keeps the half that a subgradient does not rule out, in the least ellipsoid around it. Where the function
    is flat ellipsoids grow too thin to be told from planes, so later rounds start from small balls around the best.
    """
    points = terms.gate_gap.detach()
    center = points.mean(-2)
    radius = torch.linalg.vector_norm(points - center.unsqueeze(-2), dim=-1).amax(-1).clamp(min=_TINY)
    reach = (terms.cell_mass.detach() / terms.true_mass.detach()).amax(-1).clamp(min=_TINY)
    scale = (0.5 * reach / radius if bias else torch.zeros_like(radius)).unsqueeze(-1)
    x = torch.cat([center, radius.unsqueeze(-1)], -1)
    value = _subgradient(terms, count, x, scale, bias)[0]
    for share in _ROUNDS:
        x, value = _round(terms, count, bias, scale, x, value, share * radius)
    return x[..., :-1]


def _round(
    terms: Terms, count: int, bias: bool, scale: Tensor, x: Tensor, value: Tensor, radius: Tensor
) -> tuple[Tensor, Tensor]:
    """The best of the points, and its value, that ellipsoids pass from a ball around ``x`` on."""
    size, best, least = x.shape[-1], x, value
    shape = 2.0 * radius.square()[..., None, None] * torch.eye(size, dtype=x.dtype, device=x.device)
    for _ in range(2 * size * (size + 1) * _DIGITS):
        value, slope = _subgradient(terms, count, x, scale, bias)
        lower = value < least
        best, least = torch.where(lower.unsqueeze(-1), x, best), torch.where(lower, value, least)
        x, shape = _cut(x, shape, slope, value - least)
    return best, least


def _cut(x: Tensor, shape: Tensor, slope: Tensor, excess: Tensor) -> tuple[Tensor, Tensor]:
    """The least ellipsoid around what is left of ``(x, shape)``; as it was where nothing can be cut off."""
    size = x.shape[-1]
    pushed = (shape @ slope.unsqueeze(-1)).squeeze(-1)
    length = (slope * pushed).sum(-1).clamp(min=0.0).sqrt()
    depth = torch.where(length > 0, excess / length.clamp(min=_TINY), 0.0).clamp(max=0.99)
    going = (length > _TINY).unsqueeze(-1)
    unit = pushed / length.clamp(min=_TINY).unsqueeze(-1)
    moved = x - ((1.0 + size * depth) / (size + 1.0)).unsqueeze(-1) * unit
    factor = size**2 / (size**2 - 1.0) * (1.0 - depth.square())
    inner = 2.0 * (1.0 + size * depth) / ((size + 1.0) * (1.0 + depth))
    smaller = factor[..., None, None] * (shape - inner[..., None, None] * unit.unsqueeze(-1) * unit.unsqueeze(-2))
    return torch.where(going, moved, x), torch.where(going.unsqueeze(-1), smaller, shape)


def _subgradient(terms: Terms, count: int, x: Tensor, scale: Tensor, bias: bool) -> tuple[Tensor, Tensor]:
    """The sum of the largest terms at ``x = (t_1, s / scale)``, and a subgradient there."""
    s = x[..., -1:] * scale if bias else torch.ones_like(scale)
    gap = x[..., :-1].unsqueeze(-2) - terms.gate_gap.detach()
    distance = torch.linalg.vector_norm(gap, dim=-1)
    mass, true = terms.mass.detach(), terms.true_mass.detach()
    over = s * true - terms.cell_mass.detach()
    value = over.abs() + terms.by_cell(mass * distance.pow(terms.power) + terms.expert.detach().sum(-1))
    largest = value.topk(count, -1)
    counted = torch.zeros_like(value).scatter(-1, largest.indices, 1.0)
    away = distance > 0
    factor = mass * terms.power * torch.where(away, distance, 1.0).pow(terms.power - 2.0)
    pull = torch.where(away, factor, 0.0).unsqueeze(-1) * gap  # (..., k, d)
    own = (counted.unsqueeze(-2) * terms.owner.to(value.dtype)).sum(-1)
    in_scale = (counted * over.sign() * true).sum(-1, keepdim=True) * scale
    return largest.values.sum(-1), torch.cat([(own.unsqueeze(-1) * pull).sum(-2), in_scale], -1)


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
