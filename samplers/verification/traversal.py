"""Traversal verification: a tree judged from its leaves up."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .multiblock.checks import check_drafts, check_nodes
from .multiblock.levels import merged_leaders
from .multiblock.one_tree import OneTree
from .multiblock.row_results import block_result, chain_trees, row_info, row_trees, tree_result
from .multiblock.rows import BlockRows, Rows, TreeRows, tree_shape
from .results import Info, Verification
from .sources import RandomSource, source_of
from .token_tree import TokenTree, TreeVerification
from .verifier import TreeRule
from .verify_drafts import DraftBlock


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
        check_drafts(block, self)
        trees = chain_trees(block, merges=False)
        found = self._walk(trees, BlockRows(block, False), source)
        info = _info(trees, found, block.shape[2], block.tokens.device)
        return block_result(block, trees, [end.row for end in found], [end.following for end in found], info)

    def tree(self, tree: TokenTree, source: RandomSource) -> TreeVerification:
        """Visit the tree of each row."""
        shape = tree_shape(tree)
        check_nodes(tree, shape, merged_leaders(shape), self)
        trees = row_trees(tree, merges=False)
        found = self._walk(trees, TreeRows(tree, False), source)
        info = _info(trees, found, tree.tokens.shape[1], tree.tokens.device)
        return tree_result(tree, trees, [end.row for end in found], [end.following for end in found], info)

    def _walk(self, trees: list[OneTree], rows: Rows, source: RandomSource) -> list["_End"]:
        ends = []
        for row, tree in enumerate(trees):
            own = source_of(row, len(trees), source)
            visit = _Visit(tree, rows, row, own, self.with_replacement)
            found = visit.node(0, 1.0)
            if found is None:
                raise RuntimeError("the root must be accepted when all that is drafted is rejected")
            ends.append(_End(found[0], own.choose_one(found[1]), visit.weights))
        return ends


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


def _info(trees: list[OneTree], found: list[_End], width: int, device: torch.device) -> Info:
    """Of each node on the path: the weight of the child that was visited last, and who competed."""
    weights, competing = [], []
    for tree, end in zip(trees, found, strict=True):
        path = [0, *tree.path(end.row)]
        competing.append([tree.num_competing(at) for at in path])
        below = tree.children[end.row]
        last = [*path[1:], *below[-1:]]  # of each node on the path: the child that was visited last
        weights.append([end.weights[child] for child in last])
    return row_info(weights, competing, width, device)
