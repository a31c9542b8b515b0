"""Scores by centroids that follow the data, without a gradient: online k-means."""

import torch
from torch import Tensor

from ..._validation import at_least_float32, can_read_values, check_finite, check_integer, check_tensor
from ...numerics.buffers import KeepsFloat32
from ...numerics.precision import widest_dtype
from .base import Score
from .metric import unit_vectors

__all__ = ["OnlineKMeansScore", "balanced_top_w"]


class OnlineKMeansScore(KeepsFloat32, Score):
    r"""Scores :math:`s_j(x) = \mu_j^\top \bar x / \lVert \mu_j \rVert`, :math:`\bar x = x / \lVert x\rVert`.

    Each centroid is a running mean of the directions nearest to it,
    :math:`\mu_j \leftarrow \lambda \mu_j + (1 - \lambda) \operatorname{mean}_{x: j(x) = j} \bar x`, after the Routing
    Transformer of Roy, Saffar, Vaswani and Grangier (2021), arXiv 2003.05997. No gradient reaches a centroid: call
    :meth:`update` once a step of training. A centroid that has never been used is first set to the
    direction that fits the others worst, and starts at it; afterwards, one without rows in a batch stays where it is.

    Args:
        num_features: number of covariates ``d``.
        num_experts: number of centroids ``k``.
        decay: :math:`\lambda`, from 0 to below 1.
        dtype: dtype of x; centroids are float32, or float64 if x is.
        device: where the centroids are.

    Attributes:
        centroid: :math:`\mu`, ``(k, d)``, zeros until the first update; in ``state_dict``, so that training resumes.
        is_used: whether a centroid has been set, ``(k,)``.

    Example:
        >>> import torch
        >>> score = OnlineKMeansScore(2, 2, decay=0.5)
        >>> x = torch.tensor([[2.0, 0.1], [3.0, -0.1], [0.1, 1.0], [-0.1, 5.0]])
        >>> for _ in range(20):
        ...     score.update(x)
        >>> sorted(torch.bincount(score(x).argmax(-1)).tolist())
        [2, 2]
    """

    centroid: Tensor
    is_used: Tensor
    float32_buffers = ("centroid",)

    def __init__(
        self,
        num_features: int,
        num_experts: int,
        *,
        decay: float = 0.999,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(num_experts, num_features, None)
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must be from 0 to below 1, got {decay}")
        self.decay = float(decay)
        wide = torch.promote_types(dtype or torch.get_default_dtype(), torch.float32)
        features = check_integer("num_features", num_features, low=1)
        self.register_buffer("centroid", torch.zeros(num_experts, features, dtype=wide, device=device))
        self.register_buffer("is_used", torch.zeros(num_experts, dtype=torch.bool, device=device))

    def slope_score(self, x: Tensor) -> Tensor:
        """Cosines between x and the centroids, ``(*batch, n, k)``; 0 for a centroid not yet used."""
        return (unit_vectors(at_least_float32(x)).to(self.centroid) @ unit_vectors(self.centroid).mT).to(x.dtype)

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Move each centroid towards the mean direction of the rows of ``x (*batch, n, d)`` that are nearest to it.

        Raises:
            ValueError: if ``x`` has another number of covariates, has no rows, or is not finite.
        """
        rows = check_finite("x", self.check_covariates(x)).reshape(-1, x.shape[-1])
        if not len(rows):
            raise ValueError("x must have a row, got none")
        rows = unit_vectors(at_least_float32(rows)).to(self.centroid)
        self._start_unused(rows)
        nearest = torch.nn.functional.one_hot((rows @ unit_vectors(self.centroid).mT).argmax(-1), self.num_experts)
        counts, wide = nearest.sum(0).unsqueeze(-1), widest_dtype(rows)
        mean = (nearest.to(wide).mT @ rows.to(wide) / counts.clamp(min=1)).to(self.centroid)
        moved = self.decay * self.centroid + (1.0 - self.decay) * mean
        self.centroid.copy_(torch.where(counts > 0, moved, self.centroid))

    def _start_unused(self, rows: Tensor) -> None:
        """Set centroids that were never used to the rows that the used ones fit worst, one after the other."""
        for index in (~self.is_used).nonzero().flatten().tolist():
            used = self.centroid[self.is_used]
            fit = (rows @ unit_vectors(used).mT).amax(-1) if len(used) else rows.new_zeros(len(rows))
            self.centroid[index] = rows[fit.argmin()]
            self.is_used[index] = True

    def extra_repr(self) -> str:
        """The settings shown by ``repr``."""
        return f"{super().extra_repr()}, decay={self.decay:g}"


def balanced_top_w(scores: Tensor, num_rows: int) -> Tensor:
    """Mark, for each expert, the rows that score it highest: every expert gets the same number of rows.

    The balanced clusters of the Routing Transformer (arXiv 2003.05997): a row may belong to several experts, or to
    none.

    Args:
        scores: ``(*batch, n, k)``.
        num_rows: w, rows for each expert, from 1 to n.

    Returns:
        Boolean ``(*batch, n, k)`` with exactly w true entries in every column; of equal scores the earlier row.

    Raises:
        ValueError: if w is not in 1..n or a score is NaN.

    Example:
        >>> import torch
        >>> balanced_top_w(torch.tensor([[3.0, 1.0], [2.0, 4.0], [1.0, 2.0]]), 1).int()
        tensor([[1, 0],
                [0, 1],
                [0, 0]], dtype=torch.int32)
    """
    check_tensor("scores", scores)
    check_integer("num_rows", num_rows, low=1, high=scores.shape[-2])
    if can_read_values(scores) and scores.isnan().any():
        raise ValueError("scores must hold no NaN")
    order = scores.detach().sort(dim=-2, descending=True, stable=True).indices[..., :num_rows, :]
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-2, order, True)
