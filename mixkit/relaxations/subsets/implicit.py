"""I-MLE: the gradient as the difference of two top-K masks."""

from typing import Any

import torch
from torch import Tensor

from ..._validation import check_positive
from ...gates.selections import top_k_mask
from ...numerics.randomness import Randomness
from .._checks import check_subset_logits
from ..noise import centered, gumbel_like
from .sampler import SubsetSampler

__all__ = ["ImplicitMLE"]


class _TargetDifference(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(keys: Tensor, num_selected: int, strength: float) -> Tensor:
        return top_k_mask(keys, num_selected).to(keys)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, float], output: Tensor) -> None:
        keys, ctx.num_selected, ctx.strength = inputs
        ctx.save_for_backward(keys, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        keys, mask = ctx.saved_tensors
        target = top_k_mask(keys - ctx.strength * grad, ctx.num_selected).to(mask)
        return (mask - target) / ctx.strength, None, None


class ImplicitMLE(SubsetSampler):
    r"""A draw :math:`z = \operatorname{top}_K(\theta + \tau g)` with the difference to a target as its gradient.

    .. math::
        \nabla_\theta L \approx \frac1\lambda \big( \operatorname{top}_K(\theta + \tau g) -
        \operatorname{top}_K(\theta + \tau g - \lambda \nabla_z L) \big).

    With Gumbel noise at :math:`\tau = 1` the draws are Plackett-Luce sets. No relaxation is needed; the bias is that
    of a finite difference of length :math:`\lambda`.

    Args:
        strength: :math:`\lambda > 0`, how far the target is pushed along the loss gradient.
        noise_scale: :math:`\tau > 0`, factor of the Gumbel noise.

    Raises:
        ValueError: if an argument is not positive and finite.

    References:
        Niepert, Minervini and Franceschi (2021), arXiv 2106.01798, algorithm 1.

    Example:
        >>> ImplicitMLE(10.0)(torch.zeros(5), 2, generator=torch.Generator().manual_seed(0)).sum()
        tensor(2.)
    """

    hard = True

    def __init__(self, strength: float = 10.0, noise_scale: float = 1.0) -> None:
        super().__init__()
        self.strength = float(check_positive("strength", strength))
        self.noise_scale = float(check_positive("noise_scale", noise_scale))

    def forward(self, logits: Tensor, num_selected: int, generator: Randomness = None) -> Tensor:
        """A mask ``(*batch, k)`` of zeros and ones."""
        check_subset_logits(logits, num_selected)
        keys = centered(logits) + self.noise_scale * gumbel_like(logits, generator=generator)
        return _TargetDifference.apply(keys, num_selected, self.strength).to(logits.dtype)

    def extra_repr(self) -> str:
        """The settings."""
        return f"strength={self.strength:g}, noise_scale={self.noise_scale:g}"
