"""What a differentiable choice of a subset is."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ...numerics.randomness import Randomness

__all__ = ["SubsetSampler"]


class SubsetSampler(nn.Module, ABC):
    """Maps logits to a mask of ``num_selected`` items, hard or soft, with a gradient in the logits.

    Attributes:
        hard: whether masks are of zeros and ones, exactly ``num_selected`` of them ones.
    """

    hard: bool = False

    @abstractmethod
    def forward(self, logits: Tensor, num_selected: int, generator: Randomness = None) -> Tensor:
        """A mask ``(*batch, k)`` in the dtype of ``logits`` whose rows sum to ``num_selected``.

        Args:
            logits: log-weights of the items ``(*batch, k)``, -inf for one that is never selected.
            num_selected: size of the subset, from 1 to k.
            generator: source of randomness; torch's default when None.

        Raises:
            ValueError: if ``num_selected`` is not in 1..k or a row has NaN, +inf or too few finite entries.
        """
