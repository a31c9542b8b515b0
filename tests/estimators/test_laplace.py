"""Fits of Laplace experts: medians, corners, their certificate and standard errors."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import QuantileRegressor

from estimators import EM, MLE
from estimators.data.dataset import Data
from estimators.objectives.choose import make_objective
from estimators.objectives.softmax_gate.laplace_experts import LaplaceObjective
from estimators.optimizers.em_iterations import em_iterations
from estimators.penalties import Ridge
from mixkit import (
    ConstantPredictor,
    LaplaceExperts,
    LinearPredictor,
    MixtureOfExperts,
    constant_gate,
    laplace_gate,
    softmax_gate,
)
from mixkit.datasets import load_ethanol, load_tone

from .models import DTYPE, seeded

PINNED = torch.zeros(2, dtype=torch.bool)


def laplace_model(d, k, **settings):
    experts = LaplaceExperts(LinearPredictor(d, k, dtype=DTYPE, generator=seeded(1)), dtype=DTYPE, **settings)
    return MixtureOfExperts(softmax_gate(d, k, dtype=DTYPE, generator=seeded(0)), experts)


def true_model():
    model = laplace_model(1, 2)
    with torch.no_grad():
        model.gate.score.weight.copy_(torch.tensor([[-12.0], [0.0]]))
        model.gate.score.bias.copy_(torch.tensor([6.0, 0.0]))
        model.experts.predictor.slope.copy_(torch.tensor([[2.0], [-1.0]]))
        model.experts.predictor.intercept.copy_(torch.tensor([1.0, 3.0]))
        model.experts.log_scale.fill_(np.log(0.3))
    return model


def sample(n, seed=0):
    x = torch.rand(n, 1, dtype=DTYPE, generator=seeded(seed))
    with torch.no_grad():
        return x, true_model()(x).sample(generator=seeded(seed + 1))


@pytest.mark.parametrize("estimator", [EM, MLE])
def test_one_expert_is_median_regression(estimator):
    x, y = load_ethanol()
    result = estimator(n_init=1, random_state=0).fit(laplace_model(2, 1), x, y)
    peer = QuantileRegressor(quantile=0.5, alpha=0.0, solver="highs").fit(x, y)
    np.testing.assert_allclose(result.params[:2], peer.coef_, rtol=1e-6)
    assert result.params[2] == pytest.approx(peer.intercept_, rel=1e-6)
    assert result.params[3] == pytest.approx(np.abs(y.numpy() - peer.predict(x)).mean(), rel=1e-5)
    assert result.converged
    # The Fisher information of a Laplace location is the inverse square of the scale.
    design = np.column_stack([x, np.ones(len(y))])
    errors = result.params[3] * np.sqrt(np.diag(np.linalg.inv(design.T @ design)))
    # The observed curvature between locations and scale is near zero, and not zero as the expected one.
    np.testing.assert_allclose(result.bse[:3], errors, rtol=2e-3)
    assert result.bse[3] == pytest.approx(result.params[3] / np.sqrt(len(y)), rel=2e-3)


def test_weights_are_repeated_rows():
    x, y = load_tone()
    weight = torch.arange(len(y)) % 3
    weighted = EM(random_state=0, n_init=4).fit(laplace_model(1, 2), x, y, sample_weight=weight)
    rows = torch.arange(len(y)).repeat_interleave(weight)
    repeated = EM(random_state=0, n_init=4).fit(laplace_model(1, 2), x[rows], y[rows])
    assert weighted.llf == pytest.approx(repeated.llf, abs=1e-7)


@pytest.mark.parametrize("shared", [False, True])
def test_every_end_is_a_certified_maximum(shared):
    """From the end no small move of the parameters, in 2,000 directions and along every axis, gains anything."""
    x, y = sample(200)
    model = laplace_model(1, 2, shared_scale=shared)
    result = EM(random_state=0, n_init=4).fit(model, x, y)
    assert result.converged
    assert result.predicted_gain < 1e-9
    objective, theta = result.maximum.objective, result.maximum.theta
    assert isinstance(objective, LaplaceObjective)
    directions = torch.randn(2000, len(theta), dtype=DTYPE, generator=seeded(3))
    directions = torch.cat([directions / directions.norm(dim=1, keepdim=True), torch.eye(len(theta), dtype=DTYPE)])
    for step in (1e-2, 1e-3, 1e-4):
        around = theta + step * torch.cat([directions, -directions])
        assert float(objective.value(around[None]).max()) <= result.llf + 1e-9
    # Each line passes through as many observations as it has coefficients.
    residual = (y.unsqueeze(-1) - result.model.experts(x).mean.detach()).abs()
    assert ((residual < 1e-8).sum(0) >= 2).all()


def test_em_never_lowers_the_log_likelihood():
    for seed in range(10):
        x = 2.0 * torch.randn(50, 2, dtype=DTYPE, generator=seeded(seed))
        y = 3.0 * torch.randn(50, dtype=DTYPE, generator=seeded(seed + 100))
        objective = make_objective(laplace_model(2, 3), Data(x[None], y[None], None), 1e-6, PINNED)
        theta = torch.randn((1, 3, objective.num_params), dtype=DTYPE, generator=seeded(seed))
        values = [objective.value(theta)]
        em_iterations(objective, theta, 15, callback=values.append)
        path = torch.stack(values)
        assert bool(torch.isfinite(path).all())
        assert bool((path.diff(dim=0) >= -1e-9 * path.abs().max()).all())


def test_the_estimates_are_within_their_standard_errors_of_the_truth():
    """Squared errors over the covariance are chi-square; false alarm 1e-5 at a fixed seed."""
    x, y = sample(1500)
    result = MLE(n_init=0, starts=[], start_at_model=True).fit(true_model(), x, y)
    objective = result.maximum.objective
    truth = objective.user_map().values(objective.read(true_model())[0, 0]).numpy()
    error = result.params - truth
    assert error @ np.linalg.solve(result.cov_params(), error) < stats.chi2.isf(1e-5, len(error))
    assert np.isfinite(result.cov_params("sandwich")).all()


def test_derivatives_in_gate_and_scales_are_exact():
    x, y = sample(40)
    objective = make_objective(true_model(), Data(x[None], y[None], None), 1e-6, PINNED[:1])
    theta = objective.read(true_model())
    step = 1e-6 * torch.eye(objective.num_params, dtype=DTYPE)
    up, down = objective.evaluate(theta + step), objective.evaluate(theta - step)
    at = objective.evaluate(theta)
    torch.testing.assert_close(at.gradient[0, 0], (up.value - down.value)[0] / 2e-6, rtol=1e-5, atol=1e-5)
    smooth = torch.ones(objective.num_params, dtype=torch.bool)
    smooth[objective._locations] = False
    numeric = (up.gradient - down.gradient)[0] / 2e-6
    torch.testing.assert_close(at.hessian[0, 0][smooth][:, smooth], numeric[smooth][:, smooth], rtol=1e-5, atol=1e-4)


def test_constant_medians_and_many_data_sets():
    pairs = [sample(100, seed) for seed in (0, 5)]
    x, y = (torch.stack(part) for part in zip(*pairs, strict=True))
    experts = LaplaceExperts(ConstantPredictor(1, dtype=DTYPE, generator=seeded(1)), dtype=DTYPE)
    model = MixtureOfExperts(constant_gate(1, dtype=DTYPE), experts)
    fits = EM(n_init=1, random_state=0).fit_many(model, x, y)
    for fitted, own in zip(fits.models, y, strict=True):
        low, high = own.sort().values[[49, 50]]
        assert low - 1e-9 <= float(fitted.experts.predictor.intercept.detach()) <= high + 1e-9
    assert fits.converged.all()


@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
def test_other_gates_climb_without_a_certificate():
    x, y = sample(150)
    experts = LaplaceExperts(LinearPredictor(1, 2, dtype=DTYPE, generator=seeded(1)), dtype=DTYPE)
    model = MixtureOfExperts(laplace_gate(1, 2, dtype=DTYPE, generator=seeded(2)), experts)
    result = EM(n_init=1, em_iter=10, max_iter=10, random_state=0).fit(model, x, y)
    one = EM(n_init=1, random_state=0).fit(laplace_model(1, 1), x, y)
    assert result.llf > one.llf


def test_penalties_and_other_families_are_refused():
    x, y = sample(50)
    with pytest.raises(ValueError, match="penalty needs experts whose log-density has two derivatives"):
        EM(penalty=Ridge(1.0)).fit(laplace_model(1, 2), x, y)
