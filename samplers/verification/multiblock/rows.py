"""Rows of distributions by rows of a drafted tree, for blocks and for trees."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..node import compute_dtype
from ..sources import is_long
from ..token_tree import TokenTree
from ..verify_drafts import DraftBlock
from .levels import Level, TreeShape
from .plans import LevelRows
from .two_phase import Stops


class Rows(ABC):
    """The distributions of drafted trees.

    Args:
        target: Target logits ``(B, ..., v)``.
        draft: Draft logits ``(B, ..., v)``.
        tokens: Token of each drafted node ``(B, n)``.
        precise: Whether probabilities are float64 whatever the dtype of the logits.
    """

    def __init__(self, target: Tensor, draft: Tensor | None, tokens: Tensor, precise: bool):
        if draft is None:
            raise ValueError("draft_logits must be given to verify drafts as a whole, got None")
        self._target, self._draft = target, draft
        self.tokens, self.dtype = torch.nn.functional.pad(tokens, (1, 0)), compute_dtype(target, precise=precise)

    @abstractmethod
    def _target_place(self, row: Tensor, node: Tensor) -> tuple[Tensor, ...]:
        """Where the target's logits after rows ``node (r,)`` of the trees ``row (r,)`` lie."""

    @abstractmethod
    def _draft_place(self, row: Tensor, child: Tensor) -> tuple[Tensor, ...]:
        """Where the logits that drafted nodes were drawn from lie."""

    def target(self, row: Tensor, node: Tensor) -> Tensor:
        """Target probabilities ``(r, v)``."""
        return self._softmax(self._target, self._target_place(row, node))

    def draft(self, row: Tensor, child: Tensor) -> Tensor:
        """Draft probabilities ``(r, v)``."""
        return self._softmax(self._draft, self._draft_place(row, child))

    def _softmax(self, logits: Tensor, place: tuple[Tensor, ...]) -> Tensor:
        """Probabilities of rows of logits; long rows are not copied before."""
        if not is_long(logits):
            return logits[place].softmax(-1, dtype=self.dtype)
        found = logits.new_empty(len(place[0]), logits.shape[-1], dtype=self.dtype)
        for out, *at in zip(found, *(part.tolist() for part in place), strict=True):
            torch.softmax(logits[tuple(at)], -1, dtype=self.dtype, out=out)
        return found

    @abstractmethod
    def _target_row(self, row: int, node: int) -> Tensor:
        """The target's logits ``(v,)`` after a row of a tree."""

    @abstractmethod
    def _draft_row(self, row: int, child: int) -> Tensor:
        """The logits ``(v,)`` that a drafted node was drawn from."""

    def one_target(self, row: int, node: int, dtype: torch.dtype) -> Tensor:
        """Target probabilities ``(v,)``."""
        return self._target_row(row, node).softmax(-1, dtype=dtype)

    def one_draft(self, row: int, child: int, dtype: torch.dtype) -> Tensor:
        """Probabilities ``(v,)`` that a drafted node was drawn from."""
        return self._draft_row(row, child).softmax(-1, dtype=dtype)

    def level(self, level: Level, *, identical_drafts: bool) -> LevelRows:
        """The distributions and the drafted tokens of a level; each child's own, unless drafts are identical."""
        target = self.target(level.batch_row, level.node)
        draft = self.draft(level.batch_row, level.child[:, 0])
        tokens = self.tokens[level.batch_row[:, None], level.child]
        drafts = None if identical_drafts else self._drafts(level)
        return LevelRows(target, draft, tokens, level.active, level.leads, drafts)

    def _drafts(self, level: Level) -> Tensor:
        """Probabilities ``(r, c, v)`` that each child was drawn from; 0 in the padding."""
        rows = level.batch_row[:, None].expand_as(level.child)
        drafts = self.draft(rows[level.active], level.child[level.active])
        found = drafts.new_zeros(*level.child.shape, drafts.shape[-1])
        found[level.active] = drafts
        return found


