"""Penalties hold what the data do not determine: no coefficient of a dependent column is fixed at zero then."""

import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import Ridge as SklearnRidge
from torch.distributions import Normal

from estimators import EM, CollinearityWarning
from estimators.penalties import Lasso, LogPrior, MinimumShare, Ridge
from mixkit import (
    GaussianExperts,
    LinearPredictor,
    MixtureOfExperts,
    PoissonExperts,
    constant_gate,
    linear_gaussian_experts,
    softmax_gate,
)
from mixkit.datasets import load_tone
from mixkit.parameters import CoefficientPattern


def settings():
    return {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}


def one_line(num_features):
    return MixtureOfExperts(constant_gate(1), linear_gaussian_experts(num_features, 1, **settings()))


@pytest.fixture(scope="module")
def doubled():
    rng = np.random.default_rng(0)
    a = rng.normal(size=60)
    return np.c_[a, a], 2.0 * a + rng.normal(size=60)


def test_ridge_divides_a_slope_among_equal_columns(doubled):
    x, y = doubled
    fit = EM(penalty=Ridge(experts=30.0), random_state=0).fit(one_line(2), x, y)
    assert not fit.warnings
    assert fit.objective_value == pytest.approx(-90.45790685, abs=1e-6)
    variance = float(fit.model.experts.log_std.detach().exp()) ** 2 / y.var()
    standard = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    expected = SklearnRidge(alpha=30.0 * variance).fit(*standard).coef_ * y.std() / x.std(0)
    np.testing.assert_allclose(fit.model.experts.predictor.slope.detach()[0], expected, rtol=1e-6)


def test_priors_hold_slopes_as_well(doubled):
    x, y = doubled
    slope = EM(penalty=LogPrior({"slope": Normal(0.0, 1.0)}), random_state=0).fit(one_line(2), x, y).model.experts
    found = slope.predictor.slope.detach()[0]
    assert found[0] == pytest.approx(float(found[1]), rel=1e-9)


@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
def test_the_lasso_ends_where_one_column_does(doubled):
    """Only the sum of the two slopes matters, and the penalty is the same however it is divided."""
    x, y = doubled
    two = EM(penalty=Lasso(experts=3.0), random_state=0).fit(one_line(2), x, y)
    one = EM(penalty=Lasso(experts=3.0), random_state=0).fit(one_line(1), x[:, :1], y)
    assert two.objective_value == pytest.approx(one.objective_value, abs=1e-7)


def test_a_ridge_on_gate_and_experts_is_half_of_one_on_a_single_column():
    """A slope b in two equal parts costs b^2 / 2 times the strength."""
    x, y = (part.numpy() for part in load_tone())
    model = [
        MixtureOfExperts(softmax_gate(d, 2, **settings()), linear_gaussian_experts(d, 2, **settings())) for d in (1, 2)
    ]
    two = EM(penalty=Ridge(gate=5.0, experts=20.0), random_state=0).fit(model[1], np.c_[x, x], y)
    one = EM(penalty=Ridge(gate=2.5, experts=10.0), random_state=0).fit(model[0], x, y)
    assert two.objective_value == pytest.approx(one.objective_value, abs=1e-6)
    assert two.objective_value > 129.39


def test_what_a_penalty_leaves_alone_is_still_fixed():
    x, y = (part.numpy() for part in load_tone())
    model = MixtureOfExperts(softmax_gate(2, 2, **settings()), linear_gaussian_experts(2, 2, **settings()))
    with pytest.warns(CollinearityWarning, match="that the experts read; some of their coefficients are fixed at 0"):
        fit = EM(penalty=Ridge(gate=5.0), random_state=0).fit(model, np.c_[x, x], y)
    assert (fit.model.experts.predictor.slope.detach()[:, 1] == 0.0).all()
    weight = fit.model.gate.score.weight.detach()
    np.testing.assert_allclose(weight[:, 0] - weight[1, 0], weight[:, 1] - weight[1, 1], atol=1e-8)
    with pytest.warns(CollinearityWarning, match="their coefficients are fixed at 0"):
        EM(penalty=MinimumShare(0.1), random_state=0, n_init=1).fit(model, np.c_[x, x], y)


def test_a_constant_column_is_named_though_the_penalty_holds_it(doubled):
    x, y = doubled
    with pytest.warns(CollinearityWarning, match=r"columns \[1\] of x are constant; the penalty alone determines"):
        fit = EM(penalty=LogPrior({"slope": Normal(1.0, 1.0)}), random_state=0).fit(
            one_line(2), np.c_[x[:, 0], np.full(60, 2.0)], y
        )
    assert fit.model.experts.predictor.slope.detach()[0, 1].item() == pytest.approx(1.0)  # the prior's mode
    assert any("the penalty alone" in remark for remark in fit.warnings)


