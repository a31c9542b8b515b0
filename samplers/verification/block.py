"""Block verification: one draft, judged as a whole."""

import torch
from torch import Tensor

from .node import compute_dtype
from .one_block import OneBlock
from .results import Info, Verification, accepted_tokens
from .single_row import are_possible
from .sources import RandomSource, one_by_one, source_of
from .speculative import accept_ratio, residual_weights
from .verifier import Verifier
from .verify_drafts import DraftBlock, check_block


class BlockVerification(Verifier):
    r"""Block verification of one draft: never accepts fewer tokens on average than `SpeculativeSampling`.

    With :math:`w_0 = 1` and :math:`w_i = \min(1, w_{i-1} \, q(x_i)/p(x_i))`, the first :math:`i` tokens of a draft of
    length :math:`t` are kept, if no more are, with probability :math:`h_i = s_i / (s_i + 1 - w_i)`,
    :math:`s_i = \sum_y (w_i q_i(y) - p_i(y))_+`, and :math:`h_t = w_t`. The longest kept prefix is accepted; the next
    token is drawn from :math:`(w_i q_i - p_i)_+`, or from the target after the whole draft.

    Source: Sun et al. (2024), arXiv 2403.10444, algorithm 2 and theorem 1.

    Example:
        >>> import torch
        >>> laws = torch.full((1, 4, 5), 0.2).log()
        >>> BlockVerification().verify(laws, laws[:, :3], torch.tensor([[1, 2, 3]])).num_accepted
        tensor([3])
    """

    max_drafts = 1

    def rule(self, block: DraftBlock, source: RandomSource) -> Verification:
        """Draw the number of accepted tokens, then the token after them."""
        target, draft, tokens, length = _chain(block)
        weight = prefix_weights(target, draft, tokens)
        keep = keep_probability(target, draft, weight, length)
        steps = torch.arange(keep.shape[1], device=keep.device)
        survival = torch.where(steps > 0, 1 - keep, 1.0).flip(-1).cumprod(-1).flip(-1)
        later = torch.cat([survival[:, 1:], torch.ones_like(survival[:, :1])], -1)
        accepted = block.shape[2] - source.choose((keep * later).flip(-1))
        following = source.choose(_following(target, draft, weight, accepted, length))
        return _result(tokens, accepted, following, weight[:, 1:], length)

    def _verify(self, block: DraftBlock, source: RandomSource) -> Verification:
        """Rows taken one by one are checked as they are read."""
        if block.draft is not None and one_by_one(block.target, block.shape[0], source):
            return _row_by_row(block, block.draft[:, 0], source)
        return super()._verify(block, source)


def _result(tokens: Tensor, accepted: Tensor, following: Tensor, weight: Tensor, length: Tensor) -> Verification:
    """What came of drafts ``(B, t)`` of given lengths ``(B,)``, of which so many tokens were accepted ``(B,)``."""
    inside = torch.arange(tokens.shape[1], device=tokens.device) < length[:, None]
    info = Info(torch.where(inside, weight.double(), 0.0), inside.long())
    return Verification(accepted_tokens(tokens, accepted, following), accepted, torch.where(accepted > 0, 0, -1), info)


def _row_by_row(block: DraftBlock, draft: Tensor, source: RandomSource) -> Verification:
    """Verify the rows of a block one after the other, each with its draft's logits in ``draft (B, t, v)``.

    Where something is wrong, `check_block` looks again and says what.
    """
    tokens, lengths = block.tokens[:, 0], block.lengths[:, 0]
    found, weights = [], []
    for row, (drafted, length) in enumerate(zip(tokens.tolist(), lengths.tolist(), strict=True)):
        parts = block.target[row, 0, : length + 1], draft[row, :length]
        if not are_possible(drafted[:length], parts[1]):
            check_block(block)
        one = OneBlock(*parts, drafted[:length])
        if not one.is_sound:
            check_block(block)
        found.append(one.draw(source_of(row, len(tokens), source)))
        weights.append(one.weights[1:] + [0.0] * (block.shape[2] - length))
    accepted, following = torch.tensor(found, device=tokens.device).unbind(1)
    weight = torch.tensor(weights, dtype=torch.float64, device=tokens.device)
    return _result(tokens, accepted, following, weight.reshape(tokens.shape), lengths)


def _chain(block: DraftBlock) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Probabilities ``(B, t+1, v)`` and ``(B, t, v)``, tokens and lengths of the one draft; padded rows are zero."""
    if block.draft is None:
        raise ValueError("draft_logits must be given to verify a block, got None")
    dtype = compute_dtype(block.target, precise=False)
    target = block.target[:, 0].softmax(-1, dtype=dtype)
    draft = block.draft[:, 0].softmax(-1, dtype=dtype)
    length = block.lengths[:, 0]
    if block.ragged_lengths is not None:
        steps = torch.arange(block.shape[2] + 1, device=length.device)
        target[steps > length[:, None]] = 0.0
        draft[steps[:-1] >= length[:, None]] = 0.0
    return target, draft, block.tokens[:, 0], length


def prefix_weights(target: Tensor, draft: Tensor, tokens: Tensor) -> Tensor:
    r"""Weights :math:`w_0 = 1`, :math:`w_i = \min(1, w_{i-1} \, q(x_i) / p(x_i))` of the prefixes of a
    draft ``(B, t+1)``.

    Args:
        target: Target probabilities ``(B, t+1, v)``.
        draft: Draft probabilities ``(B, t, v)``.
        tokens: Drafted tokens ``(B, t)``.
    """
    weights = [torch.ones_like(target[:, 0, 0])]
    here = target[:, : tokens.shape[1]].gather(-1, tokens[..., None])
    there = draft.gather(-1, tokens[..., None])
    for q, p in zip(here[..., 0].unbind(1), there[..., 0].unbind(1), strict=True):
        weights.append(accept_ratio(weights[-1] * q, p))
    return torch.stack(weights, -1)


def keep_probability(target: Tensor, draft: Tensor, weight: Tensor, length: Tensor) -> Tensor:
    r"""Probability :math:`h_i` of keeping each prefix ``(B, t+1)``; 1 for the empty one, 0 past the end.

    Args:
        target: Target probabilities ``(B, t+1, v)``.
        draft: Draft probabilities ``(B, t, v)``.
        weight: Weights of the prefixes ``(B, t+1)``.
        length: Draft lengths ``(B,)``.
    """
    surplus = torch.zeros_like(weight)
    for i in range(1, draft.shape[1]):
        surplus[:, i] = (weight[:, i, None] * target[:, i]).sub_(draft[:, i]).clamp_min_(0.0).sum(-1)
    below = surplus + 1 - weight
    keep = torch.where(below > 0, surplus / torch.where(below > 0, below, 1.0), 1.0)
    steps = torch.arange(keep.shape[1], device=keep.device)
    keep = torch.where(steps == length[:, None], weight, keep).masked_fill(steps > length[:, None], 0.0)
    return torch.where(steps == 0, 1.0, keep)


def _following(target: Tensor, draft: Tensor, weight: Tensor, accepted: Tensor, length: Tensor) -> Tensor:
    """Weights of the token after the accepted prefix ``(B, v)``."""
    rows = torch.arange(accepted.numel(), device=accepted.device)
    weights = target[rows, accepted]
    cut = (accepted < length).nonzero()[:, 0]
    if cut.numel():
        here = weight[cut, accepted[cut]][:, None] * weights[cut]
        weights[cut] = residual_weights(here, draft[cut, accepted[cut]])
    return weights
