"""A drafted tree whose copies of one prefix are merged, level by level."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TreeShape:
    """Nodes of ``B`` trees: row 0 is the root, rows ``1..n`` are the drafted tokens.

    Attributes:
        tokens: Token of each drafted node ``(B, n)``.
        parents: Row ``0..n`` of each drafted node's parent ``(B, n)``, an earlier one.
        real: Nodes that are no padding ``(B, n)``.
        depths: Depth of each row ``(B, n+1)``, the root's 0.
        num_levels: The largest depth.
    """

    tokens: Tensor
    parents: Tensor
    real: Tensor
    depths: Tensor
    num_levels: int


@dataclass(frozen=True)
class Level:
    """The ``r`` nodes of one depth that have children, copies of one prefix merged into one node.

    Attributes:
        batch_row: Row of the batch ``(r,)``.
        node: First of the rows of the tree that hold this prefix ``(r,)``.
        child: Rows of the tree that hold the children ``(r, c)``, in ascending order; padding is 0.
        active: Which children are real ``(r, c)``.
        leads: Which children are the first that hold their token ``(r, c)``: one stands for each distinct token.
        below: Place in the next level of the merged node that a column leads ``(r, c)``; -1 where it has no children
            or does not lead.
    """

    batch_row: Tensor
    node: Tensor
    child: Tensor
    active: Tensor
    leads: Tensor
    below: Tensor

    @property
    def num_nodes(self) -> int:
        """Number of nodes ``r``."""
        return self.node.numel()


def merged_leaders(shape: TreeShape) -> Tensor:
    """First row ``(B, n+1)`` of the tree that holds the prefix of each row.

    Example:
        >>> tokens, parents = torch.tensor([[7, 7, 5, 5]]), torch.tensor([[0, 0, 1, 2]])
        >>> real, depths = torch.ones_like(tokens, dtype=torch.bool), torch.tensor([[0, 1, 1, 2, 2]])
        >>> merged_leaders(TreeShape(tokens, parents, real, depths, 2))
        tensor([[0, 1, 1, 3, 3]])
    """
    batch, count = shape.tokens.shape
    leader = torch.arange(count + 1, device=shape.tokens.device).expand(batch, -1)
    both = shape.real[:, :, None] & shape.real[:, None]
    alike = both & (shape.tokens[:, :, None] == shape.tokens[:, None])
    for _ in range(shape.num_levels):  # after i rounds the leaders of depth i are final
        above = leader.gather(1, shape.parents)
        same = alike & (above[:, :, None] == above[:, None])
        first = torch.where(shape.real, same.to(torch.uint8).argmax(-1) + 1, leader[:, 1:])
        leader = torch.cat([leader[:, :1], first], 1)
    return leader


@dataclass(frozen=True)
class MergedTree:
    """A tree whose copies of one prefix are merged.

    Attributes:
        levels: The nodes that have children, from the root's level down.
        leader: First row that holds the prefix of each row ``(B, n+1)``.
    """

    levels: list[Level]
    leader: Tensor


def merge(shape: TreeShape, leader: Tensor) -> MergedTree:
    """Merge the copies of each prefix, of which ``leader (B, n+1)`` are the first; see `merged_leaders`."""
    batch, count = shape.tokens.shape
    above = leader.gather(1, shape.parents)
    children = torch.zeros_like(leader).scatter_add_(1, above, shape.real.long())
    row, node = (children > 0).nonzero(as_tuple=True)
    depth = shape.depths[row, node]
    order = depth.argsort(stable=True)
    row, node = row[order], node[order]
    sizes = torch.bincount(depth, minlength=shape.num_levels + 1)
    num_children = children[row, node]
    place = torch.full((batch, count + 1), -1, dtype=torch.long, device=node.device)
    start = sizes.cumsum(0) - sizes
    place[row, node] = torch.arange(node.numel(), device=node.device) - start[depth[order]]
    widest = num_children.max()[None] if node.numel() else num_children.new_zeros(1)
    *counts, width = torch.cat([sizes, widest]).tolist()
    held = shape.real[row] & (above[row] == node[:, None])
    columns = held.sort(dim=-1, descending=True, stable=True).indices[:, :width]
    active = held.gather(1, columns)
    child = torch.where(active, columns + 1, 0)
    leads = active & (leader[row].gather(1, child) == child)
    below = torch.where(leads, place[row].gather(1, child), -1)
    parts = zip(*(part.split(counts) for part in (row, node, child, active, leads, below)), strict=True)
    return MergedTree([Level(*part) for part in parts if part[0].numel()], leader)
