"""Experts whose spread depends on the covariates."""

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from estimators import EM, MLE
from estimators.data.dataset import Data
from estimators.objectives.choose import make_objective
from estimators.objectives.multi_location.objective import MultiLinearObjective
from mixkit import MixtureOfExperts, constant_gate, softmax_gate
from mixkit.experts import LocationScaleExperts, family_by_name

from .models import DTYPE, seeded


def lines(n=400):
    """Two lines, one of them ever noisier to the right."""
    x = torch.rand(n, 1, dtype=DTYPE, generator=seeded(1))
    noise = torch.randn(n, dtype=DTYPE, generator=seeded(2))
    is_first = torch.rand(n, generator=seeded(3)) < 0.5
    first, second = 4.0 * x[:, 0] + torch.exp(-3.0 + 2.0 * x[:, 0]) * noise, -2.0 - x[:, 0] + 0.2 * noise
    return x, torch.where(is_first, first, second)


def test_one_expert_is_the_regression_by_scipy():
    x, y = lines()
    model = MixtureOfExperts(
        constant_gate(1, dtype=DTYPE),
        family_by_name("gaussian_location_scale", 1, 1, dtype=DTYPE, generator=seeded(0)),
    )
    objective = make_objective(model, Data(x[None], y[None], None), 1e-6, torch.zeros(1, dtype=torch.bool))
    assert type(objective) is MultiLinearObjective
    fit = MLE(random_state=0, n_init=1).fit(model, x, y)
    assert fit.param_names == ["slope[0,mean,x0]", "intercept[0,mean]", "slope[0,log_std,x0]", "intercept[0,log_std]"]
    rows = x[:, 0].numpy()

    def loss(v):
        return -stats.norm(v[1] + v[0] * rows, np.exp(v[3] + v[2] * rows)).logpdf(y.numpy()).sum()

    peer = optimize.minimize(loss, fit.params + 0.1, method="BFGS")
    assert fit.llf == pytest.approx(-loss(fit.params), abs=1e-8)
    assert fit.llf == pytest.approx(-peer.fun, abs=1e-6)
    assert fit.params == pytest.approx(peer.x, abs=1e-4)


def test_two_lines_of_different_spread_are_recovered():
    x, y = lines()
    settings = {"response": y, "dtype": DTYPE, "generator": seeded(0)}
    experts = family_by_name("gaussian_location_scale", 1, 2, **settings)
    assert isinstance(experts, LocationScaleExperts)
    assert experts.least_std == pytest.approx(1e-3 * y.std(correction=0).item())
    model = MixtureOfExperts(softmax_gate(1, 2, dtype=DTYPE, generator=seeded(0)), experts)
    fit = EM(random_state=0, n_init=4).fit(model, x, y)
    ours = dict(zip(fit.param_names, zip(fit.params, fit.bse, strict=True), strict=True))
    j = 0 if ours["slope[0,mean,x0]"][0] > 0 else 1
    for name, truth in (("mean", 4.0), ("log_std", 2.0)):
        value, error = ours[f"slope[{j},{name},x0]"]
        assert abs(value - truth) < 4.4 * error  # false alarm 1e-5
    value, error = ours[f"slope[{1 - j},log_std,x0]"]
    assert abs(value) < 4.4 * error


def test_a_least_deviation_is_no_negative_number():
    with pytest.raises(ValueError, match="least_std must be non-negative and finite, got -1"):
        family_by_name("gaussian_location_scale", 1, 2, least_std=-1.0, generator=seeded(0))
