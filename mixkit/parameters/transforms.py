"""Transforms: from the free numbers of a parameter to what users read."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["CholeskyFactor", "Exp", "Identity", "ScalePower", "Transform"]


class Transform(ABC):
    """The map from a parameter ``(*batch, *shape)`` to what users read of it, of the same shape.

    Attributes:
        is_plain: whether users read the exponential of the entries that are logarithms, and the others as they are.
    """

    is_plain: bool = False

    @abstractmethod
    def value(self, free: Tensor) -> Tensor:
        """What users read, ``(*batch, *shape)``."""

    @abstractmethod
    def is_log(self, shape: tuple[int, ...]) -> Tensor:
        """Which free numbers are logarithms of scales, ``shape`` bool: a change of units adds to these."""

    def is_positive(self, shape: tuple[int, ...]) -> Tensor:
        """Which entries that users read are positive by construction, ``shape`` bool."""
        return self.is_log(shape)

    def is_free(self, shape: tuple[int, ...]) -> Tensor:
        """Which entries are free numbers, ``shape`` bool; the others are zeros that nothing reads."""
        return torch.ones(shape, dtype=torch.bool)

    def entry(self, block: str, index: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """What users call the entry at ``index`` of a parameter of a block, and its index there."""
        return block, index

    def jacobian(self, free: Tensor) -> Tensor:
        """Derivatives ``(*shape, *shape)`` of what users read at ``free (*shape)``."""
        return torch.autograd.functional.jacobian(self.value, free.detach())


@dataclass(frozen=True)
class Identity(Transform):
    """Users read the parameter itself."""

    is_plain = True

    def value(self, free: Tensor) -> Tensor:
        """The parameter."""
        return free

    def is_log(self, shape: tuple[int, ...]) -> Tensor:
        """None."""
        return torch.zeros(shape, dtype=torch.bool)


@dataclass(frozen=True)
class Exp(Transform):
    """Users read the exponential: a scale, positive by construction.

    Example:
        >>> Exp().value(torch.zeros(2))
        tensor([1., 1.])
    """

    is_plain = True

    def value(self, free: Tensor) -> Tensor:
        """The exponential."""
        return free.exp()

    def is_log(self, shape: tuple[int, ...]) -> Tensor:
        """All."""
        return torch.ones(shape, dtype=torch.bool)


@dataclass(frozen=True)
class ScalePower(Transform):
    """Users read a power of a scale, whose logarithm the parameter is: its square is a dispersion.

    Attributes:
        power: 2 for a dispersion, -2 for a precision.

    Example:
        >>> ScalePower(-2.0).value(torch.tensor([0.5]).log())
        tensor([4.])
    """

    power: float

    def value(self, free: Tensor) -> Tensor:
        """The power of the scale."""
        return torch.exp(self.power * free)

    def is_log(self, shape: tuple[int, ...]) -> Tensor:
        """All."""
        return torch.ones(shape, dtype=torch.bool)


@dataclass(frozen=True)
class CholeskyFactor(Transform):
    r"""Users read standard deviations and correlations of a covariance :math:`L L^\top`.

    The parameter ``(..., p, p)`` holds L below its diagonal, the logarithm of L's diagonal on it, and zeros above. The
    standard deviations stand on the diagonal of what users read, the correlations below it.

    Example:
        >>> factor = torch.tensor([[0.0, 0.0], [0.75, 0.0]])  # L = [[1, 0], [0.75, 1]]
        >>> CholeskyFactor().value(factor)
        tensor([[1.0000, 0.0000],
                [0.6000, 1.2500]])
        >>> CholeskyFactor().entry("covariance", (0, 1, 1)), CholeskyFactor().entry("covariance", (0, 1, 0))
        (('std', (0, 1)), ('correlation', (0, 1, 0)))
    """

    def value(self, free: Tensor) -> Tensor:
        """Standard deviations on the diagonal, correlations below it."""
        tril = free.tril(-1) + torch.diag_embed(free.diagonal(dim1=-2, dim2=-1).exp())
        size = tril.abs().amax(-1, keepdim=True)
        std = size * (tril / size).square().sum(-1, keepdim=True).sqrt()
        rows = tril / std
        return (rows @ rows.mT).tril(-1) + torch.diag_embed(std.squeeze(-1))

    def is_log(self, shape: tuple[int, ...]) -> Tensor:
        """The diagonal."""
        return torch.eye(shape[-1], dtype=torch.bool).expand(shape)

    def is_free(self, shape: tuple[int, ...]) -> Tensor:
        """The diagonal and what is below it."""
        return torch.ones(shape[-2:], dtype=torch.bool).tril().expand(shape)

    def entry(self, block: str, index: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """``std`` of one response on the diagonal, ``correlation`` of two below it."""
        return ("std", index[:-1]) if index[-1] == index[-2] else ("correlation", index)
