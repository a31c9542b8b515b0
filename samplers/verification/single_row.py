"""Speculative sampling of one row alone: the walk with less overhead."""

import math

import torch
from torch import Tensor

from .node import compute_dtype
from .results import Info, Verification
from .sources import RandomSource
from .verify_drafts import DraftBlock, check_block


def verify_one(block: DraftBlock, draft_logits: Tensor, source: RandomSource) -> Verification:
    """Verify a block of one row and one draft; a distribution is normalized when its position is reached.

    Every row of logits is checked once: those that are reached by the NaN that a bad row leaves in its softmax, the
    others by their maxima. Where something is wrong, `check_block` looks again and says what.

    Args:
        block: Target logits ``(1, 1, t+1, v)`` and tokens ``(1, 1, t)``, not checked yet.
        draft_logits: Draft logits ``(t, v)``.
        source: Where all randomness comes from.
    """
    length = block.shape[2] if block.ragged_lengths is None else int(block.lengths[0, 0])
    target_logits, draft_logits = block.target[0, 0, : length + 1], draft_logits[:length]
    drafted = block.tokens[0, 0, :length].tolist()
    if not are_possible(drafted, draft_logits):
        check_block(block)
    following, tests, accepted, sound = _follow(target_logits, draft_logits, drafted, source)
    if not (sound and are_laws(target_logits[accepted + 1 :]) and are_laws(draft_logits[len(tests) :])):
        check_block(block)
    return _result(block, drafted[:accepted], following, tests)


def _follow(target_logits: Tensor, draft_logits: Tensor, drafted: list[int], source: RandomSource) -> tuple:
    """Return the token after the accepted ones, the accept tests, the number accepted, and if the laws were sound."""
    dtype = compute_dtype(target_logits, precise=False)
    tests: list[float] = []
    for accepted, token in enumerate(drafted):
        target = target_logits[accepted].softmax(-1, dtype=dtype)
        draft = draft_logits[accepted].softmax(-1, dtype=dtype)
        here, there = target[token].item(), draft[token].item()
        if math.isnan(here + there):
            return 0, tests, accepted, False
        tests.append(float(here > 0) if here >= there else here / there)
        if not source.accept_one(tests[-1]):
            weights = (target - draft).clamp_min_(0.0)
            return source.choose_one(weights if weights.amax().item() > 0 else target), tests, accepted, True
    weights = target_logits[-1].softmax(-1, dtype=dtype)
    if math.isnan(weights[0].item()):
        return 0, tests, len(drafted), False
    return source.choose_one(weights), tests, len(drafted), True


def are_possible(drafted: list[int], draft_logits: Tensor) -> bool:
    """Whether tokens are in the vocabulary and possible under the draft logits ``(t, v)``."""
    if not drafted:
        return True
    if min(drafted) < 0 or max(drafted) >= draft_logits.shape[-1]:
        return False
    return min(row[token].item() for row, token in zip(draft_logits, drafted, strict=True)) > -math.inf


def are_laws(logits: Tensor) -> bool:
    """Whether every row of ``(n, v)`` is a distribution up to a constant."""
    return logits.shape[0] == 0 or math.isfinite(logits.amax(-1).sum(dtype=torch.float64).item())


def _result(block: DraftBlock, accepted: list[int], following: int, tests: list[float]) -> Verification:
    size, device = block.shape[2], block.tokens.device
    tokens = [*accepted, following] + [-1] * (size - len(accepted))
    unreached = [0] * (size - len(tests))
    counts = [len(accepted), 0 if accepted else -1]
    whole = torch.tensor([tokens + [1] * len(tests) + unreached + counts], device=device)
    probability = torch.tensor([tests + unreached], dtype=torch.float64, device=device)
    tokens_out, num_active, num_accepted, winner = whole.split_with_sizes([size + 1, size, 1, 1], -1)
    return Verification(tokens_out, num_accepted[0], winner[0], Info(probability, num_active))
