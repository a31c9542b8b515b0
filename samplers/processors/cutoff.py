"""Absolute cut-offs of the probability: epsilon and eta sampling."""

import torch
from torch import Tensor

from ._checks import check_unit_interval
from .base import Truncation
from .ordering import at_least, largest_value


def entropy(scores: Tensor) -> Tensor:
    """Entropy in nats ``(..., 1)`` of the distributions with logits ``scores (..., v)``; ``-inf`` adds nothing."""
    log_probs = scores - scores.logsumexp(dim=-1, keepdim=True)
    finite = log_probs.clamp(min=torch.finfo(scores.dtype).min)
    return -(finite * log_probs.softmax(dim=-1)).sum(dim=-1, keepdim=True)


class Epsilon(Truncation):
    """Keep the tokens of probability at least ``epsilon`` (Hewitt, Manning and Liang 2022, arXiv 2210.15191).

    Args:
        epsilon: The cut-off, in ``(0, 1)``.
        min_tokens_to_keep: Keep the most probable so many (ties with the last included) whatever their probability.

    Example:
        >>> import torch
        >>> Epsilon(0.25).process(torch.tensor([0.1, 0.2, 0.3, 0.4]).log()).exp()
        tensor([0.0000, 0.0000, 0.3000, 0.4000])
    """

    def __init__(self, epsilon: float, min_tokens_to_keep: int = 1) -> None:
        super().__init__(min_tokens_to_keep)
        self.epsilon = check_unit_interval("epsilon", epsilon, is_open=True)

    def cutoff(self, scores: Tensor) -> Tensor:
        """Return the smallest probability kept, ``()`` or ``(..., 1)``."""
        return torch.tensor(self.epsilon, dtype=scores.dtype, device=scores.device)

    def kept(self, scores: Tensor) -> Tensor:
        """Return ``probs >= cutoff`` joined with the most probable tokens."""
        is_likely = at_least(scores.softmax(dim=-1), self.cutoff(scores))
        return is_likely | at_least(scores, largest_value(scores, self.min_tokens_to_keep))


class Eta(Epsilon):
    r"""Keep the tokens of probability at least :math:`\min(\epsilon, \sqrt\epsilon\, e^{-H})`.

    `H` is the entropy in nats: the cut-off falls where the distribution is flat (Hewitt, Manning and Liang 2022,
    arXiv 2210.15191, section 4).

    Args:
        epsilon: The cut-off at low entropy, in ``(0, 1)``.
        min_tokens_to_keep: Keep the most probable so many (ties with the last included) whatever their probability.

    Example:
        >>> import torch
        >>> Eta(0.25).process(torch.tensor([0.1, 0.2, 0.3, 0.4]).log()).exp()
        tensor([0.0000, 0.2000, 0.3000, 0.4000])
    """

    def cutoff(self, scores: Tensor) -> Tensor:
        """Return ``min(epsilon, sqrt(epsilon) * exp(-entropy))``, ``(..., 1)``."""
        epsilon = torch.tensor(self.epsilon, dtype=torch.float32, device=scores.device)
        return torch.minimum(epsilon, epsilon.sqrt() * torch.exp(-entropy(scores)))
