"""Guidance of a flow by a classifier that has only ever seen clean sequences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..._validation import check_finite, check_integer
from ...numerics.randomness import Randomness
from ..noise import sample_one_hot


@dataclass(frozen=True)
class StraightThroughGuidance:
    r"""Straight-through guided flow (STGFlow; Tang et al. 2025, arXiv:2503.17361).

    At each evaluation of the flow ``num_samples`` clean sequences are drawn from the denoiser's distribution and the
    classifier is differentiated at each; passed straight through the sampling, the mean gradient ``G (*batch, length,
    v)`` is the gradient with respect to the token probabilities. The flow then follows the guided distribution

        p(token i at l | x_t, label) \propto p(token i at l | x_t) exp(scale * G[l, i]),

    the first-order expansion of ``log p(label | x_1)`` around the drawn sequences. It is exact, for ``scale = 1``, when
    that is linear in the one-hot sequence. The published form adds a gradient to the velocity in the simplex, where a
    step can leave it; a guided posterior always gives a tangent velocity.

    Args:
        classifier: differentiable log-probability (or any reward) of one-hot sequences ``(*batch, length, v)``,
            shape ``(*batch,)``.
        scale: strength, a finite number; 0 for none.
        num_samples: clean sequences drawn at each evaluation.

    Example:
        >>> wants_ones = lambda one_hot: 5.0 * one_hot[..., 1].sum(-1)
        >>> guide = StraightThroughGuidance(wants_ones)
        >>> generator = torch.Generator().manual_seed(0)
        >>> torch.softmax(guide(torch.zeros(1, 2, 2), generator), -1)
        tensor([[[0.0067, 0.9933],
                 [0.0067, 0.9933]]])
    """

    classifier: Callable[[Tensor], Tensor]
    scale: float = 1.0
    num_samples: int = 4

    def __post_init__(self) -> None:
        check_integer("num_samples", self.num_samples, low=1)
        check_finite("scale", torch.as_tensor(float(self.scale)))

    def __call__(self, logits: Tensor, generator: Randomness = None) -> Tensor:
        """Logits of the guided distribution, shape ``(*batch, length, v)``."""
        return torch.log_softmax(logits, dim=-1) + self.scale * self.gradient(logits, generator)

    def gradient(self, logits: Tensor, generator: Randomness = None) -> Tensor:
        """Mean classifier gradient over sequences drawn from ``softmax(logits)``, shape ``(*batch, length, v)``."""
        repeated = logits.detach().expand(self.num_samples, *logits.shape)
        one_hot = sample_one_hot(repeated, generator=generator)
        with torch.enable_grad():
            one_hot.requires_grad_(True)
            reward = self.classifier(one_hot)
            if reward.shape != one_hot.shape[:-2]:
                raise ValueError(
                    f"classifier must return one number for each sequence, shape {tuple(one_hot.shape[:-2])}, "
                    f"got shape {tuple(reward.shape)}"
                )
            (gradient,) = torch.autograd.grad(reward.sum(), one_hot)
        return gradient.mean(0)
