"""Ordinal experts: cumulative logit regressions of ordered levels."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from .._validation import can_read_values, check_integer
from ..distributions import Categorical
from ..parameters import DefaultPrior, ParameterRecord
from .base import DensityTerms, LocationExperts
from .dominating_measure import COUNTS
from .families import family
from .predictors import Predictor

__all__ = ["OrdinalExperts"]


@family("ordinal")
class OrdinalExperts(LocationExperts):
    r"""Cumulative logit experts of ordered levels :math:`0, \dots, C - 1`, the proportional-odds model.

    .. math:: P(y \le c \mid x, j) = \frac{1}{1 + e^{\eta_j(x) - \tau_{jc}}}, \qquad
        0 = \tau_{j0} < \tau_{j1} < \dots < \tau_{j, C - 2}.

    The lowest threshold is 0, as the location has an intercept; in the parametrization without one, that of ``polr``
    in R and of statsmodels, thresholds are :meth:`thresholds`. Higher locations mean higher levels. Two levels are a
    logistic regression.

    Args:
        predictor: the location (see :mod:`mixkit.experts.predictors`).
        num_levels: number C of levels.
        batch_shape: leading dimensions of independent models; those of the predictor if None.
        dtype: dtype of the gaps; that of the predictor if None.
        device: device of the gaps; that of the predictor if None.

    Attributes:
        log_gap_1, log_gap_2, ...: logarithms of the distances :math:`\tau_{jc} - \tau_{j, c - 1}` for c = 1, 2, ...,
            ``(*batch, k)`` each; they start at 0.

    Raises:
        TypeError: if ``num_levels`` is no integer.
        ValueError: if it is below 2.

    Source: McCullagh (1980), Regression models for ordinal data, JRSS B 42, 109-142.

    Example:
        >>> import torch
        >>> from mixkit.experts.predictors import ConstantPredictor
        >>> experts = OrdinalExperts(ConstantPredictor(2, generator=torch.Generator().manual_seed(0)), num_levels=4)
        >>> experts(torch.zeros(5, 1)).logits.shape, experts.constant_names
        (torch.Size([5, 2, 4]), ('log_gap_1', 'log_gap_2'))
    """

    dominating_measure = COUNTS
    needed_options = ("num_levels",)

    def __init__(
        self,
        predictor: Predictor,
        num_levels: int,
        *,
        batch_shape: tuple[int, ...] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(predictor)
        self.num_levels = check_integer("num_levels", num_levels, low=2)
        self.constant_names = tuple(f"log_gap_{level}" for level in range(1, self.num_levels - 1))
        self._make_constants(batch_shape=batch_shape, dtype=dtype, device=device)

    @classmethod
    def options_of(cls, response: Tensor) -> dict[str, Any]:
        """One level more than the largest response, two at least."""
        return {"num_levels": max(2, int(response.max()) + 1)}

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """The gaps, with a prior about one."""
        return tuple(replace(record, prior=DefaultPrior()) for record in super().parameter_records())

    def _gaps(self) -> list[Tensor]:
        return [getattr(self, name) for name in self.constant_names]

    def thresholds(self) -> Tensor:
        """Thresholds of a location without intercept, ``(*batch, k, C - 1)``, increasing.

        Raises:
            TypeError: if the predictor has no intercept.
        """
        intercept = getattr(self.predictor, "intercept", None)
        if not isinstance(intercept, nn.Parameter):
            raise TypeError(f"predictor must have an intercept, got {type(self.predictor).__name__}")
        return torch.stack([cut - intercept for cut in _cuts(self._gaps(), torch.zeros_like(intercept))], -1)

    def forward(self, x: Tensor) -> Categorical:
        """Distributions of levels, batch shape ``(*batch, n, k)``."""
        eta = self.predictor(x)
        cuts = torch.stack(_cuts([gap.unsqueeze(-2) for gap in self._gaps()], torch.zeros_like(eta)), -1)
        upper = cuts - eta.unsqueeze(-1)
        inner = []
        for level, log_gap in enumerate(self._gaps(), 1):
            inner.append(_between(upper[..., level], upper[..., level - 1], log_gap.exp().unsqueeze(-2)).unsqueeze(-1))
        log_probs = [-softplus(-upper[..., :1]), *inner, -softplus(upper[..., -1:])]
        return Categorical(torch.cat(log_probs, -1), validate_args=False)

    def check_response(self, y: Tensor) -> Tensor:
        """Return ``y`` if it holds levels, else raise ``ValueError``."""
        bad = (super().check_response(y) < 0) | (y >= self.num_levels) | (y != y.floor())
        if can_read_values(y) and bool(bad.any()):
            raise ValueError(
                f"y must hold levels 0, ..., {self.num_levels - 1} in their order for ordinal experts, "
                f"got {float(y[bad][0])}"
            )
        return y

    def start_locations(self, y: Tensor) -> list[Tensor]:
        """The log-odds of the levels below to those above, each level halved."""
        return [torch.log(y + 0.5) - torch.log(self.num_levels - 0.5 - y)]

    def log_density(self, y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
        """Elementwise log-probability of the levels ``y`` at locations ``eta`` and logarithms of the gaps."""
        upper, lower, width = self._interval(y, eta, constants)
        is_lowest, is_highest = y <= 0, y >= self.num_levels - 1
        inner = _between(upper, lower, width)
        return torch.where(is_lowest, -softplus(-upper), torch.where(is_highest, -softplus(lower), inner))

    def _interval(self, y: Tensor, eta: Tensor, constants: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Upper and lower threshold of each response less its location, and their distance; at the ends any."""
        zero = torch.zeros_like(eta)
        cuts = _cuts(list(constants), zero)
        upper, lower, width = cuts[0] + zero * y, cuts[-1] + zero * y, torch.ones_like(zero * y)
        for level, log_gap in enumerate(constants, 1):
            upper = torch.where(y == level, cuts[level], upper)
            lower = torch.where(y == level, cuts[level - 1], lower)
            width = torch.where(y == level, log_gap.exp(), width)
        return upper - eta, lower - eta, width

    def density_terms(self, y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
        """Log-probability and derivatives in ``(eta, *log_gaps)`` in closed form.

        They follow from those in the two thresholds, each the location's negative plus the gaps below it.
        """
        eta = eta + torch.zeros_like(y)
        upper, lower, width = self._interval(y, eta, constants)
        has_upper, has_lower = y < self.num_levels - 1, y > 0
        is_inner = has_upper & has_lower
        odds = torch.where(is_inner, 1.0 / torch.expm1(width), 0.0)
        by_upper = torch.where(has_upper, torch.sigmoid(-upper) + odds, 0.0)
        by_lower = torch.where(has_lower, -torch.sigmoid(lower) - odds, 0.0)
        cross = odds * (1.0 + odds)
        twice_upper = torch.where(has_upper, -torch.sigmoid(upper) * torch.sigmoid(-upper) - cross, 0.0)
        twice_lower = torch.where(has_lower, -torch.sigmoid(lower) * torch.sigmoid(-lower) - cross, 0.0)
        # How both thresholds move with each argument: all with the location, those above it with a gap.
        moves = [(-torch.ones_like(eta), -torch.ones_like(eta))]
        moves += [
            (gap * (y >= level).to(eta.dtype), gap * (y >= level + 1).to(eta.dtype))
            for level, gap in enumerate((constant.exp() for constant in constants), 1)
        ]
        first = [up * by_upper + low * by_lower for up, low in moves]
        second = []
        for i, (up, low) in enumerate(moves):
            row = [
                up * other_up * twice_upper + low * other_low * twice_lower + (up * other_low + low * other_up) * cross
                for other_up, other_low in moves[: i + 1]
            ]
            row[-1] = row[-1] + (first[i] if i else 0.0)
            second.append(row)
        return DensityTerms(self.log_density(y, eta, *constants), first, second)

    def extra_repr(self) -> str:
        """The setting shown by ``repr``."""
        return f"num_levels={self.num_levels}"


def _cuts(log_gaps: list[Tensor], zero: Tensor) -> list[Tensor]:
    """Thresholds from the lowest, zero, on."""
    cuts = [zero]
    for log_gap in log_gaps:
        cuts.append(cuts[-1] + log_gap.exp())
    return cuts


def _between(upper: Tensor, lower: Tensor, width: Tensor) -> Tensor:
    """``log(sigmoid(u) - sigmoid(l))`` from u - l too, without cancellation."""
    return -softplus(-upper) - softplus(lower) + torch.log(-torch.expm1(-width))
