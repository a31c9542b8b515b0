"""Student-t experts: linear regressions that heavy tails do not upset."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from .._validation import check_positive
from ..distributions import StudentT, log1p_square, student_t_log_density, student_t_log_normalizer
from ..parameters import DefaultPrior, ParameterRecord
from .base import DensityTerms, LocationExperts, new_constant
from .dominating_measure import REAL_LINE
from .families import family
from .predictors import Predictor

__all__ = ["StudentTExperts"]


@family("student_t")
class StudentTExperts(LocationExperts):
    r"""Student-t experts, :math:`(y - \eta_j(x)) / s_j \sim t_{\nu_j}`.

    Args:
        predictor: the location (see :mod:`mixkit.experts.predictors`).
        df: initial degrees of freedom, positive.
        batch_shape: leading dimensions of independent models; those of the predictor if None.
        dtype: dtype of the constants; that of the predictor if None.
        device: device of the constants; that of the predictor if None.

    Attributes:
        log_scale: logarithm of the scales, ``(*batch, k)``; starts at 0.
        log_df: logarithm of the degrees of freedom, ``(*batch, k)``.

    Raises:
        ValueError: if ``df`` is not positive.

    Source: Peel and McLachlan (2000), Robust mixture modeling using the t distribution, Statistics and Computing 10.

    Example:
        >>> import torch
        >>> from mixkit.experts.predictors import ConstantPredictor
        >>> experts = StudentTExperts(ConstantPredictor(2, generator=torch.Generator().manual_seed(0)), df=3.0)
        >>> experts(torch.zeros(4, 1)).batch_shape
        torch.Size([4, 2])
    """

    dominating_measure = REAL_LINE
    constant_names = ("log_scale", "log_df")
    scale_name = "log_scale"

    def __init__(
        self,
        predictor: Predictor,
        *,
        df: float = 5.0,
        batch_shape: tuple[int, ...] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(predictor)
        k, log_df = self.num_experts, math.log(float(check_positive("df", df)))
        self.log_scale = new_constant(predictor, k, batch_shape=batch_shape, dtype=dtype, device=device)
        self.log_df = new_constant(predictor, k, log_df, batch_shape=batch_shape, dtype=dtype, device=device)

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """The constants, the degrees of freedom with a prior of their own."""
        prior = DefaultPrior(math.log(15.0), 1.0)
        return tuple(replace(r, prior=prior) if r.name == "log_df" else r for r in super().parameter_records())

    def forward(self, x: Tensor) -> StudentT:
        """Student-t distributions of batch shape ``(*batch, n, k)``."""
        df, scale = self.log_df.exp().unsqueeze(-2), self.log_scale.exp().unsqueeze(-2)
        return StudentT(df, self.predictor(x), scale, validate_args=False)

    def log_density(self, y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
        """Elementwise t log-density at location ``eta``, ``log_scale`` and ``log_df``."""
        log_scale, log_df = constants
        return student_t_log_density((y - eta) * torch.exp(-log_scale), log_df) - log_scale

    def density_terms(self, y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
        """Log-density and derivatives in ``(eta, log_scale, log_df)`` in closed form.

        With z the standardized residual and q = z^2 / (df + z^2), all are polynomials in q but for one logarithm.
        """
        log_scale, log_df = constants
        df, inverse_scale = torch.exp(log_df), torch.exp(-log_scale)
        scaled = (y - eta) * inverse_scale * torch.exp(-0.5 * log_df)
        q = _share(scaled)
        normalizer, slope, curvature = _normalizer_terms(log_df)
        half_log = 0.5 * log1p_square(scaled)
        by_scale = (df + 1.0) * q - 1.0
        by_eta = (df + 1.0) * inverse_scale * torch.exp(-0.5 * log_df) * _ratio(scaled)
        by_df = slope + 0.5 * (df + 1.0) * q - df * half_log
        second_eta = -(df + 1.0) / df * inverse_scale.square() * (1.0 - q) * (1.0 - 2.0 * q)
        eta_scale = -2.0 * (1.0 - q) * by_eta
        second_scale = -2.0 * (df + 1.0) * q * (1.0 - q)
        second_df = curvature + df * (q - half_log) - 0.5 * (df + 1.0) * q * (1.0 - q)
        return DensityTerms(
            normalizer - log_scale - (df + 1.0) * half_log,
            [by_eta, by_scale, by_df],
            [[second_eta], [eta_scale, second_scale], [by_eta * by_scale / (df + 1.0), q * by_scale, second_df]],
        )


def _ratio(scaled: Tensor) -> Tensor:
    """``u / (1 + u^2)``, right where the square overflows."""
    return 1.0 / (torch.where(scaled == 0, torch.inf, 1.0 / scaled) + scaled)


def _share(scaled: Tensor) -> Tensor:
    """``u^2 / (1 + u^2)``, right where the square overflows."""
    return scaled * _ratio(scaled)


def _normalizer_terms(log_df: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The normalizer of the t distribution and its first and second derivative in ``log_df``."""
    with torch.enable_grad():
        leaf = log_df.detach().requires_grad_()
        value = student_t_log_normalizer(leaf)
        (first,) = torch.autograd.grad(value.sum(), leaf, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), leaf)
    return value.detach(), first.detach(), second
