"""Noisy top-K: exploration by Gaussian noise of learned size."""

import torch
from torch import Tensor, nn

from ..._validation import at_least_float32, check_integer
from ...numerics.randomness import Randomness, as_generator
from .base import keep, top_k_mask
from .topk import TopKByScore

__all__ = ["NoisyTopK"]


class NoisyTopK(TopKByScore):
    r"""Keep the K largest noisy scores :math:`h_j = s_j + \epsilon_j\,\text{softplus}(\omega_j^\top x)`.

    The noisy top-K gating of Shazeer et al. (2017), arXiv 1701.06538, equations 3 to 5, with
    :math:`\epsilon_j \sim N(0, 1)` independent. The noise is drawn in training mode only and enters the weights of the
    selected experts too.

    Args:
        num_selected: how many experts to keep at every row, K.
        num_features: number of covariates ``d``.
        num_experts: number of experts ``k``.
        batch_shape: leading dimensions of independent models.
        dtype: dtype of the parameter.
        device: device of the parameter.

    Attributes:
        noise_weight: :math:`\omega`, ``(*batch, k, d)``, zero at the start (a noise of standard deviation log 2).

    Example:
        >>> import torch
        >>> selection = NoisyTopK(1, num_features=2, num_experts=3)
        >>> scores, x = torch.zeros(4, 3), torch.ones(4, 2)
        >>> kept = selection(scores, slope_scores=scores, x=x, generator=torch.Generator().manual_seed(0))
        >>> (kept > -torch.inf).sum(-1)
        tensor([1, 1, 1, 1])
    """

    def __init__(
        self,
        num_selected: int,
        num_features: int,
        num_experts: int,
        *,
        batch_shape: tuple[int, ...] = (),
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(num_selected)
        rows = check_integer("num_experts", num_experts, low=self.num_selected)
        columns = check_integer("num_features", num_features, low=1)
        self.noise_weight = nn.Parameter(torch.zeros(*batch_shape, rows, columns, dtype=dtype, device=device))

    def forward(self, scores: Tensor, *, slope_scores: Tensor, x: Tensor, generator: Randomness = None) -> Tensor:
        """The (in training mode, noisy) scores ``(*batch, n, k)``, -inf where unselected."""
        if not self.training:
            return keep(scores, top_k_mask(scores, self.num_selected))
        noise = self.noise_std(x) * _normal_like(scores, generator)
        ranking = scores - scores.detach().amax(-1, keepdim=True) + noise  # scores of 1e7 leave no digits for the noise
        return keep(scores + noise, top_k_mask(ranking, self.num_selected))

    def noise_std(self, x: Tensor) -> Tensor:
        """Standard deviation of the noise, ``(*batch, n, k)``."""
        return nn.functional.softplus(x @ self.noise_weight.mT)


def _normal_like(scores: Tensor, generator: Randomness) -> Tensor:
    dtype = at_least_float32(scores.new_empty(0)).dtype
    source = as_generator(generator, scores.device)
    return torch.randn(scores.shape, dtype=dtype, device=scores.device, generator=source).to(scores.dtype)
