"""Gumbel-softmax and its straight-through form."""

from torch import Tensor

from ..numerics.randomness import Randomness
from ._checks import check_logits, check_temperature
from ._steps import divide_by_temperature, one_hot_with_gradient_of
from .gradient_estimator import PathEstimator
from .noise import perturb
from .tempered import TemperatureLike, Tempered

__all__ = ["GumbelSoftmax", "StraightThroughGumbelSoftmax", "gumbel_softmax"]


def gumbel_softmax(
    logits: Tensor,  # (*batch, k)
    temperature: float | Tensor = 1.0,
    *,
    hard: bool = False,
    generator: Randomness = None,
) -> Tensor:
    r"""A relaxed draw of one category, :math:`y = \operatorname{softmax}((\theta + g) / \tau)` with Gumbel noise g.

    The argmax of :math:`y` follows :math:`\operatorname{softmax}(\theta)` exactly. The gradient of
    :math:`\mathbb{E} f(y)` is unbiased for the relaxed distribution; for the discrete one it is biased, less so as
    :math:`\tau \to 0`, where its variance grows.

    Args:
        logits: :math:`\theta` ``(*batch, k)``, any floating dtype, -inf allowed.
        temperature: :math:`\tau > 0`, a number or a tensor that broadcasts to ``(*batch, 1)`` and may need a gradient.
        hard: if True the value is the one-hot argmax, to the bit, and the gradient stays that of :math:`y`.
        generator: source of randomness; torch's default when None.

    Returns:
        ``(*batch, k)`` in the dtype of ``logits``; rows sum to 1.

    Raises:
        ValueError: if a row holds NaN, +inf or nothing finite, or the temperature is not positive.

    References:
        Jang, Gu and Poole (2017), arXiv 1611.01144; Maddison, Mnih and Teh (2017), arXiv 1611.00712.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.0, 1.0, -torch.inf]])
        >>> gumbel_softmax(logits, 0.5, hard=True, generator=torch.Generator().manual_seed(0)).sum(-1)
        tensor([1.])
    """
    check_logits(logits)
    check_temperature(temperature)
    perturbed = perturb(logits, generator=generator)
    soft = divide_by_temperature(perturbed, temperature).softmax(-1)
    value = one_hot_with_gradient_of(perturbed.detach().argmax(-1, keepdim=True), soft) if hard else soft
    return value.to(logits.dtype)


class GumbelSoftmax(Tempered, PathEstimator):
    """The relaxed draw of :func:`gumbel_softmax` as an estimator; its samples lie inside the simplex.

    Args:
        temperature: a positive number or a :class:`mixkit.gates.temperatures.Temperature` (learnable or scheduled).

    Example:
        >>> import torch
        >>> relax = GumbelSoftmax(0.5)
        >>> relax(torch.zeros(4, 3), generator=torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3])
    """

    def __init__(self, temperature: TemperatureLike = 1.0) -> None:
        super().__init__(temperature)

    def forward(self, logits: Tensor, generator: Randomness = None) -> Tensor:
        """A relaxed sample ``(*batch, k)``."""
        return gumbel_softmax(logits, self.temperature_at(logits), generator=generator)


class StraightThroughGumbelSoftmax(Tempered, PathEstimator):
    """One-hot samples whose gradient is that of the Gumbel-softmax draw they are the argmax of.

    Args:
        temperature: a positive number or a :class:`mixkit.gates.temperatures.Temperature` (learnable or scheduled).

    Example:
        >>> import torch
        >>> choose = StraightThroughGumbelSoftmax(0.5)
        >>> choose(torch.zeros(4, 3), generator=torch.Generator().manual_seed(0)).sum(-1)
        tensor([1., 1., 1., 1.])
    """

    def __init__(self, temperature: TemperatureLike = 1.0) -> None:
        super().__init__(temperature)

    def forward(self, logits: Tensor, generator: Randomness = None) -> Tensor:
        """A one-hot sample ``(*batch, k)`` with a gradient."""
        return gumbel_softmax(logits, self.temperature_at(logits), hard=True, generator=generator)
