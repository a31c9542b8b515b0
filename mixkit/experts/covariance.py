"""How the spread of a vector response is parametrized: full, diagonal or spherical, own or shared."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from .._validation import check_integer
from ..parameters import Axis, CholeskyFactor, Exp, ParameterRecord, Transform, UnitChange
from .base import SCALE_PRIOR

__all__ = ["ClosedFormCovariance", "Covariance", "DiagonalCovariance", "FullCovariance", "SphericalCovariance"]


class Covariance(nn.Module, ABC):
    """One covariance matrix per expert, or one for all of them (``shared``).

    Args:
        num_experts: number of experts ``k``.
        response_dim: dimension ``p`` of the response.
        shared: whether all experts have one covariance.
        batch_shape: leading dimensions of independent models.
        dtype: dtype of the parameters.
        device: device of the parameters.
    """

    def __init__(
        self,
        num_experts: int,
        response_dim: int,
        *,
        shared: bool = False,
        batch_shape: tuple[int, ...] = (),
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.num_experts = check_integer("num_experts", num_experts, low=1)
        self.response_dim = check_integer("response_dim", response_dim, low=1)
        self.shared = shared
        rows = (*batch_shape, 1 if shared else num_experts)
        self._build(rows, torch.zeros((), dtype=dtype, device=device))

    @abstractmethod
    def _build(self, rows: tuple[int, ...], like: Tensor) -> None:
        """Create the parameters, at the identity covariance."""

    @abstractmethod
    def scale_tril(self) -> Tensor:
        """Cholesky factors, ``(*batch, k or 1, p, p)``."""

    @abstractmethod
    def update(self, scatter: Tensor, weight: Tensor, variance_floor: float | Tensor) -> None:
        """Raise the likelihood by other values of the parameters, to its maximum where that has a closed form.

        Args:
            scatter: weighted sums of squared residuals, ``(*batch, k, p, p)``.
            weight: total weights, ``(*batch, k)``.
            variance_floor: smallest variance of each response, ``(p,)`` or one number for all.
        """

    def extra_repr(self) -> str:
        """The sizes shown by ``repr``."""
        return f"num_experts={self.num_experts}, response_dim={self.response_dim}, shared={self.shared}"


class ClosedFormCovariance(Covariance):
    """Covariances of which each, or the one that experts share, is estimated from one scatter matrix at once."""

    @abstractmethod
    def _assign(self, covariance: Tensor, variance_floor: Tensor) -> None:
        """Set the parameters to the member of the family closest in likelihood to ``covariance``."""

    @torch.no_grad()
    def update(self, scatter: Tensor, weight: Tensor, variance_floor: float | Tensor) -> None:
        """Set the parameters to their maximum-likelihood value.

        Args:
            scatter: weighted sums of squared residuals, ``(*batch, k, p, p)``.
            weight: total weights, ``(*batch, k)``; experts of weight 0 keep the floor.
            variance_floor: smallest variance of each response, ``(p,)`` or one number for all; of combinations of
                responses, each in units of the root of its own floor, the smallest is 1.
        """
        floor = torch.as_tensor(variance_floor, dtype=scatter.dtype, device=scatter.device).expand(self.response_dim)
        if self.shared:
            scatter, weight = scatter.sum(-3, keepdim=True), weight.sum(-1, keepdim=True)
        self._assign(scatter / weight.clamp(min=torch.finfo(weight.dtype).tiny)[..., None, None], floor)


class FullCovariance(ClosedFormCovariance):
    """Unrestricted covariances, ``L L'`` with ``L`` lower triangular of positive diagonal.

    Attributes:
        factor: ``(*batch, k or 1, p, p)``; below the diagonal that of ``L``, on it the logarithm of ``L``'s.

    Example:
        >>> FullCovariance(3, 2, shared=True).scale_tril().detach()
        tensor([[[1., 0.],
                 [0., 1.]]])
    """

    def _build(self, rows: tuple[int, ...], like: Tensor) -> None:
        size = self.response_dim
        self.factor = nn.Parameter(like.new_zeros((*rows, size, size)))

    def scale_tril(self) -> Tensor:
        """Cholesky factors, ``(*batch, k or 1, p, p)``."""
        return self.factor.tril(-1) + torch.diag_embed(self.factor.diagonal(dim1=-2, dim2=-1).exp())

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """The factor, of which users read standard deviations and correlations."""
        return (_record("factor", "covariance", (Axis.EXPERT, Axis.RESPONSE, Axis.RESPONSE), CholeskyFactor()),)

    def _assign(self, covariance: Tensor, variance_floor: Tensor) -> None:
        unit = variance_floor.sqrt()
        values, vectors = torch.linalg.eigh(covariance / (unit.unsqueeze(-1) * unit))
        floored = (vectors * values.clamp(min=1.0).unsqueeze(-2)) @ vectors.mT
        tril = unit.unsqueeze(-1) * torch.linalg.cholesky(floored)
        self.factor.copy_(tril.tril(-1) + torch.diag_embed(tril.diagonal(dim1=-2, dim2=-1).log()))


class DiagonalCovariance(ClosedFormCovariance):
    """Responses uncorrelated given the expert.

    Attributes:
        log_std: logarithm of the standard deviations, ``(*batch, k or 1, p)``.

    Example:
        >>> DiagonalCovariance(3, 2).scale_tril().shape
        torch.Size([3, 2, 2])
    """

    def _build(self, rows: tuple[int, ...], like: Tensor) -> None:
        self.log_std = nn.Parameter(like.new_zeros((*rows, self.response_dim)))

    def scale_tril(self) -> Tensor:
        """Cholesky factors, ``(*batch, k or 1, p, p)``."""
        return torch.diag_embed(self.log_std.exp())

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """The logarithms of the standard deviations."""
        return (_record("log_std", "std", (Axis.EXPERT, Axis.RESPONSE), Exp()),)

    def _assign(self, covariance: Tensor, variance_floor: Tensor) -> None:
        variance = covariance.diagonal(dim1=-2, dim2=-1).clamp(min=variance_floor)
        self.log_std.copy_(0.5 * variance.log())


class SphericalCovariance(ClosedFormCovariance):
    """Responses uncorrelated and of one variance given the expert.

    Attributes:
        log_std: logarithm of the standard deviations, ``(*batch, k or 1)``.

    Example:
        >>> SphericalCovariance(3, 2).log_std.shape
        torch.Size([3])
    """

    def _build(self, rows: tuple[int, ...], like: Tensor) -> None:
        self.log_std = nn.Parameter(like.new_zeros(rows))

    def scale_tril(self) -> Tensor:
        """Cholesky factors, ``(*batch, k or 1, p, p)``."""
        identity = torch.eye(self.response_dim, dtype=self.log_std.dtype, device=self.log_std.device)
        return self.log_std.exp()[..., None, None] * identity

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """The logarithms of the standard deviations, of all responses in one unit."""
        return (_record("log_std", "std", (Axis.EXPERT,), Exp()),)

    def _assign(self, covariance: Tensor, variance_floor: Tensor) -> None:
        variance = covariance.diagonal(dim1=-2, dim2=-1).mean(-1).clamp(min=variance_floor.log().mean().exp())
        self.log_std.copy_(0.5 * variance.log())


def _record(name: str, block: str, axes: tuple[Axis, ...], transform: Transform) -> ParameterRecord:
    units = UnitChange(location_power=1)
    return ParameterRecord(name, block, axes, transform, has_floor=True, units=units, prior=SCALE_PRIOR)
