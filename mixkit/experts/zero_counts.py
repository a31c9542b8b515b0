"""Counts with more zeros than their distribution has, with others, or with none: Poisson and negative binomial."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import softplus

from .._validation import can_read_values
from ..distributions.zero_counts import Hurdle, ZeroInflated, ZeroTruncated, log_of_more_than_zero
from .base import DensityTerms, OwnConstantsExperts, check_counts
from .count_family import CountFamily
from .dominating_measure import COUNTS
from .families import family
from .negative_binomial import NEGATIVE_BINOMIAL
from .poisson import POISSON

__all__ = [
    "HurdleNegativeBinomialExperts",
    "HurdlePoissonExperts",
    "TruncatedNegativeBinomialExperts",
    "TruncatedPoissonExperts",
    "ZeroInflatedNegativeBinomialExperts",
    "ZeroInflatedPoissonExperts",
]


class _ChangedCounts(OwnConstantsExperts):
    """Counts of a family whose zeros are treated apart.

    Attributes:
        counts: the family.
    """

    counts: ClassVar[CountFamily]

    def _constants(self) -> list[Tensor]:
        return [getattr(self, name).unsqueeze(-2) for name in self.constant_names]

    def check_response(self, y: Tensor) -> Tensor:
        """Return ``y`` if it holds counts, else raise ``ValueError``."""
        return check_counts(super().check_response(y), self.counts.title)

    def start_locations(self, y: Tensor) -> list[Tensor]:
        """``log(y + 1/2)``; NaN at zeros, which say nothing of it."""
        return [torch.where(y > 0, torch.log(y + 0.5), torch.nan)]


class _TruncatedCounts(_ChangedCounts):
    dominating_measure = COUNTS

    def forward(self, x: Tensor) -> Distribution:
        """Distributions of positive counts, of batch shape ``(*batch, n, k)``."""
        return ZeroTruncated(self.counts.distribution(self.predictor(x), *self._constants()), validate_args=False)

    def check_response(self, y: Tensor) -> Tensor:
        """Return ``y`` if it holds positive counts, else raise ``ValueError``."""
        super().check_response(y)
        if can_read_values(y) and bool((y == 0).any()):
            raise ValueError(f"y must hold positive integers for truncated {self.counts.title} experts, got 0.0")
        return y

    def log_density(self, y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
        """Elementwise log-probability at log-mean ``eta`` of the counts before truncation, and their constants."""
        return _truncated_log_prob(self.counts, y, eta, *constants)

    def density_terms(self, y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
        """Log-probability and derivatives, from those of the counts at y and at zero."""
        return _truncated_terms(self.counts, y, eta, *constants)


class _CountsWithZeros(_ChangedCounts):
    """Zeros of log-odds ``zero_logit``, the last constant, and counts."""

    distribution: ClassVar[Callable[..., Distribution]]

    def forward(self, x: Tensor) -> Distribution:
        """Distributions of counts, of batch shape ``(*batch, n, k)``."""
        *own, logit = self._constants()
        return type(self).distribution(self.counts.distribution(self.predictor(x), *own), logit, validate_args=False)


class _InflatedCounts(_CountsWithZeros):
    dominating_measure = COUNTS
    distribution = ZeroInflated

    def log_density(self, y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
        """Elementwise log-probability at log-mean ``eta``, the counts' constants and the log-odds of extra zeros."""
        *own, logit = constants
        at_y = self.counts.log_prob(y, eta, *own)
        return torch.where(y == 0, torch.logaddexp(logit, at_y), at_y) - softplus(logit)

    def density_terms(self, y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
        """Log-probability and derivatives, from those of the counts.

        Of a zero the counts have a posterior probability c: first derivatives are c times theirs, second ones have
        c (1 - c) times their products besides.
        """
        *own, logit = constants
        at_y = self.counts.terms(y, eta, *own)
        is_zero = (y == 0) & torch.ones_like(at_y.log_prob, dtype=torch.bool)
        share = torch.where(is_zero, torch.sigmoid(at_y.log_prob - logit), 1.0)
        spread, prior = share * (1.0 - share), torch.sigmoid(logit)
        first = [share * slope for slope in at_y.first]
        second = _curved(at_y, share, spread)
        value = torch.where(is_zero, torch.logaddexp(logit.expand_as(at_y.log_prob), at_y.log_prob), at_y.log_prob)
        cross = [-spread * slope for slope in at_y.first]
        return DensityTerms(
            value - softplus(logit),
            [*first, 1.0 - share - prior],
            [*second, [*cross, spread - prior * (1.0 - prior)]],
        )


class _HurdleCounts(_CountsWithZeros):
    dominating_measure = COUNTS
    distribution = Hurdle

    def log_density(self, y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
        """Elementwise log-probability at log-mean ``eta``, the counts' constants and the log-odds of zero."""
        *own, logit = constants
        positive = _truncated_log_prob(self.counts, torch.where(y == 0, 1.0, y), eta, *own)
        return torch.where(y == 0, logit, positive) - softplus(logit)

    def density_terms(self, y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
        """Log-probability and derivatives, from those of positive counts."""
        *own, logit = constants
        positive = _truncated_terms(self.counts, torch.where(y == 0, 1.0, y), eta, *own)
        prior = torch.sigmoid(logit)
        is_zero = (y == 0).to(eta.dtype).expand_as(positive.log_prob)
        rest = 1.0 - is_zero
        flat = torch.zeros_like(positive.log_prob)
        return DensityTerms(
            torch.where(is_zero > 0, logit, positive.log_prob) - softplus(logit),
            [*(rest * slope for slope in positive.first), is_zero - prior],
            [
                *([rest * entry for entry in row] for row in positive.second),
                [*(flat for _ in positive.first), flat - prior * (1.0 - prior)],
            ],
        )


def _truncated_log_prob(counts: CountFamily, y: Tensor, *predictors: Tensor) -> Tensor:
    """Log-probability of counts given that they are positive."""
    log_zero = counts.log_prob(torch.zeros_like(y), *predictors)
    return counts.log_prob(y, *predictors) - log_of_more_than_zero(log_zero)


def _truncated_terms(counts: CountFamily, y: Tensor, *predictors: Tensor) -> DensityTerms:
    """The same with derivatives: those at y less those of ``log(1 - p(0))``."""
    at_y, at_zero = (counts.terms(value, *predictors) for value in (y, torch.zeros_like(y)))
    least = torch.finfo(at_zero.log_prob.dtype).tiny ** 0.45  # of which the inverse has a square
    log_zero = at_zero.log_prob.clamp(max=-least)
    odds = 1.0 / torch.expm1(-log_zero)
    first = [slope + odds * zero for slope, zero in zip(at_y.first, at_zero.first, strict=True)]
    curved = _curved(at_zero, odds, odds * (1.0 + odds))
    second = [[a + b for a, b in zip(row, more, strict=True)] for row, more in zip(at_y.second, curved, strict=True)]
    return DensityTerms(at_y.log_prob - log_of_more_than_zero(at_zero.log_prob), first, second)


def _curved(terms: DensityTerms, slope: Tensor, curvature: Tensor) -> list[list[Tensor]]:
    """Second derivatives of a function of the log-probability with these two derivatives."""
    return [
        [slope * entry + curvature * terms.first[i] * terms.first[j] for j, entry in enumerate(row)]
        for i, row in enumerate(terms.second)
    ]


@family("zero_inflated_poisson")
class ZeroInflatedPoissonExperts(_InflatedCounts):
    r"""Poisson counts with extra zeros: zero with probability :math:`\pi_j`, else of log-mean :math:`\eta_j(x)`.

    A zero carries little information about its expert: one extra share of zeros for all experts is a
    :class:`~mixkit.experts.PointMassExperts` beside them in :class:`~mixkit.experts.MixedExperts`. Where there are
    fewer zeros than the counts' own, :math:`\pi_j` falls to 0 and its log-odds have no standard error.

    Args:
        predictor: the logarithm of the mean of the counts (see :mod:`mixkit.experts.predictors`).
        batch_shape: leading dimensions of independent models; those of the predictor if None.
        dtype: dtype of the constants; that of the predictor if None.
        device: device of the constants; that of the predictor if None.

    Attributes:
        zero_logit: log-odds of :math:`\pi`, ``(*batch, k)``; starts at 0.

    Source: Lambert (1992), Zero-inflated Poisson regression, Technometrics 34, 1-14.

    Example:
        >>> import torch
        >>> from mixkit.experts.predictors import LinearPredictor
        >>> experts = ZeroInflatedPoissonExperts(LinearPredictor(1, 2, generator=torch.Generator().manual_seed(0)))
        >>> experts(torch.zeros(4, 1)).batch_shape
        torch.Size([4, 2])
    """

    counts = POISSON
    constant_names = (*POISSON.constant_names, "zero_logit")


@family("zero_inflated_negative_binomial")
class ZeroInflatedNegativeBinomialExperts(_InflatedCounts):
    r"""Negative binomial counts with extra zeros, as :class:`ZeroInflatedPoissonExperts` has Poisson ones.

    Args and ``zero_logit`` are those of it; ``log_dispersion`` is that of
    :class:`~mixkit.experts.NegativeBinomialExperts`.

    Source: Greene (1994), Accounting for excess zeros and sample selection in Poisson and negative binomial regression
    models, NYU working paper EC-94-10.

    Example:
        >>> from mixkit.experts.predictors import ConstantPredictor
        >>> ZeroInflatedNegativeBinomialExperts(ConstantPredictor(2)).constant_names
        ('log_dispersion', 'zero_logit')
    """

    counts = NEGATIVE_BINOMIAL
    constant_names = (*NEGATIVE_BINOMIAL.constant_names, "zero_logit")


@family("hurdle_poisson")
class HurdlePoissonExperts(_HurdleCounts):
    r"""Zero with probability :math:`\pi_j`, else a positive count: Poisson of log-mean :math:`\eta_j(x)`, given y > 0.

    Args:
        predictor: the logarithm of the mean of the counts before truncation (see :mod:`mixkit.experts.predictors`).
        batch_shape: leading dimensions of independent models; those of the predictor if None.
        dtype: dtype of the constants; that of the predictor if None.
        device: device of the constants; that of the predictor if None.

    Attributes:
        zero_logit: log-odds of :math:`\pi`, ``(*batch, k)``; starts at 0.

    Source: Mullahy (1986), Specification and testing of some modified count data models, Journal of Econometrics 33,
    341-365.

    Example:
        >>> import torch
        >>> from mixkit.experts.predictors import LinearPredictor
        >>> experts = HurdlePoissonExperts(LinearPredictor(1, 2, generator=torch.Generator().manual_seed(0)))
        >>> experts(torch.zeros(4, 1)).batch_shape
        torch.Size([4, 2])
    """

    counts = POISSON
    constant_names = (*POISSON.constant_names, "zero_logit")


@family("hurdle_negative_binomial")
class HurdleNegativeBinomialExperts(_HurdleCounts):
    r"""Zero with probability :math:`\pi_j`, else a positive negative binomial count.

    Arguments and ``zero_logit`` are those of :class:`HurdlePoissonExperts`.

    Example:
        >>> from mixkit.experts.predictors import ConstantPredictor
        >>> HurdleNegativeBinomialExperts(ConstantPredictor(2)).constant_names
        ('log_dispersion', 'zero_logit')
    """

    counts = NEGATIVE_BINOMIAL
    constant_names = (*NEGATIVE_BINOMIAL.constant_names, "zero_logit")


@family("truncated_poisson")
class TruncatedPoissonExperts(_TruncatedCounts):
    r"""Poisson counts of which zeros are not observed: of log-mean :math:`\eta_j(x)` before, given y > 0.

    Args:
        predictor: the logarithm of the mean of the counts before truncation (see :mod:`mixkit.experts.predictors`).
        batch_shape: leading dimensions of independent models; those of the predictor if None.
        dtype: dtype of the constants; that of the predictor if None.
        device: device of the constants; that of the predictor if None.

    Source: Cameron and Trivedi (1998), Regression Analysis of Count Data, section 4.3.

    Example:
        >>> import torch
        >>> from mixkit.experts.predictors import LinearPredictor
        >>> experts = TruncatedPoissonExperts(LinearPredictor(1, 2, generator=torch.Generator().manual_seed(0)))
        >>> experts(torch.zeros(4, 1)).mean.min() > 1
        tensor(True)
    """

    counts = POISSON
    constant_names = POISSON.constant_names


@family("truncated_negative_binomial")
class TruncatedNegativeBinomialExperts(_TruncatedCounts):
    r"""Negative binomial counts of which zeros are not observed (see :class:`TruncatedPoissonExperts`).

    Example:
        >>> from mixkit.experts.predictors import ConstantPredictor
        >>> TruncatedNegativeBinomialExperts(ConstantPredictor(2)).constant_names
        ('log_dispersion',)
    """

    counts = NEGATIVE_BINOMIAL
    constant_names = NEGATIVE_BINOMIAL.constant_names
