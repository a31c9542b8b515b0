"""The two-phase rule for the rows of a batch one after the other, each walked from node to node."""

import torch
from torch import Tensor

from ..node import compute_dtype
from ..results import Info, Verification
from ..sources import RandomSource, is_long
from ..token_tree import TokenTree, TreeVerification
from ..verify_drafts import DraftBlock
from .descent import Descended, Descent
from .one_node import NodeRows, OnePlan
from .one_tree import OneTree
from .plans import LevelPlans, one_plan
from .rows import BlockRows, Rows, TreeRows


def descend_block(block: DraftBlock, plans: type[LevelPlans], source: RandomSource) -> Verification:
    """Verify the rows of a block."""
    size = block.shape[2]
    rows = BlockRows(block, plans.precise)
    drafts, lengths = block.tokens.tolist(), block.lengths.tolist()
    trees = [OneTree.of_chains(*row) for row in zip(drafts, lengths, strict=True)]
    ends, following = descend(trees, rows, plans, source, block.target)
    paths = [tree.path(found.end) for tree, found in zip(trees, ends, strict=True)]
    winner = [(found.end - 1) // size if found.end else -1 for found in ends]
    tokens = _tokens(trees, paths, following, size)
    counts = [[len(path), first] for path, first in zip(paths, winner, strict=True)]
    length, first = torch.tensor(counts, device=block.tokens.device).unbind(1)
    return Verification(torch.tensor(tokens, device=length.device), length, first, _info(ends, size, length.device))


def descend_tree(tree: TokenTree, plans: type[LevelPlans], source: RandomSource) -> TreeVerification:
    """Verify the trees of a batch."""
    batch, count = tree.tokens.shape
    rows = TreeRows(tree, plans.precise)
    parts = tree.tokens.tolist(), tree.parents.tolist(), tree.real.sum(-1).tolist()
    trees = [OneTree.of(*row) for row in zip(*parts, strict=True)]
    ends, following = descend(trees, rows, plans, source, tree.target)
    paths = [tree.path(found.end) for tree, found in zip(trees, ends, strict=True)]
    device = tree.tokens.device
    nodes = torch.tensor([[row - 1 for row in path] + [-1] * (count - len(path)) for path in paths], device=device)
    return TreeVerification(
        torch.tensor(_tokens(trees, paths, following, count), device=device),
        torch.tensor([len(path) for path in paths], device=device),
        nodes.reshape(batch, count),
        _info(ends, count, device),
    )


def descend(
    trees: list[OneTree], rows: Rows, plans: type[LevelPlans], source: RandomSource, target: Tensor
) -> tuple[list[Descended], list[int]]:
    """Draw the end of each row's path and the token after it."""
    ends, following = [], []
    for row, tree in enumerate(trees):
        own = source if len(trees) == 1 else source.rows(torch.tensor([row], device=target.device))
        walk = _Walk(tree, rows, plans, row, target)
        ends.append(Descent(tree, walk.plan, walk.target, plans.num_trials).draw(own))
        following.append(own.choose_one(ends[-1].weights))
    return ends, following


class _Walk:
    """What a walk down the tree of one row of the batch reads."""

    def __init__(self, tree: OneTree, rows: Rows, plans: type[LevelPlans], row: int, target: Tensor):
        self._tree, self._rows, self._plans, self._row = tree, rows, plans, row
        self._precise = plans.precise
        self._alone = compute_dtype(target, precise=plans.precise and not is_long(target))
        self._several = compute_dtype(target, precise=plans.precise)
        self._spare = {dtype: (_empty(target, dtype), _empty(target, dtype)) for dtype in {self._alone, self._several}}

    def plan(self, leader: int) -> OnePlan:
        """Plan of a leader that has children."""
        return one_plan(self._plans, self.node(leader))

    def node(self, leader: int) -> NodeRows:
        """Where one draft is left nothing is summed over long prefixes, so that the given precision does."""
        children = self._tree.children[leader]
        dtype = self._alone if len(children) == 1 else self._several
        return self._rows.node(self._row, leader, children, self._spare[dtype], dtype)

    def target(self, row: int) -> Tensor:
        """Target probabilities ``(v,)``."""
        return self._rows.one_target(self._row, row, self._alone)


def _empty(like: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty(like.shape[-1], dtype=dtype, device=like.device)


def _tokens(trees: list[OneTree], paths: list[list[int]], following: list[int], width: int) -> list[list[int]]:
    """Tokens of the accepted paths, the tokens after them, then -1; ``width + 1`` a row."""
    return [
        [*(tree.tokens[row] for row in path), token] + [-1] * (width - len(path))
        for tree, path, token in zip(trees, paths, following, strict=True)
    ]


def _info(ends: list[Descended], width: int, device: torch.device) -> Info:
    probability = [[min(value, 1.0) for value in found.probability][:width] for found in ends]
    competing = [found.competing[:width] for found in ends]
    padded = [row + [0.0] * (width - len(row)) for row in probability]
    counts = [row + [0] * (width - len(row)) for row in competing]
    return Info(
        torch.tensor(padded, dtype=torch.float64, device=device).reshape(len(ends), width),
        torch.tensor(counts, dtype=torch.long, device=device).reshape(len(ends), width),
    )
