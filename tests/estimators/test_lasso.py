"""The lasso: what it equals elsewhere, its zeros and their certificate."""

import pickle
import re

import numpy as np
import pytest
import torch
from sklearn.linear_model import ElasticNet
from sklearn.linear_model import Lasso as SklearnLasso

from estimators import EM, MLE
from estimators.data.dataset import Data
from estimators.objectives.choose import make_objective
from estimators.optimizers.em_iterations import em_iterations
from estimators.penalties import Lasso, Ridge
from estimators.penalties.build import penalized
from estimators.penalties.split import SplitObjective
from mixkit import (
    CategoricalExperts,
    LaplaceExperts,
    LinearPredictor,
    MixtureOfExperts,
    constant_gate,
    laplace_gate,
    linear_gaussian_experts,
    softmax_gate,
)

from .models import CASE_IDS, DTYPE, LINEAR_CASES, seeded, softmax_model


def standardized(part):
    return (part - part.mean(0)) / part.std(0, correction=0)


def regression(n=200, d=5):
    """Two of five covariates matter."""
    generator = seeded(0)
    x = torch.randn(n, d, dtype=DTYPE, generator=generator)
    return standardized(x), standardized(2.0 * x[:, 0] - x[:, 1] + torch.randn(n, dtype=DTYPE, generator=generator))


def two_regimes(n=600):
    """Two lines in the first covariate, of two other covariates neither gate nor lines take notice."""
    generator = seeded(1)
    x = torch.randn(n, 3, dtype=DTYPE, generator=generator)
    first = torch.rand(n, dtype=DTYPE, generator=generator) < torch.sigmoid(2.0 * x[:, 0])
    noise = 0.5 * torch.randn(n, dtype=DTYPE, generator=generator)
    return x, torch.where(first, 2.0 + 1.5 * x[:, 0], -2.0 - 1.5 * x[:, 0]) + noise


@pytest.mark.parametrize("estimator", [EM, MLE])
@pytest.mark.parametrize("strength", [15.0, 60.0])
def test_one_expert_under_the_lasso_is_sklearns(estimator, strength):
    x, y = regression()
    result = estimator(n_init=1, penalty=Lasso(experts=strength), tol=1e-14).fit(softmax_model(5, 1), x, y)
    named = dict(zip(result.param_names, result.params, strict=True))
    peer = SklearnLasso(
        alpha=strength * named["std[0]"] ** 2 / len(y), tol=1e-14, max_iter=100_000, random_state=0
    ).fit(x, y)
    found = np.array([named[f"slope[0,x{i}]"] for i in range(5)])
    np.testing.assert_allclose(found, peer.coef_, atol=1e-6)
    np.testing.assert_array_equal(found == 0, peer.coef_ == 0)
    assert 0 < (found == 0).sum() < 5
    assert result.converged
    assert named["std[0]"] == pytest.approx(np.sqrt(np.mean((y.numpy() - peer.predict(x)) ** 2)), rel=1e-5)
    assert result.objective_value == pytest.approx(result.llf - strength * np.abs(found).sum(), abs=1e-8)


def test_one_categorical_expert_under_the_lasso_meets_the_conditions_of_logistic_regression():
    x, _ = regression()
    y = (x[:, 0] + torch.randn(200, dtype=DTYPE, generator=seeded(3)) > 0).to(DTYPE)
    predictor = LinearPredictor(5, 1, response_dim=1, dtype=DTYPE, generator=seeded(0))
    model = MixtureOfExperts(constant_gate(1, dtype=DTYPE), CategoricalExperts(predictor))
    result = MLE(n_init=1, penalty=Lasso(experts=5.0), tol=1e-14).fit(model, x, y)
    slopes, intercept = result.params[:5], result.params[5]
    miss = (1.0 - y.numpy()) - 1.0 / (1.0 + np.exp(-x.numpy() @ slopes - intercept))  # the first class is label 0
    gradient = x.numpy().T @ miss
    assert miss.sum() == pytest.approx(0.0, abs=1e-5)
    np.testing.assert_allclose(gradient[slopes != 0], 5.0 * np.sign(slopes[slopes != 0]), atol=1e-5)
    assert (np.abs(gradient[slopes == 0]) < 5.0).all()
    assert 0 < (slopes == 0).sum() < 5


