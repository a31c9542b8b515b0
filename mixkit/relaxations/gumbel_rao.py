"""Gumbel-Rao: the straight-through Gumbel-softmax gradient averaged over the noise that gives the same draw."""

from torch import Tensor

from .._validation import check_integer
from ..numerics.randomness import Randomness, as_generator
from ._checks import check_logits, check_temperature
from ._steps import divide_by_temperature, hard_with_gradient_of
from .gradient_estimator import PathEstimator
from .noise import centered, conditional_gumbel, sample_one_hot
from .tempered import TemperatureLike, Tempered

__all__ = ["GumbelRao", "gumbel_rao"]


def gumbel_rao(
    logits: Tensor,  # (*batch, k)
    temperature: float | Tensor = 0.5,
    *,
    num_samples: int = 10,
    generator: Randomness = None,
) -> Tensor:
    r"""A one-hot draw d with the gradient of
    :math:`\frac{1}{S} \sum_s \operatorname{softmax}((\theta + g_s) / \tau)`, :math:`g_s` drawn given d.

    The conditional noise is held fixed in the backward pass, so that the estimator has the expectation of
    straight-through Gumbel-softmax and, as S grows, no more variance.

    Args:
        logits: :math:`\theta` ``(*batch, k)``, any floating dtype, -inf allowed.
        temperature: :math:`\tau > 0`, a number or a tensor that broadcasts to ``(*batch, 1)`` and may need a gradient.
        num_samples: S, conditional draws that are averaged, at least 1. Memory is S times that of ``logits``.
        generator: source of randomness; torch's default when None.

    Returns:
        One-hot rows ``(*batch, k)`` in the dtype of ``logits``.

    Raises:
        ValueError: if a row holds NaN, +inf or nothing finite, the temperature is not positive or ``num_samples`` < 1.

    References:
        Paulus, Maddison and Krause (2021), arXiv 2010.04838.

    Example:
        >>> import torch
        >>> gumbel_rao(torch.zeros(5), num_samples=3, generator=torch.Generator().manual_seed(0)).sum()
        tensor(1.)
    """
    check_logits(logits)
    check_temperature(temperature)
    check_integer("num_samples", num_samples, low=1)
    scores, generator = centered(logits), as_generator(generator, logits.device)
    one_hot = sample_one_hot(scores, generator=generator)
    draws = one_hot.expand(num_samples, *one_hot.shape)
    noise = (conditional_gumbel(scores.detach(), draws, generator=generator) - scores.detach()).nan_to_num(0.0)
    soft = divide_by_temperature(scores + noise, temperature).softmax(-1).mean(0)
    return hard_with_gradient_of(one_hot, soft).to(logits.dtype)


class GumbelRao(Tempered, PathEstimator):
    """One-hot samples with the Rao-Blackwellised Gumbel-softmax gradient of :func:`gumbel_rao`.

    Args:
        temperature: a positive number or a :class:`mixkit.gates.temperatures.Temperature` (learnable or scheduled).
        num_samples: conditional draws averaged in the gradient, at least 1.

    Example:
        >>> import torch
        >>> GumbelRao(0.5, num_samples=4)
        GumbelRao(
          num_samples=4
          (temperature): FixedTemperature(...)
        )
    """

    def __init__(self, temperature: TemperatureLike = 0.5, num_samples: int = 10) -> None:
        super().__init__(temperature)
        self.num_samples = check_integer("num_samples", num_samples, low=1)

    def forward(self, logits: Tensor, generator: Randomness = None) -> Tensor:
        """A one-hot sample ``(*batch, k)`` with a gradient."""
        return gumbel_rao(logits, self.temperature_at(logits), num_samples=self.num_samples, generator=generator)

    def extra_repr(self) -> str:
        """The settings."""
        return f"num_samples={self.num_samples}"
