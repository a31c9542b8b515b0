"""The verifiers behind vLLM's flat, ragged layout of drafts: arrays in, arrays out; vLLM itself is not needed.

A batch of requests with drafts of different lengths is laid out flat, one request after another:

- ``draft_token_ids (n,)`` and ``draft_probs (n, v)``, with ``n`` the sum of the draft lengths, or None for drafts
  without a distribution (n-grams);
- ``cu_num_draft_tokens (B,)``: the running sum of the draft lengths, in which request ``b`` ends;
- ``target_logits (n, v)`` after the prefixes before each drafted token, and ``bonus_logits (B, v)`` after whole drafts;
- generators for some of the requests, a mapping of requests to them; the others draw from torch's default generator.

The output is that of its rejection sampler: ids ``(B, longest + 1)``, -1 after the last token of a request.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from mixkit._validation import check_tensor

from .._validation import check_probs, check_whole
from ..verification.speculative import SpeculativeSampling
from ..verification.verifier import Verifier

PLACEHOLDER = -1
"""What stands after the last token of a request."""

__all__ = ["PLACEHOLDER", "verify_flat"]


def verify_flat(
    target_logits: Tensor,
    bonus_logits: Tensor,
    draft_probs: Tensor | None,
    draft_token_ids: Tensor,
    cu_num_draft_tokens: Tensor,
    *,
    verifier: Verifier | None = None,
    generators: Mapping[int, Generator] | None = None,
) -> Tensor:
    """Verify the drafts of a batch of requests.

    Args:
        target_logits: Target logits, after temperature and truncation, that each drafted token is judged by ``(n, v)``.
        bonus_logits: Those after the whole draft of each request ``(B, v)``.
        draft_probs: Probabilities that the drafted tokens were drawn from ``(n, v)``; None for drafts without a
            distribution.
        draft_token_ids: Drafted tokens ``(n,)``.
        cu_num_draft_tokens: Running sum of the draft lengths ``(B,)``.
        verifier: A verifier of one draft; by default `SpeculativeSampling`.
        generators: Generators of some requests ``0..B-1``; None for none.

    Returns:
        Token ids ``(B, t+1)`` of the dtype of ``draft_token_ids``, ``t`` the longest draft: accepted tokens, one token
        after them, then ``PLACEHOLDER``.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If shapes do not fit together, the running sum falls, a request of ``generators`` is not in the
            batch, or logits and tokens are refused as in `Verifier.verify`.

    Example:
        >>> import torch
        >>> probs = torch.eye(3)[[1, 2, 0]]  # drafts 1 2 and 0, each certain, and the target agrees
        >>> ids, ends = torch.tensor([1, 2, 0]), torch.tensor([2, 3])
        >>> verify_flat(probs.log(), torch.eye(3)[[2, 1]].log(), probs, ids, ends)
        tensor([[ 1,  2,  2],
                [ 0,  1, -1]])
    """
    tokens, lengths = check_flat(target_logits, bonus_logits, draft_probs, draft_token_ids, cu_num_draft_tokens)
    rows = range(len(lengths))
    for request in generators or {}:
        if request not in rows:
            raise ValueError(f"generators must be of requests 0..{len(rows) - 1}, got one of {request!r}")
    place = Places(lengths)
    dtype = torch.promote_types(target_logits.dtype, bonus_logits.dtype)
    target = place.padded(target_logits.to(dtype), place.size + 1)
    target[torch.arange(len(lengths), device=target.device), lengths] = bonus_logits.to(dtype)
    verification = (SpeculativeSampling() if verifier is None else verifier).verify(
        target,
        None if draft_probs is None else place.padded(draft_probs.log(), place.size),
        place.padded(tokens, place.size),
        lengths=lengths,
        generator=[(generators or {}).get(row) for row in rows],
    )
    return verification.tokens[:, : int(lengths.max()) + 1].to(draft_token_ids.dtype)


class Places:
    """Where the entries of a flat batch stand in a padded one.

    Args:
        lengths: Draft lengths ``(B,)``.
    """

    def __init__(self, lengths: Tensor) -> None:
        self.size = max(int(lengths.max()), 1)
        step = torch.arange(self.size, device=lengths.device)
        self.row, self.column = (step < lengths[:, None]).nonzero(as_tuple=True)
        self.num_rows = len(lengths)

    def padded(self, flat: Tensor, width: int) -> Tensor:
        """Return ``(B, width, ...)`` from ``(n, ...)``, zero in the padding."""
        out = flat.new_zeros(self.num_rows, width, *flat.shape[1:])
        out[self.row, self.column] = flat
        return out


def check_flat(target: Any, bonus: Any, draft: Any, tokens: Any, ends: Any) -> tuple[Tensor, Tensor]:
    """Return drafted tokens ``(n,)`` and draft lengths ``(B,)``, if the shapes of a flat batch fit together."""
    check_tensor("target_logits", target)
    check_tensor("bonus_logits", bonus)
    tokens, ends = check_whole("draft_token_ids", tokens), check_whole("cu_num_draft_tokens", ends)
    if tokens.ndim != 1 or ends.ndim != 1 or len(ends) == 0:
        raise ValueError(
            "draft_token_ids must have shape (n,) and cu_num_draft_tokens (B,), B at least 1, got "
            f"{tuple(tokens.shape)} and {tuple(ends.shape)}"
        )
    lengths = ends.diff(prepend=ends.new_zeros(1))
    if bool((lengths < 0).any()) or int(ends[-1]) != len(tokens):
        raise ValueError(
            f"cu_num_draft_tokens must not fall, and end at the {len(tokens)} tokens of draft_token_ids, got "
            f"{ends.tolist()}"
        )
    if bonus.ndim != 2 or len(bonus) != len(ends):
        raise ValueError(f"bonus_logits must have shape ({len(ends)}, v), got {tuple(bonus.shape)}")
    wanted = (len(tokens), bonus.shape[1])
    if tuple(target.shape) != wanted:
        raise ValueError(f"target_logits must have shape {wanted}, got {tuple(target.shape)}")
    if draft is not None:
        check_tensor("draft_probs", draft)
        if tuple(draft.shape) != wanted:
            raise ValueError(f"draft_probs must have shape {wanted}, got {tuple(draft.shape)}")
        if len(tokens) > 0:
            check_probs("draft_probs", draft, tolerance=1e-2 if draft.dtype.itemsize == 2 else 1e-4)
    return tokens, lengths
