"""The order in which siblings take their turns."""

import torch
from torch import Tensor

from .plans import LevelPlans

_GRID = 2.0**30  # far coarser than rounding in float64, far finer than differences that matter


def sibling_order(budgets: Tensor, place: Tensor, below: LevelPlans | None) -> Tensor:
    """Order ``(r, c)`` of the columns: the siblings that go on first, then the others.

    The order may depend on the drafted tuple and on the children's rows, never on tokens drafted deeper. The accepted
    mass is 1 less the product of what each turn leaves. Siblings are ranked by how much smaller the product of two
    turns is when a sibling goes before another than when it goes after, summed over the others (optimal for two). A
    sibling's accepted mass at other weights is interpolated between a few trials; the plans say how many. Without
    trials the larger budget goes first.

    Args:
        budgets: Budgets of the distinct tokens ``(r, c)``.
        place: Places of the children in the next level ``(r, c)``; -1 for those without a turn.
        below: Plans of the next level; None if there is none.
    """
    goes_on = place >= 0
    score = torch.where(goes_on, _on_grid(-budgets), torch.inf)
    if below is None or not below.num_trials:
        return score.argsort(dim=-1, stable=True)
    several = (goes_on.sum(-1) > 1).nonzero()[:, 0]
    if several.numel():
        place, goes_on = place[several], goes_on[several]
        trials = trial_weights(budgets[several], below.num_trials)
        accepted = torch.zeros_like(trials)
        at = place[goes_on]
        accepted[goes_on] = torch.stack([below.solve(at, weight)[0] for weight in trials[goes_on].unbind(-1)], -1)
        score[several] = order_by_loss(budgets[several], accepted, goes_on)
    return score.argsort(dim=-1, stable=True)


def order_by_budget(budgets: Tensor) -> Tensor:
    """Order ``(r, c)`` of siblings that all go on: the larger budget first."""
    return _on_grid(-budgets).argsort(dim=-1, stable=True)


def trial_weights(budgets: Tensor, count: int) -> Tensor:
    """Weights ``(r, c, count + 1)`` from the budget to 1 at which siblings are tried."""
    steps = torch.arange(count + 1, device=budgets.device, dtype=budgets.dtype) / count
    return budgets[..., None] + (1 - budgets[..., None]) * steps


def order_by_loss(budgets: Tensor, accepted: Tensor, goes_on: Tensor) -> Tensor:
    """Scores ``(r, c)``, ascending in the order of turns; infinite for columns without a turn.

    Args:
        budgets: Budgets ``(r, c)``.
        accepted: Accepted masses at the trial weights ``(r, c, k)``; 0 where no turn is taken.
        goes_on: Columns that take a turn ``(r, c)``.
    """
    alone = accepted[..., 0]
    left = (1 - alone).clamp_min(1e-300)
    later = _interpolate(accepted, budgets, (budgets[:, None] / left[:, :, None]).clamp_max(1.0))
    # [i, j]: log of what turns i then j leave
    product = left.log()[:, :, None] + (1 - later).clamp_min(1e-300).log()
    both = goes_on[:, :, None] & goes_on[:, None]
    score = torch.where(both, product - product.mT, 0.0).sum(-1)
    return torch.where(goes_on, _on_grid(score), torch.inf)


def _on_grid(score: Tensor) -> Tensor:
    """Scores on a fine grid, so that ties stay ties whatever rounding has done to them."""
    return (score * _GRID).round()


def _interpolate(values: Tensor, start: Tensor, weight: Tensor) -> Tensor:
    """Values ``(r, c, k)`` on even grids from ``start (r, c)`` to 1, interpolated at ``weight (r, i, c)``."""
    count = values.shape[-1] - 1
    width = (1 - start).clamp_min(1e-300)[:, None]
    position = ((weight - start[:, None]) / width * count).clamp(0, count)
    cell = position.floor().clamp_max(count - 1).long()
    grid = values[:, None].expand(-1, weight.shape[1], -1, -1)
    low, high = (grid.gather(-1, (cell + k)[..., None])[..., 0] for k in (0, 1))
    return low + (high - low) * (position - cell)
