"""Gaussian experts of a scalar response."""

import math

import torch
from torch import Tensor

from ..distributions import Normal
from ..parameters import CoefficientPattern
from .base import DensityTerms, LocationExperts, new_constant
from .dominating_measure import REAL_LINE
from .families import family
from .predictors import LinearPredictor, Predictor

__all__ = ["GaussianExperts", "linear_gaussian_experts"]

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


@family("gaussian")
class GaussianExperts(LocationExperts):
    r"""Gaussian experts, :math:`y \mid x, j \sim N(\eta_j(x), \sigma_j^2)`.

    Args:
        predictor: the mean; linear, constant or any module (see :mod:`mixkit.experts.predictors`).
        shared_std: whether all experts have one standard deviation.
        batch_shape: leading dimensions of independent models; those of the predictor if None.
        dtype: dtype of ``log_std``; that of the predictor if None.
        device: device of ``log_std``; that of the predictor if None.

    Attributes:
        log_std: logarithm of the standard deviations, ``(*batch, k)``, or ``(*batch, 1)`` if shared; starts at 0.

    Source: the experts of Nguyen, Nguyen, Ho (2023), arXiv 2305.03288, eq. (1).

    Example:
        >>> import torch
        >>> from mixkit.experts.predictors import ConstantPredictor
        >>> experts = GaussianExperts(ConstantPredictor(2, generator=torch.Generator().manual_seed(0)))
        >>> experts(torch.zeros(4, 1)).batch_shape
        torch.Size([4, 2])
    """

    dominating_measure = REAL_LINE
    constant_names = ("log_std",)
    scale_name = "log_std"

    def __init__(
        self,
        predictor: Predictor,
        *,
        shared_std: bool = False,
        batch_shape: tuple[int, ...] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(predictor)
        self.shared_std = shared_std
        size = 1 if shared_std else self.num_experts
        self.log_std = new_constant(predictor, size, batch_shape=batch_shape, dtype=dtype, device=device)

    def forward(self, x: Tensor) -> Normal:
        """Normal distributions of batch shape ``(*batch, n, k)``."""
        return Normal(self.predictor(x), self.log_std.exp().unsqueeze(-2), validate_args=False)

    def log_density(self, y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
        """Elementwise normal log-density at mean ``eta`` and ``log_std``."""
        (log_std,) = constants
        return -_HALF_LOG_TWO_PI - log_std - 0.5 * ((y - eta) * torch.exp(-log_std)).square()

    def density_terms(self, y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
        """Log-density and derivatives in ``(eta, log_std)`` in closed form."""
        (log_std,) = constants
        inverse_std = torch.exp(-log_std)
        standardized = (y - eta) * inverse_std
        square = standardized.square()
        first_eta = standardized * inverse_std
        second_eta = (-inverse_std.square()).expand_as(eta)
        log_prob = (-_HALF_LOG_TWO_PI - log_std) - 0.5 * square
        return DensityTerms(log_prob, [first_eta, square - 1.0], [[second_eta], [-2.0 * first_eta, -2.0 * square]])

    def extra_repr(self) -> str:
        """The setting shown by ``repr``."""
        return f"shared_std={self.shared_std}"


def linear_gaussian_experts(
    num_features: int,
    num_experts: int,
    *,
    shared_std: bool = False,
    pattern: CoefficientPattern | None = None,
    batch_shape: tuple[int, ...] = (),
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> GaussianExperts:
    r"""Gaussian experts with linear means, :math:`N(a_j^\top x + b_j, \sigma_j^2)`.

    Arguments are those of :class:`~mixkit.experts.predictors.LinearPredictor` and of :class:`GaussianExperts`.

    Example:
        >>> import torch
        >>> experts = linear_gaussian_experts(2, 3, generator=torch.Generator().manual_seed(0))
        >>> experts(torch.zeros(4, 2)).mean.shape
        torch.Size([4, 3])
    """
    predictor = LinearPredictor(
        num_features,
        num_experts,
        pattern=pattern,
        batch_shape=batch_shape,
        dtype=dtype,
        device=device,
        generator=generator,
    )
    return GaussianExperts(predictor, shared_std=shared_std)
