"""The contract table: every family of experts, on D covariates and K experts, beside its law in SciPy.

A new family adds one line to ``FAMILIES`` and is then held to every contract in ``test_experts.py``.
"""

import itertools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from scipy import special, stats
from torch import Tensor, nn

from mixkit.distributions import Normal
from mixkit.experts import (
    BetaExperts,
    BinomialExperts,
    CategoricalExperts,
    DiagonalCovariance,
    Experts,
    FullCovariance,
    GammaExperts,
    GaussianExperts,
    GeneralizedGaussianExperts,
    HurdleNegativeBinomialExperts,
    HurdlePoissonExperts,
    InverseGaussianExperts,
    LaplaceExperts,
    LocationExperts,
    LocationScaleExperts,
    LogNormalExperts,
    MultivariateGaussianExperts,
    NegativeBinomialExperts,
    OrdinalExperts,
    PoissonExperts,
    SphericalCovariance,
    StudentTExperts,
    TruncatedNegativeBinomialExperts,
    TruncatedPoissonExperts,
    ZeroInflatedLogNormalExperts,
    ZeroInflatedNegativeBinomialExperts,
    ZeroInflatedPoissonExperts,
    linear_gaussian_experts,
)
from mixkit.experts.predictors import ConstantPredictor, LinearPredictor, ModulePredictor
from mixkit.gates import topk_gate
from mixkit.mixture import MixtureOfExperts
from tests.mixkit.gate_table import Build, D, build, normal, seeded

K, P = 3, 2


class Family(NamedTuple):
    make: Build  # takes batch_shape, dtype
    reference: Callable[[Experts, np.ndarray, int], Any]  # SciPy's frozen law of expert j at location eta
    has_atom: bool = False  # whether a continuous law puts a mass at zero


class LogisticExperts(LocationExperts):
    """A family as a user would write it: the law and its log-density, nothing in closed form."""

    constant_names = ("log_scale",)

    def __init__(self, predictor, batch_shape=(), dtype=None):
        super().__init__(predictor)
        self.log_scale = nn.Parameter(torch.zeros((*batch_shape, self.num_experts), dtype=dtype))

    def forward(self, x):
        return Logistic(self.predictor(x), self.log_scale.exp().unsqueeze(-2))

    def log_density(self, y, eta, *constants):
        z = (y - eta) / constants[0].exp()
        return -z - constants[0] - 2 * nn.functional.softplus(-z)


class Logistic(torch.distributions.Distribution):
    """A law that torch does not have, with what a mixture needs of one."""

    arg_constraints: ClassVar = {}
    support = torch.distributions.constraints.real

    def __init__(self, loc, scale):
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        super().__init__(self.loc.shape, validate_args=False)

    def expand(self, batch_shape, _instance=None):
        return Logistic(self.loc.expand(batch_shape), self.scale.expand(batch_shape))

    @property
    def mean(self):
        return self.loc

    @property
    def variance(self):
        return (self.scale * torch.pi).square() / 3

    def log_prob(self, value):
        z = (value - self.loc) / self.scale
        return -z - self.scale.log() - 2 * nn.functional.softplus(-z)

    def cdf(self, value):
        return torch.sigmoid((value - self.loc) / self.scale)

    def icdf(self, value):
        return self.loc + self.scale * torch.logit(value)

    def sample(self, sample_shape=()):
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.icdf(torch.rand(shape, dtype=self.loc.dtype)).detach()


def _linear(response_dim=None, **o):
    return LinearPredictor(D, K, response_dim=response_dim, generator=seeded(), **o)


def _network(response_dim=None, dtype=None, **_):
    size = K * (response_dim or 1)
    shape = (K,) if response_dim is None else (K, response_dim)
    with torch.random.fork_rng(devices=[]):
        layers = nn.Linear(D, 4, dtype=dtype), nn.Tanh(), nn.Linear(4, size, dtype=dtype), nn.Unflatten(-1, shape)
    return ModulePredictor(nn.Sequential(*layers), K, response_dim=response_dim)


def _constant(response_dim=None, **o):
    return ConstantPredictor(K, response_dim=response_dim, generator=seeded(), **o)


def _vector(predictor, kind, shared):
    def make(**o):
        return MultivariateGaussianExperts(predictor(response_dim=P, **o), kind(K, P, shared=shared, **o))

    return make


