"""Functions of time in [0, 1] that a path is made of, each with its exact derivative."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from ..._validation import check_positive


class Curve(ABC):
    """A smooth function of time ``t`` in [0, 1], applied entry by entry."""

    @abstractmethod
    def __call__(self, t: Tensor) -> Tensor:
        """Value at ``t``, of the shape of ``t``."""

    def derivative(self, t: Tensor) -> Tensor:
        """Derivative at ``t``, of the shape of ``t``: by automatic differentiation unless a curve states its own."""
        with torch.enable_grad():
            time = t.detach().requires_grad_(True)
            return torch.autograd.grad((self(time) + 0 * time).sum(), time)[0]


@dataclass(frozen=True)
class ConstantCurve(Curve):
    """``f(t) = value``.

    Args:
        value: the finite value held at every time.

    Example:
        >>> ConstantCurve(2.0)(torch.tensor([0.0, 1.0]))
        tensor([2., 2.])
    """

    value: float

    def __post_init__(self) -> None:
        _check_number("value", self.value)

    def __call__(self, t: Tensor) -> Tensor:
        """Value at ``t``."""
        return torch.zeros_like(t) + self.value

    def derivative(self, t: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros_like(t)


@dataclass(frozen=True)
class LinearCurve(Curve):
    """``f(t) = start + (end - start) t``.

    Args:
        start: finite value at time 0.
        end: finite value at time 1.

    Example:
        >>> LinearCurve(0.0, 10.0)(torch.tensor([0.0, 0.5, 1.0]))
        tensor([ 0.,  5., 10.])
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        _check_number("start", self.start)
        _check_number("end", self.end)

    def __call__(self, t: Tensor) -> Tensor:
        """Value at ``t``."""
        return self.start + (self.end - self.start) * t

    def derivative(self, t: Tensor) -> Tensor:
        """``end - start``."""
        return torch.full_like(t, self.end - self.start)


@dataclass(frozen=True)
class ExponentialCurve(Curve):
    """``f(t) = start exp(rate t) + offset``.

    Args:
        start: positive factor.
        rate: finite growth rate; negative for decay.
        offset: finite constant added, ``-start`` for a curve that leaves zero.

    Example:
        >>> ExponentialCurve(10.0, -3.0)(torch.tensor([0.0, 1.0]))
        tensor([10.0000,  0.4979])
    """

    start: float
    rate: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        check_positive("start", self.start)
        _check_number("rate", self.rate)
        _check_number("offset", self.offset)

    def __call__(self, t: Tensor) -> Tensor:
        """Value at ``t``."""
        return self.start * torch.exp(self.rate * t) + self.offset

    def derivative(self, t: Tensor) -> Tensor:
        """``start rate exp(rate t)``."""
        return self.start * self.rate * torch.exp(self.rate * t)


def _check_number(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
