"""A softmax loss for several right labels at once, which do not compete with each other."""

import torch
from torch import Tensor

from .._validation import at_least_float32, can_read_values, check_no_nan, check_tensor
from ..numerics.log_space import safe_logsumexp
from ..numerics.precision import wide_sum

__all__ = ["decoupled_softmax_loss"]


def decoupled_softmax_loss(
    logits: Tensor,  # (*batch, v)
    positive: Tensor,  # (*batch, v)
) -> Tensor:  # (*batch,)
    r"""The mean over the right labels of the negative log-probability of each against the wrong ones alone.

    .. math:: L = \frac{1}{|P|} \sum_{l \in P} -\log \frac{e^{s_l}}{e^{s_l} + \sum_{j \notin P} e^{s_j}}.

    Under an ordinary softmax a label can be likely only at the cost of the other right ones; here each may have the
    probability 1, and with one right label the two losses are equal.

    Args:
        logits: s ``(*batch, v)``, -inf for a label that is out.
        positive: True for the right labels P, ``(*batch, v)``.

    Returns:
        ``(*batch,)``, in float32 at least; 0 where there is no right label.

    Raises:
        TypeError: if ``positive`` is not boolean.
        ValueError: if the shapes differ, ``logits`` hold NaN or +inf, or a right label has the logit -inf.

    References:
        Gupta, Khatri, Rawat, Bhojanapalli, Jain and Dhillon (2024), arXiv 2310.10636 (the decoupled softmax of DEXML).

    Example:
        >>> logits = torch.tensor([3.0, 3.0, 0.0, 0.0])
        >>> decoupled_softmax_loss(logits, torch.tensor([True, True, False, False]))
        tensor(0.0949)
    """
    if check_tensor("positive", positive, floating=False).dtype != torch.bool:
        raise TypeError(f"positive must be a boolean tensor, got {positive.dtype}")
    if check_tensor("logits", logits).shape != positive.shape:
        raise ValueError(f"positive must have the shape of logits {tuple(logits.shape)}, got {tuple(positive.shape)}")
    if can_read_values(logits):
        check_no_nan("logits", logits)
        if (positive & torch.isneginf(logits)).any():
            raise ValueError("positive must mark labels of finite logits only, got one at -inf")
    scores = at_least_float32(logits)
    others = safe_logsumexp(torch.where(positive, -torch.inf, scores), keepdim=True)
    losses = torch.nn.functional.softplus(others - torch.where(positive, scores, 0.0))
    count = positive.sum(-1).clamp(min=1)
    return wide_sum(torch.where(positive, losses, 0.0)) / count