def _constant_of(experts, name, j):
    values = np.exp(getattr(experts, name).detach().numpy())
    return values[j % len(values)]


def _normal(experts, eta, j):
    return stats.norm(eta, _constant_of(experts, "log_std", j))


def _generalized_gaussian(experts, eta, j):
    shape = 2.0 * _constant_of(experts, "log_shape", j)
    return stats.gennorm(shape, eta, _constant_of(experts, "log_scale", j))


def _location_scale(experts, eta, j):
    return stats.norm(eta[0], np.hypot(experts.least_std, np.exp(eta[1])))


def _student_t(experts, eta, j):
    return stats.t(_constant_of(experts, "log_df", j), eta, _constant_of(experts, "log_scale", j))


def _laplace(experts, eta, j):
    return stats.laplace(eta, _constant_of(experts, "log_scale", j))


def _vector_normal(experts, eta, j):
    tril = experts.covariance.scale_tril().detach().numpy()
    tril = tril[j % len(tril)]
    return stats.multivariate_normal(eta, tril @ tril.T)


def _binomial(experts, eta, j):
    return stats.binom(experts.trials, special.expit(eta))


def _gamma(experts, eta, j):
    scale = _constant_of(experts, "log_scale", j)
    return stats.gamma(scale**-2, scale=np.exp(eta) * scale**2)


def _inverse_gaussian(experts, eta, j):
    dispersion = _constant_of(experts, "log_scale", j) ** 2
    return stats.invgauss(np.exp(eta) * dispersion, scale=1.0 / dispersion)


def _beta(experts, eta, j):
    precision = _constant_of(experts, "log_scale", j) ** -2
    return stats.beta(precision * special.expit(eta), precision * special.expit(-eta))


def _ordinal(experts, eta, j):
    gaps = [_constant_of(experts, name, j) for name in experts.constant_names]
    below = special.expit(np.cumsum([0.0, *gaps]) - eta)
    return stats.rv_discrete(values=(np.arange(len(below) + 1), np.diff([0.0, *below, 1.0])))


def _negative_binomial(experts, eta, j):
    size = 1.0 / _constant_of(experts, "log_dispersion", j)
    return stats.nbinom(size, size / (size + np.exp(eta)))


def _log_normal(experts, eta, j):
    return stats.lognorm(_constant_of(experts, "log_std", j), scale=np.exp(eta))


def _categorical(experts, eta, j):
    return stats.rv_discrete(values=(np.arange(len(eta) + 1), special.softmax(np.append(eta, 0.0))))


class ZeroInflated:
    """A law of zeros and positive values, written out over SciPy's of the positive part."""

    def __init__(self, share, positive):
        self.share, self.positive = share, positive

    def logpdf(self, y):
        return np.log1p(-self.share) if y == 0 else np.log(self.share) + self.positive.logpdf(y)

    def cdf(self, y):
        return (y >= 0) * (1.0 - self.share) + self.share * self.positive.cdf(y)


class ChangedCounts:
    """A law of counts with a given probability of zero, written out over SciPy's: pi, or pi + (1 - pi) p(0)."""

    def __init__(self, counts, zero, is_inflated):
        self.counts, self.zero = counts, zero + (1.0 - zero) * counts.pmf(0) * is_inflated
        self.factor = (1.0 - zero) / (1.0 if is_inflated else counts.sf(0))

    def logpmf(self, y):
        return np.log(self.zero) if y == 0 else np.log(self.factor) + self.counts.logpmf(y)

    def cdf(self, y):
        return (y >= 0) * (self.zero + self.factor * self.counts.pmf(np.arange(1, y + 1)).sum())


def _changed(counts, is_inflated=False, has_zeros=True):
    def reference(experts, eta, j):
        zero = special.expit(experts.zero_logit[j].item()) if has_zeros else 0.0
        return ChangedCounts(counts(experts, eta, j), zero, is_inflated)

    return reference


def _poisson(experts, eta, j):
    return stats.poisson(np.exp(eta))


def _zero_inflated(experts, eta, j):
    return ZeroInflated(special.expit(eta[0]), _log_normal(experts, eta[1], j))


