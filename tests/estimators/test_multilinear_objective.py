"""Experts of several locations and mixed families: the fast objective against autograd, and fits against the truth."""

import copy

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression

from estimators import EM, MLE, SingularInformationWarning
from estimators.data.dataset import Data
from estimators.objectives.autograd import AutogradObjective
from estimators.objectives.choose import make_objective
from estimators.objectives.multi_location.objective import MultiLinearObjective
from estimators.objectives.softmax_gate import design
from estimators.optimizers.em_iterations import em_iterations
from mixkit import (
    CategoricalExperts,
    ConstantPredictor,
    LinearPredictor,
    LogNormalExperts,
    MixedExperts,
    MixtureOfExperts,
    ModulePredictor,
    NegativeBinomialExperts,
    PointMassExperts,
    PoissonExperts,
    ZeroInflatedLogNormalExperts,
    constant_gate,
    softmax_gate,
)
from mixkit.gates import Gate
from mixkit.gates.scores import LinearScore
from mixkit.gates.temperatures import FixedTemperature

from .models import DTYPE, seeded

N, D, K = 50, 2, 3


def categorical(d, k, classes=4):
    return CategoricalExperts(LinearPredictor(d, k, response_dim=classes - 1, dtype=DTYPE, generator=seeded(1)))


def zero_inflated(d, k):
    predictor = LinearPredictor(d, k, response_dim=2, dtype=DTYPE, generator=seeded(1))
    return ZeroInflatedLogNormalExperts(predictor, dtype=DTYPE)


def log_normal(d, k):
    return LogNormalExperts(LinearPredictor(d, k, dtype=DTYPE, generator=seeded(2)), dtype=DTYPE)


def selection(d, k):
    """An atom at zero, and positive laws of two kinds."""
    constant = LogNormalExperts(ConstantPredictor(1, dtype=DTYPE, generator=seeded(3)), dtype=DTYPE)
    return MixedExperts([PointMassExperts(0.0), log_normal(d, k - 2), constant])


def counts(d, k):
    settings = {"dtype": DTYPE, "generator": seeded(4)}
    poisson = PoissonExperts(LinearPredictor(d, 1, **settings))
    return MixedExperts([poisson, NegativeBinomialExperts(LinearPredictor(d, k - 1, **settings), dtype=DTYPE)])


FAMILIES = {
    "categorical": categorical,
    "zero-inflated": zero_inflated,
    "log-normal": log_normal,
    "selection": selection,
    "counts": counts,
}
GATES = {
    "softmax": lambda d, k: softmax_gate(d, k, dtype=DTYPE, generator=seeded(5)),
    "constant": lambda d, k: constant_gate(k, dtype=DTYPE),
    "temperature": lambda d, k: Gate(
        LinearScore(d, k, dtype=DTYPE, generator=seeded(5)), temperature=FixedTemperature(0.5)
    ),
}
every_family = pytest.mark.parametrize("name", FAMILIES)


def problem(name, gate="softmax", n=N, seed=0):
    """A model and data from it."""
    model = MixtureOfExperts(GATES[gate](D, K), FAMILIES[name](D, K))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
        x = 2.0 * torch.randn(n, D, dtype=DTYPE, generator=seeded(seed)) + 1.0
        y = model(x).sample(generator=seeded(seed + 1))
    weight = torch.rand(1, n, dtype=DTYPE, generator=seeded(seed + 2))
    return model, Data(x[None], y[None], weight)


def objective_of(model, data):
    return MultiLinearObjective(model, data, variance_floor=1e-6, pinned_columns=torch.zeros(D, dtype=torch.bool))


@every_family
@pytest.mark.parametrize("gate", GATES)
def test_value_and_derivatives_are_those_of_the_model(name, gate):
    model, data = problem(name, gate)
    assert MultiLinearObjective.supports(model)
    objective = objective_of(model, data)
    theta = objective.read(model)

    def value(vector):
        law = torch.func.functional_call(model, objective.parameters(vector), (data.x[0],))
        return (data.weight[0] * law.log_prob(data.y[0])).sum()

    evaluation = objective.evaluate(theta)
    gradient = torch.autograd.functional.jacobian(value, theta[0, 0])
    torch.testing.assert_close(evaluation.value[0, 0], value(theta[0, 0]))
    torch.testing.assert_close(objective.value(theta), evaluation.value)
    torch.testing.assert_close(evaluation.gradient[0, 0], gradient)
    torch.testing.assert_close(evaluation.hessian[0, 0], torch.autograd.functional.hessian(value, theta[0, 0]))
    torch.testing.assert_close(objective.scores(theta[0, 0]).sum(0), gradient)
    torch.testing.assert_close(objective.expected_counts(theta).sum(), data.weight.sum())


