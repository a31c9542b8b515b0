"""Refusals of drafts that a rule for whole trees cannot take, of blocks and of trees."""

import torch
from torch import Tensor

from ..shared_prefix import check_led_rows, check_shared_rows, leaders
from ..token_tree import TokenTree
from ..verifier import TreeRule
from ..verify_drafts import DraftBlock
from .levels import TreeShape
from .rows import block_shape


def check_drafts(block: DraftBlock, rule: TreeRule) -> None:
    """Refuse drafts of a block that are not as the rule says of itself."""
    check_shared_laws(block, identical_drafts=rule.identical_drafts)
    if not rule.with_replacement:
        check_distinct(block_shape(block))


def check_nodes(tree: TokenTree, shape: TreeShape, leader: Tensor, rule: TreeRule) -> None:
    """Refuse nodes of a tree that are not as the rule says of itself; ``leader (B, n+1)`` holds each prefix first."""
    if not rule.with_replacement:
        check_distinct(shape)
    check_shared_nodes(tree, leader)


def check_shared_laws(block: DraftBlock, *, identical_drafts: bool) -> None:
    """Refuse target rows, and rows of identical drafts, that differ among drafts that share a prefix."""
    _, num_drafts, size = block.shape
    shared = [block.target, block.draft] if identical_drafts else [block.target]
    if num_drafts == 1 or all(part is None or part.stride(1) == 0 for part in shared):
        return
    leader = leaders(block.tokens, block.lengths)
    own = torch.arange(num_drafts, device=leader.device)[:, None]
    for i in range(size + 1):
        for name, laws, last in (("target_logits", block.target, i), ("draft_logits", block.draft, i + 1)):
            if last <= size and laws is not None and (identical_drafts or last == i):
                reached = block.lengths >= last
                first = leader[..., i] if last == i else _leaders_going_on(leader[..., i], reached)
                first = torch.where(reached, first, own[:, 0])
                rule = "the same law for all drafts that share a prefix"
                hint = ", for a verifier of identical drafts" if last > i else ""
                check_led_rows(name, laws[:, :, i], first, rule + hint)


def _leaders_going_on(leader: Tensor, going: Tensor) -> Tensor:
    """First draft ``(B, m)`` of each draft's prefix among those that have a token after it."""
    same = (leader[:, :, None] == leader[:, None]) & going[:, None]
    return same.to(torch.uint8).argmax(-1)


def check_distinct(shape: TreeShape) -> None:
    """Refuse siblings that hold the same token, for siblings drawn without replacement."""
    real = shape.real[:, :, None] & shape.real[:, None]
    same = real & (shape.tokens[:, :, None] == shape.tokens[:, None])
    twice = (same & (shape.parents[:, :, None] == shape.parents[:, None])).triu(1).nonzero()
    if twice.numel():
        row, node, _ = twice[0].tolist()
        raise ValueError(
            "draft_tokens must differ among drafts that share a prefix, for drafts without replacement, got token "
            f"{int(shape.tokens[row, node])} twice in row {row} of the batch"
        )


def check_shared_nodes(tree: TokenTree, leader: Tensor) -> None:
    """Refuse rows that differ from those of their leader ``(B, n+1)``; the draft's where they have children."""
    own = torch.arange(leader.shape[1], device=leader.device)
    row, node = ((leader != own) & torch.nn.functional.pad(tree.real, (1, 0))).nonzero(as_tuple=True)
    if row.numel() == 0:
        return
    both = torch.ones(row.numel(), 2, dtype=torch.bool, device=row.device)
    pair = torch.stack([leader[row, node], node], 1)
    rule = "the same law at siblings that hold the same token"
    check_shared_rows("target_logits", tree.target[row[:, None], pair], both, rule)
    if tree.draft is not None:
        parents = torch.zeros_like(leader).scatter_add_(1, tree.parents, tree.real.long()) > 0
        first = _first_parent(leader, parents)
        pair = torch.stack([first[row, node], node], 1)
        going = parents[row, node] & (first[row, node] != node)
        check_shared_rows("draft_logits", tree.draft[row[:, None], pair], both & going[:, None], rule)


def _first_parent(leader: Tensor, parents: Tensor) -> Tensor:
    """First row ``(B, n+1)`` of each row's prefix that has children."""
    same = (leader[:, :, None] == leader[:, None]) & parents[:, None]
    return same.to(torch.uint8).argmax(-1)
