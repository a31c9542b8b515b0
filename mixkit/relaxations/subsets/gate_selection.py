"""A selection for gates that samples its experts."""

import torch
from torch import Tensor

from ..._validation import check_integer
from ...gates.selections import Selection, top_k_mask
from ...numerics.log_space import safe_log
from ...numerics.randomness import Randomness
from .sampler import SubsetSampler

__all__ = ["SampledTopK"]


class SampledTopK(Selection):
    r"""Select experts by a subset sampler while training, and the K best ones in evaluation.

    The scores become :math:`s_j + \log m_j` with the sampler's mask m. For a hard mask the survivors keep their
    scores, to the bit, and the others are at -inf; the sampler's gradient reaches the scores of all experts through
    the survivors. A soft mask keeps every expert it does not set to zero: while training with one the gate is dense,
    ``num_selected`` is None, and :meth:`mixkit.gates.Gate.route` returns all k weights.

    Args:
        num_selected: how many experts to keep at every row, K.
        sampler: how to choose them, such as ``Simple()`` or ``RelaxedSubset(0.5, hard=True)``.

    Raises:
        TypeError: if ``sampler`` is not a :class:`SubsetSampler`.
        ValueError: on use, if a row has fewer than K finite scores.

    Example:
        >>> from mixkit.relaxations import Simple
        >>> scores = torch.tensor([[1.0, 3.0, 2.0]])
        >>> select = SampledTopK(2, Simple())
        >>> draw = torch.Generator().manual_seed(0)
        >>> int(select(scores, slope_scores=scores, x=scores, generator=draw).isfinite().sum())
        2
        >>> select.eval()(scores, slope_scores=scores, x=scores)
        tensor([[-inf, 3., 2.]])
    """

    def __init__(self, num_selected: int, sampler: SubsetSampler) -> None:
        super().__init__()
        if not isinstance(sampler, SubsetSampler):
            raise TypeError(f"sampler must be a SubsetSampler object such as Simple(), got {sampler!r}")
        self._size = check_integer("num_selected", num_selected, low=1)
        self.sampler = sampler

    @property
    def num_selected(self) -> int | None:  # type: ignore[override]
        """K; None, for all, while training with a sampler of soft masks."""
        return self._size if self.sampler.hard or not self.training else None

    def forward(self, scores: Tensor, *, slope_scores: Tensor, x: Tensor, generator: Randomness = None) -> Tensor:
        """The scores ``(*batch, n, k)``, -inf where unselected."""
        if not self.training:
            return torch.where(top_k_mask(scores, self._size), scores, -torch.inf)
        return scores + safe_log(self.sampler(scores, self._size, generator))

    def extra_repr(self) -> str:
        """The settings."""
        return f"num_selected={self._size}"