def test_subgradients_certify_the_zeros():
    """The gradient of the log-likelihood is lambda times the sign, or at most lambda where a slope is zero."""
    x, y = two_regimes()
    estimator = EM(penalty=Lasso(gate=12.0, experts=25.0), random_state=0, n_init=4, tol=1e-13)
    result = estimator.fit(softmax_model(3, 2), x, y)
    assert result.converged
    objective, theta = result.maximum.objective, result.maximum.theta
    gradient = objective.base.evaluate(theta[None, None]).gradient[0, 0].numpy()
    zeroed = set(objective.zeroed)
    for name, slope, own in zip(result.param_names, gradient, theta.numpy(), strict=True):
        strength = 12.0 if name.startswith("gate_weight") else 25.0 if name.startswith("slope") else 0.0
        if name in zeroed:
            assert own == 0.0
            assert abs(slope) <= strength
        else:
            assert slope == pytest.approx(strength * np.sign(own), abs=1e-4)
    noise = {f"{kind}[0,x{i}]" for kind in ("gate_weight", "slope") for i in (1, 2)} | {"slope[1,x1]", "slope[1,x2]"}
    assert len(zeroed & noise) >= 3
    assert not zeroed - noise


def test_standard_errors_are_those_of_the_selected_model():
    x, y = two_regimes()
    result = EM(penalty=Lasso(experts=25.0), random_state=0, n_init=4).fit(softmax_model(3, 2), x, y)
    zero = result.params == 0
    assert zero.any()
    assert np.isnan(result.bse[zero]).all()
    assert np.isfinite(result.bse[~zero]).all()
    assert any("the lasso set slope" in remark for remark in result.warnings)
    assert not any("floor" in remark or "singular" in remark for remark in result.warnings)
    result.rename_features(["first", "second", "third"])
    assert re.search(r"the lasso set .*\[\d,(first|second|third)\]", " ".join(result.warnings))
    twin = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(twin.bse, result.bse)


def test_more_strength_means_more_zeros_and_at_last_all():
    x, y = two_regimes(300)
    counts = []
    for strength in (0.0, 2.0, 20.0, 1000.0):
        result = EM(penalty=Lasso(strength, strength), random_state=0, n_init=3).fit(softmax_model(3, 2), x, y)
        slopes = np.array(["weight" in name or "slope" in name for name in result.param_names])
        counts.append(int((result.params[slopes] == 0).sum()))
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert counts[-1] == 9


def test_without_strength_the_lasso_changes_nothing():
    x, y = two_regimes(200)
    plain = EM(random_state=0, n_init=2, n_moves=0).fit(softmax_model(3, 2), x, y)
    none = EM(penalty=Lasso(), random_state=0, n_init=2, n_moves=0).fit(softmax_model(3, 2), x, y)
    assert none.llf == pytest.approx(plain.llf, abs=1e-8)
    np.testing.assert_allclose(none.bse, plain.bse, rtol=1e-4)


def test_lasso_and_ridge_together_are_the_elastic_net():
    x, y = regression()
    penalty = Lasso(experts=10.0) + Ridge(experts=20.0)
    result = MLE(n_init=1, penalty=penalty, tol=1e-14).fit(softmax_model(5, 1), x, y)
    named = dict(zip(result.param_names, result.params, strict=True))
    alpha = 30.0 * named["std[0]"] ** 2 / len(y)
    peer = ElasticNet(alpha=alpha, l1_ratio=1.0 / 3.0, tol=1e-14, max_iter=100_000, random_state=0).fit(x, y)
    np.testing.assert_allclose([named[f"slope[0,x{i}]"] for i in range(5)], peer.coef_, atol=1e-6)


