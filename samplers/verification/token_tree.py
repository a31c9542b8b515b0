"""A tree of drafted tokens: what is given, and what a verification of it returns."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mixkit._validation import check_tensor

from .._validation import check_lengths, check_logits, check_same_vocabulary, check_tokens, check_whole
from .kept_tokens import new_ids, restrict
from .results import Info


@dataclass(frozen=True)
class TreeVerification:
    """Tokens that follow the target distribution, and the path that was accepted.

    Attributes:
        tokens: Token ids ``(B, n+1)``: the accepted path, one token drawn after it, then -1.
        num_accepted: Length of the accepted path ``(B,)``.
        path: Tree nodes ``(B, n)`` of the accepted path, each the parent of the next, then -1.
        info: What a person wants to know, by depth.
    """

    tokens: Tensor
    num_accepted: Tensor
    path: Tensor
    info: Info


@dataclass(frozen=True)
class TokenTree:
    """A request whose parts fit together; row 0 of a tree is its root, the nodes are rows ``1..n``.

    Attributes:
        target: Target logits after each row ``(B, n+1, v)``.
        draft: Logits that the children of each row were drawn from ``(B, n+1, v)``, or None without a distribution.
        tokens: Token of each node ``(B, n)``; 0 in the padding.
        parents: Row ``0..n`` of each node's parent ``(B, n)``; 0 in the padding.
        real: Nodes that are no padding ``(B, n)``.
    """

    target: Tensor
    draft: Tensor | None
    tokens: Tensor
    parents: Tensor
    real: Tensor

    def restricted(self, kept: Tensor) -> "TokenTree":
        """The tree over the tokens ``kept (k,)`` alone, which hold all that is drafted."""
        draft = None if self.draft is None else restrict(self.draft, kept)
        return replace(self, target=restrict(self.target, kept), draft=draft, tokens=new_ids(self.tokens, kept))


def check_tree(target: Any, draft: Any, tokens: Any, parents: Any, lengths: Any) -> TokenTree:
    """Return a tree whose shapes fit, whose parents come before their children, and whose rows are lawful."""
    check_tensor("target_logits", target)
    tokens, parents = check_whole("tokens", tokens), check_whole("parents", parents)
    if tokens.ndim != 2 or target.ndim != 3 or target.shape[:2] != (tokens.shape[0], tokens.shape[1] + 1):
        raise ValueError(
            f"tokens must have shape (B, n) and target_logits (B, n+1, v), got {tuple(tokens.shape)} and "
            f"{tuple(target.shape)}"
        )
    batch, count = tokens.shape
    if tuple(parents.shape) not in ((count,), (batch, count)):
        raise ValueError(f"parents must have shape ({count},) or ({batch}, {count}), got {tuple(parents.shape)}")
    steps = torch.arange(count, device=tokens.device)
    rows = parents.expand(batch, count) + 1
    real = torch.ones_like(tokens, dtype=torch.bool)
    if lengths is not None:
        real = steps < check_lengths(lengths, (batch, 1, count))
    if (((rows < 0) | (rows > steps)) & real).any():
        raise ValueError("parents must be -1 or the index of an earlier node, got a parent that does not come before")
    reached = torch.nn.functional.pad(real, (1, 0), value=True)
    check_logits("target_logits", target, reached)
    at_parent = None
    if draft is not None:
        check_tensor("draft_logits", draft)
        check_same_vocabulary(target, draft)
        if draft.shape != target.shape:
            raise ValueError(f"draft_logits must have shape {tuple(target.shape)}, got {tuple(draft.shape)}")
        rows = rows.masked_fill(~real, 0)
        check_logits("draft_logits", draft, torch.zeros_like(reached).scatter(1, rows, real))
        at_parent = draft.gather(1, rows[..., None].expand(-1, -1, draft.shape[-1]))
    checked = check_tokens(tokens, at_parent, target.shape[-1], real)
    return TokenTree(target, draft, checked, rows.masked_fill(~real, 0), real)


def path_to(parents: Tensor, last: Tensor, length: Tensor) -> Tensor:
    """Nodes ``(B, n)`` from a child of the root down to the row ``last (B,)`` at depth ``length (B,)``, then -1.

    Args:
        parents: Row of each node's parent ``(B, n)``.
        last: Row of the tree ``(B,)``; 0 for the root.
        length: Its depth ``(B,)``.

    Example:
        >>> path_to(torch.tensor([[0, 0, 1]]), torch.tensor([3]), torch.tensor([2]))
        tensor([[ 0,  2, -1]])
    """
    path = torch.full_like(parents, -1)
    for depth in range(int(length.max()) - 1 if length.numel() else -1, -1, -1):
        inside = depth < length
        path[:, depth] = torch.where(inside, last - 1, -1)
        last = torch.where(inside, parents.gather(1, (last - 1).clamp_min(0)[:, None])[:, 0], last)
    return path
