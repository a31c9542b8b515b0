"""Traversal verification: a tree judged from its leaves up."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .multiblock.one_tree import OneTree
from .multiblock.rows import BlockRows, Rows, TreeRows, check_shared_laws, check_shared_nodes, merge_tree
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

    `MultiBlockVerifier` accepts more on what was measured; this rule takes siblings without replacement too.

    Args:
        with_replacement: Whether siblings are drawn independently; else each from its distribution without the tokens
            of the siblings before it.

    Source: Weng et al. (2025), arXiv 2505.12398; written from the published description, not from the authors' code.

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
        batch, _, size = block.shape
        rows = BlockRows(block, False)
        parts = zip(block.tokens.tolist(), block.lengths.tolist(), strict=True)
        if self.with_replacement:
            trees = [OneTree.of_chains(drafts, lengths, merges=False) for drafts, lengths in parts]
        else:
            trees = [OneTree.of_chains(drafts, lengths) for drafts, lengths in parts]
        found = [self._walk(tree, rows, row, source, batch) for row, tree in enumerate(trees)]
        device, width = block.tokens.device, max(size, 1)
        winner = [
            (first_copy(tree, end.row) - 1) // width if end.row else -1 for tree, end in zip(trees, found, strict=True)
        ]
        return Verification(
            _tokens(trees, found, size, device),
            torch.tensor([len(tree.path(end.row)) for tree, end in zip(trees, found, strict=True)], device=device),
            torch.tensor(winner, device=device),
            _info(trees, found, size, device),
        )

    def tree(self, tree: TokenTree, source: RandomSource) -> TreeVerification:
        """Visit the tree of each row."""
        if tree.draft is None:
            return walk_tree(tree, draw_from_target, source, precise=False)
        check_shared_nodes(tree, merge_tree(tree).leader)
        batch, count = tree.tokens.shape
        rows = TreeRows(tree, False)
        parts = zip(tree.tokens.tolist(), tree.parents.tolist(), tree.real.sum(-1).tolist(), strict=True)
        trees = [OneTree.of(*part, merges=False) for part in parts]
        found = [self._walk(one, rows, row, source, batch) for row, one in enumerate(trees)]
        device = tree.tokens.device
        paths = [one.path(end.row) for one, end in zip(trees, found, strict=True)]
        nodes = [[row - 1 for row in path] + [-1] * (count - len(path)) for path in paths]
        return TreeVerification(
            _tokens(trees, found, count, device),
            torch.tensor([len(path) for path in paths], device=device),
            torch.tensor(nodes, device=device).reshape(batch, count),
            _info(trees, found, count, device),
        )

    def _walk(self, tree: OneTree, rows: Rows, row: int, source: RandomSource, batch: int) -> "_End":
        own = source if batch == 1 else source.rows(torch.tensor([row], device=rows.tokens.device))
        visit = _Visit(tree, rows, row, own, self.with_replacement)
        found = visit.node(0, 1.0)
        if found is None:
            raise RuntimeError("the root must be accepted when all that is drafted is rejected")
        return _End(found[0], own.choose_one(found[1]), visit.tests)


@dataclass(frozen=True)
class _End:
    """Row of the tree where the path ended, the token after it, and the last test at each row."""

    row: int
    following: int
    tests: dict[int, float]


class _Visit:
    """One tree, visited from the leaves up."""

    def __init__(self, tree: OneTree, rows: Rows, row: int, source: RandomSource, with_replacement: bool):
        self._tree, self._rows, self._row, self._source = tree, rows, row, source
        self._with_replacement = with_replacement
        self.tests: dict[int, float] = {}

    def node(self, at: int, weight: float) -> tuple[int, Tensor] | None:
        """The row where the path ends and the weights of the next token, or None if nothing is accepted."""
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
                draft /= draft.sum().clamp_min(1e-300)
        self.tests[at] = weight
        accepted = not at or self._source.accept_one(weight)
        return (at, target) if accepted else None


def first_copy(tree: OneTree, row: int) -> int:
    """First row whose path holds the tokens of ``row``."""
    wanted = [tree.tokens[node] for node in tree.path(row)]
    for other in range(1, row):
        if [tree.tokens[node] for node in tree.path(other)] == wanted and other in tree.children[tree.parents[other]]:
            return other
    return row


def _tokens(trees: list[OneTree], found: list[_End], width: int, device: torch.device) -> Tensor:
    rows = []
    for tree, end in zip(trees, found, strict=True):
        path = [tree.tokens[row] for row in tree.path(end.row)]
        rows.append([*path, end.following] + [-1] * (width - len(path)))
    return torch.tensor(rows, device=device)


def _info(trees: list[OneTree], found: list[_End], width: int, device: torch.device) -> Info:
    tests, competing = torch.zeros(len(trees), width, dtype=torch.float64), torch.zeros(len(trees), width).long()
    for row, (tree, end) in enumerate(zip(trees, found, strict=True)):
        path = [0, *tree.path(end.row)]
        for place, at in enumerate(path[:width]):
            competing[row, place] = len(tree.children[at])
            after = path[place + 1] if place + 1 < len(path) else next(iter(tree.children[at]), at)
            tests[row, place] = end.tests.get(after, 0.0) if tree.children[at] else 0.0
    return Info(tests.to(device), competing.to(device))
