"""Fits of several responses at once."""

import numpy as np
import pytest
import torch

from estimators import EM, MLE
from estimators.data.dataset import Data
from estimators.objectives.choose import make_objective
from estimators.objectives.multi_location.objective import MultiLinearObjective
from mixkit import MixtureOfExperts, constant_gate, softmax_gate
from mixkit.experts import ProductExperts, family_by_name

from .flexmix_data import flexmix_frame
from .models import DTYPE, seeded

WORDS = {"gaussian": {}, "poisson": {}, "gamma": {}, "zero_inflated_log_normal": {}}


def product(k, d=2, words=WORDS):
    return ProductExperts(
        [family_by_name(word, d, k, dtype=DTYPE, generator=seeded(i), **o) for i, (word, o) in enumerate(words.items())]
    )


@torch.no_grad()
def problem(k=3, n=40):
    model = MixtureOfExperts(softmax_gate(2, k, dtype=DTYPE, generator=seeded(9)), product(k))
    for parameter in model.parameters():
        parameter.mul_(0.3)
    x = torch.randn(n, 2, dtype=DTYPE, generator=seeded(4)) + 1.0
    return model, x, model(x).sample(generator=seeded(5))


def test_value_and_derivatives_are_those_of_the_model():
    model, x, y = problem()
    weight = torch.rand(len(x), dtype=DTYPE, generator=seeded(6))
    data = Data(x[None], y[None], weight[None])
    objective = make_objective(model, data, 1e-6, torch.zeros(2, dtype=torch.bool))
    assert type(objective) is MultiLinearObjective
    theta = objective.read(model)

    def value(vector):
        return (weight * torch.func.functional_call(model, objective.parameters(vector), (x,)).log_prob(y)).sum()

    evaluation = objective.evaluate(theta)
    torch.testing.assert_close(objective.value(theta)[0, 0], value(theta[0, 0]))
    torch.testing.assert_close(evaluation.value[0, 0], value(theta[0, 0]))
    gradient = torch.autograd.functional.jacobian(value, theta[0, 0])
    torch.testing.assert_close(evaluation.gradient[0, 0], gradient)
    torch.testing.assert_close(evaluation.hessian[0, 0], torch.autograd.functional.hessian(value, theta[0, 0]))
    torch.testing.assert_close(objective.scores(theta[0, 0]).sum(0), gradient)

    resp = model(x).log_responsibilities(y).exp().detach() * weight[:, None]

    def expected(vector):
        law = torch.func.functional_call(model, objective.parameters(vector), (x,))
        return (resp * (law.log_weights + law.components.log_prob(y.unsqueeze(1)))).sum()

    torch.testing.assert_close(
        objective.complete(theta).hessian[0, 0], torch.autograd.functional.hessian(expected, theta[0, 0])
    )


def test_one_expert_is_one_fit_for_each_response():
    words = {"gaussian": {}, "poisson": {}, "beta": {}}
    x = torch.randn(120, 2, dtype=DTYPE, generator=seeded(1))
    model = MixtureOfExperts(constant_gate(1, dtype=DTYPE), product(1, words=words))
    y = model(x).sample(generator=seeded(2)).detach()
    together = MLE(random_state=0, n_init=1).fit(model, x, y)
    alone = [
        MLE(random_state=0, n_init=1).fit(MixtureOfExperts(constant_gate(1, dtype=DTYPE), part), x, y[:, i])
        for i, part in enumerate(model.experts.families)
    ]
    assert together.llf == pytest.approx(sum(fit.llf for fit in alone), abs=1e-7)
    ours = dict(zip(together.param_names, zip(together.params, together.bse, strict=True), strict=True))
    for i, fit in enumerate(alone):
        for name, value, error in zip(fit.param_names, fit.params, fit.bse, strict=True):
            assert ours[f"y{i}.{name}"] == pytest.approx((value, error), rel=1e-5)


def test_a_measurement_and_a_count_tell_classes_better_than_either():
    """The artificial data of flexmix: yn is Gaussian and quadratic in x, yp Poisson; one class behind both."""
    x, yn, yp, label = flexmix_frame("NPreg")[["x", "yn", "yp", "class"]].to_numpy(float).T
    design, y = torch.as_tensor(np.column_stack([x, x**2])), torch.as_tensor(np.column_stack([yn, yp]))
    experts = product(2, words={"gaussian": {}, "poisson": {}})
    fit = EM(random_state=0).fit(MixtureOfExperts(constant_gate(2, dtype=DTYPE), experts), design, y)
    assert fit.converged
    assert fit.df_model == 1 + 2 * (4 + 3)

    def errors(responsibilities):
        wrong = (responsibilities.argmax(1) != label - 1).mean()
        return min(wrong, 1 - wrong)

    alone = []
    for i, family in enumerate(product(2, words={"gaussian": {}, "poisson": {}}).families):
        one = EM(random_state=0).fit(MixtureOfExperts(constant_gate(2, dtype=DTYPE), family), design, y[:, i])
        alone.append(errors(one.responsibilities(design, y[:, i])))
    assert errors(fit.responsibilities(design, y)) < min(alone)
    assert fit.predict(design).shape == (len(x), 2)
