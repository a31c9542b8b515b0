"""Normalizers that reach exact zeros at finite scores: sparsemax and alpha-entmax."""

from typing import Any

import torch
from torch import Tensor

from ..._validation import can_read_values, check_positive
from .base import Normalizer

__all__ = ["Entmax", "Sparsemax"]


class _LogEntmax(torch.autograd.Function):
    r"""Log-weights of alpha-entmax; derivatives are written in the output, so those of all orders are exact.

    With :math:`w_j = [(\alpha - 1) s_j - \tau]_+^{1/(\alpha - 1)}` and :math:`q_j = w_j^{2 - \alpha}` on the support,
    :math:`\partial \log w_i / \partial s_j = w_i^{1 - \alpha} (\delta_{ij} - q_j / \sum_l q_l)`.
    """

    @staticmethod
    def forward(scores: Tensor, alpha: float) -> Tensor:
        return _solve(scores, alpha)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)
        ctx.alpha = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        support, stretch, shares = _jacobian(ctx.saved_tensors[0], ctx.alpha)
        pulled = torch.where(support, gradients[0], 0.0) * stretch
        return pulled - shares * pulled.sum(-1, keepdim=True), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        support, stretch, shares = _jacobian(ctx.saved_tensors[0], ctx.alpha)
        tangent = torch.where(support, tangents[0], 0.0)
        return stretch * (tangent - (shares * tangent).sum(-1, keepdim=True))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, None], scores: Tensor, alpha: float) -> tuple[Tensor, int]:
        return _LogEntmax.apply(scores.movedim(in_dims[0], 0), alpha), 0


def log_entmax(scores: Tensor, alpha: float) -> Tensor:
    """Log-weights of alpha-entmax; a compiler is shown arithmetic, which it can differentiate in every way."""
    return _traceable(scores, alpha) if torch.compiler.is_compiling() else _LogEntmax.apply(scores, alpha)


def _traceable(scores: Tensor, alpha: float) -> Tensor:
    """The threshold by a fixed number of steps; two more of length zero give its first and second derivatives."""
    levels, power = (alpha - 1.0) * (scores - scores.detach().amax(-1, keepdim=True)), 1.0 / (alpha - 1.0)
    rise = _rise_in_fixed_steps(levels.detach(), power)
    support = levels > rise - 1.0
    for _ in range(2):
        excess = torch.where(support, 1.0 + levels - rise, 1.0)
        total = torch.where(support, excess.pow(power), 0.0).sum(-1, keepdim=True)
        slope = power * torch.where(support, excess.pow(power - 1.0), 0.0).sum(-1, keepdim=True)
        rise = rise + (total - total.detach()) / slope
    log_weights = torch.log1p(torch.where(support, levels - rise, 0.0)) / (alpha - 1.0)
    return torch.log_softmax(log_weights.masked_fill(~support, -torch.inf), -1)


def _rise_in_fixed_steps(levels: Tensor, power: float) -> Tensor:
    """As :func:`_rise`, by bisection, which no value may cut short, and Newton's iteration from its lower end."""
    low = torch.zeros_like(levels[..., :1])
    high = torch.ones_like(low)
    for _ in range(26):
        middle = (low + high) / 2.0
        above = (1.0 + levels - middle).clamp(min=0.0).pow(power).sum(-1, keepdim=True) >= 1.0
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return _rise(levels, power, max_iterations=4, start=low)


def _jacobian(log_weights: Tensor, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    """The support, :math:`w^{1 - alpha}` (0 off the support), and q divided by its sum."""
    support = log_weights > -torch.inf
    inside = torch.where(support, log_weights, 0.0)
    stretch = torch.where(support, ((1.0 - alpha) * inside).exp(), 0.0)
    return support, stretch, torch.softmax(torch.where(support, (2.0 - alpha) * inside, -torch.inf), -1)


def _solve(scores: Tensor, alpha: float) -> Tensor:
    """The log-weights; the threshold is found for scores moved so that the largest is 0."""
    levels = (alpha - 1.0) * (scores - scores.amax(-1, keepdim=True))
    excess = levels - _rise(levels, 1.0 / (alpha - 1.0))  # less 1, which log1p adds: exact as alpha nears 1
    return torch.log_softmax(torch.log1p(excess.clamp(min=-1.0)) / (alpha - 1.0), -1)


def _rise(levels: Tensor, power: float, max_iterations: int = 100, start: Tensor | None = None) -> Tensor:
    r"""The :math:`\delta = 1 + \tau` at which :math:`h(\delta) = \lVert [1 + z - \delta]_+ \rVert_p` is 1.

    The largest z is 0. For :math:`p \ge 1`, h is convex and decreasing, so Newton's iteration from 0, or any start at
    which :math:`h \ge 1`, rises to the root without passing it; it stops when no row rises any more.
    """
    top, rise = 1.0 + levels, torch.zeros_like(levels[..., :1]) if start is None else start
    for _ in range(max_iterations):
        excess = (top - rise).clamp(min=0.0)
        inner = (excess > 0.0).to(excess) if power == 1.0 else excess.pow(power - 1.0)
        norm = (inner * excess).sum(-1, keepdim=True).pow(1.0 / power)
        slope = inner.sum(-1, keepdim=True) / norm.pow(power - 1.0)
        step = ((norm - 1.0) / slope).clamp(min=0.0)
        rise = rise + step
        if can_read_values(step) and not (step > torch.finfo(levels.dtype).eps).any():
            break
    return rise


class Entmax(Normalizer):
    r"""The alpha-entmax, :math:`w_j = [(\alpha - 1) s_j - \tau]_+^{1/(\alpha - 1)}`; :math:`\tau` makes w sum to 1.

    From Peters, Niculae and Martins (2019), arXiv 1905.05702, equation 10. Between the softmax (:math:`\alpha \to 1`)
    and the sparsemax (:math:`\alpha = 2`); the larger :math:`\alpha`, the more weights are exactly zero. First and
    second derivatives are exact wherever they exist, that is, off the boundaries of the support.

    Args:
        alpha: above 1 and at most 2.

    Raises:
        ValueError: if ``alpha`` is not in (1, 2].

    Example:
        >>> import torch
        >>> Entmax(1.5)(torch.tensor([2.0, 1.0, -1.0])).exp()
        tensor([0.8307, 0.1693, 0.0000])
    """

    shift_invariant = True

    def __init__(self, alpha: float = 1.5) -> None:
        super().__init__()
        self.alpha = float(check_positive("alpha", alpha))
        if not 1.0 < self.alpha <= 2.0:
            raise ValueError(f"alpha must be above 1 and at most 2, got {alpha}")

    def log_weights(self, scores: Tensor) -> Tensor:
        """Log-weights ``(..., k)``, -inf off the support."""
        return log_entmax(scores, self.alpha)

    def extra_repr(self) -> str:
        """The setting shown by ``repr``."""
        return f"alpha={self.alpha:g}"


class Sparsemax(Normalizer):
    r"""The sparsemax, :math:`w_j = [s_j - \tau]_+`: the point of the simplex nearest to the scores.

    From Martins and Astudillo (2016), arXiv 1602.02068, algorithm 1, here with the threshold found without sorting.

    Example:
        >>> import torch
        >>> Sparsemax()(torch.tensor([0.5, 0.25, -1.0])).exp()
        tensor([0.6250, 0.3750, 0.0000])
    """

    shift_invariant = True

    def log_weights(self, scores: Tensor) -> Tensor:
        """Log-weights ``(..., k)``, -inf off the support."""
        return log_entmax(scores, 2.0)
