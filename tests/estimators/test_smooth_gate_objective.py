"""The batched objective of smooth gates against autograd of the whole model."""

import copy
from functools import partial

import pytest
import torch

from estimators import EM, MLE
from estimators.data.dataset import Data
from estimators.objectives.autograd import AutogradObjective
from estimators.objectives.choose import make_objective
from estimators.objectives.smooth_gate.objective import SmoothGateObjective
from estimators.objectives.softmax_gate import design
from mixkit import (
    MixingMeasure,
    MixtureOfExperts,
    activation_gate,
    constant_gate,
    dense_to_sparse_gate,
    laplace_gate,
    linear_gaussian_experts,
    sigmoid_gate,
    softmax_gate,
    topk_gate,
)
from mixkit.experts import GaussianExperts, PoissonExperts, StudentTExperts
from mixkit.experts.predictors import ConstantPredictor, LinearPredictor
from mixkit.gates import Gate
from mixkit.gates.normalizers import SoftplusL1, Sparsemax, StableMax
from mixkit.gates.scores import CosineScore, LinearScore, QuadraticScore
from mixkit.gates.selections import NoisyTopK, TopKByScore, TopKBySlope
from mixkit.gates.temperatures import FixedTemperature, InputTemperature, LearnableTemperature

from .models import DTYPE, seeded

N, D, K = 40, 2, 3
SHORT = 7

GATES = {
    "activation, temperature": lambda g: activation_gate(D, K, activation=torch.tanh, generator=g),
    "GELU": lambda g: activation_gate(D, K, activation=torch.nn.functional.gelu, generator=g),
    "linear, temperature": lambda g: dense_to_sparse_gate(D, K, temperature=LearnableTemperature(0.6), generator=g),
    "temperature of x": lambda g: Gate(LinearScore(D, K, generator=g), temperature=InputTemperature(D)),
    "sigmoid": lambda g: sigmoid_gate(D, K, generator=g),
    "sigmoid without bias": lambda g: sigmoid_gate(D, K, bias=False, generator=g),
    "softplus": lambda g: Gate(LinearScore(D, K, generator=g), normalizer=SoftplusL1()),
    "stablemax": lambda g: Gate(LinearScore(D, K, generator=g), normalizer=StableMax()),
    "laplace": lambda g: laplace_gate(D, K, generator=g),
    "squared distance": lambda g: laplace_gate(D, K, squared=True, generator=g),
    "quadratic": lambda g: Gate(QuadraticScore(D, K, generator=g)),
    "cosine": lambda g: Gate(CosineScore(D, K, generator=g), temperature=LearnableTemperature(0.3)),
    "top-2 sigmoid": lambda g: Gate(LinearScore(D, K, generator=g), selection=TopKByScore(2), normalizer=SoftplusL1()),
    "top-1 distance": lambda g: Gate(QuadraticScore(D, K, generator=g), selection=TopKBySlope(1)),
}
EXPERTS = {
    "gaussian": lambda g: linear_gaussian_experts(D, K, generator=g),
    "shared std": lambda g: linear_gaussian_experts(D, K, shared_std=True, generator=g),
    "constant": lambda g: GaussianExperts(ConstantPredictor(K, generator=g)),
    "student t": lambda g: StudentTExperts(LinearPredictor(D, K, generator=g)),
    "poisson": lambda g: PoissonExperts(LinearPredictor(D, K, generator=g)),
}
ROWS = [(gate, "gaussian") for gate in GATES] + [("laplace", experts) for experts in EXPERTS if experts != "gaussian"]


def build(gate: str, experts: str, seed: int = 0) -> MixtureOfExperts:
    generator = seeded(seed)
    model = MixtureOfExperts(GATES[gate](generator), EXPERTS[experts](generator)).to(DTYPE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator, dtype=DTYPE))
    return model


def make_data(experts: str, sets: int, *, weighted: bool) -> Data:
    generator = seeded(99)
    x = torch.randn(sets, N, D, dtype=DTYPE, generator=generator)
    y = torch.poisson(torch.full((sets, N), 2.0, dtype=DTYPE), generator=generator)
    y = y if experts == "poisson" else y + torch.randn(sets, N, dtype=DTYPE, generator=generator)
    return Data(x, y, torch.rand(sets, N, dtype=DTYPE, generator=generator) if weighted else None)


