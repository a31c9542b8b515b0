"""What every normalizer is."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ..._validation import at_least_float32, can_read_values, check_tensor
from ...parameters import Computation
from ..router_losses import check_mask

__all__ = ["Normalizer"]


class Normalizer(Computation, nn.Module, ABC):
    """Maps scores ``(..., k)`` to log-weights of the same shape that sum to 1 after exp along the last dimension.

    Log-weights of float16 and bfloat16 scores are float32: what rounding adds to a log-weight it multiplies the weight
    by, up to 3% in bfloat16 for a log-weight of -9. Others have the dtype of the scores.

    A score of -inf gets a log-weight of -inf, and gradients stay finite there. A normalizer has one required method,
    ``log_weights``, which may rely on the checks that ``forward`` makes.

    Attributes:
        shift_invariant: whether adding a constant to all scores of a row leaves the weights unchanged. A statement
            about the computation, which a subclass that overrides it does not inherit.
        couples_rows: whether the weights of a row depend on the other rows. Such a normalizer writes
            ``masked_log_weights``, too.
    """

    computed_by = ("forward", "log_weights", "masked_log_weights")
    statements = ("shift_invariant",)
    shift_invariant: bool = False
    couples_rows: bool = False

    @abstractmethod
    def log_weights(self, scores: Tensor) -> Tensor:
        """Log-weights of scores that have been checked, and are in float32 at least."""

    def masked_log_weights(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Log-weights of checked scores, to which the rows that ``mask (*batch, n)`` leaves out add nothing."""
        raise NotImplementedError(f"{type(self).__name__} couples rows, so it must have masked_log_weights")

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-weights ``(..., k)``, in float32 at least.

        Args:
            scores: ``(..., k)``, -inf where an expert is not selected.
            mask: True where a row counts, broadcastable to ``scores`` less its last dimension; all count if None. The
                others have weights that sum to 1, too, but no part in those of the rest.

        Raises:
            TypeError: if ``scores`` is not a tensor of floating dtype, or ``mask`` not a boolean one.
            ValueError: if a row of ``scores`` holds NaN or +inf, or nothing but -inf, or ``mask`` does not broadcast.
        """
        check_rows(check_tensor("scores", scores))
        wide = at_least_float32(scores)
        if mask is None or not self.couples_rows:
            return self.log_weights(wide)
        return self.masked_log_weights(wide, check_mask(mask, scores.shape[:-1]))


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
