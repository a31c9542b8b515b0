"""The weighted verifier, for independent drafts that differ."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixkit._validation import check_integer, check_positive

from ..node import Node
from ..sources import RandomSource
from .base import CanonicalVerifier, Selection
from .weights import Laws, WeightGrid, solve_weights


class WeightedVerifier(CanonicalVerifier):
    r"""Selects draft :math:`i` with probability :math:`w(X_i) / \sum_j w(X_j)`, where each draft has its own
    distribution :math:`p_i`.

    The distribution of the selected token is :math:`x(y) = \sum_i p_i(y) R_i(w(y))` with the one-dimensional integrals
    :math:`R_i(w) = \int_0^\infty w e^{-s w} \prod_{j \ne i} \phi_j(s) \, ds` and
    :math:`\phi_j(s) = \sum_y p_j(y) e^{-s w(y)}`, computed to about 1e-15 by the trapezoid rule in :math:`\log s`.
    Weights take values on a grid, so the rates :math:`R_i` are two matrix products whatever the vocabulary is. Each
    step moves every :math:`\log w(y)` towards the solution of :math:`x(y) = q(y)` at the rates as they are, found by
    bisection since rates ascend with the weight; the best weights on the way are kept. Steps are taken on up to 4,096
    tokens that stand for all, and the others respond to the rates found. Whatever the weights, :math:`x` is exact and
    the output lossless.

    Args:
        steps: Most steps towards the target.
        levels: Values that a weight can take.
        span: The values cover :math:`|\log w| \le` span.

    Source: importance-weighted selection is Khisti et al. (2024), arXiv 2410.18234, section 4; the integral and the
    steps were derived for this package.

    Example:
        >>> import torch
        >>> target, drafts = torch.tensor([[0.5, 0.5]]), torch.tensor([[[0.9, 0.1], [0.2, 0.8]]])
        >>> bool(WeightedVerifier().acceptance(target, drafts) > 0.99)
        True
    """

    def __init__(self, *, steps: int = 10, levels: int = 1024, span: float = 12.0):
        self.steps = check_integer("steps", steps, low=0)
        self.levels = check_integer("levels", levels, low=2)
        self.span = float(check_positive("span", span))

    def selection(self, node: Node) -> Selection:
        """Solve for the weights of a node."""
        laws, grid = Laws(node.target, node.drafts, node.active), WeightGrid(self.levels, self.span)
        found = solve_weights(laws, grid, self.steps)
        return WeightedSelection(grid.log_weight(found.level, torch.float64), found.marginal)


@dataclass(frozen=True)
class WeightedSelection:
    """Selects a draft with probability proportional to its token's weight.

    Attributes:
        log_weight: Log-weights ``(r, v)``.
        marginal: Distribution of the selected token ``(r, v)``.
    """

    log_weight: Tensor
    marginal: Tensor

    def select(self, tokens: Tensor, active: Tensor, source: RandomSource) -> Tensor:
        """Draw one of the active drafts."""
        log_weight = self.log_weight.gather(-1, tokens).masked_fill(~active, -torch.inf)
        return source.choose(log_weight.softmax(-1))
