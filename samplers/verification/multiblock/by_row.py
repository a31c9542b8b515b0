"""The two-phase rule for the rows of a batch one after the other, each walked from node to node."""

import torch
from torch import Tensor

from ..node import compute_dtype
from ..results import Info, Verification
from ..sources import RandomSource, is_long, source_of
from ..token_tree import TokenTree, TreeVerification
from ..verify_drafts import DraftBlock
from .descent import Descended, Descent
from .one_node import NodeRows, OnePlan
from .one_tree import OneTree
from .plans import LevelPlans, one_plan
from .row_results import block_result, chain_trees, row_info, row_trees, tree_result
from .rows import BlockRows, Rows, TreeRows


def descend_block(block: DraftBlock, plans: type[LevelPlans], source: RandomSource) -> Verification:
    """Verify the rows of a block."""
    trees = chain_trees(block)
    ends, following = _descend(trees, BlockRows(block, plans.precise), plans, source, block.target)
    info = _info(ends, block.shape[2], block.tokens.device)
    return block_result(block, trees, [found.end for found in ends], following, info)


def descend_tree(tree: TokenTree, plans: type[LevelPlans], source: RandomSource) -> TreeVerification:
    """Verify the trees of a batch."""
    trees = row_trees(tree)
    ends, following = _descend(trees, TreeRows(tree, plans.precise), plans, source, tree.target)
    info = _info(ends, tree.tokens.shape[1], tree.tokens.device)
    return tree_result(tree, trees, [found.end for found in ends], following, info)


def _descend(
    trees: list[OneTree], rows: Rows, plans: type[LevelPlans], source: RandomSource, target: Tensor
) -> tuple[list[Descended], list[int]]:
    """Draw the end of each row's path and the token after it."""
    ends, following = [], []
    for row, tree in enumerate(trees):
        own = source_of(row, len(trees), source)
        walk = _Walk(tree, rows, plans, row, target)
        ends.append(Descent(tree, walk.plan, walk.target, plans.num_trials).draw(own))
        following.append(own.choose_one(ends[-1].weights))
    return ends, following


class _Walk:
    """What a walk down the tree of one row of the batch reads."""

    def __init__(self, tree: OneTree, rows: Rows, plans: type[LevelPlans], row: int, target: Tensor):
        self._tree, self._rows, self._plans, self._row = tree, rows, plans, row
        self._alone = compute_dtype(target, precise=plans.precise and not is_long(target))
        self._several = compute_dtype(target, precise=plans.precise)
        self._spare = {dtype: (_empty(target, dtype), _empty(target, dtype)) for dtype in {self._alone, self._several}}

    def plan(self, leader: int) -> OnePlan:
        """Plan of a leader that has children.

        Where one draft is left nothing is summed over long prefixes, so that the given precision does.
        """
        children = self._tree.children[leader]
        dtype = self._alone if len(children) == 1 else self._several

        def draft_of(place: int) -> Tensor:
            return self._rows.one_draft(self._row, children[place], dtype)

        tokens = [self._tree.tokens[child] for child in children]
        target = self._rows.one_target(self._row, leader, dtype)
        return one_plan(self._plans, NodeRows(target, tokens, draft_of, self._spare[dtype]))

    def target(self, row: int) -> Tensor:
        """Target probabilities ``(v,)``."""
        return self._rows.one_target(self._row, row, self._alone)


def _empty(like: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty(like.shape[-1], dtype=dtype, device=like.device)


def _info(ends: list[Descended], width: int, device: torch.device) -> Info:
    probability = [[min(value, 1.0) for value in found.probability] for found in ends]
    return row_info(probability, [found.competing for found in ends], width, device)
