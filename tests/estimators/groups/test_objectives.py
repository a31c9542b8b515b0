"""The log-likelihood of groups that share an expert: every objective against the formula, with its derivatives."""

import pytest
import torch

from estimators.objectives.autograd import AutogradObjective
from estimators.objectives.choose import make_objective
from estimators.objectives.multi_location.objective import MultiLinearObjective
from estimators.objectives.smooth_gate.objective import SmoothGateObjective
from estimators.objectives.softmax_gate.objective import LinearObjective

from ..models import DTYPE, seeded
from .cases import D, formula, grouped, model_of

WEIGHTS = (None, "groups", "rows")
ROWS = [
    *(("softmax", name, LinearObjective) for name in ("gaussian", "shared std", "student", "poisson", "constant")),
    ("softmax", "negative binomial", LinearObjective),
    ("constant", "gaussian", LinearObjective),
    *(("softmax", name, MultiLinearObjective) for name in ("categorical", "zero-inflated", "counts", "atom")),
    ("constant", "zero-inflated", MultiLinearObjective),
    *((gate, "gaussian", SmoothGateObjective) for gate in ("sigmoid", "laplace", "temperature")),
    ("sigmoid", "negative binomial", SmoothGateObjective),
]


def objective_of(model, data, form=None):
    none = torch.zeros(D, dtype=torch.bool)
    if form is AutogradObjective:
        return AutogradObjective(model, data, variance_floor=1e-6)
    return make_objective(model, data, 1e-6, none)


@pytest.mark.parametrize("weights_of", WEIGHTS)
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize(("gate", "experts", "form"), ROWS)
def test_value_gradient_and_hessian_are_those_of_the_formula(gate, experts, form, k, weights_of):
    model = model_of(experts, gate, k)
    data = grouped(model, weights_of)
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
