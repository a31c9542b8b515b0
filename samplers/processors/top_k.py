"""Top-k."""

from torch import Tensor

from mixkit._validation import check_integer

from .base import LowerTruncation
from .ordering import largest_value


class TopK(LowerTruncation):
    """Keep the tokens whose score is at least the ``k``-th largest (Fan et al. 2018, arXiv 1805.04833).

    Ties at the k-th value are all kept, as in transformers' ``TopKLogitsWarper``.

    Args:
        top_k: How many to keep, at least 1; more than ``v`` keeps all.
        min_tokens_to_keep: Keep at least so many.

    Example:
        >>> import torch
        >>> TopK(2).process(torch.tensor([0.0, 1.0, 2.0, 1.0]))
        tensor([-inf, 1., 2., 1.])
    """

    def __init__(self, top_k: int, min_tokens_to_keep: int = 1) -> None:
        super().__init__(min_tokens_to_keep)
        self.top_k = check_integer("top_k", top_k, low=1)

    def smallest_kept(self, scores: Tensor) -> Tensor:
        """Return the k-th largest score ``(..., 1)``."""
        return largest_value(scores, max(self.top_k, self.min_tokens_to_keep))
