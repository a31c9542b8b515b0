"""A source of decisions that follows every branch instead of drawing one."""

import torch
from torch import Tensor

from ..verification.multidraft.cells import cell_distributions, winning_law
from ..verification.sources import CellLaws, RandomSource


class Branches(RandomSource):
    """Decides as told, then by the first branch that is possible, and notes the branches it left out.

    Run a verifier with it, then run it again on what `unexplored` returns, until nothing is left: each leaf of the tree
    of decisions is visited once, with its exact probability. See `samplers.exactness`.

    Args:
        forced: The first decisions of each row ``(w, depth)``; -1 from where the row is free.
        weight: Probability that the forced decisions' rows start from ``(w,)``.
    """

    def __init__(self, forced: Tensor, weight: Tensor):
        self._record = _Record(forced.clone(), weight.clone())
        self._index = torch.arange(forced.shape[0])

    @property
    def weight(self) -> Tensor:
        """Probability ``(w,)`` of each row's leaf."""
        return self._record.weight

    def unexplored(self) -> tuple[Tensor, Tensor]:
        """Return the row ``(s,)`` and the forced decisions ``(s, depth)`` of each branch left out."""
        return self._record.unexplored()

    def rows(self, index: Tensor) -> "Branches":
        """Return the source of the rows ``index (s,)`` alone."""
        view = object.__new__(Branches)
        view._record, view._index = self._record, self._index[index]
        return view

    def uniform(self, count: int) -> Tensor:
        """Refuse: a uniform has too many branches."""
        raise TypeError(
            "a verifier that draws uniforms cannot be enumerated: draw by accept, choose and highest, or test it by "
            "chi_square_test"
        )

    def accept(self, probability: Tensor) -> Tensor:
        """Branch two ways."""
        return self._record.decide(self._index, torch.stack([probability, 1 - probability], -1)) == 0

    def choose(self, weights: Tensor) -> Tensor:
        """Branch to every index of positive weight."""
        return self._record.decide(self._index, weights)

    def highest(self, laws: CellLaws, active: Tensor) -> Tensor:
        """Branch to every contestant that can win."""
        return self._record.decide(self._index, winning_law(cell_distributions(laws), active))


class _Record:
    """Decisions, probabilities and open branches of all rows, shared by the views of a source."""

    def __init__(self, forced: Tensor, weight: Tensor):
        self.decisions, self.weight = forced, weight
        self.depth = torch.zeros(forced.shape[0], dtype=torch.long)
        self.open: list[tuple[Tensor, Tensor, Tensor]] = []

    def decide(self, index: Tensor, weights: Tensor) -> Tensor:
        probs = weights.double() / weights.sum(-1, keepdim=True, dtype=torch.float64)
        depth = self.depth[index]
        self._grow(int(depth.max()) + 1 if depth.numel() else 0)
        forced = self.decisions[index, depth]
        free = forced < 0
        choice = torch.where(free, (probs > 0).to(torch.uint8).argmax(-1), forced)
        left_out = (probs > 0) & free[:, None]
        left_out.scatter_(-1, choice[:, None], False)
        row, branch = left_out.nonzero(as_tuple=True)
        self.open.append((index[row], depth[row], branch))
        self.decisions[index, depth] = choice
        self.weight[index] *= probs.gather(-1, choice[:, None])[:, 0]
        self.depth[index] += 1
        return choice

    def _grow(self, depth: int) -> None:
        missing = depth - self.decisions.shape[1]
        if missing > 0:
            self.decisions = torch.nn.functional.pad(self.decisions, (0, missing), value=-1)

    def unexplored(self) -> tuple[Tensor, Tensor]:
        if not self.open:
            return torch.zeros(0, dtype=torch.long), self.decisions[:0]
        row, depth, branch = (torch.cat(parts) for parts in zip(*self.open, strict=True))
        steps = torch.arange(self.decisions.shape[1])
        decisions = self.decisions[row].masked_fill(steps > depth[:, None], -1)
        decisions[torch.arange(row.numel()), depth] = branch
        return row, decisions
