"""The soft top-k operator: sigmoids with one threshold, which sum to K."""

import math
from typing import Any

import torch
from torch import Tensor

from .._checks import check_subset_logits, check_temperature
from .._steps import divide_by_temperature, in_float32_at_least
from ..tempered import TemperatureLike, Tempered
from .sampler import SubsetSampler

__all__ = ["SoftTopK", "soft_top_k"]


def soft_top_k(logits: Tensor, num_selected: int, temperature: float | Tensor = 1.0) -> Tensor:
    r"""A differentiable top-K mask, :math:`y_i = \operatorname{sigmoid}(\theta_i / \tau + t)` with t such that
    :math:`\sum_i y_i = K`.

    The threshold is bracketed by the K-th and the (K+1)-th largest score and found by bisection; the gradient is
    the exact one of the implicit function, :math:`\operatorname{diag}(v) - v v^\top / \sum v` with
    :math:`v = y (1 - y)`, and can be differentiated again.

    Args:
        logits: :math:`\theta` ``(*batch, k)``, -inf allowed, at least K finite ones a row.
        num_selected: K, from 1 to k.
        temperature: :math:`\tau > 0`, a number or a tensor that broadcasts to ``(*batch, 1)``.

    Returns:
        ``(*batch, k)`` in (0, 1), 0 at -inf, in the dtype of ``logits``; tends to the top-K mask as
        :math:`\tau \to 0`.

    Raises:
        ValueError: if ``num_selected`` is not in 1..k, a row has NaN, +inf or too few finite entries, or the
            temperature is not positive.

    References:
        Gupta, Khatri, Rawat, Bhojanapalli, Jain and Dhillon (2024), arXiv 2310.10636.

    Example:
        >>> soft_top_k(torch.tensor([2.0, 1.0, 0.0, -torch.inf]), 2)
        tensor([0.8585, 0.6906, 0.4509, 0.0000])
    """
    check_subset_logits(logits, num_selected)
    check_temperature(temperature)
    scores = divide_by_temperature(in_float32_at_least(logits), temperature)
    return _SoftTopK.apply(scores, num_selected).to(logits.dtype)


class _SoftTopK(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, num_selected: int) -> Tensor:
        return _threshold_sigmoid(scores, num_selected)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        slope = mask * (1.0 - mask)
        total = slope.sum(-1, keepdim=True)
        mean = (slope * grad).sum(-1, keepdim=True) / torch.where(total > 0, total, 1.0)
        return slope * (grad - mean), None


def _threshold_sigmoid(scores: Tensor, num_selected: int) -> Tensor:
    if num_selected == scores.shape[-1]:
        return torch.ones_like(scores)
    top = scores.topk(num_selected + 1, dim=-1).values
    kth, following = top[..., -2:-1], top[..., -1:]
    forced = torch.isneginf(following)  # exactly K finite entries: the mask is theirs
    following = torch.where(forced, kth, following)
    threshold = _bisect(scores - kth, following - kth, num_selected)
    return torch.where(forced, (scores >= kth).to(scores), torch.sigmoid(scores - kth + threshold))


def _bisect(scores: Tensor, following: Tensor, num_selected: int) -> Tensor:
    """The t at which ``sigmoid(scores + t)`` sums to K; the K-th largest score is 0, the next ``following``."""
    low = torch.full_like(following, -math.log(scores.shape[-1] - num_selected))
    high = math.log(num_selected) - following
    for _ in range(64 if scores.dtype == torch.float64 else 40):
        middle = (low + high) / 2.0
        above = torch.sigmoid(scores + middle).sum(-1, keepdim=True) > num_selected
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low + high) / 2.0


class SoftTopK(Tempered, SubsetSampler):
    """The deterministic operator :func:`soft_top_k` where a sampler is asked for; the generator plays no part.

    Args:
        temperature: a positive number or a :class:`mixkit.gates.temperatures.Temperature`.

    Example:
        >>> SoftTopK(0.1)(torch.tensor([3.0, 2.0, 1.0]), 2).round(decimals=2)
        tensor([1.0000, 0.9900, 0.0100])
    """

    def __init__(self, temperature: TemperatureLike = 1.0) -> None:
        super().__init__(temperature)

    def forward(self, logits: Tensor, num_selected: int, generator: torch.Generator | None = None) -> Tensor:
        """A soft mask ``(*batch, k)``."""
        return soft_top_k(logits, num_selected, self.temperature_at(logits))
