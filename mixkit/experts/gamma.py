"""Gamma experts: regressions of positive responses whose spread grows with their mean."""

from dataclasses import replace

import torch
from torch import Tensor

from ..distributions.gamma import Gamma, gamma_log_density
from ..distributions.stirling import stirling_slopes
from ..parameters import ParameterRecord, ScalePower
from .base import DensityTerms, LocationExperts, check_positive_response, new_constant
from .dominating_measure import POSITIVE_LINE
from .families import family
from .predictors import Predictor

__all__ = ["GammaExperts"]


@family("gamma")
class GammaExperts(LocationExperts):
    r"""Gamma experts with a log link: mean :math:`\mu_j = \exp \eta_j(x)`, variance :math:`\phi_j \mu_j^2`.

    Users read the dispersion :math:`\phi_j = s_j^2`, one over the shape of the gamma distribution; s is the coefficient
    of variation.

    Args:
        predictor: the logarithm of the mean (see :mod:`mixkit.experts.predictors`).
        batch_shape: leading dimensions of independent models; those of the predictor if None.
        dtype: dtype of ``log_scale``; that of the predictor if None.
        device: device of ``log_scale``; that of the predictor if None.

    Attributes:
        log_scale: logarithm of the coefficients of variation, ``(*batch, k)``; starts at 0.

    Source: McCullagh and Nelder (1989), Generalized Linear Models, chapter 8.

    Example:
        >>> import torch
        >>> from mixkit.experts.predictors import LinearPredictor
        >>> experts = GammaExperts(LinearPredictor(1, 2, generator=torch.Generator().manual_seed(0)))
        >>> experts(torch.zeros(4, 1)).batch_shape
        torch.Size([4, 2])
    """

    dominating_measure = POSITIVE_LINE
    constant_names = ("log_scale",)
    floor_name = "log_scale"

    def __init__(
        self,
        predictor: Predictor,
        *,
        batch_shape: tuple[int, ...] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(predictor)
        k = self.num_experts
        self.log_scale = new_constant(predictor, k, batch_shape=batch_shape, dtype=dtype, device=device)

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """The constant, of which users read the square."""
        return tuple(replace(r, block="dispersion", transform=ScalePower(2.0)) for r in super().parameter_records())

    def forward(self, x: Tensor) -> Gamma:
        """Gamma distributions of batch shape ``(*batch, n, k)``."""
        return Gamma(self.predictor(x), self.log_scale.unsqueeze(-2), validate_args=False)

    def check_response(self, y: Tensor) -> Tensor:
        """Return ``y`` if it is positive, else raise ``ValueError``."""
        return check_positive_response(super().check_response(y), "gamma")

    def start_locations(self, y: Tensor) -> list[Tensor]:
        """``log y``."""
        return [torch.log(y)]

    def log_density(self, y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
        """Elementwise log-density at log-mean ``eta`` and ``log_scale``."""
        return gamma_log_density(y, eta, constants[0])

    def density_terms(self, y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
        """Log-density and derivatives in ``(eta, log_scale)`` in closed form."""
        log_scale = constants[0]
        shape, log_value = torch.exp(-2.0 * log_scale), y.log()
        log_ratio = log_value - eta
        excess = torch.expm1(log_ratio)
        first, second = stirling_slopes(shape)
        misfit = shape * (excess - log_ratio)
        by_eta = shape * excess
        value = self.log_density(y, eta, log_scale)
        by_scale = 2.0 * (misfit + first) - 1.0
        return DensityTerms(value, [by_eta, by_scale], [[-by_eta - shape], [-2.0 * by_eta, -4.0 * (misfit + second)]])
