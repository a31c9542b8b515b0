"""The fast objective against the model's own log-density and autograd."""

import copy

import pytest
import torch

from estimators.data.dataset import Data
from estimators.objectives.softmax_gate import design
from estimators.objectives.softmax_gate.likelihood import log_joint
from estimators.objectives.softmax_gate.objective import LinearObjective

from .models import CASE_IDS, DTYPE, LINEAR_CASES, seeded

N, D, K = 60, 2, 3


def objective_of(case, *, weighted=False, k=K, seed=0):
    model = case.model(D, k, seed)
    x, y = case.data(N, D, seed)
    weight = torch.rand(N, dtype=DTYPE, generator=seeded(seed)) if weighted else None
    objective = LinearObjective(
        model,
        x[None],
        y[None],
        None if weight is None else weight[None],
        variance_floor=1e-6,
        pinned_columns=torch.zeros(D, dtype=torch.bool),
    )
    return model, objective, Data(x, y, weight)


def total_log_prob(model, data):
    with torch.no_grad():
        terms = model.log_prob(data.x, data.y)
    return (terms if data.weight is None else terms * data.weight).sum()


@pytest.mark.parametrize("case", LINEAR_CASES, ids=CASE_IDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_value_is_the_models_log_likelihood(case, weighted):
    model, objective, data = objective_of(case, weighted=weighted)
    assert LinearObjective.supports(model)
    value = objective.value(objective.read(model))
    torch.testing.assert_close(value[0, 0], total_log_prob(model, data), rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("case", LINEAR_CASES, ids=CASE_IDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_derivatives_are_those_of_autograd(case, weighted):
    model, objective, _ = objective_of(case, weighted=weighted)
    theta = objective.read(model)

    def value(vector):
        coefficients, total = objective.layout.unpack(vector[None, None]), vector.new_zeros(())
        for chunk in objective.design.chunks():
            terms = torch.logsumexp(log_joint(chunk, coefficients, objective.layout, objective.experts), -2)
            total = total + (terms if chunk.weight is None else terms * chunk.weight[0]).sum()
        return total

    evaluation = objective.evaluate(theta)
    gradient = torch.autograd.functional.jacobian(value, theta[0, 0])
    hessian = torch.autograd.functional.hessian(value, theta[0, 0])
    torch.testing.assert_close(evaluation.gradient[0, 0], gradient, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(evaluation.hessian[0, 0], hessian, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(objective.scores(theta[0, 0]).sum(0), gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", LINEAR_CASES, ids=CASE_IDS)
def test_writing_what_was_read_gives_the_same_model(case):
    model, objective, data = objective_of(case)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    objective.write(objective.read(model)[0, 0], twin)
    torch.testing.assert_close(twin.log_prob(data.x, data.y), model.log_prob(data.x, data.y), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", LINEAR_CASES, ids=CASE_IDS)
def test_many_vectors_and_chunks_are_as_one(case, monkeypatch):
    model, whole, _ = objective_of(case, weighted=True)
    monkeypatch.setattr(design, "_CHUNK_ENTRIES", 1)
    monkeypatch.setattr(design, "_CACHE_ENTRIES", 1)
    monkeypatch.setattr(design, "_SHORTEST_CHUNK", 7)
    _, pieces, _ = objective_of(case, weighted=True)
    assert len(list(pieces.design.chunks())) > 1
    theta = whole.read(model)
    batch = torch.cat([theta, 0.5 * theta, 0.9 * theta], 1)
    together, apart = pieces.evaluate(batch), [whole.evaluate(batch[:, s : s + 1]) for s in range(3)]
    for part, name in enumerate(together._fields):
        expected = torch.cat([evaluation[part] for evaluation in apart], 1)
        torch.testing.assert_close(together[part], expected, rtol=1e-9, atol=1e-9, msg=name)
    steps = [whole.em_step(batch[:, s : s + 1])[1] for s in range(3)]
    torch.testing.assert_close(pieces.em_step(batch)[1], torch.cat(steps, 1), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("case", LINEAR_CASES, ids=CASE_IDS)
def test_some_of_the_data_sets_have_their_own_values(case):
    model = case.model(D, K, 0)
    x, y = (torch.stack(parts) for parts in zip(*(case.data(N, D, seed) for seed in range(4)), strict=True))
    weight = torch.rand(4, N, dtype=DTYPE, generator=seeded(0))
    pinned = torch.zeros(D, dtype=torch.bool)
    whole = LinearObjective(model, x, y, weight, variance_floor=1e-6, pinned_columns=pinned)
    theta = torch.cat([whole.read(model), 0.9 * whole.read(model)], 1)
    sets = torch.tensor([0, 3])
    part = whole.on_sets(sets)
    for own, all_of_them in zip(part.evaluate(theta[sets]), whole.evaluate(theta), strict=True):
        torch.testing.assert_close(own, all_of_them[sets], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(part.expected_counts(theta[sets]), whole.expected_counts(theta)[sets])


def test_shares_sum_to_the_weights():
    model, objective, data = objective_of(LINEAR_CASES[0], weighted=True)
    shares = objective.expected_counts(objective.read(model))
    torch.testing.assert_close(shares.sum(), data.weight.sum())


def test_one_expert_has_no_gate():
    model, objective, data = objective_of(LINEAR_CASES[0], k=1)
    theta = objective.read(model)
    assert objective.num_params == D + 2
    torch.testing.assert_close(objective.value(theta)[0, 0], total_log_prob(model, data))
    assert objective.evaluate(theta).hessian.shape == (1, 1, D + 2, D + 2)


def test_names_follow_the_parameter_vector():
    model, objective, _ = objective_of(LINEAR_CASES[1])
    theta = objective.read(model)[0, 0]
    to_user = objective.user_map()
    assert len(set(to_user.names)) == objective.num_params
    named = dict(zip(to_user.names, to_user.values(theta).tolist(), strict=True))
    assert named["std[0]"] == pytest.approx(float(model.experts.log_std.detach().exp()))
    assert named["slope[2,x1]"] == pytest.approx(float(model.experts.predictor.slope[2, 1].detach()))
    weight = model.gate.score.weight.detach()
    assert named["gate_weight[0,x0]"] == pytest.approx(float(weight[0, 0] - weight[2, 0]))
