"""Fits behind smooth gates do not depend on where the covariates' origin is, nor (where they may not) on units."""

import copy

import numpy as np
import pytest
import torch

from estimators import EM, MixtureOfExpertsRegressor
from estimators.data.dataset import Data
from estimators.penalties import LogPrior, MinimumShare, Ridge
from estimators.penalties.base import PenaltyView
from estimators.search.standardization import Coordinates, restore_coordinates
from mixkit import Gate, MixtureOfExperts, laplace_gate, linear_gaussian_experts
from mixkit.gates.normalizers import NormalizedSigmoid
from mixkit.gates.scores import (
    ActivationScore,
    ConstantScore,
    CosineScore,
    DistanceScore,
    LinearScore,
    QuadraticScore,
)
from mixkit.gates.selections import TopKByScore, TopKBySlope
from mixkit.gates.temperatures import InputTemperature, LearnableTemperature

from .models import seeded

DOUBLE = {"dtype": torch.float64}


def gate_of(score, **parts):
    settings = {"generator": seeded(1)} | DOUBLE
    return Gate(ConstantScore(3, **DOUBLE) if score is ConstantScore else score(2, 3, **settings), **parts)


GATES = {  # and whether covariates may be moved, and scaled
    "linear": (gate_of(LinearScore), True, True),
    "linear without bias": (gate_of(lambda *a, **s: LinearScore(*a, bias=False, **s)), False, True),
    "sigmoid": (gate_of(LinearScore, normalizer=NormalizedSigmoid()), True, True),
    "temperature": (gate_of(LinearScore, temperature=LearnableTemperature(2.0, **DOUBLE)), True, True),
    "top-K by score": (gate_of(LinearScore, selection=TopKByScore(2)), True, True),
    "top-K by slope": (gate_of(LinearScore, selection=TopKBySlope(2)), False, True),
    "activation": (gate_of(lambda *a, **s: ActivationScore(torch.tanh, *a, **s)), False, True),
    "distance": (gate_of(DistanceScore), True, False),
    "constant": (gate_of(ConstantScore), True, True),
    "cosine": (gate_of(CosineScore), False, False),
    "quadratic": (gate_of(QuadraticScore), True, True),
    "input temperature": (gate_of(LinearScore, temperature=InputTemperature(2, **DOUBLE)), False, False),
}


