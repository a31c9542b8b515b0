"""The perturbed argmax: a top-K mask smoothed by Gaussian noise."""

import torch
from torch import Tensor

from ..._validation import check_integer, check_positive
from ...gates.selections import top_k_mask
from ...numerics.precision import wide_mean, wide_sum
from ...numerics.randomness import Randomness, as_generator
from .._checks import check_subset_logits
from ..noise import centered
from .sampler import SubsetSampler

__all__ = ["PerturbedTopK"]


class PerturbedTopK(SubsetSampler):
    r"""The mean of :math:`y_s = \operatorname{top}_K(\theta + \sigma Z_s)` over S Gaussian draws.

    The gradient is the unbiased :math:`\frac{1}{S \sigma} \sum_s Z_s (y_s - y_0)^\top` for the smoothed mask. The
    control variate :math:`y_0 = \operatorname{top}_K(\theta)` has mean zero since :math:`\mathbb{E} Z = 0`, and leaves
    only the draws that changed the selection. With K = 1 this is the perturbed argmax.

    Args:
        scale: :math:`\sigma > 0`, standard deviation of the noise.
        num_samples: S, at least 1. Memory is S times that of the logits.
        control_variate: whether to subtract :math:`y_0`.

    Raises:
        ValueError: if ``scale`` is not positive or ``num_samples`` below 1.

    References:
        Berthet, Blondel, Teboul, Cuturi, Vert and Bach (2020), arXiv 2002.08676;
        the control variate
        follows Abernethy, Lee and Tewari (2016).

    Example:
        >>> soften = PerturbedTopK(1.0, num_samples=100)
        >>> soften(torch.tensor([2.0, 1.0, 0.0]), 1, generator=torch.Generator().manual_seed(0)).sum()
        tensor(1.)
    """

    def __init__(self, scale: float = 1.0, num_samples: int = 100, *, control_variate: bool = True) -> None:
        super().__init__()
        self.scale = float(check_positive("scale", scale))
        self.num_samples = check_integer("num_samples", num_samples, low=1)
        self.control_variate = bool(control_variate)

    def forward(self, logits: Tensor, num_selected: int, generator: Randomness = None) -> Tensor:
        """A soft mask ``(*batch, k)``, a mean of ``num_samples`` masks."""
        check_subset_logits(logits, num_selected)
        scores = centered(logits)
        fixed = scores.detach()
        shape = (self.num_samples, *scores.shape)
        source = as_generator(generator, scores.device)
        noise = torch.randn(shape, dtype=scores.dtype, device=scores.device, generator=source)
        masks = top_k_mask(fixed + self.scale * noise, num_selected).to(scores)
        step = torch.where(torch.isneginf(fixed), 0.0, scores) - torch.where(torch.isneginf(fixed), 0.0, fixed)
        along = wide_sum(noise * step, keepdim=True) / self.scale
        moved = masks - top_k_mask(fixed, num_selected).to(scores) if self.control_variate else masks
        return (wide_mean(masks, 0) + wide_mean(moved * along, 0)).to(logits.dtype)

    def extra_repr(self) -> str:
        """The settings."""
        return f"scale={self.scale:g}, num_samples={self.num_samples}, control_variate={self.control_variate}"
