"""What a person wants to know about a path that ended at a row of a tree."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..results import Info
from ..token_tree import path_to
from .levels import MergedTree, TreeShape
from .two_phase import Stops


@dataclass(frozen=True)
class Outcome:
    """The end of the accepted path and the token after it.

    Attributes:
        shape: The drafted tree.
        tree: The same, merged.
        stops: Where the path ends, given the drafts.
        end: Row of the tree where it ended ``(B,)``.
        following: The token after it ``(B,)``.
    """

    shape: TreeShape
    tree: MergedTree
    stops: Stops
    end: Tensor
    following: Tensor

    @cached_property
    def length(self) -> Tensor:
        """Length of the accepted path ``(B,)``."""
        return self.shape.depths.gather(1, self.end[:, None])[:, 0]

    @cached_property
    def path(self) -> Tensor:
        """Nodes of the accepted path ``(B, n)``, then -1."""
        return path_to(self.shape.parents, self.end, self.length)

    def info(self, width: int) -> Info:
        """What each node on the path accepts in the mean, and who competed there, for ``width`` positions."""
        length, leader = self.length, self.tree.leader
        steps = torch.arange(width, device=length.device)
        row = torch.nn.functional.pad(self.path + 1, (1, 0))[:, :width]  # row reached before each step, the root first
        row = torch.nn.functional.pad(row, (0, width - row.shape[1])).clamp_min(0)
        at = leader.gather(1, row)
        num_active = torch.where(steps <= length[:, None], self.stops.num_children.gather(1, at), 0)
        probability = self.stops.total.gather(1, at)
        return Info(torch.where(num_active > 0, probability.clamp_max(1.0), 0.0), num_active)
