"""Normalisers that divide a positive function of each score by its sum."""

import torch
from torch import Tensor

from .base import Normalizer

__all__ = ["Softmax"]


class Softmax(Normalizer):
    r"""The softmax, :math:`w_j = e^{s_j} / \sum_i e^{s_i}`.

    Example:
        >>> import torch
        >>> Softmax()(torch.tensor([0.0, 0.0, -torch.inf])).exp()
        tensor([0.5000, 0.5000, 0.0000])
    """

    shift_invariant = True

    def log_weights(self, scores: Tensor) -> Tensor:
        """Log-weights ``(..., k)``."""
        return torch.log_softmax(scores, -1)
