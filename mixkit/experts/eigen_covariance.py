"""Covariances by volume, shape and orientation, each own or shared: the models of mclust."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from .._validation import check_choice
from ..parameters import Axis, ParameterRecord, ScalePower, UnitChange
from .base import SCALE_PRIOR
from .covariance import Covariance, DiagonalCovariance, FullCovariance, SphericalCovariance
from .eigen_estimates import Structure, estimate
from .rotations import num_angles, rotation_from_angles, rotation_to_angles

__all__ = ["EigenCovariance", "covariance_by_name", "covariance_names"]


class EigenCovariance(Covariance):
    r"""Covariances :math:`\Sigma_j = \lambda_j D_j A_j D_j^\top` of which experts share some parts.

    The volume :math:`\lambda = |\Sigma|^{1/p}`, the shape A, diagonal of determinant one, and the orientation D, a
    rotation or the axes. :func:`covariance_by_name` builds those that mclust calls VEI, EVI, VEE, EVE, VVE, EEV, VEV
    and EVV.

    Args:
        num_experts: number of experts ``k``.
        response_dim: dimension ``p`` of the response.
        own_volume: whether each expert has its own volume.
        own_shape: whether each has its own shape.
        own_orientation: whether each has its own orientation; None for ellipsoids along the axes.
        batch_shape: leading dimensions of independent models.
        dtype: dtype of the parameters.
        device: device of the parameters.

    Attributes:
        log_scale: half the logarithms of the volumes, ``(*batch, k or 1)``.
        log_shape: half the logarithms of the first p - 1 diagonal entries of A, ``(*batch, k or 1, p - 1)``; those of
            all sum to zero.
        rotation: angles of D (see :mod:`mixkit.experts.rotations`), ``(*batch, k or 1, p (p - 1) / 2)``.

    Source: Banfield and Raftery (1993), Biometrics 49, 803-821; Celeux and Govaert (1995), Gaussian parsimonious
    clustering models, Pattern Recognition 28, 781-793.

    Example:
        >>> covariance = EigenCovariance(3, 2, own_volume=True, own_shape=False, own_orientation=True)  # VEV
        >>> sum(parameter.numel() for parameter in covariance.parameters())
        7
    """

    def __init__(
        self,
        num_experts: int,
        response_dim: int,
        *,
        own_volume: bool,
        own_shape: bool,
        own_orientation: bool | None,
        batch_shape: tuple[int, ...] = (),
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.structure = Structure(own_volume, own_shape, own_orientation)
        super().__init__(num_experts, response_dim, batch_shape=batch_shape, dtype=dtype, device=device)

    def _build(self, rows: tuple[int, ...], like: Tensor) -> None:
        own, p = self.structure, self.response_dim
        batch = rows[:-1]

        def zeros(is_own: bool, *tail: int) -> nn.Parameter:
            return nn.Parameter(like.new_zeros((*batch, self.num_experts if is_own else 1, *tail)))

        self.log_scale = zeros(own.own_volume)
        if p > 1:
            self.log_shape = zeros(own.own_shape, p - 1)
        if p > 1 and own.own_orientation is not None:
            self.rotation = zeros(own.own_orientation, num_angles(p))

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """Volumes; and numbers of shape and orientation, which no change of units common to all responses changes."""
        units = UnitChange(location_power=1)
        return (
            ParameterRecord(
                "log_scale", "volume", (Axis.EXPERT,), ScalePower(2.0), has_floor=True, units=units, prior=SCALE_PRIOR
            ),
            ParameterRecord("log_shape", "log_shape", (Axis.EXPERT, Axis.OTHER)),
            ParameterRecord("rotation", "rotation", (Axis.EXPERT, Axis.OTHER)),
        )

    def log_deviations(self) -> Tensor:
        """Logarithms of the standard deviations along the axes of the ellipsoids, ``(*batch, k or 1, p)``."""
        scale = self.log_scale.unsqueeze(-1)
        if self.response_dim == 1:
            return scale
        return scale + torch.cat([self.log_shape, -self.log_shape.sum(-1, keepdim=True)], -1)

    def orientation(self) -> Tensor:
        """The axes of the ellipsoids as columns, ``(*batch, k or 1, p, p)``."""
        p = self.response_dim
        if p == 1 or self.structure.own_orientation is None:
            return torch.eye(p, dtype=self.log_scale.dtype, device=self.log_scale.device)
        return rotation_from_angles(self.rotation, p)

    def scale_tril(self) -> Tensor:
        """Cholesky factors, ``(*batch, k or 1, p, p)``."""
        deviations = self.log_deviations().exp()
        if self.response_dim == 1 or self.structure.own_orientation is None:
            return torch.diag_embed(deviations)
        half = self.orientation() * deviations.unsqueeze(-2)  # half half' is the covariance
        upper = torch.linalg.qr(half.mT).R
        signs = torch.sign(upper.diagonal(dim1=-2, dim2=-1)).detach()
        return (signs.unsqueeze(-1) * upper).mT

    @torch.no_grad()
    def update(self, scatter: Tensor, weight: Tensor, variance_floor: float | Tensor) -> None:
        """Raise the likelihood from the present parameters, to its maximum where that has a closed form.

        Args:
            scatter: weighted sums of squared residuals, ``(*batch, k, p, p)``.
            weight: total weights, ``(*batch, k)``.
            variance_floor: smallest variance along an axis of an ellipsoid, one number; of several, ``(p,)``, the
                geometric mean.
        """
        p = self.response_dim
        floor = torch.as_tensor(variance_floor, dtype=scatter.dtype, device=scatter.device).expand(p).log().mean().exp()
        batch = scatter.shape[:-3]
        present = self.orientation().expand(*batch, self.num_experts, p, p).to(scatter)
        spread = (2.0 * self.log_deviations()).exp().expand(*batch, self.num_experts, p).to(scatter)
        parts = [part.reshape(-1, *part.shape[len(batch) :]) for part in (scatter, weight, present, spread)]
        found = [estimate(self.structure, w, n, d, s, floor) for w, n, d, s in zip(*parts, strict=True)]
        axes = torch.stack([one.axes for one in found]).reshape(present.shape)
        variances = torch.stack([one.variances for one in found]).reshape(spread.shape)
        self._write(axes, 0.5 * variances.log())

    def _write(self, axes: Tensor, log_deviations: Tensor) -> None:
        scale = log_deviations.mean(-1)
        self.log_scale.copy_(scale[..., : self.log_scale.shape[-1]])
        if self.response_dim == 1:
            return
        shape = (log_deviations - scale.unsqueeze(-1))[..., :-1]
        self.log_shape.copy_(shape[..., : self.log_shape.shape[-2], :])
        if self.structure.own_orientation is not None:
            self.rotation.copy_(rotation_to_angles(axes[..., : self.rotation.shape[-2], :, :]))

    def extra_repr(self) -> str:
        """The settings shown by ``repr``."""
        parts = ", ".join(f"{name}={value}" for name, value in self.structure._asdict().items())
        return f"num_experts={self.num_experts}, response_dim={self.response_dim}, {parts}"


def _eigen(own_volume: bool, own_shape: bool, own_orientation: bool | None) -> Callable[..., Covariance]:
    return partial(EigenCovariance, own_volume=own_volume, own_shape=own_shape, own_orientation=own_orientation)


_MODELS: dict[str, Callable[..., Covariance]] = {
    "EII": partial(SphericalCovariance, shared=True),
    "VII": SphericalCovariance,
    "EEI": partial(DiagonalCovariance, shared=True),
    "VEI": _eigen(True, False, None),
    "EVI": _eigen(False, True, None),
    "VVI": DiagonalCovariance,
    "EEE": partial(FullCovariance, shared=True),
    "VEE": _eigen(True, False, False),
    "EVE": _eigen(False, True, False),
    "VVE": _eigen(True, True, False),
    "EEV": _eigen(False, False, True),
    "VEV": _eigen(True, False, True),
    "EVV": _eigen(False, True, True),
    "VVV": FullCovariance,
}


def covariance_names() -> tuple[str, ...]:
    """The fourteen models of mclust, by volume, shape and orientation: equal, variable, or the identity."""
    return tuple(_MODELS)


def covariance_by_name(
    name: str,
    num_experts: int,
    response_dim: int,
    *,
    batch_shape: tuple[int, ...] = (),
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Covariance:
    """The covariance that mclust calls by three letters.

    The letters tell whether volume, shape and orientation of the experts' ellipsoids are equal (E), variable (V), or,
    of shape and orientation, those of a sphere or of the axes (I).

    Args:
        name: one of :func:`covariance_names`.
        num_experts: number of experts ``k``.
        response_dim: dimension ``p`` of the response.
        batch_shape: leading dimensions of independent models.
        dtype: dtype of the parameters.
        device: device of the parameters.

    Raises:
        ValueError: if there is no such model.

    Source: Scrucca, Fop, Murphy, Raftery (2016), mclust 5, The R Journal 8, 289-317, table 3.

    Example:
        >>> sum(p.numel() for p in covariance_by_name("VVE", 3, 4).parameters())  # 3 + 3 * 3 + 6
        18
    """
    build = _MODELS[check_choice("name", name, _MODELS)]
    return build(num_experts, response_dim, batch_shape=batch_shape, dtype=dtype, device=device)