@pytest.mark.parametrize("case", LINEAR_CASES, ids=CASE_IDS)
def test_the_split_objective_is_consistent_and_em_never_lowers_it(case):
    model, (x, y) = case.model(2, 3, 3), case.data(60, 2, 3)
    base = make_objective(model, Data(x[None], y[None], None), 1e-6, torch.zeros(2, dtype=torch.bool))
    objective = penalized(base, Lasso(gate=2.0, experts=3.0), model)
    assert isinstance(objective, SplitObjective)
    theta = objective.read(model)
    torch.testing.assert_close(objective.fold(theta), base.read(model))
    folded = objective.fold(theta)
    expected = base.value(folded) - (objective.strengths * folded.abs()).sum(-1)
    torch.testing.assert_close(objective.value(theta), expected)
    # Along each free entry, up: the gradient is the derivative from the right.
    at = objective.evaluate(theta)
    step = 1e-6 * torch.eye(objective.num_params, dtype=DTYPE)
    numeric = (objective.value(theta + step) - objective.value(theta))[0] / 1e-6
    free = ~((theta <= objective.lower) & (at.gradient < 0))[0, 0]
    torch.testing.assert_close(at.gradient[0, 0][free], numeric[free], rtol=1e-3, atol=1e-2)
    resp = torch.softmax(3.0 * torch.randn(1, 2, 3, 60, dtype=DTYPE, generator=seeded(1)), 2)
    start = objective.from_responsibilities(resp)
    values = [objective.value(start)]
    em_iterations(objective, start, 8, callback=values.append)
    path = torch.stack(values)
    assert bool((path.diff(dim=0) >= -1e-10 * path.abs().max()).all())


def test_settings_and_models_are_checked():
    with pytest.raises(ValueError, match="gate must be non-negative and finite, got -1"):
        Lasso(gate=-1.0)
    x, y = regression(50)
    x = x[:, :1]
    gate = laplace_gate(1, 2, dtype=DTYPE, generator=seeded(0))
    model = MixtureOfExperts(gate, linear_gaussian_experts(1, 2, dtype=DTYPE, generator=seeded(1)))
    with pytest.raises(ValueError, match="penalty can hold a Lasso only for softmax gates"):
        EM(penalty=Lasso(1.0)).fit(model, x, y)


@pytest.mark.parametrize("penalty", [Lasso(1.0), Ridge(1.0), Lasso(1.0) + Ridge(1.0)], ids=repr)
def test_experts_with_kinks_take_no_penalty(penalty):
    x, y = regression(50)
    predictor = LinearPredictor(x.shape[1], 2, dtype=DTYPE, generator=seeded(1))
    model = MixtureOfExperts(softmax_gate(x.shape[1], 2, dtype=DTYPE, generator=seeded(0)), LaplaceExperts(predictor))
    with pytest.raises(ValueError, match="penalty needs experts whose log-density has two derivatives"):
        EM(penalty=penalty).fit(model, x, y)


def test_a_subsample_and_many_data_sets_take_the_lasso():
    x, y = two_regimes(900)
    settings = {"penalty": Lasso(gate=4.0, experts=6.0), "random_state": 0, "n_init": 3}
    sub = EM(subsample=300, **settings).fit(softmax_model(3, 2), x, y)
    full = EM(**settings).fit(softmax_model(3, 2), x, y)
    assert sub.llf == pytest.approx(full.llf, abs=1e-6)
    many = EM(**settings).fit_many(softmax_model(3, 2), torch.stack([x, x]), torch.stack([y, y + 1.0]))
    assert many.llf[0] == pytest.approx(full.llf, abs=1e-6)
    assert many.llf[1] == pytest.approx(full.llf, abs=1e-6)
