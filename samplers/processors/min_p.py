"""Min-p."""

import torch
from torch import Tensor

from ._checks import check_unit_interval
from .base import Truncation
from .ordering import at_least


class MinP(Truncation):
    """Keep the tokens of probability at least ``min_p`` times the largest (Nguyen et al. 2024, arXiv 2407.01082).

    Args:
        min_p: The fraction, in ``[0, 1]``.
        min_tokens_to_keep: Keep at least so many.

    Example:
        >>> import torch
        >>> MinP(0.4).process(torch.tensor([0.1, 0.2, 0.3, 0.4]).log()).exp()
        tensor([0.0000, 0.2000, 0.3000, 0.4000])
    """

    def __init__(self, min_p: float, min_tokens_to_keep: int = 1) -> None:
        super().__init__(min_tokens_to_keep)
        self.min_p = check_unit_interval("min_p", min_p)

    def kept(self, scores: Tensor) -> Tensor:
        """Return ``probs >= min_p * max(probs)``."""
        probs = scores.softmax(dim=-1)
        kept = at_least(probs, self.min_p * probs.amax(dim=-1, keepdim=True))
        if self.min_tokens_to_keep == 1:  # the most probable token is kept by the rule
            return kept
        best = torch.topk(probs, min(self.min_tokens_to_keep, probs.shape[-1]), dim=-1).indices
        return kept.scatter(-1, best, True)
