"""What distributions of this package share that are given by tensors which broadcast together."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from torch.distributions import Distribution

from .._validation import at_least_float32
from .values import ZeroOutsideSupport

__all__ = ["ParametricDistribution", "TwoTailedDistribution"]


class ParametricDistribution(ZeroOutsideSupport, Distribution):
    """A distribution of single numbers, given by tensors of one shape, the batch shape.

    ``arg_constraints`` names the tensors: each is an attribute and an argument of the constructor, which broadcasts
    them.

    Example:
        >>> import torch
        >>> from mixkit.distributions import Gamma
        >>> Gamma(torch.zeros(2), torch.tensor(0.0)).expand((3, 2)).log_scale.shape
        torch.Size([3, 2])
    """

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        """The same distribution with a larger batch shape."""
        shape = torch.Size(batch_shape)
        parameters = {name: getattr(self, name).expand(shape) for name in self.arg_constraints}
        expanded = type(self)(**parameters, validate_args=False)
        expanded._validate_args = self._validate_args
        return expanded

    def _log_prob_where(
        self, is_inside: Tensor, value: Tensor, inner_value: float, log_density: Callable[..., Tensor], *given: Tensor
    ) -> Tensor:
        """``log_density(value, *given)`` where the value is inside the support, -inf elsewhere, NaN at NaN.

        Args:
            is_inside: whether the values are in the support.
            value: the values.
            inner_value: a number inside, put in place of values that are not, so that gradients are finite.
            log_density: an elementwise function; it sees no dtype below float32.
            *given: its other arguments, parameters of the distribution, whose dtype the result has.
        """
        arguments = (torch.where(is_inside, value, inner_value), *given)
        log_prob = log_density(*(at_least_float32(argument) for argument in arguments)).to(given[0].dtype)
        return torch.where(value.isnan(), torch.nan, torch.where(is_inside, log_prob, -torch.inf))


class TwoTailedDistribution(ParametricDistribution, ABC):
    """One that computes either tail directly, since 1 less the other would round a small one to zero."""

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of at most ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        return self._tail(value, is_upper=False)

    def sf(self, value: Tensor) -> Tensor:
        """Probability of more than ``value``, precise where it is small."""
        return self._tail(value, is_upper=True)

    @abstractmethod
    def _tail(self, value: Tensor, *, is_upper: bool) -> Tensor:
        """Probability of more than ``value``, or of at most that."""
