"""Generalized Gaussian experts: tails from those of Laplace's distribution to the normal one's and lighter."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..distributions.generalized_normal import GeneralizedNormal, generalized_normal_log_density
from ..parameters import DefaultPrior, ParameterRecord
from .base import DensityTerms, OwnConstantsExperts
from .dominating_measure import REAL_LINE
from .families import family

__all__ = ["GeneralizedGaussianExperts"]


@family("generalized_gaussian")
class GeneralizedGaussianExperts(OwnConstantsExperts):
    r"""Experts of density :math:`\frac{b_j}{s_j \Gamma(1 / 2 b_j)} e^{-|z|^{2 b_j}}, z = (y - \eta_j(x)) / s_j`.

    A shape b of 1 is the normal distribution, of standard deviation :math:`s / \sqrt 2`; 1/2 is Laplace's, of heavier
    tails. Below 1 the curvature at an observation that is fitted exactly has no bound, and it is left out there; below
    1/2 every observation may be a maximum. Above 1 tails are lighter, up to a uniform distribution.

    Args:
        predictor: the location (see :mod:`mixkit.experts.predictors`).
        batch_shape: leading dimensions of independent models; those of the predictor if None.
        dtype: dtype of the constants; that of the predictor if None.
        device: device of the constants; that of the predictor if None.

    Attributes:
        log_scale: logarithm of the scales s, ``(*batch, k)``; starts at 0.
        log_shape: logarithm of the shapes b, ``(*batch, k)``; starts at 0.

    Source: Gómez, Gómez-Villegas, Marín (1998), A multivariate generalization of the power exponential family of
    distributions, Communications in Statistics 27, 589-600.

    Example:
        >>> import torch
        >>> from mixkit.experts.predictors import ConstantPredictor
        >>> experts = GeneralizedGaussianExperts(ConstantPredictor(2, generator=torch.Generator().manual_seed(0)))
        >>> experts(torch.zeros(4, 1)).batch_shape
        torch.Size([4, 2])
    """

    dominating_measure = REAL_LINE
    constant_names = ("log_scale", "log_shape")
    scale_name = "log_scale"
    log_scale: nn.Parameter
    log_shape: nn.Parameter

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """The constants, the shape with a prior about the normal one."""
        prior = DefaultPrior()
        return tuple(replace(r, prior=prior) if r.name == "log_shape" else r for r in super().parameter_records())

    def forward(self, x: Tensor) -> GeneralizedNormal:
        """Generalized normal distributions of batch shape ``(*batch, n, k)``."""
        log_scale, shape = self.log_scale.unsqueeze(-2), self.log_shape.exp().unsqueeze(-2)
        return GeneralizedNormal(self.predictor(x), log_scale, 2.0 * shape, validate_args=False)

    def log_density(self, y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
        """Elementwise log-density at location ``eta``, ``log_scale`` and ``log_shape``."""
        return generalized_normal_log_density(y, eta, constants[0], 2.0 * constants[1].exp())

    def density_terms(self, y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
        """Log-density and derivatives in ``(eta, log_scale, log_shape)`` in closed form."""
        log_scale, log_shape = constants
        shape = 2.0 * log_shape.exp()  # the power of the distance
        residual = y - eta
        is_apart = residual != 0
        size = torch.where(is_apart, residual.abs(), 1.0)
        log_size = size.log() - log_scale
        power = torch.where(is_apart, torch.exp(shape * log_size), 0.0)  # |z|^b
        inverse = 1.0 / shape
        digamma, trigamma = torch.digamma(inverse), torch.polygamma(1, inverse)
        per_unit = torch.sign(residual) * power / size  # |z|^(b - 1) sign / s
        by_eta, by_scale = shape * per_unit, shape * power - 1.0
        by_shape = inverse + digamma * inverse.square() - power * log_size
        growth = 1.0 + shape * log_size
        second_shape = (
            -inverse.square() - 2.0 * digamma * inverse**3 - trigamma * inverse**4 - power * log_size.square()
        )
        return DensityTerms(
            self.log_density(y, eta, log_scale, log_shape),
            [by_eta, by_scale, shape * by_shape],
            [
                [-shape * (shape - 1.0) * power / size.square()],
                [-shape * by_eta, -shape.square() * power],
                [
                    shape * per_unit * growth,
                    shape * power * growth,
                    shape * by_shape + shape.square() * second_shape,
                ],
            ],
        )
