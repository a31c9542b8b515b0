"""Experts for positive responses with long tails, with or without zeros among them."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from .._validation import can_read_values
from ..distributions import LogNormal, ZeroInflatedLogNormal
from .base import DensityTerms, MultiLocationExperts, OwnConstantsExperts, linear_locations
from .dominating_measure import POSITIVE_LINE, DominatingMeasure
from .families import family
from .predictors import Predictor

__all__ = ["LogNormalExperts", "ZeroInflatedLogNormalExperts"]

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


@family("log_normal")
class LogNormalExperts(OwnConstantsExperts):
    r"""Log-normal experts, :math:`\log y \sim N(\eta_j(x), s_j^2)`; a response of zero has density zero.

    Args:
        predictor: the mean of log y (see :mod:`mixkit.experts.predictors`).
        batch_shape: leading dimensions of independent models; those of the predictor if None.
        dtype: dtype of ``log_std``; that of the predictor if None.
        device: device of ``log_std``; that of the predictor if None.

    Attributes:
        log_std: logarithm of the standard deviations of log y, ``(*batch, k)``; starts at 0.

    Example:
        >>> import torch
        >>> from mixkit.experts.predictors import ConstantPredictor
        >>> experts = LogNormalExperts(ConstantPredictor(2, generator=torch.Generator().manual_seed(0)))
        >>> experts(torch.zeros(4, 1)).batch_shape
        torch.Size([4, 2])
    """

    dominating_measure = POSITIVE_LINE
    constant_names = ("log_std",)
    floor_name = "log_std"
    log_std: nn.Parameter

    def forward(self, x: Tensor) -> LogNormal:
        """Log-normal distributions of batch shape ``(*batch, n, k)``."""
        return LogNormal(self.predictor(x), self.log_std.exp().unsqueeze(-2), validate_args=False)

    def check_response(self, y: Tensor) -> Tensor:
        """Return ``y`` if it is non-negative, else raise ``ValueError``."""
        return _check_non_negative(super().check_response(y), "log-normal")

    def start_locations(self, y: Tensor) -> list[Tensor]:
        """``log y``; NaN at zeros, which say nothing of it."""
        return [_positive_log(y)]

    def log_density(self, y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
        """Elementwise log-density at mean ``eta`` of log y and ``log_std``; -inf where y is 0."""
        return torch.where(y > 0, _log_normal(y, eta, constants[0]), -torch.inf)

    def density_terms(self, y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
        """Log-density and derivatives in ``(eta, log_std)`` in closed form."""
        value, first, second = _log_normal_terms(y, eta, constants[0])
        return DensityTerms(torch.where(y > 0, value, -torch.inf), first, second)


@family("zero_inflated_log_normal")
class ZeroInflatedLogNormalExperts(MultiLocationExperts):
    r"""Zero with probability :math:`1 - \pi_j(x)`, else log-normal: a distribution of customer lifetime value.

    The predictor gives two locations: the log-odds :math:`\log \frac{\pi_j(x)}{1 - \pi_j(x)}` of a positive response,
    and the mean of its logarithm. The density is taken with respect to Lebesgue measure plus a unit mass at zero,
    :math:`f(y) = (1 - \pi)^{[y = 0]} (\pi \, \mathrm{LogNormal}(y; m, s))^{[y > 0]}`. A gate over several such experts
    selects the distribution for each x, as in OptDist. A zero carries no information about its expert: with several the
    gate and the probabilities of zero are told apart by their forms in x alone, and their standard errors are large; an
    :class:`~mixkit.experts.PointMassExperts` beside log-normal experts has one such probability, the gate's, and no
    such trouble.

    Args:
        predictor: log-odds and mean of the logarithm, built with ``response_dim=2`` (see
            :mod:`mixkit.experts.predictors`).
        batch_shape: leading dimensions of independent models; those of the predictor if None.
        dtype: dtype of ``log_std``; that of the predictor if None.
        device: device of ``log_std``; that of the predictor if None.

    Attributes:
        log_std: logarithm of the standard deviations of log y given y > 0, ``(*batch, k)``; starts at 0.

    Source: Wang, Liu, Miao (2019), arXiv 1912.07753 (there the deviation depends on x too); Weng et al. (2024), arXiv
    2408.08585.

    Example:
        >>> import torch
        >>> from mixkit.experts.predictors import LinearPredictor
        >>> predictor = LinearPredictor(1, 3, response_dim=2, generator=torch.Generator().manual_seed(0))
        >>> ZeroInflatedLogNormalExperts(predictor)(torch.zeros(4, 1)).batch_shape
        torch.Size([4, 3])
    """

    dominating_measure = DominatingMeasure(interval=(0.0, math.inf), values=(0.0,))
    constant_names = ("log_std",)
    floor_name = "log_std"
    log_std: nn.Parameter

    def __init__(
        self,
        predictor: Predictor,
        *,
        batch_shape: tuple[int, ...] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(predictor, num_locations=2)
        self._make_constants(batch_shape=batch_shape, dtype=dtype, device=device)

    @property
    def location_names(self) -> tuple[str, ...]:
        """``logit`` and ``mean``, as results call them."""
        return ("logit", "mean")

    @classmethod
    def linear(cls, num_features: int, num_experts: int, **options: Any) -> "ZeroInflatedLogNormalExperts":
        """Experts with both locations linear in the covariates (see :meth:`Experts.linear`)."""
        predictor, own = linear_locations(num_features, num_experts, 2, options)
        return cls(predictor, **own)

    def forward(self, x: Tensor) -> ZeroInflatedLogNormal:
        """Zero-inflated log-normal distributions of batch shape ``(*batch, n, k)``."""
        logit, mean = self.locations(x)
        return ZeroInflatedLogNormal(logit, mean, self.log_std.exp().unsqueeze(-2), validate_args=False)

    def check_response(self, y: Tensor) -> Tensor:
        """Return ``y`` if it is non-negative, else raise ``ValueError``."""
        return _check_non_negative(super().check_response(y), "zero-inflated log-normal")

    def start_locations(self, y: Tensor) -> list[Tensor]:
        """Plus or minus one by whether y > 0, and ``log y``; NaN at zeros, which say nothing of it."""
        return [torch.where(y > 0, 1.0, -1.0).to(y), _positive_log(y)]

    def log_density(self, y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
        """Elementwise log-density at log-odds ``eta``, the mean of log y and ``log_std``."""
        mean, log_std = constants
        return torch.where(y == 0, logsigmoid(-eta), logsigmoid(eta) + _log_normal(y, mean, log_std))

    def density_terms(self, y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
        """Log-density and derivatives in ``(log-odds, mean, log_std)`` in closed form."""
        mean, log_std = constants
        value, first, second = _log_normal_terms(y, mean, log_std)
        share, is_positive = torch.sigmoid(eta), (y > 0).to(eta.dtype).expand_as(eta)
        zeros = torch.zeros_like(eta)
        return DensityTerms(
            torch.where(y == 0, logsigmoid(-eta), logsigmoid(eta) + value),
            [is_positive - share, *first],
            [[-share * (1.0 - share)], [zeros, second[0][0]], [zeros, *second[1]]],
        )


def _check_non_negative(y: Tensor, family: str) -> Tensor:
    if can_read_values(y) and bool((y < 0).any()):
        raise ValueError(f"y must be non-negative for {family} experts, got {float(y.min())}")
    return y


def _positive_log(y: Tensor) -> Tensor:
    return torch.where(y > 0, torch.where(y > 0, y, 1.0).log(), torch.nan)


def _log_normal(y: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density at y > 0; finite, and of no use, elsewhere."""
    log_y = torch.where(y > 0, y, 1.0).log()
    standardized = (log_y - mean) * torch.exp(-log_std)
    return -_HALF_LOG_TWO_PI - log_std - log_y - 0.5 * standardized.square()


def _log_normal_terms(y: Tensor, mean: Tensor, log_std: Tensor) -> tuple[Tensor, list[Tensor], list[list[Tensor]]]:
    """Log-density at y > 0 and its derivatives in ``(mean, log_std)``, zero elsewhere."""
    mean, log_std = torch.broadcast_tensors(mean, log_std)
    positive = (y > 0).to(mean.dtype).expand_as(mean)
    inverse_std = torch.exp(-log_std)
    standardized = (torch.where(y > 0, y, 1.0).log() - mean) * inverse_std
    square = standardized.square()
    first = positive * standardized * inverse_std
    second = [[-positive * inverse_std.square()], [-2.0 * first, -2.0 * positive * square]]
    return _log_normal(y, mean, log_std), [first, positive * (square - 1.0)], second
