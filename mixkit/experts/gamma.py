"""Gamma experts: regressions of positive responses whose spread grows with their mean."""

import torch
from torch import Tensor

from ..distributions.gamma import Gamma, gamma_log_density
from ..distributions.stirling import stirling_slopes
from .base import DensityTerms
from .dominating_measure import POSITIVE_LINE
from .families import family
from .positive_mean import PositiveMeanExperts

__all__ = ["GammaExperts"]


@family("gamma")
class GammaExperts(PositiveMeanExperts):
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
    title = "gamma"

    def forward(self, x: Tensor) -> Gamma:
        """Gamma distributions of batch shape ``(*batch, n, k)``."""
        return Gamma(self.predictor(x), self.log_scale.unsqueeze(-2), validate_args=False)

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
