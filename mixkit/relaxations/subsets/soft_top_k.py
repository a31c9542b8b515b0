"""The soft top-k operator: sigmoids with one threshold, which sum to K."""

import math

import torch
from torch import Tensor

from ..._validation import at_least_float32
from ...numerics.precision import wide_sum
from ...numerics.randomness import Randomness
from .._checks import check_subset_logits, check_temperature
from .._steps import divide_by_temperature
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
    wide = at_least_float32(logits)
    if num_selected == logits.shape[-1]:
        return torch.ones_like(logits) + 0.0 * torch.where(torch.isneginf(logits), 0.0, logits)
    kth = wide.detach().topk(num_selected, dim=-1).values.amin(-1, keepdim=True)
    scores = _within_reach(divide_by_temperature(wide - kth, temperature))
    return torch.sigmoid(scores + _threshold(scores, num_selected)).to(logits.dtype)


def _within_reach(scores: Tensor) -> Tensor:
    """Scores at distances from the K-th beyond which a sigmoid is 0 or 1 to the last digit, wherever the threshold."""
    reach = -2.0 * math.log(torch.finfo(scores.dtype).tiny) + 32.0
    absent = torch.isneginf(scores)
    return scores.masked_fill(absent, 0.0).clamp(-reach, reach).masked_fill(absent, -torch.inf)


def _threshold(scores: Tensor, num_selected: int) -> Tensor:
    """The t at which ``sigmoid(scores + t)`` sums to K, with its derivatives to third order.

    Bisection gives the value. Two steps of Newton's method follow, of length zero in value: each doubles the order to
    which the derivatives are those of the implicit function, so that none has to be written, in either mode.
    """
    threshold = _bisect(scores.detach(), num_selected)
    for _ in range(2):
        shifted = scores + threshold
        slope = wide_sum(torch.sigmoid(shifted) * torch.sigmoid(-shifted), keepdim=True)
        excess = _excess(scores, threshold, num_selected)
        flat = slope < torch.finfo(slope.dtype).tiny
        threshold = threshold - torch.where(flat, 0.0, (excess - excess.detach()) / torch.where(flat, 1.0, slope))
    return threshold


def _excess(scores: Tensor, threshold: Tensor, num_selected: int) -> Tensor:
    """The sum of ``sigmoid(scores + threshold)`` less K, as what the others have less what the top lacks of 1.

    So it has a sign even where all sigmoids are 0 or 1 to the last digit.
    """
    top, shifted = scores >= 0, scores + threshold
    parts = torch.where(top, -torch.sigmoid(-shifted), torch.sigmoid(shifted))
    return wide_sum(parts, keepdim=True) + (top.sum(-1, keepdim=True) - num_selected)


def _bisect(scores: Tensor, num_selected: int) -> Tensor:
    """The threshold; the K-th largest score is 0."""
    following = scores.topk(num_selected + 1, dim=-1).values[..., -1:]
    low = torch.full_like(following, -math.log(scores.shape[-1] - num_selected))
    high = math.log(num_selected) - following.clamp(min=torch.finfo(scores.dtype).min / 4)
    for _ in range(64 if scores.dtype == torch.float64 else 40):
        middle = (low + high) / 2.0
        above = _excess(scores, middle, num_selected) > 0
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

    def forward(self, logits: Tensor, num_selected: int, generator: Randomness = None) -> Tensor:
        """A soft mask ``(*batch, k)``."""
        return soft_top_k(logits, num_selected, self.temperature_at(logits))