@every_family
def test_the_hessian_of_the_complete_data_is_that_of_the_expected_log_likelihood(name):
    model, data = problem(name)
    objective = objective_of(model, data)
    theta = objective.read(model)
    with torch.no_grad():
        resp = model(data.x[0]).log_responsibilities(data.y[0]).exp() * data.weight[0, :, None]

    def expected(vector):
        law = torch.func.functional_call(model, objective.parameters(vector), (data.x[0],))
        terms = law.log_weights + law.components.log_prob(data.y[0].unsqueeze(-1))
        return (resp * torch.where(resp > 0, terms, 0.0)).sum()

    complete = objective.complete(theta)
    hessian = torch.autograd.functional.hessian(expected, theta[0, 0])
    torch.testing.assert_close(complete.hessian[0, 0], hessian)
    torch.testing.assert_close(complete.gradient[0, 0], torch.autograd.functional.jacobian(expected, theta[0, 0]))
    torch.testing.assert_close(complete.gradient, objective.evaluate(theta).gradient)  # Fisher's identity


@every_family
def test_many_vectors_and_chunks_are_as_one(name, monkeypatch):
    model, data = problem(name)
    whole = objective_of(model, data)
    monkeypatch.setattr(design, "_CHUNK_ENTRIES", 1)
    monkeypatch.setattr(design, "_SHORTEST_CHUNK", 7)
    pieces = objective_of(model, data)
    assert len(list(pieces.design.chunks())) > 1
    theta = whole.read(model)
    batch = torch.cat([theta, 0.5 * theta], 1)
    together, apart = pieces.evaluate(batch), [whole.evaluate(batch[:, s : s + 1]) for s in range(2)]
    for part in range(3):
        torch.testing.assert_close(together[part], torch.cat([evaluation[part] for evaluation in apart], 1))
    resp = torch.softmax(torch.randn(1, 2, K, N, dtype=DTYPE, generator=seeded(9)), 2)
    torch.testing.assert_close(pieces.from_responsibilities(resp), whole.from_responsibilities(resp))


@every_family
def test_reading_writing_and_carrying_keep_the_model(name):
    model, data = problem(name)
    objective = objective_of(model, data)
    theta = objective.read(model)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    objective.write(theta[0, 0], twin)
    torch.testing.assert_close(twin.log_prob(data.x[0], data.y[0]), model.log_prob(data.x[0], data.y[0]))
    other = objective_of(model, Data(3.0 * data.x + 1.0, data.y, None))
    torch.testing.assert_close(other.transfer(theta, objective), other.read(model))
    to_user = objective.user_map()
    named = dict(zip(to_user.names, to_user.values(theta[0, 0]).tolist(), strict=True))
    assert len(named) == objective.num_params
    weight = model.gate.score.weight.detach()
    assert named["gate_weight[1,x0]"] == pytest.approx(float(weight[1, 0] - weight[2, 0]))


def test_names_tell_the_location():
    model, data = problem("zero-inflated")
    assert {"slope[0,logit,x1]", "intercept[2,mean]", "std[1]"} <= set(objective_of(model, data).user_map().names)
    model, data = problem("selection")
    names = objective_of(model, data).user_map().names
    assert "std[0]" not in names
    assert {"slope[1,x0]", "intercept[2]", "std[1]", "std[2]"} <= set(names)


def test_em_never_lowers_the_log_likelihood():
    for name in FAMILIES:
        for seed in range(6):
            model, data = problem(name, seed=seed)
            objective = objective_of(model, data)
            shape = (1, 3, objective.num_params)
            theta = objective.project(torch.randn(shape, dtype=DTYPE, generator=seeded(seed)))
            values = [objective.value(theta)]
            em_iterations(objective, theta, 8, callback=values.append)
            path = torch.stack(values)
            assert bool(torch.isfinite(path).all()), (name, seed)
            assert bool((path.diff(dim=0) >= -1e-10 * path.abs().max()).all()), (name, seed)


def test_one_categorical_expert_is_multinomial_regression():
    x = torch.randn(300, D, dtype=DTYPE, generator=seeded(0))
    model = MixtureOfExperts(constant_gate(1, dtype=DTYPE), categorical(D, 1, classes=3))
    with torch.no_grad():
        y = model(x).sample(generator=seeded(1))
    result = MLE(n_init=1, random_state=0).fit(model, x, y)
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, y)
    assert result.converged
    found = result.model(x).components.logits[:, 0].exp().detach()
    np.testing.assert_allclose(found, peer.predict_proba(x), atol=1e-5)


