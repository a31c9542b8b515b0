"""The translations of a gate at which a Voronoi loss is least: small convex problems, solved in batches.

For given cells the loss is convex in ``s = exp(t_0)`` and in ``t_1``. In s it is a weighted median. In t_1 it is
``sum_i w_i |u_i - t_1|^{r_i}``: a weighted median for one covariate and powers 1, a geometric median for more, and
between them for mixed powers.
"""

import torch
from torch import Tensor

__all__ = ["least_power_sum", "weighted_median"]

_BISECTIONS = 100
_NEWTON_STEPS = 100
_HALVINGS = 40


def weighted_median(values: Tensor, weight: Tensor) -> Tensor:
    """The least of the values that minimize ``sum_j weight_j |value_j - s|``, ``(..., k)`` to ``(...,)``.

    The result is one of the values, through which gradients flow.
    """
    order = values.detach().argsort(-1)
    cumulative = weight.detach().gather(-1, order).cumsum(-1)
    position = (cumulative < 0.5 * cumulative[..., -1:]).sum(-1, keepdim=True).clamp(max=values.shape[-1] - 1)
    return values.gather(-1, order.gather(-1, position)).squeeze(-1)


def power_sum(t: Tensor, points: Tensor, weight: Tensor, power: Tensor) -> Tensor:
    """``sum_i weight_i |points_i - t|^power_i`` for ``t (..., d)`` and ``points (..., k, d)``."""
    return (weight * torch.linalg.vector_norm(points - t.unsqueeze(-2), dim=-1).pow(power)).sum(-1)


def least_power_sum(points: Tensor, weight: Tensor, power: Tensor) -> Tensor:
    """The ``t (..., d)`` that minimizes ``sum_i weight_i |points_i - t|^power_i``, a convex function.

    Where the minimum lies at one of the points (a kink), the result is that point and gradients flow through it;
    elsewhere it has no gradient, and needs none, for the derivative in t vanishes there.

    Args:
        points: ``(..., k, d)``.
        weight: ``(..., k)``, non-negative.
        power: ``(..., k)``, at least 1.
    """
    fixed, mass = points.detach(), weight.detach()
    smooth = _bisected(fixed, mass, power) if points.shape[-1] == 1 else _newton(fixed, mass, power)
    at_points = torch.stack([power_sum(point, fixed, mass, power) for point in fixed.unbind(-2)], -1)
    best, index = at_points.min(-1)
    kink = points.gather(-2, index[..., None, None].expand(*index.shape, 1, points.shape[-1])).squeeze(-2)
    return torch.where((best <= power_sum(smooth, fixed, mass, power)).unsqueeze(-1), kink, smooth)


def _bisected(points: Tensor, weight: Tensor, power: Tensor) -> Tensor:
    """Where the derivative, which increases, changes sign; one covariate."""
    values = points.squeeze(-1)
    low, high = values.amin(-1), values.amax(-1)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        gap = middle.unsqueeze(-1) - values
        slope = (weight * power * gap.abs().pow(power - 1.0) * gap.sign()).sum(-1)
        low, high = torch.where(slope > 0, low, middle), torch.where(slope > 0, middle, high)
    return (0.5 * (low + high)).unsqueeze(-1)


def _newton(points: Tensor, weight: Tensor, power: Tensor) -> Tensor:
    """Damped Newton steps from the best data point, pushed off along the pull of the others."""
    t = _pushed_off(points, weight, power)
    value = power_sum(t, points, weight, power)
    for _ in range(_NEWTON_STEPS):
        step = _newton_step(t, points, weight, power)
        t, new = _shortened(t, value, step, points, weight, power)
        if bool((new >= value).all()):
            break
        value = new
    return t


def _pushed_off(points: Tensor, weight: Tensor, power: Tensor) -> Tensor:
    at_points = torch.stack([power_sum(point, points, weight, power) for point in points.unbind(-2)], -1)
    index = at_points.argmin(-1)[..., None, None].expand(*points.shape[:-2], 1, points.shape[-1])
    best = points.gather(-2, index).squeeze(-2)
    pull = _gradient(best, points, weight, power)[0]
    size = torch.linalg.vector_norm(points - best.unsqueeze(-2), dim=-1).amax(-1, keepdim=True)
    direction = -pull / torch.linalg.vector_norm(pull, dim=-1, keepdim=True).clamp(min=torch.finfo(pull.dtype).tiny)
    return _shortened(best, at_points.amin(-1), size * direction, points, weight, power)[0]


def _gradient(t: Tensor, points: Tensor, weight: Tensor, power: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient ``(..., d)``, and for every point the unit vector to t and the factor ``w r |v|^(r - 2)``."""
    gap = t.unsqueeze(-2) - points
    distance = torch.linalg.vector_norm(gap, dim=-1)
    away = distance > 0
    safe = torch.where(away, distance, torch.ones_like(distance))
    factor = torch.where(away, weight * power * safe.pow(power - 2.0), torch.zeros_like(safe))
    return (factor.unsqueeze(-1) * gap).sum(-2), gap / safe.unsqueeze(-1), factor


def _newton_step(t: Tensor, points: Tensor, weight: Tensor, power: Tensor) -> Tensor:
    gradient, unit, factor = _gradient(t, points, weight, power)
    eye = torch.eye(t.shape[-1], dtype=t.dtype, device=t.device)
    outer = unit.unsqueeze(-1) * unit.unsqueeze(-2)
    hessian = (factor[..., None, None] * (eye + (power - 2.0)[..., None, None] * outer)).sum(-3)
    ridge = 1e-12 * hessian.diagonal(dim1=-2, dim2=-1).sum(-1).clamp(min=torch.finfo(t.dtype).tiny)
    return torch.linalg.solve(hessian + ridge[..., None, None] * eye, -gradient.unsqueeze(-1)).squeeze(-1)


def _shortened(
    t: Tensor, value: Tensor, step: Tensor, points: Tensor, weight: Tensor, power: Tensor
) -> tuple[Tensor, Tensor]:
    """The longest of the halved steps that lowers the sum; no step if none does."""
    for _ in range(_HALVINGS):
        new = power_sum(t + step, points, weight, power)
        if bool((new < value).all()):
            break
        step = torch.where((new < value).unsqueeze(-1), step, 0.5 * step)
    lower = new < value
    return torch.where(lower.unsqueeze(-1), t + step, t), torch.where(lower, new, value)
