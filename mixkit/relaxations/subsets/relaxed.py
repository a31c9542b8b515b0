"""Relaxed subset sampling: the softmax applied K times, without what has been taken."""

import torch
from torch import Tensor

from ..._validation import at_least_float32
from ...gates.selections import top_k_mask
from ...numerics.log_space import safe_logsumexp
from ...numerics.randomness import Randomness
from .._checks import check_subset_logits, check_temperature
from .._steps import divide_by_temperature, hard_with_gradient_of
from ..noise import centered, one_hot_argmax, perturb
from ..tempered import TemperatureLike, Tempered
from .sampler import SubsetSampler

__all__ = ["RelaxedSubset", "successive_softmax"]


def successive_softmax(keys: Tensor, num_selected: int, temperature: float | Tensor) -> Tensor:
    r"""The relaxed top-K, :math:`\sum_{j=1}^K p^j` with :math:`p^j = \operatorname{softmax}(\alpha^j / \tau)` and
    :math:`\alpha^{j+1} = \alpha^j + \log(1 - p^j)`.

    The complement :math:`1 - p` of the leading item is summed over the others in log space, so that an item taken
    with certainty leaves no infinity behind. Entries stay below 1 only as :math:`\tau \to 0`: at :math:`\tau = 1`
    the recursion gives a certain item half of its weight again, so choose a temperature below 1.

    Args:
        keys: :math:`\alpha^1` ``(*batch, k)``, -inf allowed.
        num_selected: K.
        temperature: :math:`\tau > 0`, best well below 1.

    Returns:
        ``(*batch, k)``; rows sum to K and tend to the top-K mask as the temperature falls.

    Raises:
        ValueError: if ``num_selected`` is not in 1..k, a row has NaN, +inf or too few finite entries, or the
            temperature is not positive.

    Example:
        >>> successive_softmax(torch.tensor([3.0, 2.0, 1.0]), 2, 0.01).round()
        tensor([1., 1., 0.])
    """
    check_subset_logits(keys, num_selected, "keys")
    check_temperature(temperature)
    left = at_least_float32(keys)
    total = torch.zeros_like(left)
    for _ in range(num_selected):
        left = centered(left)
        scores = divide_by_temperature(left, temperature)
        total = total + scores.softmax(-1)
        left = left + _log_complement(scores)
    return total.to(keys.dtype)


def _log_complement(scores: Tensor) -> Tensor:
    """``log(1 - softmax(scores))``, accurate for the leading entry."""
    top = one_hot_argmax(scores) > 0
    others = safe_logsumexp(scores.masked_fill(top, -torch.inf), keepdim=True)
    of_top = others - torch.logsumexp(scores, -1, keepdim=True)
    probs = scores.softmax(-1).masked_fill(top, 0.0)
    return torch.where(top, of_top, torch.log1p(-probs))


class RelaxedSubset(Tempered, SubsetSampler):
    """Gumbel top-k relaxed by :func:`successive_softmax`; its hard form draws Plackett-Luce sets.

    Args:
        temperature: a positive number or a :class:`mixkit.gates.temperatures.Temperature`.
        hard: if True the value is the top-K mask of the perturbed logits and the gradient stays relaxed.

    References:
        Xie and Ermon (2019), arXiv 1901.10517.

    Example:
        >>> RelaxedSubset(0.5, hard=True)(torch.zeros(5), 2, generator=torch.Generator().manual_seed(0)).sum()
        tensor(2.)
    """

    def __init__(self, temperature: TemperatureLike = 0.5, *, hard: bool = False) -> None:
        super().__init__(temperature)
        self.hard = bool(hard)

    def forward(self, logits: Tensor, num_selected: int, generator: Randomness = None) -> Tensor:
        """A mask ``(*batch, k)``, inside the simplex of K or, if hard, of zeros and ones."""
        check_subset_logits(logits, num_selected)
        keys = perturb(logits, generator=generator)
        soft = successive_softmax(keys, num_selected, self.temperature_at(logits))
        value = hard_with_gradient_of(top_k_mask(keys, num_selected).to(soft), soft) if self.hard else soft
        return value.to(logits.dtype)

    def extra_repr(self) -> str:
        """The settings."""
        return f"hard={self.hard}"
