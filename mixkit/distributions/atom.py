"""A point mass."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from .values import ZeroOutsideSupport

__all__ = ["Atom"]


class Atom(ZeroOutsideSupport, Distribution):
    r"""All mass at one value: density 1 there with respect to a unit mass at it, 0 elsewhere.

    In a mixture with distributions that have Lebesgue densities the dominating measure is Lebesgue's plus that unit
    mass, so the others must give it density zero: a log-normal one at 0 does.

    Args:
        value: where the mass is, any shape.
        validate_args: as everywhere in torch.

    Example:
        >>> import torch
        >>> Atom(torch.tensor(0.0)).log_prob(torch.tensor([0.0, 1.0]))
        tensor([0., -inf])
    """

    arg_constraints: dict[str, Any] = {"value": constraints.real}  # noqa: RUF012 (torch's own name and type)

    @constraints.dependent_property
    def support(self) -> Any:
        """The value."""
        return _Point(self.value)

    def __init__(self, value: Tensor, validate_args: bool | None = None) -> None:
        self.value = value
        super().__init__(value.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Atom":
        """The same distribution with a larger batch shape."""
        law = Atom(self.value.expand(torch.Size(batch_shape)), validate_args=False)
        law._validate_args = self._validate_args
        return law

    @property
    def mean(self) -> Tensor:
        """The value."""
        return self.value

    @property
    def variance(self) -> Tensor:
        """Zero."""
        return torch.zeros_like(self.value)

    def log_prob(self, value: Tensor) -> Tensor:
        """0 at the atom, -inf elsewhere."""
        if self._validate_args:
            self._validate_sample(value)
        zero = torch.zeros(torch.broadcast_shapes(value.shape, self.batch_shape), dtype=self.value.dtype).to(value)
        return torch.where(value.isnan(), torch.nan, torch.where(value == self.value, zero, -torch.inf))

    def has_atom(self, value: Tensor) -> Tensor:
        """True at the atom."""
        return value == self.value

    def cdf(self, value: Tensor) -> Tensor:
        """1 from the atom on, 0 below."""
        if self._validate_args:
            self._validate_sample(value)
        return torch.where(value.isnan(), torch.nan, (value >= self.value).to(self.value.dtype))

    def icdf(self, value: Tensor) -> Tensor:
        """The atom at every probability."""
        return torch.where((value >= 0) & (value <= 1), self.value, torch.nan)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """The atom, always."""
        return self.value.detach().expand(self._extended_shape(torch.Size(sample_shape))).clone()


class _Point(constraints.Constraint):
    """One value; as quantiles of a mixture step over whole numbers where a support is discrete, this one is not."""

    def __init__(self, value: Tensor) -> None:
        self.lower_bound = self.upper_bound = value
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        return value == self.lower_bound