def test_one_zero_inflated_expert_is_two_regressions():
    """A logistic regression of y > 0 and a linear one of log y given y > 0, with their standard errors."""
    model = MixtureOfExperts(constant_gate(1, dtype=DTYPE), zero_inflated(D, 1))
    x = torch.randn(300, D, dtype=DTYPE, generator=seeded(0))
    with torch.no_grad():
        y = model(x).sample(generator=seeded(1))
    result = EM(n_init=1, random_state=0).fit(model, x, y)
    named = dict(zip(result.param_names, zip(result.params, result.bse, strict=True), strict=True))
    bought = y > 0
    line = torch.column_stack([x, torch.ones_like(y)])[bought]
    solution = torch.linalg.lstsq(line, y[bought].log()).solution
    variance = (y[bought].log() - line @ solution).square().mean()
    errors = (variance * torch.linalg.inv(line.mT @ line).diagonal()).sqrt()
    names = ["slope[0,mean,x0]", "slope[0,mean,x1]", "intercept[0,mean]"]
    np.testing.assert_allclose([named[n] for n in names], torch.stack([solution, errors], 1), rtol=1e-6)
    assert named["std[0]"][0] == pytest.approx(float(variance.sqrt()), rel=1e-7)
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, bought)
    assert named["slope[0,logit,x0]"][0] == pytest.approx(peer.coef_[0, 0], rel=1e-4)


TRUTH = {
    "zero-inflated": ([[[2.0], [0.5]], [[-1.0], [1.0]]], [[1.5, 3.0], [-0.5, -1.0]], [0.5, 0.8]),
    "categorical": ([[[3.0], [0.0]], [[-3.0], [1.0]]], [[0.0, 1.0], [0.5, -1.0]], None),
}


def true_model(name):
    slope, intercept, std = TRUTH[name]
    predictor = LinearPredictor(1, 2, response_dim=2, dtype=DTYPE, generator=seeded(0))
    experts = CategoricalExperts(predictor)
    if std is not None:
        experts = ZeroInflatedLogNormalExperts(predictor, dtype=DTYPE)
    model = MixtureOfExperts(softmax_gate(1, 2, dtype=DTYPE, generator=seeded(0)), experts)
    with torch.no_grad():
        predictor.slope.copy_(torch.tensor(slope))
        predictor.intercept.copy_(torch.tensor(intercept))
        model.gate.score.weight.copy_(torch.tensor([[4.0], [0.0]]))
        model.gate.score.bias.zero_()
        if std is not None:
            experts.log_std.copy_(torch.tensor(std).log())
    return model


def sample_of(model, n):
    x = 2.0 * torch.rand(n, 1, dtype=DTYPE, generator=seeded(3)) - 1.0
    with torch.no_grad():
        return x, model(x).sample(generator=seeded(4))


def test_parameters_are_recovered_within_their_standard_errors():
    """Squared errors over the estimated covariance are chi-square; false alarm 1e-5 at a fixed seed."""
    model = true_model("zero-inflated")
    x, y = sample_of(model, 4000)
    result = MLE(n_init=0, starts=[], start_at_model=True).fit(model, x, y)
    assert result.converged
    objective = make_objective(model, Data(x[None], y[None], None), 1e-6, torch.zeros(1, dtype=torch.bool))
    error = result.params - objective.user_map().values(objective.read(model)[0, 0]).numpy()
    distance = error @ np.linalg.solve(result.cov_params(), error)
    assert distance < stats.chi2.isf(1e-5, len(error))
    found = EM(n_init=8, random_state=0).fit(model, x, y)
    assert found.llf == pytest.approx(result.llf, abs=1e-6)


@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")  # experts of labels are hard to tell apart
@pytest.mark.parametrize("name", TRUTH)
def test_the_truth_is_as_likely_as_it_should_be(name):
    """Twice the log-likelihood above the truth's is at most chi-square with P degrees; false alarm 1e-5 a law."""
    model = true_model(name)
    x, y = sample_of(model, 2000)
    result = EM(random_state=0).fit(model, x, y)
    gain = 2.0 * (result.llf - float(model.log_prob(x, y).detach().sum()))
    assert 0.0 < gain < stats.chi2.isf(1e-5, result.df_model)


