"""Beta experts: regressions of shares between zero and one."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from .._validation import can_read_values
from ..distributions.beta import Beta, beta_log_density
from ..distributions.stirling import stirling_slopes
from ..parameters import ParameterRecord, ScalePower
from .base import DensityTerms, OwnConstantsExperts
from .dominating_measure import DominatingMeasure
from .families import family

__all__ = ["BetaExperts"]


@family("beta")
class BetaExperts(OwnConstantsExperts):
    r"""Beta experts with a logit link: mean :math:`\mu_j = 1 / (1 + e^{-\eta_j(x)})`, precision :math:`\phi_j`.

    The variance is :math:`\mu_j (1 - \mu_j) / (1 + \phi_j)`; responses lie strictly between 0 and 1.

    Args:
        predictor: the log-odds of the mean (see :mod:`mixkit.experts.predictors`).
        batch_shape: leading dimensions of independent models; those of the predictor if None.
        dtype: dtype of ``log_scale``; that of the predictor if None.
        device: device of ``log_scale``; that of the predictor if None.

    Attributes:
        log_scale: logarithm of :math:`\phi^{-1/2}`, ``(*batch, k)``; starts at 0. Users read the precision.

    Source: Ferrari and Cribari-Neto (2004), Beta regression for modelling rates and proportions, Journal of Applied
    Statistics 31, 799-815.

    Example:
        >>> import torch
        >>> from mixkit.experts.predictors import LinearPredictor
        >>> experts = BetaExperts(LinearPredictor(1, 2, generator=torch.Generator().manual_seed(0)))
        >>> experts(torch.zeros(4, 1)).batch_shape
        torch.Size([4, 2])
    """

    dominating_measure = DominatingMeasure(interval=(0.0, 1.0))
    constant_names = ("log_scale",)
    floor_name = "log_scale"
    log_scale: nn.Parameter

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """The constant, of which users read the precision."""
        return tuple(replace(r, block="precision", transform=ScalePower(-2.0)) for r in super().parameter_records())

    def forward(self, x: Tensor) -> Beta:
        """Beta distributions of batch shape ``(*batch, n, k)``."""
        return Beta(self.predictor(x), self.log_scale.unsqueeze(-2), validate_args=False)

    def check_response(self, y: Tensor) -> Tensor:
        """Return ``y`` if it lies strictly between 0 and 1, else raise ``ValueError``."""
        bad = (super().check_response(y) <= 0) | (y >= 1)
        if can_read_values(y) and bool(bad.any()):
            raise ValueError(f"y must lie strictly between 0 and 1 for beta experts, got {float(y[bad][0])}")
        return y

    def start_locations(self, y: Tensor) -> list[Tensor]:
        """``logit y``."""
        return [torch.logit(y)]

    def log_density(self, y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
        """Elementwise log-density at the log-odds ``eta`` of the mean and ``log_scale``."""
        return beta_log_density(y, eta, constants[0])

    def density_terms(self, y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
        """Log-density and derivatives in ``(eta, log_scale)`` in closed form.

        The density is that of two sizes, a = mean * precision and b, the rest of the precision: the derivatives in
        their logarithms come first.
        """
        log_scale = constants[0]
        eta, log_scale = torch.broadcast_tensors(eta, log_scale)
        mean, rest = torch.sigmoid(eta), torch.sigmoid(-eta)
        precision = torch.exp(-2.0 * log_scale)
        a, b = mean * precision, rest * precision
        log_ratios = y.log() - logsigmoid(eta), torch.log1p(-y) - logsigmoid(-eta)
        slopes_a, slopes_b, slopes_all = stirling_slopes(a), stirling_slopes(b), stirling_slopes(precision)
        # With L = a log(y / mean) + b log((1 - y) / rest) + ..., the two first parts vanish together in mean.
        first_a = a * log_ratios[0] + 0.5 - slopes_a[0]
        first_b = b * log_ratios[1] + 0.5 - slopes_b[0]
        by_eta = rest * first_a - mean * first_b
        misfit = a * log_ratios[0] + b * log_ratios[1]
        by_log = misfit + 0.5 + slopes_all[0] - slopes_a[0] - slopes_b[0]
        second_eta = (
            -mean * rest * (first_a + first_b)
            + rest * rest * (a * log_ratios[0] - slopes_a[1])
            + mean * mean * (b * log_ratios[1] - slopes_b[1])
            - mean * rest * precision
        )
        mixed = rest * (a * log_ratios[0] - slopes_a[1]) - mean * (b * log_ratios[1] - slopes_b[1])
        second_log = misfit + slopes_all[1] - slopes_a[1] - slopes_b[1]
        return DensityTerms(
            beta_log_density(y, eta, log_scale),
            [by_eta, -2.0 * by_log],
            [[second_eta], [-2.0 * mixed, 4.0 * second_log]],
        )
