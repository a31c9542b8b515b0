"""Traversal verification: a tree judged from its leaves up."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .multiblock.levels import merged_leaders
from .multiblock.one_tree import OneTree
from .multiblock.rows import (
    BlockRows,
    Rows,
    TreeRows,
    block_shape,
    check_distinct,
    check_shared_laws,
    check_shared_nodes,
    tree_shape,
)
from .results import Info, Verification
from .sources import RandomSource
from .token_tree import TokenTree, TreeVerification
from .verifier import TreeRule
from .verify_drafts import DraftBlock
from .verify_tree import draw_from_target, walk_tree


class TraversalVerification(TreeRule):
    r"""Traversal verification: a prefix is tested once all that is drafted below it has been rejected.

    A node of weight :math:`w` and target :math:`r` takes its children in order. A child :math:`y` has the weight
    :math:`\min(1, w \, r(y)/q(y))` and is visited with all that is drafted below it. If nothing there is accepted,
    :math:`s = \sum_z (w r(z) - q(z))_+`, :math:`r \leftarrow (w r - q)_+/s` and :math:`w \leftarrow s/(s + 1 - w)`.
    When no child is left, the node itself is accepted with probability :math:`w`, and the next token drawn from
    :math:`r`.
    With one draft this is block verification. Copies of a prefix stay apart, each with what is drafted below it.
    Of each position, ``info.accept_probability`` is the weight of the child that was visited last: the mean probability
    that it, or something below it, is accepted.

    `MultiBlockVerifier` accepts more on what was measured; this rule takes siblings without replacement too.

    Args:
        with_replacement: Whether siblings are drawn independently; else each from its distribution without the tokens
            of the siblings before it.

    Source: the rule was derived for this package from excerpts that describe traversal verification, Weng et al.
    (2025), arXiv 2505.12398; neither the paper's own statement of its algorithm nor the authors' code was at hand, and
    the two may differ, for example where siblings hold the same token.

    Example:
        >>> import torch
        >>> laws = torch.full((1, 2, 4, 5), 0.2).log()
        >>> drafts = torch.tensor([[[1, 2, 3], [1, 4, 0]]])
        >>> TraversalVerification().verify(laws, laws[:, :, :3], drafts, generator=0).num_accepted
        tensor([3])
    """

    identical_drafts = True

    def __init__(self, *, with_replacement: bool = True):
        self.with_replacement = with_replacement

    def rule(self, block: DraftBlock, source: RandomSource) -> Verification:
        """Visit the chains of each row as a tree."""
        check_shared_laws(block, identical_drafts=True)
        if not self.with_replacement:
            check_distinct(block_shape(block))
        batch, _, size = block.shape
        rows = BlockRows(block, False)
        parts = list(zip(block.tokens.tolist(), block.lengths.tolist(), strict=True))
        trees = [OneTree.of_chains(*part, merges=False) for part in parts]
        merged = [OneTree.of_chains(*part) for part in parts]
        found = [self._walk(tree, rows, row, source, batch) for row, tree in enumerate(trees)]
        paths = [tree.path(end.row) for tree, end in zip(trees, found, strict=True)]
        winner = [(one.leader[end.row] - 1) // size if end.row else -1 for one, end in zip(merged, found, strict=True)]
        counts = [[len(path), first] for path, first in zip(paths, winner, strict=True)]
        length, first = torch.tensor(counts, dtype=torch.long, device=block.tokens.device).reshape(batch, 2).unbind(1)
        tokens = _tokens(trees, found, size, length.device)
        return Verification(tokens, length, first, _info(trees, merged, found, size, length.device))

    def tree(self, tree: TokenTree, source: RandomSource) -> TreeVerification:
        """Visit the tree of each row."""
        if tree.draft is None:
            return walk_tree(tree, draw_from_target, source, precise=False)
        shape = tree_shape(tree)
        if not self.with_replacement:
            check_distinct(shape)
        check_shared_nodes(tree, merged_leaders(shape))
        batch, count = tree.tokens.shape
        rows = TreeRows(tree, False)
        parts = list(zip(tree.tokens.tolist(), tree.parents.tolist(), tree.real.sum(-1).tolist(), strict=True))
        trees = [OneTree.of(*part, merges=False) for part in parts]
        merged = [OneTree.of(*part) for part in parts]
        found = [self._walk(one, rows, row, source, batch) for row, one in enumerate(trees)]
        device = tree.tokens.device
        paths = [one.path(end.row) for one, end in zip(trees, found, strict=True)]
        nodes = [[row - 1 for row in path] + [-1] * (count - len(path)) for path in paths]
        return TreeVerification(
            _tokens(trees, found, count, device),
            torch.tensor([len(path) for path in paths], dtype=torch.long, device=device),
            torch.tensor(nodes, dtype=torch.long, device=device).reshape(batch, count),
            _info(trees, merged, found, count, device),
        )

    def _walk(self, tree: OneTree, rows: Rows, row: int, source: RandomSource, batch: int) -> "_End":
        own = source if batch == 1 else source.rows(torch.tensor([row], device=rows.tokens.device))
        visit = _Visit(tree, rows, row, own, self.with_replacement)
        found = visit.node(0, 1.0)
        if found is None:
            raise RuntimeError("the root must be accepted when all that is drafted is rejected")
        return _End(found[0], own.choose_one(found[1]), visit.weights)


@dataclass(frozen=True)
class _End:
    """Row of the tree where the path ended, the token after it, and the weights of the rows that were visited."""

    row: int
    following: int
    weights: dict[int, float]


class _Visit:
    """One tree, visited from the leaves up."""

    def __init__(self, tree: OneTree, rows: Rows, row: int, source: RandomSource, with_replacement: bool):
        self._tree, self._rows, self._row, self._source = tree, rows, row, source
        self._with_replacement = with_replacement
        self.weights: dict[int, float] = {}

    def node(self, at: int, weight: float) -> tuple[int, Tensor] | None:
        """The row where the path ends and the weights of the next token, or None if nothing is accepted."""
        self.weights[at] = weight
        target = self._rows.one_target(self._row, at, self._rows.dtype)
        draft = None
        for child in self._tree.children[at]:
            token = self._tree.tokens[child]
            if draft is None:
                draft = self._rows.one_draft(self._row, child, self._rows.dtype)
            q = float(draft[token])
            below = min(1.0, weight * float(target[token]) / q) if q > 0 else 0.0
            found = self.node(child, below)
            if found is not None:
                return found
            left = (weight * target - draft).clamp_min_(0.0)
            surplus = float(left.sum())
            if surplus > 0:
                target, weight = left / surplus, surplus / (surplus + 1 - weight)
            elif at:
                weight = 0.0
            if not self._with_replacement:
                draft = draft.clone()
                draft[token] = 0.0
                draft /= draft.sum().clamp_min(torch.finfo(draft.dtype).tiny)
        accepted = not at or self._source.accept_one(weight)
        return (at, target) if accepted else None


def _tokens(trees: list[OneTree], found: list[_End], width: int, device: torch.device) -> Tensor:
    rows = []
    for tree, end in zip(trees, found, strict=True):
        path = [tree.tokens[row] for row in tree.path(end.row)]
        rows.append([*path, end.following] + [-1] * (width - len(path)))
    return torch.tensor(rows, dtype=torch.long, device=device).reshape(len(trees), width + 1)


def _info(trees: list[OneTree], merged: list[OneTree], found: list[_End], width: int, device: torch.device) -> Info:
    """Of each node on the path: the weight of the child that was visited last, and who competed."""
    weights, competing = torch.zeros(len(trees), width, dtype=torch.float64), torch.zeros(len(trees), width).long()
    for row, (tree, whole, end) in enumerate(zip(trees, merged, found, strict=True)):
        path = [0, *tree.path(end.row)]
        for place, at in enumerate(path[:width]):
            competing[row, place] = len(whole.children[whole.leader[at]])
            if tree.children[at]:
                last = path[place + 1] if place + 1 < len(path) else tree.children[at][-1]
                weights[row, place] = end.weights[last]
    return Info(weights.to(device), competing.to(device))
