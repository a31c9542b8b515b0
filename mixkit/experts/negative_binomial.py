"""Negative binomial experts for counts that vary more than Poisson ones."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..distributions import NegativeBinomial, negative_binomial_log_prob
from ..distributions.negative_binomial import log1p_ratio
from .base import DensityTerms, LocationExperts, check_counts, new_constant
from .count_family import CountFamily
from .dominating_measure import COUNTS
from .families import family
from .predictors import Predictor

__all__ = ["NEGATIVE_BINOMIAL", "NegativeBinomialExperts"]


@family("negative_binomial")
class NegativeBinomialExperts(LocationExperts):
    r"""Negative binomial experts: mean :math:`\mu_j = \exp \eta_j(x)`, variance :math:`\mu_j + \alpha_j \mu_j^2`.

    The Poisson distribution is the limit :math:`\alpha_j \to 0`. Where counts vary no more than Poisson ones, the
    likelihood rises towards that limit: the fit ends where one more Newton step gains less than the tolerance, with a
    dispersion near zero that has no standard error.

    Args:
        predictor: the logarithm of the mean (see :mod:`mixkit.experts.predictors`).
        shared_dispersion: whether all experts have one dispersion.
        batch_shape: leading dimensions of independent models; those of the predictor if None.
        dtype: dtype of ``log_dispersion``; that of the predictor if None.
        device: device of ``log_dispersion``; that of the predictor if None.

    Attributes:
        log_dispersion: logarithm of :math:`\alpha`, ``(*batch, k)``, or ``(*batch, 1)`` if shared; starts at 0.

    Source: Cameron and Trivedi (1998), Regression Analysis of Count Data, section 3.3 (the distribution known as NB2).

    Example:
        >>> import torch
        >>> from mixkit.experts.predictors import LinearPredictor
        >>> experts = NegativeBinomialExperts(LinearPredictor(1, 2, generator=torch.Generator().manual_seed(0)))
        >>> experts(torch.zeros(4, 1)).batch_shape
        torch.Size([4, 2])
    """

    dominating_measure = COUNTS
    constant_names = ("log_dispersion",)

    def __init__(
        self,
        predictor: Predictor,
        *,
        shared_dispersion: bool = False,
        batch_shape: tuple[int, ...] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(predictor)
        self.shared_dispersion = shared_dispersion
        size = 1 if shared_dispersion else self.num_experts
        self.log_dispersion = new_constant(predictor, size, batch_shape=batch_shape, dtype=dtype, device=device)

    def forward(self, x: Tensor) -> NegativeBinomial:
        """Negative binomial distributions of batch shape ``(*batch, n, k)``."""
        return NegativeBinomial(self.predictor(x), self.log_dispersion.unsqueeze(-2), validate_args=False)

    def check_response(self, y: Tensor) -> Tensor:
        """Return ``y`` if it holds counts, else raise ``ValueError``."""
        return check_counts(super().check_response(y), "negative binomial")

    def start_locations(self, y: Tensor) -> list[Tensor]:
        """``log(y + 1/2)``, finite at 0."""
        return [torch.log(y + 0.5)]

    def log_density(self, y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
        """Elementwise log-probability at log-mean ``eta`` and ``log_dispersion``."""
        return negative_binomial_log_prob(y, eta, constants[0])

    def density_terms(self, y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
        """Log-probability and derivatives in ``(eta, log_dispersion)``.

        Those in ``eta`` are rational in the mean; of the rest only the gamma functions, which depend on y and the
        dispersion alone, are left to autograd.
        """
        return _terms(y, eta, constants[0])

    def extra_repr(self) -> str:
        """The setting shown by ``repr``."""
        return f"shared_dispersion={self.shared_dispersion}"


def _terms(y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
    eta, log_dispersion = torch.broadcast_tensors(eta, constants[0])
    mean, share = eta.exp(), torch.sigmoid(eta + log_dispersion)
    first_eta = (1.0 - share) * (y - mean)
    mixed = -share * first_eta
    value, first, second = _dispersion_terms(y, eta, log_dispersion, mean, share)
    return DensityTerms(value, [first_eta, first], [[mixed - (1.0 - share) * mean], [mixed, second]])


def _dispersion_terms(
    y: Tensor, eta: Tensor, log_dispersion: Tensor, mean: Tensor, share: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability, and its first two derivatives in ``log_dispersion``."""
    flat = torch.zeros_like(eta)
    with torch.enable_grad():
        leaf = log_dispersion.detach().clone().requires_grad_()
        rising = negative_binomial_log_prob(y, flat - 800.0, leaf)
        (first,) = torch.autograd.grad(rising.sum(), leaf, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), leaf)
    excess = _excess(eta, log_dispersion, mean, share)
    value = negative_binomial_log_prob(y, eta, log_dispersion)
    return (
        value,
        first.detach() - y * share + excess,
        second - y * share * (1.0 - share) - excess + mean * share * (1.0 - share),
    )


def _excess(eta: Tensor, log_dispersion: Tensor, mean: Tensor, share: Tensor) -> Tensor:
    """``r (log(1 + m) - m / (1 + m))`` with m = mu / r; ``mu m / 2`` where m vanishes."""
    log_odds = eta + log_dispersion
    small = log_odds < -2.0
    near = mean * (share + log1p_ratio(torch.exp(torch.where(small, log_odds, 0.0))))
    far = torch.exp(torch.where(small, 0.0, -log_dispersion)) * (softplus(log_odds, threshold=50.0) - share)
    return torch.where(small, near, far)


def _distribution(eta: Tensor, *constants: Tensor) -> NegativeBinomial:
    return NegativeBinomial(eta, constants[0], validate_args=False)


NEGATIVE_BINOMIAL = CountFamily(
    "negative binomial", ("log_dispersion",), _distribution, negative_binomial_log_prob, _terms
)
"""Negative binomial counts, for experts that treat zeros apart."""