def test_the_selection_gate_finds_the_zeros():
    """The gate's weight of the atom is the probability of zero: a logistic regression on its own."""
    x = 2.0 * torch.rand(1000, 1, dtype=DTYPE, generator=seeded(0)) - 1.0
    generator = seeded(1)
    bought = torch.rand(1000, dtype=DTYPE, generator=generator) < torch.sigmoid(1.0 + 2.0 * x[:, 0])
    amount = torch.exp(2.0 + x[:, 0] + 0.4 * torch.randn(1000, dtype=DTYPE, generator=generator))
    y = torch.where(bought, amount, 0.0)
    experts = MixedExperts([PointMassExperts(0.0), log_normal(1, 1)])
    model = MixtureOfExperts(softmax_gate(1, 2, dtype=DTYPE, generator=seeded(0)), experts)
    result = EM(random_state=0).fit(model, x, y)
    peer = LogisticRegression(C=np.inf, tol=1e-10).fit(x, y == 0)
    named = dict(zip(result.param_names, result.params, strict=True))
    assert named["gate_weight[0,x0]"] == pytest.approx(peer.coef_[0, 0], rel=1e-4)
    assert named["gate_bias[0]"] == pytest.approx(peer.intercept_[0], rel=1e-3)
    line = np.polyfit(x[bought, 0], y[bought].log(), 1)
    assert named["slope[1,x0]"] == pytest.approx(line[0], rel=1e-5)
    assert result.converged


def test_neural_locations_take_the_general_route():
    """The same linear map as a module: the objective by autograd reaches the same maximum."""
    x = torch.randn(200, 1, dtype=DTYPE, generator=seeded(0))
    model = true_model("zero-inflated")
    with torch.no_grad():
        y = model(x).sample(generator=seeded(1))
    layer = torch.nn.utils.skip_init(torch.nn.Linear, 1, 2)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
    network = torch.nn.Sequential(layer, torch.nn.Unflatten(-1, (1, 2)))
    neural = ZeroInflatedLogNormalExperts(ModulePredictor(network, 1, response_dim=2))
    general = MixtureOfExperts(constant_gate(1), neural)
    data = Data(x[None], y[None], None)
    assert isinstance(make_objective(general, data, 1e-6, torch.zeros(1, dtype=torch.bool)), AutogradObjective)
    ours = MLE(n_init=1, random_state=0).fit(general, x, y)
    fast = MLE(n_init=1, random_state=0).fit(MixtureOfExperts(constant_gate(1), zero_inflated(1, 1)), x, y)
    assert ours.llf == pytest.approx(fast.llf, abs=1e-6)


def test_a_collapsing_expert_stops_at_the_floor():
    y = torch.tensor([0.0] * 20 + [1.0] * 20 + [2.0, 3.0, 5.0, 8.0] * 5, dtype=DTYPE)
    x = torch.randn(60, 1, dtype=DTYPE, generator=seeded(0))
    experts = MixedExperts([PointMassExperts(0.0), log_normal(1, 2)])
    model = MixtureOfExperts(constant_gate(3, dtype=DTYPE), experts)
    with torch.no_grad():
        experts.families[1].predictor.slope.zero_()
        experts.families[1].predictor.intercept.copy_(torch.tensor([0.0, 1.2]))
        experts.families[1].log_std.copy_(torch.tensor([-3.0, 0.0]))
    with pytest.warns(SingularInformationWarning):
        result = EM(n_init=0, starts=[], start_at_model=True, variance_floor=1e-4).fit(model, x, y)
    floor = 1e-2 * float(y[y > 0].log().std(correction=0))
    assert dict(zip(result.param_names, result.params, strict=True))["std[1]"] == pytest.approx(floor)
    assert any("floor" in remark for remark in result.warnings)


def test_floors_are_on_the_scale_of_the_logarithm_by_both_routes():
    """Large amounts have large variances, their logarithms have not; a floor by the former would bind."""
    model = MixtureOfExperts(constant_gate(2, dtype=DTYPE), log_normal(1, 2))
    x = torch.randn(60, 1, dtype=DTYPE, generator=seeded(0))
    y = torch.exp(12.0 + x[:, 0] + 0.3 * torch.randn(60, dtype=DTYPE, generator=seeded(1)))
    data = Data(x[None], y[None], None)
    fast = MultiLinearObjective(model, data, variance_floor=1e-6, pinned_columns=torch.zeros(1, dtype=torch.bool))
    slow = AutogradObjective(model, data, variance_floor=1e-6)
    expected = 0.5 * np.log(1e-6 * float(y.log().var(correction=0)))
    for objective in (fast, slow):
        bounds = objective.lower[torch.isfinite(objective.lower)]
        np.testing.assert_allclose(bounds, [expected, expected])