def both(gate: str, experts: str, *, sets: int = 1, weighted: bool = False):
    model, data = build(gate, experts), make_data(experts, sets, weighted=weighted)
    return [kind(model, data, variance_floor=1e-6) for kind in (SmoothGateObjective, AutogradObjective)]


def points(objective: AutogradObjective, sets: int, starts: int) -> torch.Tensor:
    theta = objective.read(objective.model).expand(sets, starts, -1)
    return theta + 0.2 * torch.randn(theta.shape, dtype=DTYPE, generator=seeded(3))


@pytest.mark.parametrize(("gate", "experts"), ROWS)
def test_everything_is_that_of_autograd(gate, experts):
    fast, slow = both(gate, experts, sets=2, weighted=True)
    assert SmoothGateObjective.supports(fast.model)
    theta = points(fast, 2, 2)
    torch.testing.assert_close(fast.value(theta), slow.value(theta), rtol=1e-12, atol=1e-10)
    for name, own, reference in zip(
        ("value", "gradient", "hessian"), fast.evaluate(theta), slow.evaluate(theta), strict=True
    ):
        torch.testing.assert_close(own, reference, rtol=1e-9, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}")
    torch.testing.assert_close(fast.scores(theta[0, 0]), slow.scores(theta[0, 0]), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(fast.expected_counts(theta), slow.expected_counts(theta), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("gate", ["laplace", "top-2 sigmoid", "linear, temperature"])
def test_chunks_are_as_one(gate, monkeypatch):
    whole, _ = both(gate, "gaussian", sets=2, weighted=True)
    monkeypatch.setattr(design, "_CHUNK_ENTRIES", 1)
    monkeypatch.setattr(design, "_CACHE_ENTRIES", 1)
    monkeypatch.setattr(design, "_SHORTEST_CHUNK", SHORT)
    pieces, _ = both(gate, "gaussian", sets=2, weighted=True)
    assert len(list(pieces._design.chunks())) == -(-N // SHORT)
    theta = points(whole, 2, 3)
    for own, reference in zip(pieces.evaluate(theta), whole.evaluate(theta), strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(pieces.scores(theta[0, 0]), whole.scores(theta[0, 0]))
    for own, reference in zip(pieces.em_step(theta), whole.em_step(theta), strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("gate", [name for name in GATES if "top" not in name])
@pytest.mark.parametrize("experts", ["gaussian", "shared std"])
def test_em_never_lowers_the_likelihood(gate, experts):
    fast, _ = both(gate, experts, sets=2, weighted=True)
    theta, last = points(fast, 2, 3), None
    for _ in range(4):
        value, theta = fast.em_step(theta)
        assert last is None or bool((value >= last - 1e-9).all())
        last = value


def test_starts_from_responsibilities_reach_what_is_expected_of_them():
    fast, slow = both("quadratic", "gaussian")  # a concave problem: there is but one maximum
    resp = torch.softmax(torch.randn(1, 2, K, N, dtype=DTYPE, generator=seeded(1)), 2)
    starts = [objective.from_responsibilities(resp) for objective in (fast, slow)]
    expected = []
    for start in starts:
        joint = torch.stack([_joint(slow, vector) for vector in start[0]])
        expected.append((resp[0] * joint).sum((-1, -2)))
    assert bool((expected[0] >= expected[1] - 1e-6).all())


def _joint(objective: AutogradObjective, vector: torch.Tensor) -> torch.Tensor:
    model = copy.deepcopy(objective.model)
    objective.write(vector, model)
    with torch.no_grad():
        law = model(objective.data.x[0])
        return (law.log_weights + law.components.log_prob(objective.data.y[0].unsqueeze(-1))).mT


@pytest.mark.parametrize("estimator", [EM, MLE])
@pytest.mark.parametrize(
    "gate", [laplace_gate, sigmoid_gate, partial(activation_gate, temperature=FixedTemperature(0.3))]
)
def test_fits_reach_the_maxima_of_autograd(gate, estimator, monkeypatch):
    values = ([0.5, 0.0], [[1.0, 0.5], [-0.7, 0.0]], [[2.0, 0.0], [-1.0, 1.0]], [1.0, -1.0], [0.1, 0.2])
    truth = MixingMeasure(*(torch.tensor(value, dtype=DTYPE) for value in values))
    model = truth.to_module(gate(2, 2, generator=seeded(0)))
    x = 4.0 * torch.rand(400, 2, dtype=DTYPE, generator=seeded(4)) - 2.0
    with torch.no_grad():
        y = model(x).sample(generator=seeded(5))
    fit = estimator(n_init=0, start_at_model=True).fit(model, x, y)
    monkeypatch.setattr(SmoothGateObjective, "supports", staticmethod(lambda model: False))
    reference = estimator(n_init=0, start_at_model=True).fit(model, x, y)
    assert fit.llf == pytest.approx(reference.llf, abs=1e-6)
    assert fit.converged == reference.converged


def test_scores_that_overflow_are_nan_for_their_vector_alone():
    fast, _ = both("squared distance", "gaussian")
    theta = points(fast, 1, 2)
    theta[0, 1, fast.user_map().names.index("gate_center[0,x0]")] = 1e200
    found = fast.evaluate(theta)
    assert torch.isfinite(fast.value(theta)).tolist() == [[True, False]]
    assert torch.isfinite(found.value).tolist() == [[True, False]]
    torch.testing.assert_close(found.hessian[:, :1], fast.evaluate(theta[:, :1]).hessian)


def test_which_models_it_takes():
    pinned = torch.zeros(D, dtype=torch.bool)
    data = make_data("gaussian", 1, weighted=False)
    experts = linear_gaussian_experts(D, K, generator=seeded(0))
    taken = {
        "laplace": (laplace_gate(D, K, generator=seeded(0)), True),
        "sparsemax": (Gate(LinearScore(D, K, generator=seeded(0)), normalizer=Sparsemax()), False),
        "noisy": (Gate(LinearScore(D, K, generator=seeded(0)), selection=NoisyTopK(2, D, K)), False),
        "softmax": (constant_gate(K), False),
        "topk": (topk_gate(D, K, 2, generator=seeded(0)), False),
    }
    for name, (gate, expected) in taken.items():
        objective = make_objective(MixtureOfExperts(gate, experts), data, 1e-6, pinned)
        assert isinstance(objective, SmoothGateObjective) == expected, name
    frozen = copy.deepcopy(MixtureOfExperts(laplace_gate(D, K, generator=seeded(0)), experts))
    frozen.experts.log_std.requires_grad_(False)
    assert not SmoothGateObjective.supports(frozen)


@pytest.mark.parametrize("name", ["gate.score.bias", "gate.score.weight", "experts.log_std"])
def test_frozen_parameters_of_linear_models_stay(name):
    gate, experts = softmax_gate(D, K, generator=seeded(2)), linear_gaussian_experts(D, K, generator=seeded(3))
    model, data = MixtureOfExperts(gate, experts).to(DTYPE), make_data("gaussian", 1, weighted=False)
    model.get_parameter(name).requires_grad_(False)
    before = model.get_parameter(name).detach().clone()
    fit = EM(n_init=1, random_state=0, max_iter=20).fit_many(model, data.x, data.y)
    assert torch.equal(fit.models[0].get_parameter(name), before)
    assert float(fit.llf[0]) > float(model.log_prob(data.x[0], data.y[0]).detach().sum())


def test_frozen_gate_parameters_stay():
    model, data = build("laplace", "gaussian"), make_data("gaussian", 1, weighted=False)
    model.gate.score.center.requires_grad_(False)
    fast, slow = (kind(model, data, variance_floor=1e-6) for kind in (SmoothGateObjective, AutogradObjective))
    theta = points(fast, 1, 2)
    for own, reference in zip(fast.evaluate(theta), slow.evaluate(theta), strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-9, atol=1e-9)
