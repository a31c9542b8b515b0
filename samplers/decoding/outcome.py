"""What a round of the loop comes to."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Outcome"]


@dataclass(frozen=True)
class Outcome:
    """Tokens of a round, and where they came from.

    Attributes:
        tokens: Token ids ``(R, t+1)``: ``num_accepted`` drafted tokens, one token drawn after them, then -1.
        num_accepted: Accepted draft tokens ``(R,)``.
        source: The first draft that holds all accepted tokens ``(R,)``, or the last accepted node of a tree, counted
            from 1; 0 where none was accepted.
        logits: The target's processed logits that each token follows ``(R, t+1, v)``, if asked for; any in the padding.
    """

    tokens: Tensor
    num_accepted: Tensor
    source: Tensor
    logits: Tensor | None = None
