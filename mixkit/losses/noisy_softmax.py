"""Noise on the logit of the right label, which keeps a softmax from saturating early."""

import torch
from torch import Tensor

from .._validation import at_least_float32, check_indices, check_last_dim, check_non_negative, check_tensor
from ..numerics.randomness import Randomness, as_generator

__all__ = ["noisy_softmax_logits"]


def noisy_softmax_logits(
    x: Tensor,  # (*batch, d)
    weight: Tensor,  # (v, d)
    labels: Tensor,  # (*batch,)
    *,
    scale: float = 0.1,
    generator: Randomness = None,
) -> Tensor:  # (*batch, v)
    r"""Logits of a linear classifier, the right label's lowered by annealed noise.

    .. math:: s_y = w_y^\top x - \alpha \lVert w_y \rVert \lVert x \rVert (1 - \cos\theta_y) |\xi|,
        \qquad \xi \sim N(0, 1), \quad s_j = w_j^\top x \; (j \ne y),

    with :math:`\theta_y` the angle between x and :math:`w_y`. The noise depends on the label, and anneals by itself: as
    x turns towards its label it vanishes. It is never in favor of the label, so that examples that are fitted already
    go on having a gradient. For training; in evaluation use the plain logits.

    Args:
        x: representations ``(*batch, d)``.
        weight: w ``(v, d)``.
        labels: y, integers ``(*batch,)`` from 0 to v - 1.
        scale: :math:`\alpha`, at least 0; 0 for the plain logits.
        generator: source of the noise, or a seed; torch's default when None.

    Returns:
        ``(*batch, v)``, in the dtype of x. The noise's factor is differentiated like the rest.

    Raises:
        ValueError: if a shape does not fit, a label is out of range, or ``scale`` is negative.

    References:
        Chen, Deng and Du (2017), arXiv 1708.03769 (Noisy Softmax).

    Example:
        >>> x, weight = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.eye(2)
        >>> noisy_softmax_logits(x, weight, torch.tensor([0, 1]), generator=0)  # both point at their labels: no noise
        tensor([[1., 0.],
                [0., 2.]])
    """
    check_last_dim("x", check_tensor("x", x), check_tensor("weight", weight).shape[-1], "features, as weight has,")
    check_indices("labels", labels, weight.shape[0])
    if labels.shape != x.shape[:-1]:
        raise ValueError(f"labels must have shape {tuple(x.shape[:-1])}, got {tuple(labels.shape)}")
    scale, source = check_non_negative("scale", scale), as_generator(generator, x.device)
    wide, of_label = at_least_float32(x), at_least_float32(weight)[labels]
    lengths = torch.linalg.vector_norm(wide, dim=-1) * torch.linalg.vector_norm(of_label, dim=-1)
    gap = (lengths - (wide * of_label).sum(-1)).clamp(min=0.0)  # the product of the lengths times 1 - cos
    noise = torch.randn(gap.shape, dtype=gap.dtype, device=gap.device, generator=source).abs()
    logits = at_least_float32(x @ weight.mT)
    index = labels.unsqueeze(-1).long()
    return logits.scatter_add(-1, index, -(scale * noise * gap).unsqueeze(-1)).to(x.dtype)
