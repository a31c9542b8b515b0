"""What an optimizer sees of a model and data: a parameter vector, its log-likelihood, derivatives and EM step."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import ParameterRecord, Transform

from ..data.dataset import Data
from ..statistics.covariance import propagate

__all__ = ["Entry", "Estimate", "Evaluation", "JointTransform", "Objective", "UserMap"]


class Evaluation(NamedTuple):
    """Total log-likelihood ``(r, s)``, its gradient ``(r, s, P)`` and Hessian ``(r, s, P, P)``.

    Where P is too large for a Hessian it is empty, ``(r, s, 0, 0)``.
    """

    value: Tensor
    gradient: Tensor
    hessian: Tensor


class Estimate(NamedTuple):
    """Parameters as users read them, one model: ``values (P,)``, their ``covariance (P, P)`` and ``names``."""

    names: list[str]
    values: Tensor
    covariance: Tensor


class Entry(NamedTuple):
    """One entry of a parameter."""

    record: ParameterRecord
    index: tuple[int, ...]


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
        values = torch.where(self.is_log, linear.exp(), linear)
        for part in self.joint:
            values = torch.where(part.is_owned(values.shape[-1]), part.values(linear), values)
        return values

    def jacobian(self, theta: Tensor) -> Tensor:
        """Derivatives ``(P, P)`` of users' parameters in the vector ``theta (P,)``."""
        if self.joint:
            return torch.autograd.functional.jacobian(self.values, theta.detach())  # type: ignore[return-value]
        scale = torch.where(self.is_log, self.linear(theta).exp(), 1.0)
        return torch.diag(scale) if self.matrix is None else self.matrix * scale.unsqueeze(-1)


class Objective(ABC):
    """The log-likelihood of ``r`` data sets at ``s`` parameter vectors each, ``theta (r, s, P)``.

    Attributes:
        data: the observations.
        n: observations of a data set.
        num_features: covariates d.
        num_params: length P of the parameter vector.
        lower: lower bounds of the parameters, ``(P,)``, -inf where there is none (the variance floor).
        total_weight: sum of the observations' weights, ``(r,)``.
        has_chosen_floor: whether the variance floor is a constraint that was chosen: ends at it are as good as others.
        is_by_autograd: whether derivatives are those of autograd, one parameter vector after another.
    """

    data: Data
    n: int
    num_features: int
    num_params: int
    lower: Tensor
    total_weight: Tensor
    has_chosen_floor: bool = False

    @property
    def is_by_autograd(self) -> bool:
        """See the class."""
        return False

    @abstractmethod
    def value(self, theta: Tensor) -> Tensor:
        """Total log-likelihood ``(r, s)``."""

    def log_likelihood(self, theta: Tensor) -> Tensor:
        """Total log-likelihood ``(r, s)``, also where the objective subtracts a penalty from it."""
        return self.value(theta)

    @abstractmethod
    def evaluate(self, theta: Tensor) -> Evaluation:
        """Log-likelihood with gradient and Hessian."""

    @abstractmethod
    def scores(self, theta: Tensor) -> Tensor:
        """Gradient of each observation's log-likelihood times its weight, ``(n, P)``, at ``theta (P,)``, data set 0."""

    @abstractmethod
    def em_step(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Log-likelihood at ``theta`` and the parameters after one E-step and M-step from there."""

    @abstractmethod
    def shares(self, theta: Tensor) -> Tensor:
        """Total responsibility of each expert, ``(r, s, k)``, each observation's times its weight."""

    @property
    def mean_weight(self) -> Tensor:
        """Mean of the positive weights of each data set, ``(r,)``."""
        weight = self.data.weight
        return torch.ones_like(self.total_weight) if weight is None else self.total_weight / (weight > 0).sum(-1)

    def observations(self, theta: Tensor) -> Tensor:
        """Total responsibility of each expert in observations of mean weight, ``(r, s, k)``.

        It does not change when all weights are multiplied by a number.
        """
        return self.shares(theta) / self.mean_weight[:, None, None]

    @abstractmethod
    def blend(self, theta: Tensor, candidate: Tensor, fraction: float) -> Tensor:
        """A shorter step from ``theta`` towards ``candidate``, never lowering the likelihood as ``fraction`` -> 0."""

    @abstractmethod
    def from_responsibilities(self, responsibilities: Tensor) -> Tensor:
        """Parameters fitted to given responsibilities ``(r, s, k, n)``: how a fit starts."""

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
    def carry(self, theta: Tensor, source: "Objective") -> Tensor:
        """The parameters here that mean what ``theta (r, s, P)`` means to ``source``, an objective on other data."""

    def unwrapped(self, theta: Tensor) -> tuple[Tensor, "Objective"]:
        """The vectors ``(r, s, P)`` and the objective without any penalty around it."""
        return theta, self

    @abstractmethod
    def user_map(self) -> UserMap:
        """How users' parameters follow from the parameter vector of data set 0."""

    def estimate(self, theta: Tensor, covariance: Tensor) -> Estimate:
        """Names, values and covariance (delta method) in users' parameters, from one vector ``(P,)`` of data set 0."""
        to_user = self.user_map()
        return Estimate(to_user.names, to_user.values(theta), propagate(to_user.jacobian(theta), covariance))

    def on_sets(self, sets: Tensor) -> "Objective | None":
        """The objective of the data sets at positions ``sets (q,)``, in the same parameters; None where there is none.

        An ascent leaves out the data sets that are done where it can.
        """
        return None

    def compact(self) -> "Objective":
        """A copy without what evaluations have stored on the way: what a result keeps."""
        return copy.copy(self)

    def at_floor(self, theta: Tensor) -> Tensor:
        """Which parameters stand at a variance floor, of the shape of ``theta (r, s, P)``."""
        return theta <= self.lower

    @property
    def is_zeroed(self) -> Tensor:
        """Which parameters a penalty set to zero, ``(P,)`` bool, in the order of ``user_map().names``."""
        return torch.zeros(self.num_params, dtype=torch.bool, device=self.lower.device)

    @property
    def zeroed(self) -> list[str]:
        """The names that :meth:`user_map` has for them."""
        return [n for n, is_zero in zip(self.user_map().names, self.is_zeroed.tolist(), strict=True) if is_zero]

    def project(self, theta: Tensor) -> Tensor:
        """``theta`` with every parameter raised to its lower bound."""
        return torch.maximum(theta, self.lower)
