"""The distribution of a class label, held as a floating number like every other response."""

from typing import Any

import torch
from torch import Tensor, distributions

from .._validation import at_least_float32
from .values import ZeroOutsideSupport

__all__ = ["Categorical"]


class Categorical(ZeroOutsideSupport, distributions.Categorical):
    r"""Labels :math:`0, \dots, C - 1` with probabilities softmax(logits); values are of the logits' dtype.

    Mixtures average moments and distribution functions of their components, so labels are numbers here: ``mean`` and
    ``variance`` are those of the label itself, and mean little unless classes are ordered.

    Args:
        logits: scores of the classes, ``(*batch, C)``.
        validate_args: as everywhere in torch.

    Example:
        >>> import torch
        >>> law = Categorical(torch.tensor([0.0, 0.0, -torch.inf]))
        >>> law.log_prob(torch.tensor([1.0, 2.0])), law.mean, law.cdf(torch.tensor(0.0))
        (tensor([-0.6931,    -inf]), tensor(0.5000), tensor(0.5000))
    """

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(logits=logits, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Categorical":
        """The same distribution with a larger batch shape."""
        logits = self.logits.expand(*torch.Size(batch_shape), self.logits.shape[-1])
        law = Categorical(logits, validate_args=False)
        law._validate_args = self._validate_args
        return law

    @property
    def log_probs(self) -> Tensor:
        """Log-probabilities of the classes, ``(*batch, C)``."""
        return self.logits

    def _labels(self) -> Tensor:
        return torch.arange(self.logits.shape[-1], dtype=self.logits.dtype, device=self.logits.device)

    @property
    def mean(self) -> Tensor:
        """Mean label."""
        return (self.logits.exp() * self._labels()).sum(-1)

    @property
    def variance(self) -> Tensor:
        """Variance of the label."""
        return (self.logits.exp() * (self._labels() - self.mean.unsqueeze(-1)).square()).sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of the label ``value``; -inf where it is none."""
        if self._validate_args:
            self._validate_sample(value)
        value, logits = torch.broadcast_tensors(value.unsqueeze(-1), self.logits)
        is_own = value == self._labels()
        chosen = torch.where(is_own, logits, 0.0).sum(-1)
        return torch.where(value[..., 0].isnan(), torch.nan, torch.where(is_own.any(-1), chosen, -torch.inf))

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of a label of at most ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        below = (self.logits.exp() * (self._labels() <= value.unsqueeze(-1))).sum(-1)
        return torch.where(value.isnan(), torch.nan, below)

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Labels drawn, in the dtype of the logits."""
        law = distributions.Categorical(logits=at_least_float32(self.logits), validate_args=False)
        return law.sample(torch.Size(sample_shape)).to(self.logits.dtype)
