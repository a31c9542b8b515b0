"""What a verification returns."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Info:
    """What a person wants to know about a verification; nothing here is needed to go on decoding.

    Attributes:
        accept_probability: Probability of the last accept test taken at each position ``(B, t)``, given the drafts and
            the draws before it; 0 where the position was not reached. Of rules that judge whole drafts, the mean
            probability of accepting something there, given the tokens drafted up to it.
        num_active: Drafts that still agreed with the output and had a token at each position ``(B, t)``; 0 where the
            position was not reached.
    """

    accept_probability: Tensor
    num_active: Tensor


@dataclass(frozen=True)
class Verification:
    """Tokens that follow the target distribution, and where they came from.

    Attributes:
        tokens: Token ids ``(B, t+1)``: ``num_accepted`` drafted tokens, one token drawn after them, then -1.
        num_accepted: Accepted draft tokens ``(B,)``, in ``0..t``.
        winner: Index ``(B,)`` of the first draft that holds all the accepted tokens; -1 where none was accepted.
        info: What a person wants to know.

    Example:
        >>> import torch
        >>> from samplers import SpeculativeSampling
        >>> laws = torch.tensor([0.0, 1.0]).log().expand(1, 3, 2)  # the draft agrees with the target: all is accepted
        >>> out = SpeculativeSampling().verify(laws, laws[:, :2], torch.tensor([[1, 1]]), generator=0)
        >>> out.tokens, out.num_accepted, out.winner
        (tensor([[1, 1, 1]]), tensor([2]), tensor([0]))
    """

    tokens: Tensor
    num_accepted: Tensor
    winner: Tensor
    info: Info


def accepted_tokens(held: Tensor, length: Tensor, following: Tensor) -> Tensor:
    """Tokens ``(B, w+1)``: the first ``length (B,)`` of those held ``(B, w)``, the token after them, then -1."""
    steps = torch.arange(held.shape[1] + 1, device=held.device)
    tokens = torch.where(steps < length[:, None], torch.nn.functional.pad(held, (0, 1)), -1)
    return tokens.scatter_(1, length[:, None], following[:, None])
