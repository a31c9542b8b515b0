"""What every selection is, the one that keeps all, and the deterministic top-K that the others are made of."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ..._validation import can_read_values, check_integer
from ...numerics.randomness import Randomness
from ...parameters import Computation

__all__ = ["Dense", "Selection", "keep", "top_k_mask"]


class Selection(Computation, nn.Module, ABC):
    """Maps scores to scores of the same shape in which unselected experts are at -inf; experts are never reordered.

    Attributes:
        num_selected: how many experts survive at every row; ``None`` for all of them.
        shift_invariant: whether adding a constant to all scores of a row selects the same experts.
        reads_scores_alone: whether the selection of a row is a function of its two kinds of scores alone, whatever
            batch dimensions they have: it draws nothing, and has no parameters and no other use of x.
        reads_slope_scores: whether it may depend on ``slope_scores``.

    The last two are statements about ``forward``, which a subclass that overrides it does not inherit.
    """

    computed_by = ("forward",)
    statements = ("reads_scores_alone", "reads_slope_scores")
    num_selected: int | None = None
    shift_invariant: bool = True
    reads_scores_alone: bool = False
    reads_slope_scores: bool = True

    @abstractmethod
    def forward(self, scores: Tensor, *, slope_scores: Tensor, x: Tensor, generator: Randomness = None) -> Tensor:
        """The scores ``(*batch, n, k)``, -inf where unselected.

        Args:
            scores: what the gate thinks of each expert, ``(*batch, n, k)``, divided by the temperature.
            slope_scores: the part of the score that depends on x, broadcastable to ``scores``; not divided by the
                temperature, which does not change its ranking.
            x: covariates ``(*batch, n, d)``.
            generator: source of the noise, for selections that are random.
        """


class Dense(Selection):
    """Every expert is kept.

    Example:
        >>> import torch
        >>> scores = torch.tensor([[1.0, 2.0]])
        >>> Dense()(scores, slope_scores=scores, x=torch.ones(1, 1))
        tensor([[1., 2.]])
    """

    reads_scores_alone = True
    reads_slope_scores = False

    def forward(self, scores: Tensor, *, slope_scores: Tensor, x: Tensor, generator: Randomness = None) -> Tensor:
        """The scores as they are."""
        return scores


def top_k_mask(ranking: Tensor, num_selected: int) -> Tensor:
    """Mark the ``num_selected`` largest entries of every row; of equal entries those of lower index come first.

    Args:
        ranking: ``(..., k)``; -inf is never selected.
        num_selected: how many to mark, from 1 to k.

    Returns:
        A boolean tensor of the shape of ``ranking`` with exactly ``num_selected`` true entries in each row.

    Raises:
        ValueError: if ``num_selected`` is not in 1..k, or a row has fewer than ``num_selected`` entries above -inf.

    ``torch.topk`` leaves the order of equal entries open, and marking all that reach the K-th value marks too many;
    in low precision such ties are common.

    Example:
        >>> import torch
        >>> top_k_mask(torch.tensor([1.0, 2.0, 1.0, 1.0]), 2)
        tensor([ True,  True, False, False])
    """
    check_integer("num_selected", num_selected, low=1, high=ranking.shape[-1])
    ranking = ranking.detach()
    kth = ranking.topk(num_selected, dim=-1, sorted=False).values.amin(-1, keepdim=True)
    _check_enough(kth, num_selected)
    mask = ranking >= kth
    if can_read_values(mask) and bool((mask.sum(-1) == num_selected).all()):
        return mask  # no ties: the usual case, cheaper
    above = ranking > kth
    free = num_selected - above.sum(-1, keepdim=True)
    return above | (mask & ((mask & ~above).cumsum(-1, dtype=torch.int32) <= free))


def _check_enough(kth: Tensor, num_selected: int) -> None:
    enough = kth > -torch.inf
    if can_read_values(kth) and not enough.all():
        raise ValueError(
            f"scores must have at least num_selected={num_selected} entries above -inf (and no NaN) in every row, "
            f"got {int((~enough).sum())} rows that do not"
        )


def keep(scores: Tensor, mask: Tensor) -> Tensor:
    """The scores where ``mask`` holds, -inf elsewhere."""
    return torch.where(mask, scores, -torch.inf)