SCALAR: dict[str, Family] = {
    "gaussian": Family(lambda **o: linear_gaussian_experts(D, K, generator=seeded(), **o), _normal),
    "gaussian-shared-std": Family(
        lambda **o: linear_gaussian_experts(D, K, shared_std=True, generator=seeded(), **o), _normal
    ),
    "gaussian-constant-mean": Family(lambda **o: GaussianExperts(_constant(**o), **o), _normal),
    "gaussian-network-mean": Family(lambda **o: GaussianExperts(_network(**o), **o), _normal),
    "generalized-gaussian": Family(lambda **o: GeneralizedGaussianExperts(_linear(**o), **o), _generalized_gaussian),
    "location-scale": Family(lambda **o: LocationScaleExperts(_linear(2, **o)), _location_scale),
    "location-scale-least": Family(lambda **o: LocationScaleExperts(_network(2, **o), least_std=0.5), _location_scale),
    "student-t": Family(lambda **o: StudentTExperts(_linear(**o), **o), _student_t),
    "student-t-network": Family(lambda **o: StudentTExperts(_network(**o), **o), _student_t),
    "logistic-of-a-user": Family(
        lambda **o: LogisticExperts(_linear(**o), **o),
        lambda experts, eta, j: stats.logistic(eta, _constant_of(experts, "log_scale", j)),
    ),
    "poisson": Family(lambda **o: PoissonExperts(_linear(**o)), lambda experts, eta, j: stats.poisson(np.exp(eta))),
    "poisson-constant": Family(
        lambda **o: PoissonExperts(_constant(**o)), lambda experts, eta, j: stats.poisson(np.exp(eta))
    ),
    "binary": Family(lambda **o: BinomialExperts(_linear(**o)), _binomial),
    "binomial": Family(lambda **o: BinomialExperts(_network(**o), trials=7), _binomial),
    "laplace": Family(lambda **o: LaplaceExperts(_linear(**o), **o), _laplace),
    "laplace-shared-scale": Family(lambda **o: LaplaceExperts(_network(**o), shared_scale=True, **o), _laplace),
    "log-normal": Family(lambda **o: LogNormalExperts(_linear(**o), **o), _log_normal),
    "log-normal-network": Family(lambda **o: LogNormalExperts(_network(**o), **o), _log_normal),
    "gamma": Family(lambda **o: GammaExperts(_linear(**o), **o), _gamma),
    "inverse-gaussian": Family(lambda **o: InverseGaussianExperts(_linear(**o), **o), _inverse_gaussian),
    "beta": Family(lambda **o: BetaExperts(_linear(**o), **o), _beta),
    "ordinal": Family(lambda **o: OrdinalExperts(_linear(**o), 4, **o), _ordinal),
    "ordinal-two-levels": Family(lambda **o: OrdinalExperts(_network(**o), 2, **o), _ordinal),
    "negative-binomial": Family(lambda **o: NegativeBinomialExperts(_linear(**o), **o), _negative_binomial),
    "negative-binomial-shared": Family(
        lambda **o: NegativeBinomialExperts(_network(**o), shared_dispersion=True, **o), _negative_binomial
    ),
    "zero-inflated-poisson": Family(
        lambda **o: ZeroInflatedPoissonExperts(_linear(**o), **o), _changed(_poisson, is_inflated=True)
    ),
    "zero-inflated-negative-binomial": Family(
        lambda **o: ZeroInflatedNegativeBinomialExperts(_network(**o), **o),
        _changed(_negative_binomial, is_inflated=True),
    ),
    "hurdle-poisson": Family(lambda **o: HurdlePoissonExperts(_linear(**o), **o), _changed(_poisson)),
    "hurdle-negative-binomial": Family(
        lambda **o: HurdleNegativeBinomialExperts(_network(**o), **o), _changed(_negative_binomial)
    ),
    "truncated-poisson": Family(
        lambda **o: TruncatedPoissonExperts(_linear(**o), **o), _changed(_poisson, has_zeros=False)
    ),
    "truncated-negative-binomial": Family(
        lambda **o: TruncatedNegativeBinomialExperts(_network(**o), **o), _changed(_negative_binomial, has_zeros=False)
    ),
    "zero-inflated": Family(lambda **o: ZeroInflatedLogNormalExperts(_linear(2, **o), **o), _zero_inflated, True),
    "zero-inflated-network": Family(
        lambda **o: ZeroInflatedLogNormalExperts(_network(2, **o), **o), _zero_inflated, True
    ),
    "categorical": Family(lambda **o: CategoricalExperts(_linear(3, **o)), _categorical),
    "categorical-two-classes": Family(lambda **o: CategoricalExperts(_constant(1, **o)), _categorical),
    "categorical-network": Family(lambda **o: CategoricalExperts(_network(2, **o)), _categorical),
}