@pytest.mark.parametrize(("gate", "can_move", "can_scale"), GATES.values(), ids=GATES)
def test_a_model_of_other_coordinates_is_a_model_of_the_covariates(gate, can_move, can_scale):
    model = MixtureOfExperts(gate, linear_gaussian_experts(2, 3, generator=seeded(2), **DOUBLE))
    x = torch.tensor([1e3, -5.0]) + torch.tensor([7.0, 0.1]) * torch.randn(2, 40, 2, generator=seeded(3), **DOUBLE)
    data = Data(x, torch.zeros(2, 40, **DOUBLE), None)
    found = Coordinates.of(model, data)
    assert (found is not None) == (can_move or can_scale)
    if found is None:
        return
    assert bool((found.center != 0).all()) == can_move
    assert bool((found.scale != 1).all()) == can_scale
    near = found.data(data).x
    for index in range(2):
        restored = copy.deepcopy(model)
        restore_coordinates(restored, found.center[index], found.scale[index])
        law, inner = restored(x[index]), model(near[index])
        torch.testing.assert_close(law.log_weights, inner.log_weights, rtol=0, atol=1e-9)
        torch.testing.assert_close(law.components.mean, inner.components.mean, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("gate", ["sigmoid", "laplace"])
def test_a_shift_of_the_covariates_shifts_the_fit(gate):
    rng = np.random.default_rng(0)
    x = 2.0 * rng.standard_normal((200, 1))
    y = np.where(rng.random(200) < 1 / (1 + np.exp(-2 * x[:, 0])), 1 + 0.5 * x[:, 0], -1 - x[:, 0])
    y = y + 0.3 * rng.standard_normal(200)
    near, far = (
        MixtureOfExpertsRegressor(2, gate=gate, random_state=0, n_init=4).fit(x + shift, y) for shift in (0.0, 2000.0)
    )
    assert far.converged_
    assert far.log_likelihood_ == pytest.approx(near.log_likelihood_, abs=1e-6)
    np.testing.assert_allclose(far.predict(x + 2000.0), near.predict(x), atol=1e-5)
    assert len(far.result_.history) == far.n_iter_


@pytest.mark.parametrize("penalty", [Ridge(gate=0.1, experts=1.0), MinimumShare(0.05)], ids=repr)
def test_a_shift_changes_nothing_of_a_penalized_fit(penalty):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((120, 1))
    y = np.where(rng.random(120) < 1 / (1 + np.exp(-3 * x[:, 0])), 1 + 0.5 * x[:, 0], -1 - x[:, 0])
    y = y + 0.3 * rng.standard_normal(120)
    estimator = EM(n_init=3, n_moves=0, penalty=penalty, random_state=0)
    near, far = (
        MixtureOfExpertsRegressor(2, gate="sigmoid", estimator=estimator).fit(x + shift, y).result_
        for shift in (0.0, 2000.0)
    )
    assert far.objective_value == pytest.approx(near.objective_value, abs=1e-5)
    assert not any("abrupt" in remark for remark in far.warnings)
    assert "reference" not in str(far.summary())  # a sigmoid gate has none


def test_a_ridge_draws_centers_together_wherever_they_are():
    centers = torch.tensor([[1.0, 5.0], [3.0, 5.0]], **DOUBLE)
    settings = DOUBLE | {"generator": seeded(0)}
    model = MixtureOfExperts(laplace_gate(2, 2, **settings), linear_gaussian_experts(2, 2, **settings))
    values = []
    for shift in (0.0, 1e3):
        parameters = {"gate.score.center": centers + shift}
        std = torch.tensor([2.0, 7.0], **DOUBLE)
        view = PenaltyView(parameters, model, torch.zeros(3, 2, **DOUBLE), torch.ones(3, **DOUBLE), std, std[:1])
        values.append(float(Ridge(gate=3.0).value(view)))
    assert values == pytest.approx([0.5 * 3.0 * 2 * (1.0 / 2.0) ** 2] * 2)


def test_priors_are_in_the_units_of_the_data():
    assert (LogPrior({"slope": torch.distributions.Normal(0.0, 1.0)}) + Ridge(1.0)).is_in_data_units
    assert not (MinimumShare(0.1) + Ridge(1.0)).is_in_data_units


def test_data_sets_fitted_together_have_coordinates_of_their_own():
    generator = seeded(5)
    x = torch.randn(2, 80, 1, generator=generator, **DOUBLE)
    is_first = torch.rand(2, 80, generator=generator, **DOUBLE) < torch.sigmoid(2.0 * x[..., 0])
    y = torch.where(is_first, 1.0 + x[..., 0], -x[..., 0]) + 0.1 * torch.randn(2, 80, generator=generator, **DOUBLE)
    gate = Gate(LinearScore(1, 2, generator=seeded(1)), normalizer=NormalizedSigmoid())
    model = MixtureOfExperts(gate, linear_gaussian_experts(1, 2, generator=seeded(2)))
    shift = torch.tensor([0.0, 500.0]).reshape(2, 1, 1)
    settings = {"n_init": 3, "random_state": 0}
    together = EM(**settings).fit_many(model, x + shift, y)
    alone = [EM(**settings).fit(model, x[i] + shift[i], y[i]).llf for i in range(2)]
    np.testing.assert_allclose(together.llf, alone, atol=1e-6)


def crossing_beside_zeros(rng):
    """Two lines that cross, a second column of zeros, and a smooth model of both."""
    x = np.column_stack([rng.normal(size=150), np.zeros(150)])
    y = np.where(rng.random(150) < 1 / (1 + np.exp(-2 * x[:, 0])), 1 + 2 * x[:, 0], 4 - x[:, 0])
    y += 0.4 * rng.normal(size=150)
    model = MixtureOfExperts(
        gate_of(lambda d, _, **s: LinearScore(d, 2, **s), normalizer=NormalizedSigmoid()),
        linear_gaussian_experts(2, 2, generator=seeded(2), **DOUBLE),
    )
    return model, x, y


@pytest.mark.filterwarnings("ignore:columns", "ignore:the observed information is singular")
@pytest.mark.parametrize("constant", [0.1, 1990.1])
def test_a_constant_covariate_has_no_coefficient_of_rounding(constant):
    """Its mean differs from it by rounding, for which a column of 1e-17 would get any coefficient."""
    model, x, y = crossing_beside_zeros(np.random.default_rng(0))
    plain, shifted = (
        EM(n_init=2, n_moves=0, random_state=0).fit(model, x + np.array([0.0, level]), y) for level in (0.0, constant)
    )
    assert shifted.llf == pytest.approx(plain.llf, abs=1e-6)
    points = torch.as_tensor(x + np.array([0.0, constant]))
    assert shifted.model.log_prob(points, torch.as_tensor(y)).sum().item() == pytest.approx(shifted.llf, abs=1e-6)


@pytest.mark.filterwarnings("ignore:columns", "ignore:the observed information is singular")
def test_a_covariate_that_varies_by_rounding_has_no_coefficient_of_rounding():
    """0.1 and 0.3 - 0.2 differ by 3e-17; they are one number to a fit."""
    rng = np.random.default_rng(0)
    model, x, y = crossing_beside_zeros(rng)
    nearly = x.copy()
    nearly[:, 1] = np.where(rng.random(150) < 0.5, 0.1, 0.3 - 0.2)
    plain, rounded = (EM(n_init=10, n_moves=0, random_state=0).fit(model, data, y) for data in (x, nearly))
    assert rounded.llf == pytest.approx(plain.llf, abs=1e-6)
    log_prob = rounded.model.log_prob(torch.as_tensor(nearly), torch.as_tensor(y))
    assert log_prob.sum().item() == pytest.approx(rounded.llf, abs=1e-6)