class BlockRows(Rows):
    """Draft ``j``'s token ``i`` is row ``1 + j t + i`` of the tree."""

    def __init__(self, block: DraftBlock, precise: bool):
        super().__init__(block.target, block.draft, block.tokens.flatten(1), precise)
        self._size = max(block.shape[2], 1)

    def _target_place(self, row: Tensor, node: Tensor) -> tuple[Tensor, ...]:
        """Draft 0 stands for the root."""
        position = torch.where(node > 0, (node - 1) % self._size + 1, 0)
        return row, (node - 1).clamp_min(0) // self._size, position

    def _draft_place(self, row: Tensor, child: Tensor) -> tuple[Tensor, ...]:
        """The child's own place."""
        return row, (child - 1) // self._size, (child - 1) % self._size

    def _target_row(self, row: int, node: int) -> Tensor:
        """Draft 0 stands for the root."""
        draft, place = divmod(max(node - 1, 0), self._size)
        return self._target[row, draft, place + 1 if node else 0]

    def _draft_row(self, row: int, child: int) -> Tensor:
        draft, place = divmod(child - 1, self._size)
        return self._draft[row, draft, place]


class TreeRows(Rows):
    """Rows of a `TokenTree`."""

    def __init__(self, tree: TokenTree, precise: bool):
        super().__init__(tree.target, tree.draft, tree.tokens, precise)
        self._parents = tree.parents

    def _target_place(self, row: Tensor, node: Tensor) -> tuple[Tensor, ...]:
        return row, node

    def _draft_place(self, row: Tensor, child: Tensor) -> tuple[Tensor, ...]:
        """The child's parent."""
        return row, self._parents[row, child - 1]

    def _target_row(self, row: int, node: int) -> Tensor:
        return self._target[row, node]

    def _draft_row(self, row: int, child: int) -> Tensor:
        return self._draft[row, int(self._parents[row, child - 1])]


def block_shape(block: DraftBlock) -> TreeShape:
    """The drafts of a block as chains below one root: draft ``j``'s token ``i`` is row ``1 + j t + i``."""
    batch, num_drafts, size = block.shape
    device = block.tokens.device
    depths = torch.arange(size, device=device).repeat(num_drafts)
    rows = torch.arange(num_drafts * size, device=device)
    parents = torch.where(depths > 0, rows, 0).expand(batch, -1)
    real = torch.arange(size, device=device) < block.lengths[..., None]
    depths = torch.nn.functional.pad(depths + 1, (1, 0)).expand(batch, -1)
    return TreeShape(block.tokens.flatten(1), parents, real.flatten(1), depths, size)


def tree_shape(tree: TokenTree) -> TreeShape:
    """The shape of a token tree."""
    batch, count = tree.tokens.shape
    depths = torch.zeros(batch, count + 1, dtype=torch.long, device=tree.tokens.device)
    num_levels = 0
    while num_levels < count:  # each round settles the depths of one more level
        deeper = depths.gather(1, tree.parents) + 1
        deeper = torch.where(tree.real, deeper, 0)
        if torch.equal(deeper, depths[:, 1:]):
            break
        depths = torch.nn.functional.pad(deeper, (1, 0))
        num_levels += 1
    return TreeShape(tree.tokens, tree.parents, tree.real, depths, num_levels)


def following_weights(rows: Rows, stops: Stops, depths: Tensor, end: Tensor) -> Tensor:
    """Weights ``(B, v)`` of the token after the end of the path."""
    row = torch.arange(end.numel(), device=end.device)
    weights, place = rows.target(row, end), stops.place[row, end]
    depth = torch.where(place >= 0, depths[row, end], -1)
    depths_reached = depth.tolist()
    for level in set(depths_reached) - {-1}:
        some = torch.tensor([at for at, here in enumerate(depths_reached) if here == level], device=end.device)
        weights[some] = stops.plans[level].leftover(place[some], weights[some])
    return weights
