"""Penalties: their derivatives, what they equal elsewhere, and the fits they make possible."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge
from torch.distributions import Gamma, Normal

from estimators import EM, MLE, MixtureOfExpertsRegressor
from estimators.data.dataset import Data
from estimators.objectives.choose import make_objective
from estimators.optimizers.em_iterations import em_iterations
from estimators.penalties import LogPrior, MinimumShare, PenalizedObjective, Penalty, Ridge
from mixkit import (
    CategoricalExperts,
    ConstantPredictor,
    GaussianExperts,
    LinearPredictor,
    MixtureOfExperts,
    ModulePredictor,
    constant_gate,
    laplace_gate,
    linear_gaussian_experts,
    sigmoid_gate,
    softmax_gate,
)
from mixkit.datasets import load_ethanol, load_faithful, load_mcycle
from mixkit.mixture import MixtureOfExperts as Model

from .models import DTYPE, LINEAR_CASES, seeded, softmax_model

PENALTIES = {
    "ridge": Ridge(gate=0.7, experts=0.3),
    "prior": LogPrior({"slope": Normal(0.0, 2.0), "gate_bias": Normal(0.5, 1.0)}),
    "share": MinimumShare(0.02, strength=3.0),
    "sum": Ridge(gate=0.2) + LogPrior({"intercept": Normal(0.0, 3.0)}) + MinimumShare(0.01),
}
every_penalty = pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES.keys())


def penalized(case, penalty, seed=3):
    model, (x, y) = case.model(2, 3, seed), case.data(60, 2, seed)
    data = Data(x[None], y[None], torch.rand(1, 60, dtype=DTYPE, generator=seeded(0)) + 0.1)
    base = make_objective(model, data, 1e-6, torch.zeros(2, dtype=torch.bool))
    return PenalizedObjective(base, penalty, model)


CASES = ["softmax, gaussian", "softmax, poisson", "constant gate", "top-2 by slope", "poisson with an offset"]


@every_penalty
@pytest.mark.parametrize("case", [case for case in LINEAR_CASES if case.name in CASES], ids=CASES)
def test_derivatives_are_those_of_the_value(case, penalty):
    objective = penalized(case, penalty)
    theta = objective.read(case.model(2, 3, 3))
    evaluation = objective.evaluate(theta)
    torch.testing.assert_close(objective.value(theta), evaluation.value)
    step = 1e-5 * torch.eye(objective.num_params, dtype=DTYPE)
    up, down = objective.evaluate(theta + step), objective.evaluate(theta - step)
    numeric = (up.value - down.value)[0] / 2e-5
    assert (up.gradient.shape, numeric.shape) == ((1, objective.num_params, objective.num_params), (len(step),))
    torch.testing.assert_close(evaluation.gradient[0, 0], numeric, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(evaluation.hessian[0, 0], (up.gradient - down.gradient)[0] / 2e-5, rtol=1e-5, atol=1e-4)


@every_penalty
def test_some_of_the_data_sets_have_their_own_values(penalty):
    case = LINEAR_CASES[0]
    model = case.model(2, 3, 3)
    x, y = (torch.stack(parts) for parts in zip(*(case.data(60, 2, seed) for seed in range(4)), strict=True))
    weight = torch.rand(4, 60, dtype=DTYPE, generator=seeded(0)) + 0.1
    base = make_objective(model, Data(x, y, weight), 1e-6, torch.zeros(2, dtype=torch.bool))
    whole = PenalizedObjective(base, penalty, model)
    theta = torch.cat([whole.read(model), 0.9 * whole.read(model)], 1)
    sets = torch.tensor([0, 3])
    part = whole.on_sets(sets)
    for own, all_of_them in zip(part.evaluate(theta[sets]), whole.evaluate(theta), strict=True):
        torch.testing.assert_close(own, all_of_them[sets], rtol=1e-10, atol=1e-10)
    alone = part.on_sets(torch.tensor([1]))
    torch.testing.assert_close(alone.value(theta[3:]), whole.value(theta)[3:], rtol=1e-10, atol=1e-10)


@every_penalty
def test_em_iterations_never_lower_the_penalized_log_likelihood(penalty):
    for index in (0, 2, 3, 5) if penalty.is_quadratic else (0, 3):
        case = LINEAR_CASES[index]
        for seed in range(3 if penalty.is_quadratic else 1):
            objective = penalized(case, penalty, seed)
            resp = torch.softmax(3.0 * torch.randn(1, 2, 3, 60, dtype=DTYPE, generator=seeded(seed)), 2)
            theta = objective.from_responsibilities(resp)
            values = [objective.value(theta)]
            em_iterations(objective, theta, 6, callback=values.append)
            path = torch.stack(values)
            assert bool(torch.isfinite(path).all()), (case.name, seed)
            assert bool((path.diff(dim=0) >= -1e-10 * path.abs().max()).all()), (case.name, seed)


@pytest.mark.parametrize("estimator", [EM, MLE])
@pytest.mark.parametrize("strength", [0.5, 30.0])
def test_one_expert_under_ridge_is_sklearns(estimator, strength):
    """Maximizing over the slopes at the fitted variance is Ridge(alpha) with alpha the strength times it."""
    x, y = load_ethanol()
    x, y = ((part - part.mean(0)) / part.std(0, correction=0) for part in (x, y))
    result = estimator(n_init=1, penalty=Ridge(experts=strength), random_state=0).fit(softmax_model(2, 1), x, y)
    named = dict(zip(result.param_names, result.params, strict=True))
    peer = SklearnRidge(alpha=strength * named["std[0]"] ** 2, tol=1e-12).fit(x, y)
    np.testing.assert_allclose([named["slope[0,x0]"], named["slope[0,x1]"]], peer.coef_, rtol=1e-4)
    residual = y.numpy() - peer.predict(x)
    assert named["std[0]"] == pytest.approx(np.sqrt(np.mean(residual**2)), rel=1e-5)
    assert result.converged
    penalty = 0.5 * strength * (peer.coef_**2).sum()
    assert result.objective_value == pytest.approx(result.llf - penalty, abs=1e-4)


def test_units_do_not_matter_to_ridge():
    x, y = load_faithful()
    settings = {"penalty": Ridge(gate=1.0, experts=2.0), "random_state": 0}
    plain = EM(**settings).fit(softmax_model(1, 2), x, y)
    scaled = EM(**settings).fit(softmax_model(1, 2), 1000.0 * x + 5.0, 0.01 * y)
    assert scaled.llf - len(y) * np.log(100.0) == pytest.approx(plain.llf, abs=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_one_categorical_expert_under_ridge_is_sklearns(classes):
    """LogisticRegression of two classes penalizes their one difference; ours both logits' distances from the mean."""
    generator = seeded(0)
    x = torch.randn(200, 2, dtype=DTYPE, generator=generator)
    x = (x - x.mean(0)) / x.std(0, correction=0)
    y = torch.randint(classes, (200,), generator=generator).to(DTYPE)
    y = torch.where(x[:, 0] > 0.7, 0.0, y)
    predictor = LinearPredictor(2, 1, response_dim=classes - 1, dtype=DTYPE, generator=generator)
    model = MixtureOfExperts(constant_gate(1, dtype=DTYPE), CategoricalExperts(predictor))
    result = MLE(n_init=1, penalty=Ridge(experts=2.0)).fit(model, x, y)
    inverse = 0.5 if classes > 2 else 1.0
    peer = LogisticRegression(C=inverse, tol=1e-10, max_iter=1000).fit(x, y)
    found = result.model(x).components.logits[:, 0].exp().detach()
    np.testing.assert_allclose(found, peer.predict_proba(x), atol=1e-6)


