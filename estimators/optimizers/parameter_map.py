"""The map between the vector that an optimizer moves, a model's parameters and what users read."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixkit.mixture import MixtureOfExperts

__all__ = ["ParameterMap", "UserMap"]


class UserMap(NamedTuple):
    """Users' parameters as functions of the parameter vector: ``matrix @ theta + offset``, or its exponential.

    Attributes:
        names: of the parameters ``(P,)``.
        matrix: ``(P, P)``, invertible; None for the identity.
        offset: ``(P,)``.
        is_log: which parameters users read as the exponential, ``(P,)`` bool: scales, positive by construction.
    """

    names: list[str]
    matrix: Tensor | None
    offset: Tensor
    is_log: Tensor

    def linear(self, theta: Tensor) -> Tensor:
        """``matrix @ theta + offset`` at ``theta (*batch, P)``: positive parameters as logarithms."""
        return (theta if self.matrix is None else theta @ self.matrix.mT) + self.offset

    def values(self, theta: Tensor) -> Tensor:
        """Users' parameters at ``theta (*batch, P)``."""
        linear = self.linear(theta)
        return torch.where(self.is_log, linear.exp(), linear)

    def jacobian(self, theta: Tensor) -> Tensor:
        """Derivatives ``(P, P)`` of users' parameters in the vector ``theta (P,)``."""
        scale = torch.where(self.is_log, self.linear(theta).exp(), 1.0)
        return torch.diag(scale) if self.matrix is None else self.matrix * scale.unsqueeze(-1)


class ParameterMap(ABC):
    """How parameter vectors ``(r, s, P)`` mean models, and what users call and read of them."""

    @abstractmethod
    def read(self, model: MixtureOfExperts) -> Tensor:
        """The parameter vector ``(1, 1, P)`` of a model."""

    @abstractmethod
    def parameters(self, theta: Tensor, index: int = 0) -> dict[str, Tensor]:
        """The model's parameters by name at one vector ``(P,)`` of data set ``index``, differentiable in it."""

    def write(self, theta: Tensor, model: MixtureOfExperts, index: int = 0) -> None:
        """Set the parameters of an unbatched ``model`` from one vector ``(P,)`` of data set ``index``."""
        with torch.no_grad():
            for name, value in self.parameters(theta, index).items():
                model.get_parameter(name).copy_(value)

    @abstractmethod
    def transfer(self, theta: Tensor, source: Any) -> Tensor:
        """The parameters here that mean what ``theta (r, s, P)`` means to ``source``, an objective on other data."""

    @abstractmethod
    def user_map(self) -> UserMap:
        """How users' parameters follow from the parameter vector of data set 0."""

    @property
    @abstractmethod
    def is_zeroed(self) -> Tensor:
        """Which parameters a penalty set to zero, ``(P,)`` bool, in the order of ``user_map().names``."""

    @property
    def zeroed(self) -> list[str]:
        """The names that :meth:`user_map` has for them."""
        return [n for n, is_zero in zip(self.user_map().names, self.is_zeroed.tolist(), strict=True) if is_zero]
