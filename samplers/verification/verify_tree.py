"""The walk down a tree of drafts: a rule at every node, and the children that hold the output token."""

import torch
from torch import Tensor

from .node import Decision, Node, compute_dtype, first_true
from .results import Info
from .shared_prefix import check_shared_rows
from .sources import RandomSource
from .token_tree import TokenTree, TreeVerification, path_to
from .verify_drafts import Rule


def walk_tree(tree: TokenTree, rule: Rule | None, source: RandomSource, *, precise: bool) -> TreeVerification:
    """Go down while the output token is held by a child; siblings that hold the same token go on together.

    With no rule, tokens are drawn from the target alone: the rule for children without a distribution, optimal there.
    """
    batch, count = tree.tokens.shape
    out = tree.tokens.new_full((batch, count + 1), -1).long()
    num_active = torch.zeros_like(out[:, 1:])
    accepted = torch.zeros_like(out[:, 0])
    probability = torch.zeros(batch, count, dtype=torch.float64, device=out.device)
    at = torch.nn.functional.one_hot(torch.zeros_like(accepted), count + 1).bool()
    rows = torch.arange(batch, device=out.device)
    for depth in range(count + 1):
        here = at[rows]
        children = here.gather(1, tree.parents[rows]) & tree.real[rows]
        _check_shared(tree, rows, here, children)
        decision, held = _decide(tree, rule, source.rows(rows), rows, first_true(here), children, precise)
        out[rows, depth] = decision.token
        matches = children & (held == decision.token[:, None])
        if depth < count:
            probability[rows, depth] = torch.where(children.any(-1), decision.probability.double(), 0.0)
            num_active[rows, depth] = children.sum(-1)
        on = matches.any(-1)
        rows, matches = rows[on], matches[on]
        if rows.numel() == 0:
            break
        accepted[rows] += 1
        at[rows] = torch.nn.functional.pad(matches, (1, 0))
    return TreeVerification(
        out, accepted, path_to(tree.parents, first_true(at), accepted), Info(probability, num_active)
    )


def _check_shared(tree: TokenTree, rows: Tensor, here: Tensor, children: Tensor) -> None:
    """Refuse laws that differ among the nodes ``here (r, n+1)`` of one prefix; drafts' where they have children."""
    several = (here.sum(-1) > 1).nonzero()[:, 0]
    if several.numel() == 0:
        return
    index, order = rows[several, None], here[several].sort(dim=-1, descending=True, stable=True)
    nodes = order.indices[:, : int(order.values.sum(-1).max())]
    sharing, rule = here[several].gather(1, nodes), "the same law at siblings that hold the same token"
    check_shared_rows("target_logits", tree.target[index, nodes], sharing, rule)
    if tree.draft is not None:
        parents = _has_children(tree, rows, children)[several].gather(1, nodes)
        check_shared_rows("draft_logits", tree.draft[index, nodes], sharing & parents, rule)


def _has_children(tree: TokenTree, rows: Tensor, children: Tensor) -> Tensor:
    """Rows ``(r, n+1)`` of the tree that are parents of ``children (r, n)``."""
    none = torch.zeros_like(torch.nn.functional.pad(children, (1, 0)), dtype=torch.long)
    return none.scatter_add(1, tree.parents[rows], children.long()) > 0


def _decide(
    tree: TokenTree,
    rule: Rule | None,
    source: RandomSource,
    rows: Tensor,
    parent: Tensor,
    children: Tensor,
    precise: bool,
) -> tuple[Decision, Tensor]:
    """Apply the rule where there are children that have a distribution; draw from the target elsewhere.

    Rows with equally many children go together, so that what a row draws depends on it alone.
    """
    target, tokens = tree.target[rows, parent], tree.tokens[rows]
    token, probability = torch.empty_like(tokens[:, 0]), target.new_zeros(rows.numel(), dtype=torch.float64)
    count = children.sum(-1) if rule is not None else torch.zeros_like(token)
    for size in count.unique().tolist():
        some = (count == size).nonzero()[:, 0]
        if rule is None or size == 0:
            decision = _from_target(target[some], source.rows(some))
        else:
            node = _node(tree, rows[some], target[some], children[some], size, precise)
            decision = rule(node, source.rows(some))
        token[some], probability[some] = decision.token, decision.probability.double()
    return Decision(token, probability), tokens


def _from_target(target: Tensor, source: RandomSource) -> Decision:
    probs = target.softmax(-1, dtype=compute_dtype(target, precise=False))
    token = source.choose(probs)
    return Decision(token, probs.gather(-1, token[:, None])[:, 0])


def _node(tree: TokenTree, rows: Tensor, target: Tensor, children: Tensor, size: int, precise: bool) -> Node:
    """The node at which ``size`` of the children ``(r, n)`` of each row compete."""
    if tree.draft is None:
        raise ValueError("draft_logits must be given to make a node, got None")
    columns = children.sort(dim=-1, descending=True, stable=True).indices[:, :size]
    law = tree.draft[rows, first_true(_has_children(tree, rows, children)), None]
    active = torch.ones_like(columns, dtype=torch.bool)
    return Node(target, law, tree.tokens[rows].gather(1, columns), active, precise=precise)