def test_the_penalty_does_not_depend_on_the_reference_expert():
    x, y = load_faithful()
    model = softmax_model(1, 3)
    data, pinned = Data(x[None], y[None], None), torch.zeros(1, dtype=torch.bool)
    values = []
    for order in ([0, 1, 2], [2, 0, 1]):
        twin = softmax_model(1, 3)
        with torch.no_grad():
            for name, parameter in twin.named_parameters():
                parameter.copy_(model.get_parameter(name)[order])
        objective = PenalizedObjective(make_objective(twin, data, 1e-6, pinned), Ridge(1.0, 2.0), twin)
        values.append(float(objective.value(objective.read(twin))))
    assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_ridge_keeps_gates_finite_that_jump():
    """Regimes of the motorcycle data change so abruptly that some gates have no estimate without a penalty."""
    x, y = load_mcycle()
    result = EM(n_init=20, penalty=Ridge(gate=0.1), random_state=0).fit(softmax_model(1, 4), x, y)
    assert result.converged
    assert np.isfinite(result.bse).all()
    slopes = [value for name, value in zip(result.param_names, result.params, strict=True) if "gate_weight" in name]
    assert np.abs(slopes).max() * float(x.std()) < 60.0


def test_a_normal_prior_is_ridge():
    x, y = load_faithful()
    x, y = ((part - part.mean()) / part.std(correction=0) for part in (x, y))
    settings = {"n_init": 4, "random_state": 0}
    prior = LogPrior({"slope": Normal(0.0, 0.5)})
    by_prior = EM(penalty=prior, **settings).fit(softmax_model(1, 2), x, y)
    by_ridge = EM(penalty=Ridge(experts=4.0), **settings).fit(softmax_model(1, 2), x, y)
    assert by_prior.llf == pytest.approx(by_ridge.llf, abs=1e-7)
    np.testing.assert_allclose(by_prior.params, by_ridge.params, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(by_prior.bse, by_ridge.bse, rtol=1e-4)


def test_the_mode_of_a_conjugate_posterior():
    """One normal law: mean m of prior N(0, 1), deviation of prior Gamma(3, 2): both conditions of the mode hold."""
    y = 2.0 + 0.5 * torch.randn(30, dtype=DTYPE, generator=seeded(0))
    experts = GaussianExperts(ConstantPredictor(1, dtype=DTYPE, generator=seeded(0)), dtype=DTYPE)
    model = MixtureOfExperts(constant_gate(1, dtype=DTYPE), experts)
    prior = LogPrior({"intercept": Normal(0.0, 1.0), "std": Gamma(3.0, 2.0)})
    result = MLE(n_init=1, penalty=prior).fit(model, torch.arange(30, dtype=DTYPE)[:, None], y)
    mean, std = result.params
    assert mean == pytest.approx(float(y.sum()) / (30.0 + std**2), rel=1e-5)
    square = float((y - mean).square().sum())
    assert -30.0 / std + square / std**3 + 2.0 / std - 2.0 == pytest.approx(0.0, abs=1e-2)


def test_names_of_priors_are_checked():
    with pytest.raises(TypeError, match=r"priors\['slope'\] must be a distribution, got float"):
        LogPrior({"slope": 1.0})
    x, y = load_faithful()
    with pytest.raises(
        ValueError, match=r"priors must name parameters of the model, such as \[.*'slope', 'std'\], got 'slop'"
    ):
        EM(penalty=LogPrior({"slop": Normal(0.0, 1.0)})).fit(softmax_model(1, 2), x, y)


@pytest.mark.parametrize("gate", ["constant", "softmax"])
def test_every_share_stays_above_the_least(gate):
    """Two far points make an expert of their own without the barrier; with it no expert has so few."""
    y = torch.cat([torch.randn(98, dtype=DTYPE, generator=seeded(0)), torch.tensor([9.0, 9.5], dtype=DTYPE)])
    x = torch.randn(100, 1, dtype=DTYPE, generator=seeded(1))
    experts = GaussianExperts(ConstantPredictor(2, dtype=DTYPE, generator=seeded(0)), dtype=DTYPE)
    made = constant_gate(2, dtype=DTYPE) if gate == "constant" else softmax_gate(1, 2, dtype=DTYPE, generator=seeded(2))
    model = MixtureOfExperts(made, experts)
    free = EM(random_state=0, penalty=Ridge(gate=0.1)).fit(model, x, y)
    assert free.model.gate(x).exp().mean(0).min() < 0.03
    for share in (0.1, 0.3):
        kept = EM(random_state=0, penalty=MinimumShare(share) + Ridge(gate=0.1)).fit(model, x, y)
        assert kept.model.gate(x).exp().mean(0).min() > share
        assert kept.converged
    with pytest.raises(ValueError, match=r"share must be below 1 / k = 0\.5, got 0\.6"):
        EM(penalty=MinimumShare(0.6)).fit(model, x, y)


@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
@pytest.mark.parametrize(("gate", "is_smooth"), [(sigmoid_gate, True), (laplace_gate, False)])
def test_other_gates_take_penalties_too(gate, is_smooth):
    """A Laplace gate's fit may end at a kink of the likelihood, where a center meets an observation: no certificate."""
    x, y = load_faithful()
    x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    model = MixtureOfExperts(gate(1, 2, generator=seeded(0)), linear_gaussian_experts(1, 2, generator=seeded(1)))
    settings = {"n_init": 2, "em_iter": 3, "penalty": Ridge(experts=5.0), "random_state": 0}
    result = EM(n_moves=0, **settings).fit(model, x, y)
    slopes = [value for name, value in zip(result.param_names, result.params, strict=True) if name.startswith("slope")]
    assert len(slopes) == 2
    assert result.objective_value == pytest.approx(result.llf - 2.5 * np.square(slopes).sum(), rel=1e-12)
    if is_smooth:
        assert result.grad_norm < 1e-6
        assert result.converged
        moved = EM(**settings).fit(model, x, y)
        assert moved.objective_value > result.objective_value - 1e-9


def test_large_networks_climb_by_lbfgs_under_a_penalty(monkeypatch):
    monkeypatch.setattr("estimators.search.estimator._LARGEST_HESSIAN", 5)
    monkeypatch.setattr(PenalizedObjective, "largest_hessian", 5)
    x, y = load_faithful()
    x, y = (x - x.mean()) / x.std(correction=0), (y - y.mean()) / y.std(correction=0)
    layer = torch.nn.utils.skip_init(torch.nn.Linear, 1, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.1], [0.3]]))
        layer.bias.copy_(torch.tensor([-0.5, 0.5]))
    gate = softmax_gate(1, 2, generator=seeded(0))
    neural = Model(gate, GaussianExperts(ModulePredictor(layer, 2)))
    result = MLE(n_init=2, penalty=Ridge(experts=3.0), random_state=0).fit(neural, x, y)
    linear = MLE(n_init=4, penalty=Ridge(experts=3.0), random_state=0).fit(softmax_model(1, 2), x, y)
    assert result.objective_value == pytest.approx(linear.objective_value, abs=1e-4)


