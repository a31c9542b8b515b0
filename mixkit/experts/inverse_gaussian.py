"""Inverse Gaussian experts: positive responses whose variance grows with the cube of their mean."""

import torch
from torch import Tensor

from ..distributions.inverse_gaussian import InverseGaussian, inverse_gaussian_log_density
from .base import DensityTerms
from .dominating_measure import POSITIVE_LINE
from .families import family
from .positive_mean import PositiveMeanExperts

__all__ = ["InverseGaussianExperts"]


@family("inverse_gaussian")
class InverseGaussianExperts(PositiveMeanExperts):
    r"""Inverse Gaussian experts with a log link: mean :math:`\mu_j = \exp \eta_j(x)`, variance :math:`\phi_j \mu_j^3`.

    Users read the dispersion :math:`\phi_j = s_j^2`.

    Args:
        predictor: the logarithm of the mean (see :mod:`mixkit.experts.predictors`).
        batch_shape: leading dimensions of independent models; those of the predictor if None.
        dtype: dtype of ``log_scale``; that of the predictor if None.
        device: device of ``log_scale``; that of the predictor if None.

    Attributes:
        log_scale: logarithm of the roots s of the dispersions, ``(*batch, k)``; starts at 0.

    Source: McCullagh and Nelder (1989), Generalized Linear Models, section 2.2.

    Example:
        >>> import torch
        >>> from mixkit.experts.predictors import LinearPredictor
        >>> experts = InverseGaussianExperts(LinearPredictor(1, 2, generator=torch.Generator().manual_seed(0)))
        >>> experts(torch.zeros(4, 1)).batch_shape
        torch.Size([4, 2])
    """

    dominating_measure = POSITIVE_LINE
    title = "inverse Gaussian"

    def forward(self, x: Tensor) -> InverseGaussian:
        """Inverse Gaussian distributions of batch shape ``(*batch, n, k)``."""
        return InverseGaussian(self.predictor(x), self.log_scale.unsqueeze(-2), validate_args=False)

    def common_scale(self, mean: Tensor, std: Tensor) -> Tensor:
        r"""The unit of s: coefficients of variation are :math:`s \sqrt{\mu}`, and about the deviation of log y."""
        return (std * torch.exp(-0.5 * mean)).reshape(-1)[-1]

    def log_density(self, y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
        """Elementwise log-density at log-mean ``eta`` and ``log_scale``."""
        return inverse_gaussian_log_density(y, eta, constants[0])

    def density_terms(self, y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
        """Log-density and derivatives in ``(eta, log_scale)`` in closed form."""
        log_scale = constants[0]
        excess = torch.expm1(y.log() - eta)
        weight = torch.exp(-eta - 2.0 * log_scale)  # 1 / (phi mu)
        by_eta = excess * weight
        square = (excess * torch.exp(-log_scale - 0.5 * y.log())).square()
        second = -(2.0 * excess + 1.0) * weight
        return DensityTerms(
            self.log_density(y, eta, log_scale), [by_eta, square - 1.0], [[second], [-2.0 * by_eta, -2.0 * square]]
        )
