"""Results of trees that were walked one after the other."""

import torch
from torch import Tensor

from ..results import Info, Verification
from ..token_tree import TokenTree, TreeVerification
from ..verify_drafts import DraftBlock
from .one_tree import OneTree


def chain_trees(block: DraftBlock, *, merges: bool = True) -> list[OneTree]:
    """The drafts of each row of a block as chains below one root."""
    rows = zip(block.tokens.tolist(), block.lengths.tolist(), strict=True)
    return [OneTree.of_chains(*row, merges=merges) for row in rows]


def row_trees(tree: TokenTree, *, merges: bool = True) -> list[OneTree]:
    """The tree of each row."""
    rows = zip(tree.tokens.tolist(), tree.parents.tolist(), tree.real.tolist(), strict=True)
    return [OneTree.of(*row, merges=merges) for row in rows]


def block_result(
    block: DraftBlock, trees: list[OneTree], ends: list[int], following: list[int], info: Info
) -> Verification:
    """The result for a block, from the row where each path ended and the token after it."""
    size = block.shape[2]
    device = block.tokens.device
    paths = [tree.path(end) for tree, end in zip(trees, ends, strict=True)]
    winner = [(tree.leader[end] - 1) // size if end else -1 for tree, end in zip(trees, ends, strict=True)]
    counts = [[len(path), first] for path, first in zip(paths, winner, strict=True)]
    length, first = _whole(counts, 2, device).unbind(1)
    return Verification(_tokens(trees, paths, following, size, device), length, first, info)


def tree_result(
    tree: TokenTree, trees: list[OneTree], ends: list[int], following: list[int], info: Info
) -> TreeVerification:
    """The result for a batch of trees, from the row where each path ended and the token after it."""
    count, device = tree.tokens.shape[1], tree.tokens.device
    paths = [one.path(end) for one, end in zip(trees, ends, strict=True)]
    nodes = [[row - 1 for row in path] + [-1] * (count - len(path)) for path in paths]
    length = torch.tensor([len(path) for path in paths], dtype=torch.long, device=device)
    return TreeVerification(_tokens(trees, paths, following, count, device), length, _whole(nodes, count, device), info)


def row_info(probability: list[list[float]], competing: list[list[int]], width: int, device: torch.device) -> Info:
    """What is known of each position that was reached, then 0; ``width`` positions a row."""
    padded = [row[:width] + [0.0] * (width - len(row)) for row in probability]
    counts = [row[:width] + [0] * (width - len(row)) for row in competing]
    found = torch.tensor(padded, dtype=torch.float64, device=device).reshape(len(padded), width)
    return Info(found, _whole(counts, width, device))


def _tokens(
    trees: list[OneTree], paths: list[list[int]], following: list[int], width: int, device: torch.device
) -> Tensor:
    """Tokens of the accepted paths, the tokens after them, then -1: ``(B, width + 1)``."""
    rows = [
        [*(tree.tokens[row] for row in path), token] + [-1] * (width - len(path))
        for tree, path, token in zip(trees, paths, following, strict=True)
    ]
    return _whole(rows, width + 1, device)


def _whole(rows: list[list[int]], width: int, device: torch.device) -> Tensor:
    return torch.tensor(rows, dtype=torch.long, device=device).reshape(len(rows), width)
