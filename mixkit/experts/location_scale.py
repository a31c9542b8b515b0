"""Gaussian experts whose spread depends on the covariates, as their mean does."""

import math
from typing import Any

import torch
from torch import Tensor

from .._validation import check_non_negative
from ..distributions import Normal
from .base import DensityTerms, MultiLocationExperts, linear_locations
from .dominating_measure import REAL_LINE
from .families import family
from .predictors import Predictor

__all__ = ["LocationScaleExperts"]

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
_MEAN_LOG_SIZE = -0.635  # of a standard normal variable
_SHARE = 1e-3  # of the standard deviation of the responses


@family("gaussian_location_scale")
class LocationScaleExperts(MultiLocationExperts):
    r"""Gaussian experts with :math:`y \sim N(m_j(x), \sigma_0^2 + e^{2 s_j(x)})`: both locations depend on x.

    Without a least standard deviation :math:`\sigma_0` the log of the standard deviation is linear in x, and the
    likelihood of several experts has no bound: one may run through a few observations, ever closer.

    Args:
        predictor: mean m and logarithm s, built with ``response_dim=2`` (see :mod:`mixkit.experts.predictors`).
        least_std: :math:`\sigma_0`, in the units of y; :func:`~mixkit.experts.family_by_name` takes a thousandth of
            the standard deviation of the responses it is given.

    Raises:
        ValueError: if ``least_std`` is negative or not finite, or the predictor has another ``response_dim``.

    Source: Harvey (1976), Estimating regression models with multiplicative heteroscedasticity, Econometrica 44,
    461-465.

    Example:
        >>> import torch
        >>> from mixkit.experts.predictors import LinearPredictor
        >>> predictor = LinearPredictor(1, 3, response_dim=2, generator=torch.Generator().manual_seed(0))
        >>> LocationScaleExperts(predictor)(torch.zeros(4, 1)).batch_shape
        torch.Size([4, 3])
    """

    dominating_measure = REAL_LINE

    def __init__(self, predictor: Predictor, *, least_std: float = 0.0) -> None:
        super().__init__(predictor, num_locations=2)
        self.least_std = check_non_negative("least_std", least_std)

    @property
    def location_names(self) -> tuple[str, ...]:
        """``mean`` and ``log_std``, as results call them."""
        return ("mean", "log_std")

    @classmethod
    def linear(cls, num_features: int, num_experts: int, **options: Any) -> "LocationScaleExperts":
        """Experts with both locations linear in the covariates (see :meth:`Experts.linear`)."""
        predictor, own = linear_locations(num_features, num_experts, 2, options)
        return cls(predictor, **own)

    @classmethod
    def options_of(cls, response: Tensor) -> dict[str, Any]:
        """A thousandth of the standard deviation as the least one."""
        return {"least_std": _SHARE * float(response.std(correction=0))}

    def forward(self, x: Tensor) -> Normal:
        """Normal distributions of batch shape ``(*batch, n, k)``."""
        mean, log_std = self.locations(x)
        std = log_std.exp() if self.least_std == 0 else torch.hypot(log_std.exp(), log_std.new_tensor(self.least_std))
        return Normal(mean, std, validate_args=False)

    def start_locations(self, y: Tensor) -> list[Tensor]:
        """The response, and the logarithm of its distance from the mean, which is that of a deviation but for noise."""
        distance = (y - y.mean()).abs()
        return [y, torch.where(distance > 0, distance, torch.nan).log() - _MEAN_LOG_SIZE]

    def log_density(self, y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
        """Elementwise log-density at the mean ``eta`` and the logarithm s."""
        variance = self.least_std**2 + torch.exp(2.0 * constants[0])
        return -_HALF_LOG_TWO_PI - 0.5 * variance.log() - 0.5 * (y - eta).square() / variance

    def density_terms(self, y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
        """Log-density and derivatives in ``(mean, s)`` in closed form."""
        growing = torch.exp(2.0 * constants[0])
        variance = self.least_std**2 + growing
        share = growing / variance  # how the logarithm of the variance follows 2 s
        by_mean = (y - eta) / variance
        square = (y - eta) * by_mean
        by_log = share * (square - 1.0)
        second_log = 2.0 * (1.0 - share) * by_log - 2.0 * share.square() * square
        return DensityTerms(
            self.log_density(y, eta, *constants),
            [by_mean, by_log],
            [[-1.0 / variance + torch.zeros_like(y)], [-2.0 * share * by_mean, second_log]],
        )

    def extra_repr(self) -> str:
        """The setting shown by ``repr``."""
        return f"least_std={self.least_std:g}"
