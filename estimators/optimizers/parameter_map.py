"""The map between the vector that an optimizer moves, a model's parameters and what users read."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import compress
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import ParameterRecord, Transform

__all__ = ["Entry", "JointTransform", "ParameterMap", "UserMap"]


class Entry(NamedTuple):
    """One entry of a parameter."""

    record: ParameterRecord
    at: tuple[int, ...]


class JointTransform(NamedTuple):
    """A parameter of which users read functions of several entries at once.

    Attributes:
        positions: where in the vector each of its entries is; P for those held at zero.
        transform: from its entries to what users read in their places.
    """

    positions: Tensor
    transform: Transform

    def values(self, linear: Tensor) -> Tensor:
        """``linear (*batch, P)`` with what users read in the places of the parameter."""
        padded = torch.cat([linear, torch.zeros_like(linear[..., :1])], -1)
        users = self.transform.value(padded[..., self.positions])
        return padded.index_copy(-1, self.positions.flatten(), users.flatten(-self.positions.ndim))[..., :-1]

    def is_owned(self, size: int) -> Tensor:
        """Which of the P parameters are its entries, ``(P,)`` bool."""
        found = torch.zeros(size + 1, dtype=torch.bool, device=self.positions.device)
        found[self.positions] = True
        return found[:-1]

    def is_positive(self, size: int) -> Tensor:
        """Which of the P parameters are positive by it, ``(P,)`` bool."""
        found = torch.zeros(size + 1, dtype=torch.bool, device=self.positions.device)
        found[self.positions] = self.transform.is_positive(tuple(self.positions.shape)).to(found.device)
        return found[:-1]


class UserMap(NamedTuple):
    """Users' parameters as functions of the parameter vector: ``matrix @ theta + offset``, or its exponential.

    Some are functions of several such numbers at once, as correlations are.

    Attributes:
        names: of the parameters ``(P,)``.
        matrix: ``(P, P)``, invertible; None for the identity.
        offset: ``(P,)``.
        is_log: which parameters users read as the exponential, ``(P,)`` bool: scales, positive by construction.
        entries: what each is an entry of, and which one, ``(P,)``.
        joint: parameters of which users read functions of several entries at once.
    """

    names: list[str]
    matrix: Tensor | None
    offset: Tensor
    is_log: Tensor
    entries: Sequence[Entry]
    joint: tuple[JointTransform, ...] = ()

    @property
    def is_positive(self) -> Tensor:
        """Which parameters are positive by construction, ``(P,)`` bool."""
        found = self.is_log
        for part in self.joint:
            found = found | part.is_positive(len(found))
        return found

    @property
    def is_affine(self) -> Tensor:
        """Which parameters, or their logarithms, are affine in the vector, ``(P,)`` bool."""
        found = torch.ones_like(self.is_log)
        for part in self.joint:
            found = found & ~part.is_owned(len(found))
        return found

    def linear(self, theta: Tensor) -> Tensor:
        """``matrix @ theta + offset`` at ``theta (*batch, P)``: positive parameters as logarithms."""
        return (theta if self.matrix is None else theta @ self.matrix.mT) + self.offset

    def values(self, theta: Tensor) -> Tensor:
        """Users' parameters at ``theta (*batch, P)``."""
        linear = self.linear(theta)
        values = torch.where(self.is_log, torch.where(self.is_log, linear, 0.0).exp(), linear)
        for part in self.joint:
            values = torch.where(part.is_owned(values.shape[-1]), part.values(linear), values)
        return values

    def jacobian(self, theta: Tensor) -> Tensor:
        """Derivatives ``(P, P)`` of users' parameters in the vector ``theta (P,)``."""
        if self.joint:
            return torch.autograd.functional.jacobian(self.values, theta.detach())
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
        is_zeroed = self.is_zeroed.tolist()  # without a lasso of none, and no map need be made
        return list(compress(self.user_map().names, is_zeroed)) if any(is_zeroed) else []
