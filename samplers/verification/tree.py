"""Trees of drafted tokens, verified by any node rule from the root down."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixkit._validation import check_tensor

from .._validation import check_lengths, check_logits, check_same_vocabulary, check_tokens, check_whole
from .node import Decision, Node, compute_dtype, first_true
from .results import Info
from .shared_prefix import check_shared_rows
from .sources import Randomness, RandomSource, as_source
from .verifier import NodeVerifier


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


class TreeVerifier:
    r"""Verifies a token tree: at each accepted node its children compete by a node rule.

    Children sampled from the node's draft distribution, independently, suit any rule; sampled without replacement they
    suit `RecursiveRejection` without replacement; chosen in any other way (top-k, n-grams), they have no distribution:
    pass no draft logits, and the token is drawn from the target and accepted if a child holds it. How many children a
    node has must not depend on their tokens.

    Args:
        rule: A verifier made of one rule for each node.

    Source: Miao et al. (2023), SpecInfer, arXiv 2305.09781 (trees); the rules name their own sources.

    Example:
        >>> import torch
        >>> from samplers import RecursiveRejection
        >>> laws = torch.tensor([0.1, 0.2, 0.7]).log().expand(1, 4, 3)
        >>> tokens, parents = torch.tensor([[2, 0, 2]]), torch.tensor([-1, -1, 0])
        >>> TreeVerifier(RecursiveRejection()).verify(laws, laws, tokens, parents).path
        tensor([[ 0,  2, -1]])
    """

    def __init__(self, rule: NodeVerifier):
        if not isinstance(rule, NodeVerifier):
            raise TypeError(f"rule must be a NodeVerifier, got {type(rule).__name__}")
        self.rule = rule

    def __repr__(self) -> str:
        return f"TreeVerifier({self.rule!r})"

    @torch.no_grad()
    def verify(
        self,
        target_logits: Tensor,
        draft_logits: Tensor | None,
        tokens: Tensor,
        parents: Tensor,
        *,
        lengths: Tensor | None = None,
        generator: Randomness = None,
    ) -> TreeVerification:
        """Verify a tree of ``n`` nodes.

        Args:
            target_logits: Target distribution after the root and after each node ``(B, n+1, v)``, the root first.
            draft_logits: Law that the children of the root and of each node were drawn from ``(B, n+1, v)``; rows of
                nodes without children are not read. None for children without a law.
            tokens: Token of each node ``(B, n)``.
            parents: Parent of each node ``(n,)`` or ``(B, n)``: -1 for the root, else the index of an earlier node.
            lengths: Number of nodes ``(B,)``; what lies beyond is padding.
            generator: As in `Verifier.verify`.

        Raises:
            TypeError: If an argument has the wrong type or dtype.
            ValueError: If shapes do not fit, a parent does not come before its child, siblings that hold the same
                token go on under different laws, or laws are refused as in `Verifier.verify`.
        """
        tree = _check(target_logits, draft_logits, tokens, parents, lengths)
        return _walk(tree, self.rule, as_source(generator, tree.tokens.shape[0], tree.tokens.device))


@dataclass(frozen=True)
class _Tree:
    """A checked tree: laws ``(B, n+1, v)``; tokens, rows of parents (the root's is 0) and real nodes ``(B, n)``."""

    target: Tensor
    draft: Tensor | None
    tokens: Tensor
    parents: Tensor
    real: Tensor


def _check(target: Any, draft: Any, tokens: Any, parents: Any, lengths: Any) -> _Tree:
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
    return _Tree(target, draft, checked, rows.masked_fill(~real, 0), real)


def _walk(tree: _Tree, rule: NodeVerifier, source: RandomSource) -> TreeVerification:
    """Go down while the output token is held by a child; siblings that hold the same token go on together."""
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
        decision, held = _decide(tree, rule, source.rows(rows), rows, first_true(here), children)
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
    return TreeVerification(out, accepted, _path(tree, first_true(at), accepted), Info(probability, num_active))


def _path(tree: _Tree, last: Tensor, length: Tensor) -> Tensor:
    """Nodes ``(B, n)`` from a child of the root down to the tree's row ``last (B,)``, at depth ``length (B,)``."""
    path = torch.full_like(tree.parents, -1)
    for depth in range(int(length.max()) - 1, -1, -1):
        inside = (depth < length).nonzero()[:, 0]
        path[inside, depth] = last[inside] - 1
        last = last.clone()
        last[inside] = tree.parents[inside, last[inside] - 1]
    return path


def _check_shared(tree: _Tree, rows: Tensor, here: Tensor, children: Tensor) -> None:
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


def _has_children(tree: _Tree, rows: Tensor, children: Tensor) -> Tensor:
    """Rows ``(r, n+1)`` of the tree that are parents of ``children (r, n)``."""
    none = torch.zeros_like(torch.nn.functional.pad(children, (1, 0)), dtype=torch.long)
    return none.scatter_add(1, tree.parents[rows], children.long()) > 0


def _decide(
    tree: _Tree, rule: NodeVerifier, source: RandomSource, rows: Tensor, parent: Tensor, children: Tensor
) -> tuple[Decision, Tensor]:
    """Apply the rule where there are children that have a distribution; draw from the target elsewhere.

    Rows with equally many children go together, so that what a row draws depends on it alone.
    """
    target, tokens = tree.target[rows, parent], tree.tokens[rows]
    token, probability = torch.empty_like(tokens[:, 0]), target.new_zeros(rows.numel(), dtype=torch.float64)
    count = children.sum(-1) if tree.draft is not None else torch.zeros_like(token)
    for size in count.unique().tolist():
        some = (count == size).nonzero()[:, 0]
        if size == 0:
            decision = _from_target(target[some], source.rows(some))
        else:
            decision = rule.node(_node(tree, rule, rows[some], target[some], children[some], size), source.rows(some))
        token[some], probability[some] = decision.token, decision.probability.double()
    return Decision(token, probability), tokens


def _from_target(target: Tensor, source: RandomSource) -> Decision:
    probs = target.softmax(-1, dtype=compute_dtype(target, precise=False))
    token = source.choose(probs)
    return Decision(token, probs.gather(-1, token[:, None])[:, 0])


def _node(tree: _Tree, rule: NodeVerifier, rows: Tensor, target: Tensor, children: Tensor, size: int) -> Node:
    """The node at which ``size`` of the children ``(r, n)`` of each row compete."""
    if tree.draft is None:
        raise ValueError("draft_logits must be given to make a node, got None")
    columns = children.sort(dim=-1, descending=True, stable=True).indices[:, :size]
    law = tree.draft[rows, first_true(_has_children(tree, rows, children)), None]
    active = torch.ones_like(columns, dtype=torch.bool)
    return Node(target, law, tree.tokens[rows].gather(1, columns), active, precise=rule.precise)
