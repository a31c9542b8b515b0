"""Models and data that several test files fit."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mixkit import (
    MixingMeasure,
    MixtureOfExperts,
    constant_gate,
    linear_gaussian_experts,
    softmax_gate,
    topk_gate,
)
from mixkit.experts import (
    GaussianExperts,
    LocationExperts,
    NegativeBinomialExperts,
    PoissonExperts,
    StudentTExperts,
)
from mixkit.experts.predictors import ConstantPredictor, LinearPredictor
from mixkit.gates import Gate
from mixkit.gates.scores import LinearScore
from mixkit.gates.selections import TopKByScore
from mixkit.gates.temperatures import FixedTemperature

DTYPE = torch.float64


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def reference_truth() -> MixingMeasure:
    """Two crossing lines: gates (-8 + 25 x, 0), means 15 - 20 x and -5 + 20 x, standard deviations 0.3 and 0.4."""
    values = ([-8.0, 0.0], [[25.0], [0.0]], [[-20.0], [20.0]], [15.0, -5.0], [0.09, 0.16])
    return MixingMeasure(*(torch.tensor(value, dtype=DTYPE) for value in values))


def softmax_model(d: int, k: int, seed: int = 0, **settings) -> MixtureOfExperts:
    generator = seeded(seed)
    gate = softmax_gate(d, k, dtype=DTYPE, generator=generator)
    return MixtureOfExperts(gate, linear_gaussian_experts(d, k, dtype=DTYPE, generator=generator, **settings))


@dataclass(frozen=True)
class Case:
    """A row of the table: how to build gate and experts, and what y must be."""

    name: str
    gate: Callable[[int, int, torch.Generator], Gate]
    experts: Callable[[int, int, torch.Generator], LocationExperts]
    counts: bool = False

    def model(self, d: int, k: int, seed: int) -> MixtureOfExperts:
        generator = seeded(seed)
        model = MixtureOfExperts(self.gate(d, k, generator), self.experts(d, k, generator)).to(DTYPE)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.4)
        return model

    def data(self, n: int, d: int, seed: int) -> tuple[Tensor, Tensor]:
        generator = seeded(seed + 1000)
        x = 2.0 * torch.randn(n, d, dtype=DTYPE, generator=generator) + 1.0
        if self.counts:
            return x, torch.poisson(torch.full((n,), 3.0, dtype=DTYPE), generator=generator)
        return x, 3.0 * torch.randn(n, dtype=DTYPE, generator=generator) + 2.0


def _softmax(d, k, g):
    return softmax_gate(d, k, generator=g)


def _gaussian(d, k, g):
    return linear_gaussian_experts(d, k, generator=g)


LINEAR_CASES = [
    Case("softmax, gaussian", _softmax, _gaussian),
    Case("softmax, shared std", _softmax, lambda d, k, g: linear_gaussian_experts(d, k, shared_std=True, generator=g)),
    Case("softmax, student t", _softmax, lambda d, k, g: StudentTExperts(LinearPredictor(d, k, generator=g))),
    Case("softmax, poisson", _softmax, lambda d, k, g: PoissonExperts(LinearPredictor(d, k, generator=g)), True),
    Case("softmax, constant mean", _softmax, lambda d, k, g: GaussianExperts(ConstantPredictor(k, generator=g))),
    Case("constant gate", lambda d, k, g: constant_gate(k), _gaussian),
    Case("top-2 by slope", lambda d, k, g: topk_gate(d, k, 2, generator=g), _gaussian),
    Case("top-2 by score", lambda d, k, g: Gate(LinearScore(d, k, generator=g), selection=TopKByScore(2)), _gaussian),
    Case(
        "temperature 0.5",
        lambda d, k, g: Gate(LinearScore(d, k, generator=g), temperature=FixedTemperature(0.5)),
        _gaussian,
    ),
    Case(
        "negative binomial",
        _softmax,
        lambda d, k, g: NegativeBinomialExperts(LinearPredictor(d, k, generator=g)),
        True,
    ),
    Case(
        "poisson with an offset",
        lambda d, k, g: softmax_gate(d - 1, k, generator=g),
        lambda d, k, g: PoissonExperts(LinearPredictor(d - 1, k, offset=True, generator=g)),
        True,
    ),
    Case(
        "gaussian with an offset",
        lambda d, k, g: softmax_gate(d - 1, k, generator=g),
        lambda d, k, g: GaussianExperts(LinearPredictor(d - 1, k, offset=True, generator=g)),
    ),
]
CASE_IDS = [case.name for case in LINEAR_CASES]
