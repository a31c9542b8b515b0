"""Sums in log space whose gradients stay finite where every term is -inf."""

import torch
from torch import Tensor

__all__ = ["log_expm1", "log_one_minus_exp_neg_exp", "safe_log", "safe_logsumexp"]


def safe_log(value: Tensor) -> Tensor:
    """``log(value)`` for ``value >= 0``: -inf at zero, where the gradient is zero."""
    positive = value > 0
    return torch.where(positive, torch.where(positive, value, 1.0).log(), -torch.inf)


def safe_logsumexp(scores: Tensor, dim: int = -1, *, keepdim: bool = False) -> Tensor:
    """``logsumexp`` that is -inf with zero gradient where all terms are -inf (torch's gradient is NaN there)."""
    top = scores.detach().amax(dim, keepdim=True)
    top = top.masked_fill(torch.isneginf(top), 0.0)
    total = safe_log((scores - top).exp().sum(dim, keepdim=True)) + top
    return total if keepdim else total.squeeze(dim)


def log_expm1(value: Tensor) -> Tensor:
    r""":math:`\log(e^x - 1)` of ``value >= 0``, -inf at zero; of large values the value itself, not an overflow."""
    large = value > 1.0
    small = torch.where(large, 1.0, value).expm1().log()
    at_least_one = torch.where(large, value, 1.0)
    return torch.where(large, at_least_one + torch.log(-torch.expm1(-at_least_one)), small)


def log_one_minus_exp_neg_exp(log_rate: Tensor) -> Tensor:
    r""":math:`\log(1 - e^{-x})` at :math:`x = e^{\text{log\_rate}}`: the log-probability of an arrival in unit time.

    Right for any magnitude: for tiny x it is :math:`\log x - x / 2 + x^2 / 24`, for huge x it is 0.
    """
    small, large = log_rate < -12.0, log_rate > 0.0
    rate = log_rate.clamp(max=7.0).exp()
    tiny = log_rate - rate / 2.0 + rate.square() / 24.0
    middle = (-torch.expm1(-torch.where(small | large, 1.0, rate))).log()
    huge = torch.log1p(-(-torch.where(large, rate, 1.0)).exp())
    return torch.where(small, tiny, torch.where(large, huge, middle))
