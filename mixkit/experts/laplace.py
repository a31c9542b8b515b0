"""Laplace experts: regressions through medians."""

import math

import torch
from torch import Tensor

from ..distributions import Laplace
from .base import DensityTerms, LocationExperts, new_constant
from .dominating_measure import REAL_LINE
from .families import family
from .predictors import Predictor

__all__ = ["LaplaceExperts"]


@family("laplace")
class LaplaceExperts(LocationExperts):
    r"""Laplace experts, density :math:`\frac{1}{2 s_j} \exp(-|y - \eta_j(x)| / s_j)`: the location is the median.

    The log-density has a kink where :math:`\eta = y`; away from it the second derivative in :math:`\eta` is 0, so
    Newton's method does not apply as it stands. How estimators treat it is said at
    :mod:`estimators.objectives.softmax_gate.laplace_experts`.

    Args:
        predictor: the median (see :mod:`mixkit.experts.predictors`).
        shared_scale: whether all experts have one scale.
        batch_shape: leading dimensions of independent models; those of the predictor if None.
        dtype: dtype of ``log_scale``; that of the predictor if None.
        device: device of ``log_scale``; that of the predictor if None.

    Attributes:
        log_scale: logarithm of the scales, ``(*batch, k)``, or ``(*batch, 1)`` if shared; starts at 0.

    Source: Song, Yao, Xing (2014), Robust mixture regression model fitting by Laplace distribution, CSDA 71, 128-137.

    Example:
        >>> import torch
        >>> from mixkit.experts.predictors import ConstantPredictor
        >>> experts = LaplaceExperts(ConstantPredictor(2, generator=torch.Generator().manual_seed(0)))
        >>> experts(torch.zeros(4, 1)).batch_shape
        torch.Size([4, 2])
    """

    dominating_measure = REAL_LINE
    constant_names = ("log_scale",)
    scale_name = "log_scale"

    def __init__(
        self,
        predictor: Predictor,
        *,
        shared_scale: bool = False,
        batch_shape: tuple[int, ...] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(predictor)
        self.shared_scale = shared_scale
        size = 1 if shared_scale else self.num_experts
        self.log_scale = new_constant(predictor, size, batch_shape=batch_shape, dtype=dtype, device=device)

    def forward(self, x: Tensor) -> Laplace:
        """Laplace distributions of batch shape ``(*batch, n, k)``."""
        return Laplace(self.predictor(x), self.log_scale.exp().unsqueeze(-2), validate_args=False)

    def log_density(self, y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
        """Elementwise Laplace log-density at median ``eta`` and ``log_scale``."""
        (log_scale,) = constants
        return -math.log(2.0) - log_scale - ((y - eta) * torch.exp(-log_scale)).abs()

    def density_terms(self, y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
        """Log-density and derivatives in ``(eta, log_scale)``; those at the kink are taken as 0."""
        (log_scale,) = constants
        inverse_scale = torch.exp(-log_scale)
        standardized = (y - eta) * inverse_scale
        distance, side = standardized.abs(), standardized.sign()
        first_eta = side * inverse_scale
        return DensityTerms(
            -math.log(2.0) - log_scale - distance,
            [first_eta, distance - 1.0],
            [[torch.zeros_like(distance)], [-first_eta, -distance]],
        )

    def extra_repr(self) -> str:
        """The setting shown by ``repr``."""
        return f"shared_scale={self.shared_scale}"