VECTOR: dict[str, Family] = {
    f"{name}-{'shared' if shared else 'own'}": Family(_vector(_linear, kind, shared), _vector_normal)
    for name, kind in (
        ("full", FullCovariance),
        ("diagonal", DiagonalCovariance),
        ("spherical", SphericalCovariance),
    )
    for shared in (False, True)
} | {
    "vector-constant-mean": Family(_vector(_constant, FullCovariance, False), _vector_normal),
    "vector-network-mean": Family(_vector(_network, FullCovariance, False), _vector_normal),
}

FAMILIES: dict[str, Family] = SCALAR | VECTOR
LOCATION = SCALAR  # every scalar family here is a DensityExperts


@torch.no_grad()
def build_experts(make: Build, **options: Any) -> Any:
    """Experts with parameters that matter; the degrees of freedom between 4 and 100, so that moments exist.

    Shares have a precision of seven at least: more of them are near an end than float64 has numbers there, otherwise.
    """
    experts = build(make, **options)
    for name, parameter in experts.named_parameters():
        if name == "log_df":
            parameter.copy_(2.5 + parameter.clamp(-1.0, 2.0))
    if isinstance(experts, BetaExperts):
        experts.log_scale.clamp_(max=-1.0)
    return experts


def draw(law: torch.distributions.Distribution, seed: int = 4) -> Tensor:
    """One response of every law, whatever the family, without touching the global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return law.sample()


def nodes(law: Any, step: float = 0.01) -> tuple[Tensor, Tensor]:
    """Points ``(T, *batch)`` and weights whose sums are integrals over the real line, exact if smooth between breaks.

    Double-exponential quadrature: tanh-sinh between neighboring breaks, ``break +- std exp(pi/2 sinh t)`` beyond the
    outermost, so that heavy tails are reached and narrow peaks resolved. The breaks are zero for laws of positive
    values, else the mean, or the means of a mixture's components.
    """
    breaks = law.mean.unsqueeze(0)
    if getattr(law.support, "lower_bound", None) == 0:
        breaks = torch.zeros_like(breaks)
        if getattr(law.support, "upper_bound", None) == 1:
            breaks = torch.cat([breaks, torch.ones_like(breaks)])
    elif hasattr(law, "components"):
        breaks = law.components.mean.movedim(-1, 0).sort(0).values
    t = torch.arange(-4.5, 4.0, step, dtype=torch.float64).reshape(-1, *(1 for _ in law.batch_shape))
    inner, slope = torch.pi / 2 * torch.sinh(t), torch.pi / 2 * torch.cosh(t) * step
    distance = law.stddev * torch.exp(inner)
    points, weights = [breaks[0] - distance, breaks[-1] + distance], [distance * slope, distance * slope]
    for low, high in itertools.pairwise(breaks):
        points.append((low + high + (high - low) * torch.tanh(inner)) / 2)
        weights.append((high - low) / 2 * slope / torch.cosh(inner).square())
    return torch.cat(points), torch.cat(weights)


def with_atom(family: Family, y: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The points and weights of an integral, with the atom at zero as one more point where there is one."""
    if not family.has_atom:
        return y, weights
    return torch.cat([y, torch.zeros_like(y[:1])]), torch.cat([weights, torch.ones_like(weights[:1])])


def below(family: Family, law: Any, y: Tensor) -> Tensor:
    """Probability of less than ``y``: the distribution function's limit from the left, at draws of the law."""
    lower = law.cdf(y - 1) if law.support.is_discrete else law.cdf(y)
    return torch.where(y == 0, 0.0, lower) if family.has_atom else lower


__all__ = [
    "FAMILIES",
    "LOCATION",
    "SCALAR",
    "VECTOR",
    "D",
    "K",
    "Normal",
    "P",
    "below",
    "build_experts",
    "draw",
    "nodes",
    "normal",
    "with_atom",
]


def moe(family=None, selected=2, **options):
    """A mixture of the family behind a top-K gate that keeps ``selected`` of the K experts."""
    gate = build(lambda **o: topk_gate(D, K, selected, generator=seeded(), **o), **options)
    return MixtureOfExperts(gate, build_experts((family or SCALAR["gaussian"]).make, **options))


def double(*values):
    return torch.tensor(values, dtype=torch.float64)
