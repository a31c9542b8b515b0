"""What the two distributions over subsets of a given size share."""

from abc import abstractmethod
from itertools import combinations
from math import comb
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from ..._validation import can_read_values
from ...numerics.randomness import Randomness, as_generator
from .._checks import check_subset_logits

__all__ = ["SubsetLaw", "all_subsets"]


class _KHot(constraints.Constraint):
    """Rows of zeros and ones with a given number of ones."""

    is_discrete = True
    event_dim = 1

    def __init__(self, num_selected: int) -> None:
        self.num_selected = num_selected

    def check(self, value: Tensor) -> Tensor:
        return ((value == 0) | (value == 1)).all(-1) & (value.sum(-1) == self.num_selected)


def all_subsets(k: int, num_selected: int, *, like: Tensor, max_subsets: int = 1_000_000) -> Tensor:
    """Every subset of ``num_selected`` out of k as a row of zeros and ones, ``(comb(k, num_selected), k)``.

    Raises:
        ValueError: if there are more than ``max_subsets``.

    Example:
        >>> all_subsets(3, 2, like=torch.empty(()))
        tensor([[1., 1., 0.],
                [1., 0., 1.],
                [0., 1., 1.]])
    """
    if comb(k, num_selected) > max_subsets:
        raise ValueError(f"the subsets must number at most {max_subsets}, got {comb(k, num_selected)}")
    index = torch.tensor(list(combinations(range(k), num_selected)), device=like.device)
    return torch.zeros(len(index), k, dtype=like.dtype, device=like.device).scatter_(1, index, 1.0)


class SubsetLaw(TorchDistribution):
    """A distribution over subsets of ``num_selected`` out of k items; values are masks ``(*batch, k)`` of 0 and 1.

    Args:
        num_selected: size of the subset, from 1 to k.
        logits: log-weights of the items ``(*batch, k)``, -inf for an item that is never selected; at least
            ``num_selected`` finite ones a row.

    Raises:
        ValueError: if ``num_selected`` is not in 1..k or a row has NaN, +inf or too few finite entries.
    """

    arg_constraints = {"logits": constraints.independent(constraints.real, 1)}  # noqa: RUF012
    has_enumerate_support = True

    def __init__(self, num_selected: int, logits: Tensor, validate_args: bool | None = None) -> None:
        self.logits = check_subset_logits(logits, num_selected)
        self.num_selected = int(num_selected)
        validate_args = validate_args if can_read_values(logits) else False
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> constraints.Constraint:
        """Masks with ``num_selected`` ones."""
        return _KHot(self.num_selected)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "SubsetLaw":
        """The same distribution with more leading dimensions."""
        new = self._get_checked_instance(type(self), _instance)
        new.num_selected, new.logits = self.num_selected, self.logits.expand(*batch_shape, -1)
        super(SubsetLaw, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Every subset, ``(number, *batch, k)``; at most a million."""
        masks = all_subsets(self.event_shape[0], self.num_selected, like=self.logits)
        masks = masks.reshape(-1, *([1] * len(self.batch_shape)), self.event_shape[0])
        return masks.expand(-1, *self.batch_shape, -1) if expand else masks

    def sample(self, sample_shape: Any = (), generator: Randomness = None) -> Tensor:
        """Masks ``(*sample_shape, *batch, k)`` in the dtype of the logits."""
        with torch.no_grad():
            source = as_generator(generator, self.logits.device)
            return self._draw(self._extended_shape(torch.Size(sample_shape)), source).to(self.logits.dtype)

    @abstractmethod
    def _draw(self, shape: torch.Size, generator: Randomness) -> Tensor:
        """Masks of the given shape."""

    def _checked(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return value
