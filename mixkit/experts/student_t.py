"""Student-t experts: linear regressions that heavy tails do not upset."""

import math

import torch
from torch import Tensor, nn

from .._validation import check_positive
from ..distributions import StudentT
from ..predictors import Predictor
from .base import LocationExperts, broadcast_over_rows

__all__ = ["StudentTExperts"]


class StudentTExperts(LocationExperts):
    r"""Student-t experts, :math:`(y - \eta_j(x)) / s_j \sim t_{\nu_j}`.

    Args:
        predictor: the location (see :mod:`mixkit.predictors`).
        df: initial degrees of freedom, positive.
        batch_shape: leading dimensions of independent models; those of the predictor.
        dtype: dtype of the constants.
        device: device of the constants.

    Attributes:
        log_scale: logarithm of the scales, ``(*batch, k)``; starts at 0.
        log_df: logarithm of the degrees of freedom, ``(*batch, k)``.

    Raises:
        ValueError: if ``df`` is not positive.

    Source: Peel and McLachlan (2000), Robust mixture modelling using the t distribution, Statistics and Computing 10.

    Example:
        >>> import torch
        >>> from mixkit.predictors import ConstantPredictor
        >>> experts = StudentTExperts(ConstantPredictor(2, generator=torch.Generator().manual_seed(0)), df=3.0)
        >>> experts(torch.zeros(4, 1)).batch_shape
        torch.Size([4, 2])
    """

    constant_names = ("log_scale", "log_df")
    scale_name = "log_scale"

    def __init__(
        self,
        predictor: Predictor,
        *,
        df: float = 5.0,
        batch_shape: tuple[int, ...] = (),
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(predictor)
        shape = (*batch_shape, self.num_experts)
        log_df = math.log(float(check_positive("df", df)))
        self.log_scale = nn.Parameter(torch.zeros(shape, dtype=dtype, device=device))
        self.log_df = nn.Parameter(torch.full(shape, log_df, dtype=dtype, device=device))

    def forward(self, x: Tensor) -> StudentT:
        """Student-t laws of batch shape ``(*batch, n, k)``."""
        location = self.predictor(x)
        scale = broadcast_over_rows(self.log_scale.exp(), location)
        return StudentT(broadcast_over_rows(self.log_df.exp(), location), location, scale, validate_args=False)

    def log_density(self, y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
        """Elementwise t log-density at location ``eta``, ``log_scale`` and ``log_df``."""
        log_scale, log_df = constants
        df = torch.exp(log_df)
        half = 0.5 * (df + 1.0)
        constant = torch.lgamma(half) - torch.lgamma(0.5 * df) - 0.5 * (log_df + math.log(math.pi)) - log_scale
        return constant - half * torch.log1p(((y - eta) * torch.exp(-log_scale)).square() / df)
