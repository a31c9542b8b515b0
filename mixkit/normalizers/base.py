"""What every normaliser is."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from .._precision import at_least_float32
from .._validation import can_read_values, check_tensor

__all__ = ["Normalizer"]


class Normalizer(nn.Module, ABC):
    """Maps scores ``(..., k)`` to log-weights of the same shape that sum to 1 after exp along the last dimension.

    Log-weights of float16 and bfloat16 scores are float32: what rounding adds to a log-weight it multiplies the weight
    by, up to 3% in bfloat16 for a log-weight of -9. Others have the dtype of the scores.

    A score of -inf gets a log-weight of -inf, and gradients stay finite there. A normaliser has one required method,
    ``log_weights``, which may rely on the checks that ``forward`` makes.

    Attributes:
        shift_invariant: whether adding a constant to all scores of a row leaves the weights unchanged.
    """

    shift_invariant: bool

    @abstractmethod
    def log_weights(self, scores: Tensor) -> Tensor:
        """Log-weights of scores that have been checked, and are in float32 at least."""

    def forward(self, scores: Tensor) -> Tensor:
        """Log-weights ``(..., k)``, in float32 at least.

        Raises:
            TypeError: if ``scores`` is not a tensor of floating dtype.
            ValueError: if a row of ``scores`` holds NaN or +inf, or nothing but -inf.
        """
        check_rows(check_tensor("scores", scores))
        return self.log_weights(at_least_float32(scores))


def check_rows(scores: Tensor) -> Tensor:
    """Return ``scores`` if the largest entry of every row is finite, which rules out NaN, +inf and all -inf at once."""
    if not can_read_values(scores):
        return scores
    if scores.ndim == 0 or scores.shape[-1] == 0:
        raise ValueError(f"scores must have experts in their last dimension, got shape {tuple(scores.shape)}")
    bad = ~torch.isfinite(scores.detach().amax(-1))
    if bad.any():
        first = tuple(bad.nonzero()[0].tolist())
        raise ValueError(
            f"scores must hold no NaN, no +inf and at least one finite entry in every row, "
            f"got {int(bad.sum())} rows that do not, the first at index {first}"
        )
    return scores
