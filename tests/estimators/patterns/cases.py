"""Models with patterns of coefficients, and data for them."""

from collections.abc import Callable

import torch
from torch import Tensor

from mixkit import constant_gate
from mixkit.experts import (
    BetaExperts,
    BinomialExperts,
    CategoricalExperts,
    Experts,
    GammaExperts,
    GaussianExperts,
    LaplaceExperts,
    LogNormalExperts,
    MixedExperts,
    NegativeBinomialExperts,
    OrdinalExperts,
    PointMassExperts,
    PoissonExperts,
    StudentTExperts,
    ZeroInflatedLogNormalExperts,
    ZeroInflatedPoissonExperts,
)
from mixkit.experts.predictors import LinearPredictor
from mixkit.gates import Gate
from mixkit.gates.normalizers import Normalizer
from mixkit.gates.scores import LinearScore
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import CoefficientPattern

N, D, K = 60, 3, 3

PATTERNS = {
    "own": None,
    "known": CoefficientPattern.of(3, 3, common=[1], absent={2: [0]}, fixed={(1, 2): 1.5, (0, -1): 0.3}),
    "pairs": CoefficientPattern.of(3, 3, common={0: (0, 2), -1: (0, 1)}),
    "common": CoefficientPattern.of(3, 3, common=[0, 1, 2, "intercept"]),
    "no intercept": CoefficientPattern.of(3, 3, intercept=False, columns=[0, 2]),
}
GATES = {
    "own": None,
    "column": CoefficientPattern.of(3, 3, columns=[1]),
    "known": CoefficientPattern.of(3, 3, common={0: (1, 2)}, absent={0: [1]}, fixed={(2, 2): 0.7}),
    "pairs": CoefficientPattern.of(3, 3, common={0: (1, 2), -1: (0, 2)}, absent={2: [1]}),
}

Family = Callable[[CoefficientPattern | None], Experts]


def settings(seed: int = 0) -> dict[str, object]:
    return {"dtype": torch.float64, "generator": torch.Generator().manual_seed(seed)}


def linear(pattern: CoefficientPattern | None, response_dim: int | None = None) -> LinearPredictor:
    return LinearPredictor(D, K, response_dim=response_dim, pattern=pattern, **settings(1))


LOCATION_FAMILIES: dict[str, tuple[Family, str]] = {
    "log normal": (lambda pattern: LogNormalExperts(linear(pattern)), "positive"),
    "ordinal": (lambda pattern: OrdinalExperts(linear(pattern), num_levels=3), "class"),
    "zero-inflated poisson": (lambda pattern: ZeroInflatedPoissonExperts(linear(pattern)), "count"),
    "gamma": (lambda pattern: GammaExperts(linear(pattern)), "positive"),
    "beta": (lambda pattern: BetaExperts(linear(pattern)), "share"),
    "binomial": (lambda pattern: BinomialExperts(linear(pattern), trials=6), "count"),
    "gaussian": (lambda pattern: GaussianExperts(linear(pattern)), "real"),
    "gaussian, one std": (lambda pattern: GaussianExperts(linear(pattern), shared_std=True), "real"),
    "student": (lambda pattern: StudentTExperts(linear(pattern)), "real"),
    "laplace": (lambda pattern: LaplaceExperts(linear(pattern)), "real"),
    "poisson": (lambda pattern: PoissonExperts(linear(pattern)), "count"),
    "negative binomial": (lambda pattern: NegativeBinomialExperts(linear(pattern)), "count"),
}
MULTI_FAMILIES: dict[str, tuple[Family, str]] = {
    "categorical": (lambda pattern: CategoricalExperts(linear(pattern, 2)), "class"),
    "zero-inflated": (lambda pattern: ZeroInflatedLogNormalExperts(linear(pattern, 2)), "positive"),
    "mixed": (lambda pattern: MixedExperts([PoissonExperts(linear(pattern)), PointMassExperts(0.0)]), "count"),
}


def covariates() -> Tensor:
    """Three, of different units and zeros."""
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return x * torch.tensor([1.0, 10.0, 0.1]).double() + torch.tensor([3.0, 100.0, 0.0]).double()


def responses(kind: str) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    real = torch.randn(N, generator=generator, dtype=torch.float64)
    count = torch.randint(0, 6, (N,), generator=generator).double()
    return {
        "share": real.sigmoid(),
        "real": 3.0 * real + 7.0,
        "positive": real.exp(),
        "count": count,
        "class": count % 3,
    }[kind]


def built(family: Family, pattern: str, gate: str, normalizer: Normalizer | None = None) -> MixtureOfExperts:
    """A model with small parameters, so that no density is extreme."""
    experts = family(PATTERNS[pattern])
    score = LinearScore(D, experts.num_experts, pattern=GATES[gate] if experts.num_experts == K else None, **settings())
    model = MixtureOfExperts(Gate(score, normalizer=normalizer), experts)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.05)
    return model


def regression(family: type, num_features: int, pattern: CoefficientPattern, **options: object) -> MixtureOfExperts:
    """Experts of a pattern behind a constant gate."""
    k = pattern.num_experts
    predictor = LinearPredictor(num_features, k, pattern=pattern, **settings())
    return MixtureOfExperts(constant_gate(k, dtype=torch.float64), family(predictor, **options))
