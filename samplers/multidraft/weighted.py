"""The weighted verifier, for independent drafts that differ."""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import torch
from torch import Tensor

from mixkit._validation import check_integer, check_positive

from ..node import Node
from ..sources import Source
from .base import CanonicalVerifier, Selection

_GAIN = 2.0
_STEP = 0.25
_LEFT, _RIGHT = 39.0, 4.0


class WeightedVerifier(CanonicalVerifier):
    r"""Selects draft $i$ with probability $w(X_i) / \sum_j w(X_j)$, where each draft has its own law $p_i$.

    The law of the selected token is a one-dimensional integral,
    $x(y) = \sum_i p_i(y) \int_0^\infty w(y) e^{-s w(y)} \prod_{j \ne i} \phi_j(s) \, ds$ with
    $\phi_j(s) = \sum_y p_j(y) e^{-s w(y)}$, computed to about 1e-15 by the trapezoid rule in $\log s$. Weights take
    values on a grid, so the integral is two matrix products whatever the vocabulary is. They are found by the fixed
    point $\log w \leftarrow \log w + 2 \log(q/x)$; the best step is kept. Whatever the weights, $x$ is exact and the
    output lossless.

    Args:
        steps: Steps of the fixed point.
        levels: Values that a weight can take.
        span: The values cover $|\log w| \le$ span.

    Source: importance-weighted selection is Khisti et al. (2024), arXiv 2410.18234, section 4; the integral and the
    fixed point were derived for this package.

    Example:
        >>> import torch
        >>> target, drafts = torch.tensor([[0.5, 0.5]]), torch.tensor([[[0.9, 0.1], [0.2, 0.8]]])
        >>> bool(WeightedVerifier().acceptance(target, drafts) > 0.99)
        True
    """

    def __init__(self, *, steps: int = 30, levels: int = 1024, span: float = 12.0):
        self.steps = check_integer("steps", steps, low=0)
        self.levels = check_integer("levels", levels, low=2)
        self.span = float(check_positive("span", span))

    def selection(self, node: Node) -> Selection:
        """Solve for the weights of a node."""
        target, drafts, active = node.target, node.drafts, node.active
        width = 2 * self.span / (self.levels - 1)
        common = torch.minimum(target, drafts.sum(-2))
        log_weight = self._centre(_log_ratio(target, drafts.sum(-2)), common)
        best, best_level = torch.full_like(target[:, 0], -1.0), torch.zeros_like(target, dtype=torch.long)
        best_marginal = target
        for step in range(self.steps + 1):
            level = ((log_weight + self.span) / width).round().long()
            marginal = weighted_marginal(level, drafts, active, self.levels, self.span)
            value = torch.minimum(marginal, target).sum(-1)
            better = value > best
            best = torch.where(better, value, best)
            best_level = torch.where(better[:, None], level, best_level)
            best_marginal = torch.where(better[:, None], marginal, best_marginal)
            if step < self.steps:
                log_weight = self._centre(log_weight + _GAIN * _log_ratio(target, marginal), common)
        return WeightedSelection(best_level.to(target.dtype) * width, best_marginal)

    def _centre(self, log_weight: Tensor, common: Tensor) -> Tensor:
        """Shift so that tokens likely under target and drafts lie mid-grid; clip what lies beyond."""
        finite = log_weight.clamp(-1e3, 1e3)
        mean = (common * finite).sum(-1, keepdim=True) / common.sum(-1, keepdim=True).clamp_min(1e-300)
        return (finite - mean).clamp(-self.span, self.span)


def _log_ratio(target: Tensor, marginal: Tensor) -> Tensor:
    """Return ``log(target / marginal)``, 0 where no draft holds the token."""
    return torch.where(marginal > 0, target.log() - marginal.clamp_min(1e-300).log(), 0.0)


@dataclass(frozen=True)
class WeightedSelection:
    """Selects a draft with probability proportional to its token's weight.

    Attributes:
        log_weight: Log-weights ``(r, v)``.
        marginal: Law of the selected token ``(r, v)``.
    """

    log_weight: Tensor
    marginal: Tensor

    def select(self, tokens: Tensor, active: Tensor, source: Source) -> Tensor:
        """Draw one of the active drafts."""
        log_weight = self.log_weight.gather(-1, tokens).masked_fill(~active, -torch.inf)
        return source.choose(log_weight.softmax(-1))


def weighted_marginal(level: Tensor, drafts: Tensor, active: Tensor, levels: int, span: float) -> Tensor:
    r"""Law of the token selected by weights ``(r, v)``.

    Args:
        level: Place of each token's weight on the grid ``(r, v)``, in ``0..levels-1``.
        drafts: Draft probabilities ``(r, m, v)``.
        active: Drafts that take part ``(r, m)``.
        levels: Values of the grid.
        span: Its half-width in $\log w$.
    """
    survive, density = kernels(levels, span, level.device)
    index = level[:, None].expand_as(drafts)
    mass = drafts.new_zeros(*drafts.shape[:-1], levels).scatter_add(-1, index, drafts)
    phi = torch.where(active[..., None], mass @ survive, 1.0)
    others = torch.stack([_product_but(phi, i) for i in range(phi.shape[1])], 1)
    rate = (others @ density).gather(-1, index)
    return (drafts * rate).sum(-2)


def _product_but(factors: Tensor, left_out: int) -> Tensor:
    return torch.cat([factors[:, :left_out], factors[:, left_out + 1 :]], 1).prod(1)


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def kernels(levels: int, span: float, device: torch.device) -> tuple[Tensor, Tensor]:
    r"""Return $e^{-s w}$ ``(levels, n)`` and the quadrature weights times $s w e^{-s w}$ ``(n, levels)``."""
    count = ceil((_LEFT + _RIGHT + 2 * span) / _STEP)
    log_s = -span - _LEFT + _STEP * torch.arange(count, device=device, dtype=torch.float64)
    log_w = torch.linspace(-span, span, levels, device=device, dtype=torch.float64)
    product = (log_s + log_w[:, None]).exp()
    survive = (-product).exp()
    return survive, (_STEP * product * survive).mT.contiguous()
