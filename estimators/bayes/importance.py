"""Importance weights of an approximation to the posterior: the evidence, and how much the approximation is worth."""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.stats import genpareto
from torch import Tensor

from .labels import Labeling
from .laplace import LaplaceApproximation
from .model import BayesianMixtureOfExperts, over_draws

__all__ = [
    "ImportanceSample",
    "ImportanceWarning",
    "importance_sample",
    "log_target",
    "resample",
    "warn_of_weights",
]

_LEAST_TAIL = 5
_PRIOR_WEIGHTS = 10
_LARGEST_K = 0.7


class ImportanceWarning(UserWarning):
    """Importance weights are not to be trusted: a few hold most of the total, or their variance may be infinite."""


@dataclass(frozen=True, eq=False, repr=False)
class ImportanceSample:
    r"""Draws from q with log-weights :math:`\log w_s = \log p(\theta_s, y) - \log q(\theta_s)`.

    Where k exchangeable experts make k! copies of the posterior, q stands at one of them: draws that belong to another
    have weight zero, and the evidence is k! times that of one copy.

    Attributes:
        draws: parameters by name, ``(s, *shape)``.
        log_weights: ``(s,)``.
        num_copies: k!, or 1.
    """

    draws: Mapping[str, Tensor] = field(repr=False)
    log_weights: Tensor = field(repr=False)
    num_copies: int = 1

    def __repr__(self) -> str:
        """The main figures in a line."""
        figures = f"log_evidence={self.log_evidence:.4f} +- {self.standard_error:.4f}, ess={self.ess:.0f}, "
        figures += f"pareto_k={self.pareto_k:.2f}"
        return f"ImportanceSample({figures} of {len(self.log_weights)})"

    @property
    def weights(self) -> Tensor:
        """Self-normalized weights ``(s,)``; they sum to 1."""
        return torch.softmax(self.log_weights, 0)

    @property
    def log_evidence(self) -> float:
        r"""Estimate :math:`\log \frac1S \sum_s w_s` of :math:`\log p(y)` (unbiased before the logarithm)."""
        mean = torch.logsumexp(self.log_weights, 0) - math.log(len(self.log_weights))
        return float(mean) + math.log(self.num_copies)

    @property
    def standard_error(self) -> float:
        """Of the log-evidence, by the delta method; too small where a few weights hold most of the total."""
        size = len(self.log_weights)
        return math.sqrt(max(size / self.ess - 1.0, 0.0) / (size - 1))

    @property
    def ess(self) -> float:
        r"""Effective sample size :math:`(\sum w_s)^2 / \sum w_s^2`, from 1 to S (Kong 1992)."""
        log_w = self.log_weights
        return float((2.0 * torch.logsumexp(log_w, 0) - torch.logsumexp(2.0 * log_w, 0)).exp())

    @property
    def pareto_k(self) -> float:
        r"""Shape k of the generalized Pareto distribution of the largest weights, not to be trusted above 0.7.

        By maximum likelihood from the largest :math:`\min(S / 5, 3 \sqrt S)` weights less the next one, drawn towards
        1/2 as if by ten more of them; infinite moments of order 1 / k and above. NaN with fewer than 25 weights.

        Source: Vehtari, Simpson, Gelman, Yao, Gabry (2024), Journal of Machine Learning Research 25 (72), section 3.
        """
        size = len(self.log_weights)
        count = int(min(0.2 * size, 3.0 * math.sqrt(size)))
        if count < _LEAST_TAIL:
            return math.nan
        ordered = self.log_weights.sort(descending=True).values
        weights = (ordered[: count + 1] - ordered[0]).exp().numpy(force=True)
        above = weights[:-1] - weights[-1]
        spread = float(above.mean())
        if not spread > 0.0:  # weights are all alike
            return -math.inf
        shape = float(genpareto.fit(above / spread, floc=0.0)[0])
        return (count * shape + 0.5 * _PRIOR_WEIGHTS) / (count + _PRIOR_WEIGHTS)

    def expectation(self, function: Callable[[dict[str, Tensor]], Tensor]) -> tuple[Tensor, Tensor]:
        """Posterior expectation of a function of the parameters by name, and its standard error (self-normalized)."""
        values = over_draws(function, dict(self.draws))
        weights = self.weights.reshape(-1, *(1 for _ in values.shape[1:]))
        mean = (weights * values).sum(0)
        return mean, (weights * (values - mean)).square().sum(0).sqrt()


def log_target(bayes: BayesianMixtureOfExperts, at: LaplaceApproximation, z: Tensor) -> Tensor:
    """Log of prior times likelihood as a density of whitened vectors: ``z (s, P)`` to ``(s,)``; -inf for NaN."""
    with torch.no_grad():
        value = over_draws(bayes.log_density, at.to_vector(z), terms=bayes.n * bayes.model.num_experts)
    return torch.where(value.isnan(), -math.inf, value) + at.log_determinant


def importance_sample(
    bayes: BayesianMixtureOfExperts, at: LaplaceApproximation, labels: Labeling, z: Tensor, log_q: Tensor
) -> ImportanceSample:
    """Weigh draws ``z (s, P)`` of log-density ``log_q (s,)``.

    Raises:
        ValueError: if no draw has a positive weight.
    """
    draws = bayes.parameters(at.to_vector(z))
    log_weights = torch.where(labels.holds(draws), log_target(bayes, at, z) - log_q, -math.inf)
    if not bool(torch.isfinite(log_weights).any()):
        raise ValueError("the approximation misses the posterior: no draw has a positive weight; take more steps")
    return ImportanceSample(draws, log_weights, labels.num_copies)


def warn_of_weights(sample: ImportanceSample) -> None:
    """Warn the caller's caller of weights whose Pareto k is above 0.7."""
    if sample.pareto_k > _LARGEST_K:
        warnings.warn(
            f"importance weights have a Pareto k of {sample.pareto_k:.2f}, above {_LARGEST_K}: evidence, errors and "
            f"draws rest on an effective sample of {sample.ess:.0f}; take more steps, another start, or fit_nuts",
            ImportanceWarning,
            stacklevel=3,
        )


def resample(sample: ImportanceSample, count: int, rng: np.random.Generator) -> dict[str, Tensor]:
    """``count`` draws of equal weight, by systematic resampling, in random order."""
    cumulative = sample.weights.cumsum(0).numpy(force=True)
    points = (rng.uniform() + np.arange(count)) / count
    chosen = np.minimum(np.searchsorted(cumulative / cumulative[-1], points), len(cumulative) - 1)
    rows = torch.as_tensor(rng.permutation(chosen))
    return {name: value[rows.to(value.device)] for name, value in sample.draws.items()}
