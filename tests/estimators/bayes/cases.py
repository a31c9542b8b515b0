"""Models and data of the tests of Bayesian inference."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mixkit import (
    ConstantPredictor,
    FullCovariance,
    GaussianExperts,
    LinearPredictor,
    MixtureOfExperts,
    ModulePredictor,
    MultivariateGaussianExperts,
    PoissonExperts,
    StudentTExperts,
    constant_gate,
    laplace_gate,
    linear_gaussian_experts,
    sigmoid_gate,
    softmax_gate,
    topk_gate,
)
from mixkit.experts import (
    CategoricalExperts,
    LaplaceExperts,
    LogNormalExperts,
    MixedExperts,
    NegativeBinomialExperts,
    PointMassExperts,
    ZeroInflatedLogNormalExperts,
)
from mixkit.gates import Gate, dense_to_sparse_gate
from mixkit.gates.scores import CosineScore, QuadraticScore

DTYPE = torch.float64
D, K, N = 2, 3, 40


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(out: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(D, 4), nn.Tanh(), nn.Linear(4, out))


@dataclass(frozen=True)
class Case:
    """A model, and what y must be: a number, a count, a class, a value that may be zero, or a vector."""

    name: str
    build: Callable[[torch.Generator], MixtureOfExperts]
    response: str = "number"

    def model(self) -> MixtureOfExperts:
        return self.build(seeded(0)).to(DTYPE)

    def data(self, n: int = N) -> tuple[Tensor, Tensor]:
        generator = seeded(1)
        x = 2.0 * torch.randn(n, D, dtype=DTYPE, generator=generator) + 1.0
        if self.response == "count":
            return x, torch.poisson(torch.full((n,), 3.0, dtype=DTYPE), generator=generator)
        if self.response == "class":
            return x, torch.arange(n, dtype=DTYPE).remainder(3)
        if self.response == "value":
            y = torch.exp(torch.randn(n, dtype=DTYPE, generator=generator))
            return x, torch.where(torch.arange(n).remainder(3) == 0, 0.0, y)
        shape = (n, 2) if self.response == "vector" else (n,)
        return x, 3.0 * torch.randn(shape, dtype=DTYPE, generator=generator) + 2.0


def _gaussian(g):
    return linear_gaussian_experts(D, K, generator=g)


CASES = [
    Case("softmax, gaussian", lambda g: MixtureOfExperts(softmax_gate(D, K, generator=g), _gaussian(g))),
    Case(
        "constant gate, shared std",
        lambda g: MixtureOfExperts(constant_gate(K), linear_gaussian_experts(D, K, shared_std=True, generator=g)),
    ),
    Case("top-2", lambda g: MixtureOfExperts(topk_gate(D, K, 2, generator=g), _gaussian(g))),
    Case(
        "sigmoid, student t",
        lambda g: MixtureOfExperts(
            sigmoid_gate(D, K, generator=g), StudentTExperts(LinearPredictor(D, K, generator=g))
        ),
    ),
    Case(
        "laplace, poisson",
        lambda g: MixtureOfExperts(laplace_gate(D, K, generator=g), PoissonExperts(ConstantPredictor(K, generator=g))),
        "count",
    ),
    Case(
        "quadratic score, constant means",
        lambda g: MixtureOfExperts(
            Gate(QuadraticScore(D, K, generator=g)), GaussianExperts(ConstantPredictor(K, generator=g))
        ),
    ),
    Case("cosine score", lambda g: MixtureOfExperts(Gate(CosineScore(D, K, generator=g)), _gaussian(g))),
    Case("temperature", lambda g: MixtureOfExperts(dense_to_sparse_gate(D, K, generator=g), _gaussian(g))),
    Case(
        "vector response",
        lambda g: MixtureOfExperts(
            softmax_gate(D, K, generator=g),
            MultivariateGaussianExperts(LinearPredictor(D, K, response_dim=2, generator=g), FullCovariance(K, 2)),
        ),
        "vector",
    ),
    Case(
        "network means",
        lambda g: MixtureOfExperts(softmax_gate(D, K, generator=g), GaussianExperts(ModulePredictor(network(K), K))),
    ),
]
CASES += [
    Case(
        "negative binomial with exposure",
        lambda g: MixtureOfExperts(
            softmax_gate(D - 1, K, generator=g),
            NegativeBinomialExperts(LinearPredictor(D - 1, K, offset=True, generator=g)),
        ),
        "count",
    ),
    Case(
        "laplace experts",
        lambda g: MixtureOfExperts(softmax_gate(D, K, generator=g), LaplaceExperts(LinearPredictor(D, K, generator=g))),
    ),
    Case(
        "categorical",
        lambda g: MixtureOfExperts(
            softmax_gate(D, K, generator=g), CategoricalExperts(LinearPredictor(D, K, response_dim=2, generator=g))
        ),
        "class",
    ),
    Case(
        "zero-inflated log-normal",
        lambda g: MixtureOfExperts(
            softmax_gate(D, K, generator=g),
            ZeroInflatedLogNormalExperts(LinearPredictor(D, K, response_dim=2, generator=g)),
        ),
        "value",
    ),
    Case(
        "families mixed",
        lambda g: MixtureOfExperts(
            softmax_gate(D, K, generator=g),
            MixedExperts([PointMassExperts(0.0), LogNormalExperts(LinearPredictor(D, K - 1, generator=g))]),
        ),
        "value",
    ),
]
CASE_IDS = [case.name for case in CASES]


def one_line(n: int = 30, sigma: float = 0.7) -> tuple[MixtureOfExperts, Tensor, Tensor]:
    """One expert of known standard deviation: a conjugate regression."""
    generator = seeded(3)
    x = torch.randn(n, 1, dtype=DTYPE, generator=generator) + 0.5
    y = 1.0 - 2.0 * x[:, 0] + sigma * torch.randn(n, dtype=DTYPE, generator=generator)
    model = MixtureOfExperts(
        constant_gate(1, dtype=DTYPE), linear_gaussian_experts(1, 1, dtype=DTYPE, generator=generator)
    )
    with torch.no_grad():
        model.experts.log_std.fill_(sigma).log_()
    model.experts.log_std.requires_grad_(False)
    model.gate.score.bias.requires_grad_(False)
    return model, x, y


def two_means(n: int = 12, apart: float = 2.0) -> tuple[MixtureOfExperts, Tensor, Tensor]:
    """Two unknown means of known spread and equal weight: a posterior of two dimensions and two copies."""
    generator = seeded(5)
    noise = 0.8 * torch.randn(n, dtype=DTYPE, generator=generator)
    y = noise + torch.where(torch.arange(n) % 2 == 0, 0.0, apart)
    model = MixtureOfExperts(
        constant_gate(2, dtype=DTYPE), GaussianExperts(ConstantPredictor(2, dtype=DTYPE, generator=generator)).to(DTYPE)
    )
    with torch.no_grad():
        model.experts.log_std.fill_(0.8).log_()
    model.experts.log_std.requires_grad_(False)
    model.gate.score.bias.requires_grad_(False)
    return model, torch.zeros(n, 1, dtype=DTYPE), y
