"""The plain straight-through estimator."""

from torch import Tensor

from .._validation import at_least_float32
from ..numerics.randomness import Randomness
from ._checks import check_logits, check_temperature
from ._steps import divide_by_temperature, is_one, one_hot_with_gradient_of
from .gradient_estimator import PathEstimator
from .noise import centered, sample_index_from_probs
from .tempered import TemperatureLike, Tempered

__all__ = ["StraightThrough", "straight_through"]


def straight_through(
    logits: Tensor,  # (*batch, k)
    temperature: float | Tensor = 1.0,
    *,
    generator: Randomness = None,
) -> Tensor:
    r"""A one-hot draw of :math:`\operatorname{softmax}(\theta)` with the gradient of
    :math:`\operatorname{softmax}(\theta / \tau)`.

    Exact in expectation, at :math:`\tau = 1`, for functions linear in the draw; in general a first-order
    approximation (Liu et al. 2023, arXiv 2304.08612, theorem 3.1).

    Args:
        logits: :math:`\theta` ``(*batch, k)``, any floating dtype, -inf allowed.
        temperature: :math:`\tau > 0` of the backward pass; the distribution that is sampled does not depend on it.
        generator: source of randomness; torch's default when None.

    Returns:
        One-hot rows ``(*batch, k)`` in the dtype of ``logits``.

    Raises:
        ValueError: if a row holds NaN, +inf or nothing finite, or the temperature is not positive.

    References:
        Bengio, Leonard and Courville (2013), arXiv 1308.3432.

    Example:
        >>> import torch
        >>> logits = torch.zeros(2, requires_grad=True)
        >>> sample = straight_through(logits, generator=torch.Generator().manual_seed(0))
        >>> (sample * torch.tensor([0.0, 1.0])).sum().backward()
        >>> logits.grad
        tensor([-0.2500,  0.2500])
    """
    check_logits(logits)
    check_temperature(temperature)
    scores = at_least_float32(logits) if is_one(temperature) else centered(logits)  # a softmax centers by itself
    soft = divide_by_temperature(scores, temperature).softmax(-1)
    probs = soft if is_one(temperature) else scores.detach().softmax(-1)
    return one_hot_with_gradient_of(sample_index_from_probs(probs, generator=generator), soft).to(logits.dtype)


class StraightThrough(Tempered, PathEstimator):
    """One-hot samples with the gradient of the probabilities, as :func:`straight_through`.

    Args:
        temperature: of the backward pass, a positive number or a :class:`mixkit.gates.temperatures.Temperature`.

    Example:
        >>> import torch
        >>> StraightThrough()(torch.zeros(4, 3), generator=torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3])
    """

    def __init__(self, temperature: TemperatureLike = 1.0) -> None:
        super().__init__(temperature)

    def forward(self, logits: Tensor, generator: Randomness = None) -> Tensor:
        """A one-hot sample ``(*batch, k)`` with a gradient."""
        return straight_through(logits, self.temperature_at(logits), generator=generator)
