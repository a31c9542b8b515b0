"""Weights of tokens: the distribution of the token they select, and the weights that bring it near the target."""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, inf

import torch
from torch import Tensor

_DAMPING, _LONGEST_STEP = 0.8, 3.0
_MOST_TOKENS = 4096
_PROMISE, _SETTLED = 6e-3, 1e-4


@dataclass(frozen=True)
class WeightGrid:
    r"""Values that a weight can take: evenly spaced logs.

    Attributes:
        levels: How many.
        span: They cover :math:`|\log w| \le` span.

    Example:
        >>> grid = WeightGrid(levels=5, span=2.0)
        >>> grid.log_weight(grid.level(torch.tensor([-2.0, 0.9])))
        tensor([-2.,  1.])
    """

    levels: int
    span: float

    def level(self, log_weight: Tensor) -> Tensor:
        """Nearest place on the grid, in ``0..levels-1``, of log-weights within the span."""
        return ((log_weight + self.span) * ((self.levels - 1) / (2 * self.span))).round().long()

    def log_weight(self, level: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Log-weights of places on the grid."""
        return level.to(dtype) * (2 * self.span / (self.levels - 1)) - self.span

    def center(self, log_weight: Tensor, mass: Tensor) -> Tensor:
        """Shift log-weights ``(r, v)`` so that their mean under ``mass (r, v)`` is 0, but for those at the ends."""
        low, high = log_weight <= -self.span, log_weight >= self.span
        free = mass * ~(low | high)
        mean = (free * log_weight).sum(-1, keepdim=True) / free.sum(-1, keepdim=True).clamp_min(_tiny(mass))
        shifted = log_weight - torch.where(low | high, 0.0, mean)
        return shifted.clamp_(-self.span, self.span)


@dataclass(frozen=True)
class Laws:
    """Laws of a node, over all tokens or a sample of them.

    Attributes:
        target: Target probabilities ``(r, n)``.
        drafts: Draft probabilities ``(r, m, n)``, 0 for drafts that take no part.
        active: Drafts that take part ``(r, m)``.
        count: Tokens that each one stands for ``(r, n)``, or None where each stands for itself.
    """

    target: Tensor
    drafts: Tensor
    active: Tensor
    count: Tensor | None = None

    @property
    def common(self) -> Tensor:
        """Mass ``(r, n)`` that a selection can at most have in common with the target."""
        return self.weigh(torch.minimum(self.target, self.drafts.sum(-2)))

    @property
    def mass(self) -> Tensor:
        """Mass ``(r, m, n)`` that each token stands for under each draft."""
        if self.count is None:
            return self.drafts
        mass = self.drafts * self.count[:, None]
        return mass / mass.sum(-1, keepdim=True).clamp_min(_tiny(mass))

    def weigh(self, values: Tensor) -> Tensor:
        """Multiply values ``(r, n)`` by the number of tokens they stand for."""
        return values if self.count is None else values * self.count

    def sample(self) -> tuple["Laws", Tensor]:
        """Return, in float32, the tokens of most common mass with a regular sample of the others, and their ids.

        A token of the sample stands for as many as the step is long. Ids ``(r, n)`` may occur twice; one counts.
        """
        common, v = self.common.float(), self.target.shape[-1]
        ids = torch.arange(v, device=common.device).expand_as(common)
        count = None
        if v > _MOST_TOKENS:
            step = ceil(2 * v / _MOST_TOKENS)
            best = common.topk(_MOST_TOKENS // 2, -1).indices
            others = ids[:, step // 2 :: step]
            is_best = torch.zeros_like(common, dtype=torch.bool).scatter_(-1, best, True)
            count = torch.cat([torch.ones_like(best), step * ~is_best.gather(-1, others)], -1).float()
            ids = torch.cat([best, others], -1)
        drafts = self.drafts.gather(-1, ids[:, None].expand(-1, self.drafts.shape[1], -1))
        return Laws(self.target.gather(-1, ids).float(), drafts.float(), self.active, count), ids


@dataclass(frozen=True)
class Weights:
    """Weights of tokens, and what they select.

    Attributes:
        level: Places of the weights on the grid ``(r, n)``.
        rates: Probability that a draft is selected, by the level of its token's weight ``(r, m, levels)``.
        marginal: Distribution of the selected token ``(r, n)``.
        acceptance: Mass it has in common with the target ``(r,)``.
    """

    level: Tensor
    rates: Tensor
    marginal: Tensor
    acceptance: Tensor

    def better(self, other: "Weights", rows: Tensor) -> "Weights":
        """Take the other's weights in those of the rows ``(r,)`` where they accept more."""
        keep = (self.acceptance >= other.acceptance) | ~rows
        if keep.all():
            return self
        return Weights(
            torch.where(keep[:, None], self.level, other.level),
            torch.where(keep[:, None, None], self.rates, other.rates),
            torch.where(keep[:, None], self.marginal, other.marginal),
            torch.where(keep, self.acceptance, other.acceptance),
        )


def solve_weights(laws: Laws, grid: WeightGrid, steps: int) -> Weights:
    """Find weights by ``steps`` steps on a sample of the tokens; those outside it respond to the sample's rates.

    Rows where all tokens accept less than the sample promised take one more step, on all tokens.
    """
    sample, ids = laws.sample()
    found = climb(sample, grid, start_level(sample, grid), steps)
    if sample.count is None:
        return weigh(laws, grid, found.level)
    now = weigh(laws, grid, respond(laws, found.rates).scatter_(-1, ids, found.level))
    falls_short = now.acceptance < found.acceptance - _PROMISE
    if steps == 0 or not falls_short.any():
        return now
    return now.better(climb(laws, grid, now.level, 1), falls_short)


def start_level(laws: Laws, grid: WeightGrid) -> Tensor:
    """Levels ``(r, n)`` of the target over the sum of the drafts, or of 1 where no draft holds the token."""
    total = laws.drafts.sum(-2)
    ratio = torch.where(total > 0, laws.target.log() - total.clamp_min(_tiny(total)).log(), 0.0)
    return grid.level(grid.center(ratio.clamp(-grid.span, grid.span), laws.common))


def climb(laws: Laws, grid: WeightGrid, level: Tensor, steps: int) -> Weights:
    """Go towards the weights that would meet the target if the other drafts kept theirs; return the best on the way.

    A row stops where a step changes its acceptance by less than 1e-4, so that it does not depend on the other rows.
    """
    best = now = weigh(laws, grid, level)
    going = torch.ones_like(now.acceptance, dtype=torch.bool)
    common = laws.common.float()
    for _ in range(steps):
        log_weight, wanted = grid.log_weight(now.level), grid.log_weight(respond(laws, now.rates))
        step = (_DAMPING * (wanted - log_weight)).clamp_(-_LONGEST_STEP, _LONGEST_STEP)
        before, now = now, weigh(laws, grid, grid.level(grid.center(log_weight + step, common)))
        best = best.better(now, going)
        going &= (now.acceptance - before.acceptance).abs() > _SETTLED
        if not going.any():
            break
    return best


def weigh(laws: Laws, grid: WeightGrid, level: Tensor) -> Weights:
    """What weights at the given places on the grid ``(r, n)`` select."""
    rates = selection_rates(laws, grid, level)
    marginal = (laws.drafts * rates.gather(-1, level[:, None].expand_as(laws.drafts))).sum(-2)
    return Weights(level, rates, marginal, laws.weigh(torch.minimum(marginal, laws.target)).sum(-1))


def selection_rates(laws: Laws, grid: WeightGrid, level: Tensor) -> Tensor:
    r"""Probability ``(r, m, levels)`` that draft :math:`i` is selected if its token has a weight :math:`w` of the grid.

    It is :math:`\int_0^\infty w e^{-s w} \prod_{j \ne i} \phi_j(s) \, ds` with
    :math:`\phi_j(s) = \sum_y p_j(y) e^{-s w(y)}`, by the trapezoid rule in :math:`\log s`: to about 1e-15 for laws in
    float64, 1e-6 in float32.

    Args:
        laws: The laws.
        grid: The grid.
        level: Place of each token's weight on the grid ``(r, n)``.
    """
    survive, density = kernels(grid, laws.drafts.dtype, level.device)
    mass = laws.drafts.new_zeros(*laws.drafts.shape[:-1], grid.levels)
    mass.scatter_add_(-1, level[:, None].expand_as(laws.drafts), laws.mass)
    phi = torch.where(laws.active[..., None], mass @ survive, 1.0)
    others = torch.stack([_product_but(phi, i) for i in range(phi.shape[1])], 1)
    return others @ density


def respond(laws: Laws, rates: Tensor) -> Tensor:
    """Highest level ``(r, n)`` at which each token is selected no more often than the target wants, by bisection.

    The probability of a token ascends with its weight as long as the rates ``(r, m, levels)`` stay as they are.
    """
    target, drafts, levels = laws.target.float(), laws.drafts.float(), rates.shape[-1]
    half = 1 << (levels - 1).bit_length()
    rates = torch.nn.functional.pad(rates.float(), (0, half - levels), value=inf)
    level = torch.zeros_like(target, dtype=torch.long)
    while half := half >> 1:
        rate = rates.gather(-1, (level + half)[:, None].expand_as(drafts))
        level += half * ((drafts * rate).sum(-2) <= target)
    return level


def _product_but(factors: Tensor, left_out: int) -> Tensor:
    return torch.cat([factors[:, :left_out], factors[:, left_out + 1 :]], 1).prod(1)


def _tiny(values: Tensor) -> float:
    return torch.finfo(values.dtype).tiny


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def kernels(grid: WeightGrid, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    r"""Return :math:`e^{-s w}` ``(levels, n)``, and quadrature weights times :math:`s w e^{-s w}` ``(n, levels)``."""
    left, right, step = (39.0, 4.0, 0.25) if dtype == torch.float64 else (14.0, 3.0, 0.5)
    count = ceil((left + right + 2 * grid.span) / step)
    log_s = -grid.span - left + step * torch.arange(count, device=device, dtype=torch.float64)
    log_w = torch.linspace(-grid.span, grid.span, grid.levels, device=device, dtype=torch.float64)
    product = (log_s + log_w[:, None]).exp()
    survive = (-product).exp()
    return survive.to(dtype), (step * product * survive).mT.contiguous().to(dtype)
