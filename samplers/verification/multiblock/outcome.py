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
        """The probability of each step given the drafts, and who competed there, for ``width`` positions."""
        length, law = self.length, self.stops.law
        steps = torch.arange(width, device=length.device)
        by_depth = law.new_zeros(len(length), width + 1)
        by_depth.scatter_add_(1, self.shape.depths.clamp_max(width), law)
        beyond = by_depth.flip(-1).cumsum(-1).flip(-1)  # probability of at least so many accepted tokens
        probability = torch.where(beyond[:, :-1] > 0, beyond[:, 1:] / beyond[:, :-1].clamp_min(1e-300), 0.0)
        row = torch.nn.functional.pad(self.path + 1, (1, 0))[:, :width]  # row reached before each step, the root first
        row = torch.nn.functional.pad(row, (0, width - row.shape[1])).clamp_min(0)
        competing = self.stops.num_children.gather(1, self.tree.leader.gather(1, row))
        num_active = torch.where(steps <= length[:, None], competing, 0)
        return Info(torch.where(num_active > 0, probability.clamp_max(1.0), 0.0), num_active)


def accepted_tokens(held: Tensor, length: Tensor, following: Tensor) -> Tensor:
    """Tokens ``(B, w+1)``: the first ``length (B,)`` of those held ``(B, w)``, the token after them, then -1."""
    steps = torch.arange(held.shape[1] + 1, device=held.device)
    tokens = torch.where(steps < length[:, None], torch.nn.functional.pad(held, (0, 1)), -1)
    return tokens.scatter_(1, length[:, None], following[:, None])
