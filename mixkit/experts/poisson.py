"""Poisson experts for counts."""

import torch
from torch import Tensor

from ..distributions import Poisson
from ..distributions.stirling import poisson_log_prob
from .base import DensityTerms, LocationExperts, check_counts
from .count_family import CountFamily
from .dominating_measure import COUNTS
from .families import family

__all__ = ["POISSON", "PoissonExperts"]


@family("poisson")
class PoissonExperts(LocationExperts):
    r"""Poisson experts with a log link, :math:`y \mid x, j \sim \mathrm{Poisson}(\exp \eta_j(x))`.

    Args:
        predictor: the logarithm of the rate (see :mod:`mixkit.experts.predictors`).

    Source: Wang, Cockburn, Puterman (1998), Analysis of patent data, JBES 16, 27-41.

    Example:
        >>> import torch
        >>> from mixkit.experts.predictors import LinearPredictor
        >>> experts = PoissonExperts(LinearPredictor(1, 2, generator=torch.Generator().manual_seed(0)))
        >>> experts(torch.zeros(4, 1)).batch_shape
        torch.Size([4, 2])
    """

    dominating_measure = COUNTS

    def forward(self, x: Tensor) -> Poisson:
        """Poisson distributions of batch shape ``(*batch, n, k)``."""
        return _distribution(self.predictor(x))

    def check_response(self, y: Tensor) -> Tensor:
        """Return ``y`` if it holds counts, else raise ``ValueError``."""
        return check_counts(super().check_response(y), "Poisson")

    def start_locations(self, y: Tensor) -> list[Tensor]:
        """``log(y + 1/2)``, finite at 0."""
        return [torch.log(y + 0.5)]

    def log_density(self, y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
        """Elementwise Poisson log-probability at log-rate ``eta``."""
        return _log_prob(y, eta)

    def density_terms(self, y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
        """Log-probability and derivatives in ``eta`` in closed form."""
        return _terms(y, eta)


def _log_prob(y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
    return poisson_log_prob(y, eta, torch.exp(eta))


def _terms(y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
    rate = torch.exp(eta)
    return DensityTerms(poisson_log_prob(y, eta, rate), [y - rate], [[-rate]])


def _distribution(eta: Tensor, *constants: Tensor) -> Poisson:
    return Poisson(log_rate=eta, validate_args=False)


POISSON = CountFamily("Poisson", (), _distribution, _log_prob, _terms)
"""Poisson counts, for experts that treat zeros apart."""
