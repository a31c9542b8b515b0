"""The log-likelihood of groups that share an expert: every objective against the formula, with its derivatives."""

import numpy as np
import pytest
import torch

from estimators.data.collinearity import dependent_columns
from estimators.data.unit_posterior import log_joint, unit_log_responsibilities
from estimators.objectives.autograd import AutogradObjective
from estimators.objectives.choose import make_objective
from estimators.objectives.multi_location.objective import MultiLinearObjective
from estimators.objectives.smooth_gate.objective import SmoothGateObjective
from estimators.objectives.softmax_gate.objective import LinearObjective
from estimators.optimizers.em_iterations import em_iterations
from estimators.search.starts import KMeansX, KMeansXY, LocalLines, MoveAtom, RandomPartition, SplitAtom
from mixkit import MixtureOfExperts, topk_gate

from ..models import DTYPE, seeded
from .cases import formula, grouped, model_of, patterned_model

WEIGHTS = (None, "groups", "rows")
ROWS = [
    *(("softmax", name, LinearObjective) for name in ("gaussian", "shared std", "student", "poisson", "constant")),
    ("softmax", "negative binomial", LinearObjective),
    ("constant", "gaussian", LinearObjective),
    *(
        ("softmax", name, MultiLinearObjective)
        for name in ("categorical", "zero-inflated", "counts", "atom", "product")
    ),
    ("constant", "zero-inflated", MultiLinearObjective),
    *((gate, "gaussian", SmoothGateObjective) for gate in ("sigmoid", "laplace", "temperature")),
    ("sigmoid", "negative binomial", SmoothGateObjective),
]


def objective_of(model, data):
    return make_objective(model, data, 1e-6, dependent_columns(data, model=model, num_known=model.num_known))


def check(model, data, form):
    objective = objective_of(model, data)
    assert isinstance(objective, form)
    near = objective.read(model)
    theta = near + 0.2 * torch.randn(1, 2, objective.num_params, generator=seeded(9), dtype=DTYPE)
    at = objective.evaluate(theta)
    torch.testing.assert_close(objective.value(theta), at.value)
    for index in range(2):

        def total(vector):
            return formula(model, objective.parameters(vector), data)

        vector = theta[0, index]
        torch.testing.assert_close(at.value[0, index], total(vector), rtol=1e-10, atol=1e-10)
        gradient = torch.autograd.functional.jacobian(total, vector)
        torch.testing.assert_close(at.gradient[0, index], gradient, rtol=1e-9, atol=1e-9)
        hessian = torch.autograd.functional.hessian(total, vector)
        torch.testing.assert_close(at.hessian[0, index], hessian, rtol=1e-8, atol=1e-8)
        scores = objective.scores(vector)
        assert len(scores) == data.num_units
        torch.testing.assert_close(scores.sum(0), gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("weights_of", WEIGHTS)
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize(("gate", "experts", "form"), ROWS)
def test_value_gradient_and_hessian_are_those_of_the_formula(gate, experts, form, k, weights_of):
    model = model_of(experts, gate, k)
    check(model, grouped(model, weights_of), form)


@pytest.mark.parametrize("weights_of", WEIGHTS)
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize(
    ("experts", "form"),
    [("gaussian", LinearObjective), ("poisson", LinearObjective), ("counts", MultiLinearObjective)],
)
def test_gate_and_experts_with_patterns(experts, form, k, weights_of):
    """The gate reads the group's covariate, the experts one that varies within groups."""
    model = patterned_model(experts, k)
    check(model, grouped(model, weights_of, of_gate=True), form)


@pytest.mark.parametrize("weights_of", WEIGHTS)
@pytest.mark.parametrize(
    ("gate", "experts"),
    [("softmax", "gaussian"), ("softmax", "counts"), ("sigmoid", "gaussian"), ("constant", "laplace")],
)
def test_em_steps_are_those_of_autograd_and_never_lower_the_likelihood(gate, experts, weights_of):
    model = model_of(experts, gate)
    data = grouped(model, weights_of)
    fast, general = objective_of(model, data), AutogradObjective(model, data, variance_floor=1e-6)
    torch.testing.assert_close(fast.value(fast.read(model)), general.value(general.read(model)))
    counts = fast.expected_counts(fast.read(model))
    torch.testing.assert_close(counts, general.expected_counts(general.read(model)))
    torch.testing.assert_close(counts.sum(-1), fast.total_weight.unsqueeze(-1))
    for objective in (fast, general):
        run = em_iterations(objective, objective.read(model), 5)
        values = [objective.value(objective.read(model)), run.value]
        assert bool((values[1] >= values[0] - 1e-9).all())


def test_starts_give_whole_groups_to_an_expert():
    model = model_of("gaussian")
    data = grouped(model)
    rng = np.random.default_rng(0)
    starts = [
        KMeansX(),
        KMeansXY(),
        LocalLines(),
        RandomPartition(),
        SplitAtom(model_of("gaussian", k=1)),
        MoveAtom(model),
    ]
    for start in starts:
        guesses = start.unit_responsibilities(data.x[0], data.y[0], data.units, 2, rng)
        torch.testing.assert_close(guesses.sum(1), torch.ones_like(guesses[:, 0]))
        first = guesses[..., data.units.first][..., data.units.index]
        assert torch.equal(first, guesses)


def test_units_of_some_rows_are_numbered_anew():
    data = grouped(model_of("gaussian"), "groups")
    rows = torch.tensor([20, 21, 3, 4, 22])
    some = data.take(rows)
    assert some.units.index.tolist() == [0, 0, 1, 1, 0]
    torch.testing.assert_close(some.units.weight[:, some.units.index], data.units.weight[:, data.units.index[rows]])
    torch.testing.assert_close(some.weight, data.weight[:, rows])


def test_groups_behind_a_gate_that_selects():
    """Experts that the gate leaves out of a group have no part in it, whatever their densities there."""
    gate = topk_gate(2, 3, num_selected=2, dtype=DTYPE, generator=seeded(5))
    model = MixtureOfExperts(gate, model_of("gaussian", k=3).experts)
    data = grouped(model)
    fast, general = objective_of(model, data), AutogradObjective(model, data, variance_floor=1e-6)
    expected = formula(model, dict(model.named_parameters()), data).detach()
    for objective in (fast, general):
        torch.testing.assert_close(objective.value(objective.read(model))[0, 0], expected)
        assert bool(torch.isfinite(objective.evaluate(objective.read(model)).gradient).all())
    law = model(data.x[0])
    joint = log_joint(law, data.y[0], data.units)
    left_out = torch.isneginf(law.log_weights[data.units.first])
    assert bool(left_out.any())
    assert bool((unit_log_responsibilities(joint).exp()[left_out] == 0.0).all())


def test_a_group_that_no_expert_can_have_made_is_impossible():
    model = model_of("atom")
    data = grouped(model)
    rows = (data.units.index == 3).nonzero().squeeze(-1)
    y = data.y.clone()
    y[:, rows] = 1.0
    possible = data._replace(y=y.clone())
    y[:, rows[0]] = 0.0  # an atom and a positive value in one group
    data = data._replace(y=y)
    for make in (objective_of, lambda *parts: AutogradObjective(*parts, variance_floor=1e-6)):
        assert torch.isfinite(make(model, possible).value(make(model, possible).read(model))).all()
        objective = make(model, data)
        assert torch.isneginf(objective.value(objective.read(model))).all()
    posterior = unit_log_responsibilities(log_joint(model(data.x[0]), data.y[0], data.units)).exp()
    assert posterior[3].tolist() == [0.5, 0.5]
