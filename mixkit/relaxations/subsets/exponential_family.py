"""The exponential family over subsets of a given size, and SIMPLE, the estimator through its marginals."""

import torch
from torch import Tensor

from ...numerics.precision import narrow, widest_dtype
from ...numerics.randomness import Randomness, as_generator
from .._checks import check_subset_logits
from .._steps import hard_with_gradient_of
from ._centered import wide_centered
from ._sweep import can_sweep, sweep_log_marginals
from ._tree import root_log_partition, sample_counts, tree_levels, tree_log_marginals
from .laws import SubsetLaw
from .sampler import SubsetSampler

__all__ = ["ExponentialFamilySubset", "Simple", "subset_log_marginals", "subset_log_partition"]


def subset_log_partition(logits: Tensor, num_selected: int) -> Tensor:
    r""":math:`\log \sum_{|S| = K} \exp \sum_{i \in S} \theta_i`, in O(k K) operations and O(log k) steps.

    Args:
        logits: :math:`\theta` ``(*batch, k)``, -inf allowed.
        num_selected: K, from 1 to k.

    Returns:
        ``(*batch,)``, in float32 at least.

    Raises:
        ValueError: if ``num_selected`` is not in 1..k or a row has NaN, +inf or too few finite entries.

    Example:
        >>> subset_log_partition(torch.zeros(5), 2).exp().round(decimals=3)
        tensor(10.)
    """
    check_subset_logits(logits, num_selected)
    offset = num_selected * logits.detach().to(widest_dtype(logits)).amax(-1)
    return narrow(offset + _log_partition(wide_centered(logits), num_selected), logits)


def _log_partition(scores: Tensor, num_selected: int) -> Tensor:
    return root_log_partition(tree_levels(scores, num_selected), num_selected)


def subset_log_marginals(logits: Tensor, num_selected: int) -> Tensor:
    r"""Log inclusion probabilities :math:`\log P(i \in S)` under :math:`p(S) \propto \exp \sum_{i \in S} \theta_i`.

    Two sweeps over the items, or over a tree in log space where logits are spread by hundreds; differentiable to any
    order; probabilities of 1e-300 keep their digits.

    Args:
        logits: :math:`\theta` ``(*batch, k)``, -inf allowed.
        num_selected: K, from 1 to k.

    Returns:
        ``(*batch, k)``, in float32 at least; -inf for a logit of -inf; the exponentials of a row sum to K.

    Raises:
        ValueError: if ``num_selected`` is not in 1..k or a row has NaN, +inf or too few finite entries.

    Example:
        >>> subset_log_marginals(torch.tensor([0.0, 0.0, -torch.inf, 0.0]), 2).exp()
        tensor([0.6667, 0.6667, 0.0000, 0.6667])
    """
    check_subset_logits(logits, num_selected)
    return narrow(_log_marginals(wide_centered(logits), num_selected), logits)


def _log_marginals(scores: Tensor, num_selected: int) -> Tensor:
    if can_sweep(scores, num_selected):
        return sweep_log_marginals(scores, num_selected)
    return tree_log_marginals(tree_levels(scores, num_selected), num_selected)[..., : scores.shape[-1]]


class ExponentialFamilySubset(SubsetLaw):
    r"""Subsets of K items with :math:`p(S) = \exp(\sum_{i \in S} \theta_i) / Z_K(\theta)`.

    Independent Bernoulli draws given that K succeed (the conditional Bernoulli, or conditional Poisson, distribution):
    not the distribution of Gumbel top-k, which is :class:`PlackettLuceSubset`. Sampling, log-probability, marginals
    and entropy are exact.

    Args:
        num_selected: K, from 1 to k.
        logits: :math:`\theta` ``(*batch, k)``, -inf for an item that is never selected.

    References:
        Ahmed, Zeng, Niepert and Van den Broeck (2023), arXiv 2210.01941; Chen, Dempster and Liu (1994), Biometrika 81.

    Example:
        >>> law = ExponentialFamilySubset(2, torch.tensor([0.0, 1.0, 2.0]))
        >>> law.sample(generator=torch.Generator().manual_seed(0)).sum()
        tensor(2.)
        >>> law.log_prob(law.enumerate_support()).exp().sum().round(decimals=4)
        tensor(1.)
    """

    def _draw(self, shape: torch.Size, generator: Randomness) -> Tensor:
        levels = tree_levels(wide_centered(self.logits).expand(shape), self.num_selected)
        return sample_counts(levels, self.num_selected, generator)[..., : shape[-1]]

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability ``(..., *batch)``; -inf if an item of logit -inf is selected."""
        value = self._checked(value)
        scores = wide_centered(self.logits)
        chosen = torch.where(value > 0, scores, 0.0).sum(-1)
        return narrow(chosen - _log_partition(scores, self.num_selected), self.logits)

    @property
    def mean(self) -> Tensor:
        """Inclusion probabilities ``(*batch, k)``, differentiable."""
        return subset_log_marginals(self.logits, self.num_selected).exp()

    @property
    def variance(self) -> Tensor:
        """Variances of the entries of the mask, ``(*batch, k)``."""
        mean = _log_marginals(wide_centered(self.logits), self.num_selected).exp()
        return narrow(mean * (1.0 - mean), self.logits)

    def entropy(self) -> Tensor:
        r"""Entropy in nats, :math:`\log Z_K - \sum_i \pi_i \theta_i`, ``(*batch,)``."""
        scores = wide_centered(self.logits)
        finite = torch.where(torch.isneginf(scores), 0.0, scores)
        mean = _log_marginals(scores, self.num_selected).exp()
        return narrow(_log_partition(scores, self.num_selected) - (mean * finite).sum(-1), self.logits)


class Simple(SubsetSampler):
    """An exact draw of :class:`ExponentialFamilySubset` with the gradient of its marginals (SIMPLE).

    The subset analogue of straight-through: exact in expectation for functions linear in the mask.

    References:
        Ahmed, Zeng, Niepert and Van den Broeck (2023), arXiv 2210.01941.

    Example:
        >>> Simple()(torch.zeros(5), 2, generator=torch.Generator().manual_seed(0)).sum()
        tensor(2.)
    """

    hard = True

    def forward(self, logits: Tensor, num_selected: int, generator: Randomness = None) -> Tensor:
        """A mask ``(*batch, k)`` of zeros and ones."""
        check_subset_logits(logits, num_selected)
        scores = wide_centered(logits)
        soft = _log_marginals(scores, num_selected).exp()
        levels = tree_levels(scores.detach(), num_selected)
        hard = sample_counts(levels, num_selected, as_generator(generator, logits.device))[..., : logits.shape[-1]]
        return hard_with_gradient_of(hard.to(logits.dtype), soft.to(logits.dtype))