def test_settings_of_penalties_are_checked():
    with pytest.raises(ValueError, match="gate must be non-negative and finite, got -1"):
        Ridge(gate=-1.0)
    with pytest.raises(TypeError, match="experts must be a non-negative number, got str"):
        Ridge(experts="1")
    with pytest.raises(ValueError, match="share must be positive"):
        MinimumShare(0.0)
    x, y = load_faithful()
    with pytest.raises(TypeError, match=r"penalty must be an estimators\.penalties\.Penalty, got float"):
        EM(penalty=1.0).fit(softmax_model(1, 2), x, y)


def test_a_penalty_of_a_user():
    """Pulling two slopes together: as the strength grows they meet."""

    class Together(Penalty):
        is_quadratic = True

        def __init__(self, strength):
            self.strength = strength

        def value(self, view):
            return self.strength * view.parameters["experts.predictor.slope"].diff(dim=0).square().sum()

    x, y = load_faithful()
    gaps = []
    for strength in (0.0, 1.0, 1000.0):
        result = EM(penalty=Together(strength), n_init=4, n_moves=0, random_state=0).fit(softmax_model(1, 2), x, y)
        gaps.append(abs(float(result.model.experts.predictor.slope.detach().diff(dim=0))))
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.05


def test_the_regressor_takes_a_penalty():
    x, y = (part.numpy() for part in load_faithful())
    penalty = Ridge(gate=1.0, experts=2.0)
    face = MixtureOfExpertsRegressor(penalty=penalty, random_state=0).fit(x, y)
    own = EM(penalty=penalty, random_state=0).fit(softmax_model(1, 2), x, y)
    assert face.log_likelihood_ == pytest.approx(own.llf, abs=1e-6)
    assert face.result_.objective_value < face.log_likelihood_
