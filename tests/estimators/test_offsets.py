"""Offsets: a known column added to the experts' locations, unseen by the gate."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, PoissonRegressor

from estimators import EM, MLE, CollinearityWarning, MixtureOfExpertsRegressor
from estimators.data.dataset import Data
from estimators.objectives.autograd import AutogradObjective
from estimators.objectives.choose import make_objective
from estimators.objectives.softmax_gate.objective import LinearObjective
from estimators.penalties import MinimumShare, Ridge
from mixkit import (
    ConstantPredictor,
    GaussianExperts,
    LinearPredictor,
    MixedExperts,
    MixingMeasure,
    MixtureOfExperts,
    ModulePredictor,
    NegativeBinomialExperts,
    PoissonExperts,
    constant_gate,
    laplace_gate,
    softmax_gate,
)

from .models import DTYPE, seeded


def counts_with_exposure(n=300):
    """Counts of rate exp(0.3 + 0.8 x) over exposures from 0.1 to 10, and the logarithms of the exposures."""
    generator = seeded(0)
    x = torch.randn(n, 1, dtype=DTYPE, generator=generator)
    log_exposure = 4.6 * torch.rand(n, 1, dtype=DTYPE, generator=generator) - 2.3
    y = torch.poisson(torch.exp(0.3 + 0.8 * x + log_exposure)[:, 0], generator=generator)
    return x, log_exposure, y


def predictor(k=1, **settings):
    return LinearPredictor(1, k, offset=True, dtype=DTYPE, generator=seeded(1), **settings)


def test_one_poisson_expert_is_a_regression_of_rates_weighted_by_exposure():
    """The score equations of counts with exposure t are those of rates y / t with weights t."""
    x, log_exposure, y = counts_with_exposure()
    model = MixtureOfExperts(constant_gate(1, dtype=DTYPE), PoissonExperts(predictor()))
    result = MLE(n_init=1, tol=1e-16, random_state=0).fit(model, torch.cat([x, log_exposure], 1), y)
    exposure = log_exposure[:, 0].exp()
    peer = PoissonRegressor(alpha=0.0, tol=1e-12, max_iter=10_000, solver="newton-cholesky")
    peer.fit(x, y / exposure, sample_weight=exposure)
    slope, intercept = result.params
    assert slope == pytest.approx(peer.coef_[0], rel=1e-6)
    assert intercept == pytest.approx(peer.intercept_, rel=1e-6)
    rate = torch.exp(intercept + slope * x[:, 0]) * exposure
    design = torch.column_stack([x, torch.ones_like(y)])
    np.testing.assert_allclose(design.mT @ (y - rate), 0.0, atol=1e-4)
    errors = torch.linalg.inv(design.mT @ (rate.unsqueeze(-1) * design)).diagonal().sqrt()
    np.testing.assert_allclose(result.bse, errors, rtol=1e-6)


def test_one_gaussian_expert_is_a_regression_of_the_difference():
    x, offset, _ = counts_with_exposure()
    y = 2.0 * offset[:, 0] + x[:, 0] + 0.1 * torch.randn(300, dtype=DTYPE, generator=seeded(2))
    model = MixtureOfExperts(constant_gate(1, dtype=DTYPE), GaussianExperts(predictor()))
    result = MLE(n_init=1, random_state=0).fit(model, torch.cat([x, offset], 1), y)
    peer = LinearRegression().fit(x, y - offset[:, 0])
    np.testing.assert_allclose(result.params[:2], [peer.coef_[0], peer.intercept_], rtol=1e-6)


@pytest.mark.parametrize("family", [PoissonExperts, NegativeBinomialExperts])
def test_two_experts_and_both_routes(family):
    """Two rates: the fast objective, the general one and the model agree; starts from data and truth meet."""
    x, log_exposure, _ = counts_with_exposure(400)
    both = torch.cat([x, log_exposure], 1)
    model = MixtureOfExperts(softmax_gate(1, 2, dtype=DTYPE, generator=seeded(3)), family(predictor(2)).double())
    with torch.no_grad():
        model.experts.predictor.intercept.copy_(torch.tensor([0.0, 2.0]))
        model.gate.score.weight.copy_(torch.tensor([[3.0], [0.0]]))
        y = model(both).sample(generator=seeded(4))
    data, pinned = Data(both[None], y[None], None), torch.zeros(2, dtype=torch.bool)
    fast, slow = make_objective(model, data, 1e-6, pinned), AutogradObjective(model, data, variance_floor=1e-6)
    assert isinstance(fast, LinearObjective)
    torch.testing.assert_close(fast.value(fast.read(model)), slow.value(slow.read(model)))
    result = EM(random_state=0, n_init=6).fit(model, both, y)
    from_truth = MLE(n_init=0, starts=[], start_at_model=True).fit(model, both, y)
    assert result.llf == pytest.approx(from_truth.llf, abs=1e-6)
    assert result.llf == pytest.approx(float(result.model.log_prob(both, y).detach().sum()), abs=1e-8)


def test_more_exposure_means_more_counts_and_the_same_gate():
    model = MixtureOfExperts(softmax_gate(1, 2, dtype=DTYPE, generator=seeded(3)), PoissonExperts(predictor(2)))
    x = torch.randn(5, 1, dtype=DTYPE, generator=seeded(4))
    once, twice = (torch.cat([x, torch.full_like(x, np.log(t))], 1) for t in (1.0, 2.0))
    torch.testing.assert_close(model(twice).mean, 2.0 * model(once).mean)
    assert torch.equal(model(twice).log_weights, model(once).log_weights)
    assert model.has_offset
    assert torch.equal(model.covariates(once), x)


def test_constant_and_neural_predictors_and_mixed_families_take_offsets():
    x, log_exposure, _ = counts_with_exposure()
    both = torch.cat([x, log_exposure], 1)
    layer = torch.nn.utils.skip_init(torch.nn.Linear, 1, 2).double()
    linear = predictor(2)
    with torch.no_grad():
        layer.weight.copy_(linear.slope)
        layer.bias.copy_(linear.intercept)
    torch.testing.assert_close(ModulePredictor(layer, 2, offset=True)(both), linear(both))
    constant = ConstantPredictor(2, offset=True, dtype=DTYPE, generator=seeded(0))
    torch.testing.assert_close(constant(both), constant.intercept + log_exposure)
    plain = LinearPredictor(1, 1, dtype=DTYPE, generator=seeded(0))
    mixed = MixedExperts([PoissonExperts(constant), PoissonExperts(plain)])
    torch.testing.assert_close(mixed(both).mean[:, 2:], torch.exp(plain(x)))
    assert mixed.has_offset
    assert "offset=True" in repr(linear)
    assert "offset=True" in repr(constant)


@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
def test_an_offset_is_no_covariate_to_checks_penalties_and_other_gates():
    x, _, y = counts_with_exposure(100)
    equal = torch.cat([x, torch.full_like(x, 0.7)], 1)  # a constant offset is no constant covariate
    model = MixtureOfExperts(softmax_gate(1, 2, dtype=DTYPE, generator=seeded(3)), PoissonExperts(predictor(2)))
    penalty = Ridge(gate=1.0, experts=1.0) + MinimumShare(0.05)
    result = EM(n_init=2, penalty=penalty, random_state=0).fit(model, equal, y)
    assert result.param_names == [
        "gate_weight[0,x0]", "gate_bias[0]", "slope[0,x0]", "intercept[0]", "slope[1,x0]", "intercept[1]",
    ]  # fmt: skip
    other = MixtureOfExperts(laplace_gate(1, 2, dtype=DTYPE, generator=seeded(3)), PoissonExperts(predictor(2)))
    assert np.isfinite(EM(n_init=1, em_iter=2, max_iter=20, random_state=0).fit(other, equal, y).llf)
    wide = torch.cat([x, 2.0 * x, x], 1)
    experts = PoissonExperts(LinearPredictor(2, 1, offset=True, generator=seeded(0)))
    with pytest.warns(CollinearityWarning, match=r"columns \[1\]"):
        EM(n_init=1, random_state=0).fit(MixtureOfExperts(constant_gate(1), experts), wide, y)


def test_the_regressor_takes_experts_with_an_offset():
    x, log_exposure, y = counts_with_exposure()
    both = torch.cat([x, log_exposure], 1).numpy()
    model = MixtureOfExpertsRegressor(1, experts=PoissonExperts(predictor()), random_state=0).fit(both, y.numpy())
    doubled = both + np.log(2.0) * np.array([0.0, 1.0])
    np.testing.assert_allclose(model.predict(doubled), 2.0 * model.predict(both))


def test_a_mixing_measure_has_no_place_for_an_offset():
    model = MixtureOfExperts(softmax_gate(1, 2, dtype=DTYPE, generator=seeded(3)), GaussianExperts(predictor(2)))
    with pytest.raises(TypeError, match=r"model\.experts must have no offset"):
        MixingMeasure.from_module(model)


def test_columns_are_counted():
    x, _, y = counts_with_exposure()
    model = MixtureOfExperts(softmax_gate(1, 2, generator=seeded(3)), PoissonExperts(predictor(2)))
    with pytest.raises(ValueError, match="x must have the 2 covariates of the model's LinearScore"):
        EM().fit(model, x, y)
    with pytest.raises(ValueError, match="x must have 2 columns, covariates and the offset, in its last dimension"):
        predictor()(x)
    with pytest.raises(ValueError, match="offset needs a scalar location, response_dim None, got 2"):
        predictor(response_dim=2)
