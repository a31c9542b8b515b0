"""Top-K selections that differ in what they rank on."""

import torch
from torch import Tensor

from ..._validation import check_integer
from ...numerics.randomness import Randomness
from .base import Selection, keep, top_k_mask

__all__ = ["TopKByScore", "TopKBySlope"]


class TopKByScore(Selection):
    r"""Keep the K largest scores :math:`\beta_{1j}^\top x + \beta_{0j}`, bias included, as most code does.

    Args:
        num_selected: how many experts to keep at every row, K.

    Example:
        >>> import torch
        >>> scores = torch.tensor([[1.0, 3.0, 2.0]])
        >>> TopKByScore(2)(scores, slope_scores=scores, x=torch.ones(1, 1))
        tensor([[-inf, 3., 2.]])
    """

    num_selected: int
    reads_scores_alone = True
    reads_slope_scores = False

    def __init__(self, num_selected: int) -> None:
        super().__init__()
        self.num_selected = check_integer("num_selected", num_selected, low=1)

    def forward(self, scores: Tensor, *, slope_scores: Tensor, x: Tensor, generator: Randomness = None) -> Tensor:
        """The scores ``(*batch, n, k)``, -inf where unselected."""
        return keep(scores, top_k_mask(scores, self.num_selected))

    def extra_repr(self) -> str:
        """The setting shown by ``repr``."""
        return f"num_selected={self.num_selected}"


class TopKBySlope(TopKByScore):
    r"""Keep the experts of the K largest :math:`\beta_{1j}^\top x`: the ranking ignores the bias.

    The top-K sparse softmax gate of Nguyen, Akbarian, Yan and Ho (2024), arXiv 2309.13850:
    :math:`\text{TopK}(v, K; \beta_0)_j = v_j + \beta_{0j}` if :math:`v_j = \beta_{1j}^\top x` is among the K largest of
    v, else :math:`-\infty`. An expert whose score is already -inf is not ranked.

    Args:
        num_selected: how many experts to keep at every row, K.

    Raises:
        ValueError: on use, if a score is NaN, or fewer than K are above -inf.

    Example:
        >>> import torch
        >>> slope_scores, bias = torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([9.0, 0.0, 0.0])
        >>> TopKBySlope(2)(slope_scores + bias, slope_scores=slope_scores, x=torch.ones(1, 1))
        tensor([[-inf, 3., 2.]])
    """

    reads_scores_alone = True

    def forward(self, scores: Tensor, *, slope_scores: Tensor, x: Tensor, generator: Randomness = None) -> Tensor:
        """The scores ``(*batch, n, k)``, -inf where unselected."""
        ranking = torch.where(scores > -torch.inf, slope_scores, scores)  # a score of NaN stays, and is refused
        return keep(scores, top_k_mask(ranking, self.num_selected))