def test_more_columns_than_rows():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 80))
    y = rng.poisson(np.exp(0.5 * x[:, 0])).astype(float)
    model = MixtureOfExperts(constant_gate(1), PoissonExperts(LinearPredictor(80, 1, **settings())))
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollinearityWarning)
        fit = EM(penalty=Ridge(experts=10.0), random_state=0).fit(model, x, y)
    design = np.c_[(x - x.mean(0)) / x.std(0), np.ones(40)]

    def loss(beta):
        eta = design @ beta
        gradient = design.T @ (np.exp(eta) - y) + 10.0 * np.append(beta[:-1], 0.0)
        return np.exp(eta).sum() - y @ eta + 5.0 * (beta[:-1] ** 2).sum(), gradient

    best = minimize(loss, np.zeros(81), jac=True, method="BFGS", options={"gtol": 1e-10}).fun
    constant = float(torch.lgamma(torch.as_tensor(y) + 1.0).sum())
    assert fit.objective_value == pytest.approx(-best - constant, abs=1e-8)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_the_order_of_full_dummies_does_not_change_a_ridge_fit(order):
    rng = np.random.default_rng(2)
    level = rng.integers(3, size=90)
    y = level + rng.normal(size=90)
    x = np.eye(3)[level]
    fit = EM(penalty=Ridge(experts=5.0), random_state=0).fit(one_line(3), x[:, order], y)
    plain = EM(penalty=Ridge(experts=5.0), random_state=0).fit(one_line(3), x, y)
    np.testing.assert_allclose(
        fit.model.experts.predictor.slope.detach()[0], plain.model.experts.predictor.slope.detach()[0, order], rtol=1e-7
    )


# -- ridges in units of each expert's scale ---------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e4])
def test_a_scaled_ridge_is_scikit_learn_s(doubled, unit):
    x, y = doubled
    x = np.c_[x[:, 0], x[:, 0] ** 2]
    fit = EM(penalty=Ridge(experts=30.0, scaled=True), random_state=0).fit(one_line(2), x, unit * y)
    assert fit.converged
    expected = SklearnRidge(alpha=30.0).fit((x - x.mean(0)) / x.std(0), unit * y).coef_ / x.std(0)
    np.testing.assert_allclose(fit.model.experts.predictor.slope.detach()[0], expected, rtol=1e-7)


def test_more_columns_than_rows_have_a_bound_under_a_scaled_ridge():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(30, 60))
    y = x[:, 0] + 0.5 * rng.normal(size=30)
    fit = EM(penalty=Ridge(experts=5.0, scaled=True), random_state=0, n_init=2).fit(one_line(60), x, y)
    assert fit.converged
    expected = SklearnRidge(alpha=5.0).fit((x - x.mean(0)) / x.std(0), y)
    np.testing.assert_allclose(fit.model.experts.predictor.slope.detach()[0], expected.coef_ / x.std(0), rtol=1e-5)
    residual = y - expected.predict((x - x.mean(0)) / x.std(0))
    variance = (residual @ residual + 5.0 * expected.coef_ @ expected.coef_) / 30.0
    assert float(fit.model.experts.log_std.detach().exp()) ** 2 == pytest.approx(variance, rel=1e-6)


def test_a_scaled_ridge_of_counts_is_the_plain_one():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(50, 2))
    y = rng.poisson(np.exp(x[:, 0])).astype(float)
    model = MixtureOfExperts(constant_gate(1), PoissonExperts(LinearPredictor(2, 1, **settings())))
    fits = [EM(penalty=Ridge(experts=3.0, scaled=scaled), random_state=0).fit(model, x, y) for scaled in (False, True)]
    assert fits[0].objective_value == pytest.approx(fits[1].objective_value, abs=1e-8)


def test_slopes_of_several_scales_are_refused():
    pattern = CoefficientPattern.of(2, 1, common=[0])
    experts = GaussianExperts(LinearPredictor(1, 2, pattern=pattern, **settings()), dtype=torch.float64)
    model = MixtureOfExperts(constant_gate(2), experts)
    x, y = load_tone()
    with pytest.raises(ValueError, match="penalty must not be scaled where slopes belong to several scales"):
        EM(penalty=Ridge(experts=1.0, scaled=True), random_state=0, n_init=1).fit(model, x, y)
    with pytest.raises(TypeError, match="scaled must be a bool, got 1"):
        Ridge(scaled=1)
