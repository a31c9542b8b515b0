"""Families and scores written as a user would write them, and data of theirs."""

import math

import numpy as np
import torch
from torch import nn
from torch.distributions import Gamma

from estimators import EM
from mixkit import MixtureOfExperts
from mixkit.distributions import Normal, StudentT
from mixkit.experts import GaussianExperts, LocationExperts
from mixkit.experts.predictors import LinearPredictor
from mixkit.gates import gate_by_name
from mixkit.gates.scores import Score
from tests.estimators.models import seeded

DOUBLE = {"dtype": torch.float64}
GATES = ("softmax", "sigmoid")


class GammaExperts(LocationExperts):
    """Gamma regressions with a log link."""

    constant_names = ("log_shape",)

    def __init__(self, predictor):
        super().__init__(predictor)
        self.log_shape = nn.Parameter(torch.zeros(self.num_experts, **DOUBLE))

    def forward(self, x):
        shape = self.log_shape.exp().unsqueeze(-2)
        return Gamma(shape, shape * torch.exp(-self.predictor(x)), validate_args=False)

    def log_density(self, y, eta, *constants):
        log_shape, shape = constants[0], constants[0].exp()
        return (shape - 1) * y.log() + shape * (log_shape - eta - y * torch.exp(-eta)) - torch.lgamma(shape)

    def start_locations(self, y):
        return [y.log()]


class SigmaExperts(LocationExperts):
    """Normal regressions whose scale has a name of its own."""

    constant_names = ("log_sigma",)
    scale_name = "log_sigma"

    def __init__(self, predictor):
        super().__init__(predictor)
        self.log_sigma = nn.Parameter(torch.zeros(self.num_experts, **DOUBLE))

    def forward(self, x):
        return Normal(self.predictor(x), self.log_sigma.exp().unsqueeze(-2), validate_args=False)

    def log_density(self, y, eta, *constants):
        standardized = (y - eta) * torch.exp(-constants[0])
        return -0.5 * math.log(2 * math.pi) - constants[0] - 0.5 * standardized.square()


class CauchyExperts(GaussianExperts):
    """A subclass of a family with a closed-form M-step, of another density."""

    def forward(self, x):
        one = torch.ones((), **DOUBLE)
        return StudentT(one, self.predictor(x), self.log_std.exp().unsqueeze(-2), validate_args=False)

    def log_density(self, y, eta, *constants):
        standardized = (y - eta) * torch.exp(-constants[0])
        return -math.log(math.pi) - constants[0] - torch.log1p(standardized.square())


class CubeScore(Score):
    """Scores linear in the cubes of the covariates; says no more than it must."""

    translated = ("weight", "bias")

    def __init__(self, num_features, num_experts):
        super().__init__(num_experts, num_features, nn.Parameter(torch.zeros(num_experts, **DOUBLE)))
        self.weight = nn.Parameter(torch.zeros(num_experts, num_features, **DOUBLE))

    def slope_score(self, x):
        return x**3 @ self.weight.mT


class FastCubeScore(CubeScore):
    """The same, saying that it takes leading batch dimensions."""

    is_vectorized = True


def model_of(gate, family, k=2, slopes=(2.0, -1.0), intercepts=(1.0, 4.0)):
    """A model near the lines or regressions that the data were made with."""
    made = gate_by_name(gate, 1, k, generator=seeded(0), **DOUBLE)
    predictor = LinearPredictor(1, k, generator=seeded(1), **DOUBLE)
    with torch.no_grad():
        made.score.weight.copy_(torch.tensor([[1.0], [-1.0]])[:k])
        predictor.slope.copy_(torch.tensor(slopes).unsqueeze(-1)[:k])
        predictor.intercept.copy_(torch.tensor(intercepts)[:k])
    return MixtureOfExperts(made, family(predictor))


def gamma_model(gate, k=2):
    return model_of(gate, GammaExperts, k, (0.8, -0.5), (2.0, 0.0))


def _positive(n):
    """Two gamma regressions that cross: x and y."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, n)
    first = rng.random(n) < 1 / (1 + np.exp(-1.5 * x))
    mean = np.exp(np.where(first, 2 + 0.8 * x, -0.5 * x))
    return torch.as_tensor(x).unsqueeze(-1), torch.as_tensor(mean * rng.gamma(6.0, size=n) / 6.0)


def _lines(n):
    """Two lines that cross: x and y."""
    rng = np.random.default_rng(1)
    x = rng.uniform(-2, 2, n)
    first = rng.random(n) < 1 / (1 + np.exp(-2 * x))
    y = np.where(first, 1 + 2 * x, 4 - x) + 0.4 * rng.normal(size=n)
    return torch.as_tensor(x).unsqueeze(-1), torch.as_tensor(y)


def climb(**settings):
    """EM from the model's own parameters, so that the experts of all fits have one order."""
    return EM(start_at_model=True, n_init=0, n_moves=0, **settings)


POSITIVE = _positive(150)
LINES = _lines(120)
