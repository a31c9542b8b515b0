"""The search for the ends of profile-likelihood intervals."""

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["EndSearch"]

_MAX_ROUNDS = 60
_ROOT_TOL = 1e-6  # of the root of the deviance; the end's error is about this many standard errors
_FARTHEST = 1e6  # units from the estimate at which a profile that has not dropped is taken never to drop
_FAR = 100.0  # units from the estimate beyond which a profile that no longer changes is taken never to drop
_FLAT = 1e-6  # change of the root of the deviance from one step to the next that counts as none
_JUMP = 1e-2  # distance of the root of the deviance from the level, on both sides of which no refit ended
_HIGHER = 1e-6  # gain in log-likelihood above the fit's, relative, that says the fit is no maximum


class EndSearch:
    """Where m deviances, each a function of the signed distance from the estimate, reach a level.

    The root of twice the drop in log-likelihood is nearly linear in the distance, so the search brackets the level by
    growing steps and then takes secants of the root (the Illinois variant of regula falsi).

    Args:
        unit: first guesses of one standard error, negative on the lower side, ``(m,)``.
        root: the square root of the chi-square quantile.

    Attributes:
        rose: which searches met a likelihood higher than the fit's, ``(m,)`` bool.
    """

    def __init__(self, unit: Tensor, root: float) -> None:
        self.unit, self.root = unit, root
        self._inside, self._inside_gap = torch.zeros_like(unit), torch.full_like(unit, -root)
        self._outside, self._outside_gap = torch.full_like(unit, torch.inf), torch.full_like(unit, torch.inf)
        self._end = torch.full_like(unit, torch.nan)
        self._done = torch.zeros_like(unit, dtype=torch.bool)
        self._last_side = torch.zeros_like(unit)
        self.rose = torch.zeros_like(self._done)

    def rounds(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Indices ``(a,)`` of the searches still open, and the distances ``(a,)`` at which to refit next."""
        for _ in range(_MAX_ROUNDS):
            active = (~self._done).nonzero().squeeze(-1)
            if not len(active):
                return
            yield active, self._proposal()[active]

    def _proposal(self) -> Tensor:
        """The secant's root inside a bracket, its middle where the outer value is infinite, else a longer step."""
        reached = (self._inside_gap + self.root) / self.root  # share of the level reached by the best point inside
        growth = (1.1 / reached.clamp(min=1e-3)).clamp(1.2, 4.0)
        longer = torch.where(self._inside == 0, 0.5 * self.root * self.unit, self._inside * growth)
        share = -self._inside_gap / (self._outside_gap - self._inside_gap)
        share = torch.where(torch.isfinite(self._outside_gap), share, 0.5).clamp(0.01, 0.99)
        within = self._inside + share * (self._outside - self._inside)
        return torch.where(torch.isfinite(self._outside), within, longer)

    def tell(self, active: Tensor, distance: Tensor, drop: Tensor, converged: Tensor) -> Tensor:
        """Take in the drops in log-likelihood ``(a,)`` at the distances asked for; returns which lie inside."""
        rose = drop < -_HIGHER * (1.0 + drop.abs())
        gap = (2.0 * drop.clamp(min=0.0)).sqrt() - self.root
        gap = torch.where(torch.isfinite(drop), gap, torch.inf)
        inside = gap < 0
        is_flat = inside & torch.isinf(self._outside_gap[active]) & ((gap - self._inside_gap[active]).abs() < _FLAT)
        self._narrow(active, distance, gap, inside)
        width = (self._outside[active] - self._inside[active]).abs()
        steps = distance.abs() / self.unit[active].abs()
        is_found = (gap.abs() < _ROOT_TOL) | (width < 1e-9 * self.unit[active].abs())
        is_endless = inside & ((steps > _FARTHEST) | is_flat & (steps > _FAR))
        jumps = torch.isfinite(gap) & (gap.abs() > _JUMP)  # refits on two branches meet here, not the level
        end = torch.where(converged & ~jumps, distance, torch.nan)
        end = torch.where(is_endless, torch.inf * torch.sign(distance), end)
        end = torch.where(rose, torch.nan, end)
        finished = is_found | is_endless | rose
        self._end[active] = torch.where(finished, end, self._end[active])
        self._done[active] = finished
        self.rose[active] = rose
        return inside

    def _narrow(self, active: Tensor, distance: Tensor, gap: Tensor, inside: Tensor) -> None:
        side = torch.where(inside, -1.0, 1.0).to(gap)
        again = side == self._last_side[active]
        inner, outer = active[inside], active[~inside]
        self._inside[inner], self._inside_gap[inner] = distance[inside], gap[inside]
        self._outside[outer], self._outside_gap[outer] = distance[~inside], gap[~inside]
        stale_outer, stale_inner = active[inside & again], active[~inside & again]
        self._outside_gap[stale_outer] *= 0.5
        self._inside_gap[stale_inner] *= 0.5
        self._last_side[active] = side

    def ends(self) -> Tensor:
        """Signed distances of the ends ``(m,)``; infinite where the level is never reached, NaN where not found."""
        return self._end
