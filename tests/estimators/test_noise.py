"""Fits with an expert for outliers."""

import pytest
import torch

from estimators import EM
from estimators.data.dataset import Data
from estimators.objectives.choose import make_objective
from estimators.objectives.multi_location.objective import MultiLinearObjective
from mixkit import MixtureOfExperts, constant_gate
from mixkit.experts import MixedExperts, NoiseExperts, family_by_name

from .models import DTYPE, seeded


def line_with_outliers():
    x = torch.rand(300, 1, dtype=DTYPE, generator=seeded(1))
    y = 2.0 + 3.0 * x[:, 0] + 0.1 * torch.randn(300, dtype=DTYPE, generator=seeded(2))
    y[::10] = 20.0 * torch.rand(30, dtype=DTYPE, generator=seeded(3)) - 10.0
    return x, y


def test_a_line_is_found_among_outliers():
    x, y = line_with_outliers()
    gaussian = family_by_name("gaussian", 1, 1, dtype=DTYPE, generator=seeded(0))
    model = MixtureOfExperts(constant_gate(2, dtype=DTYPE), MixedExperts([gaussian, NoiseExperts.over(y, dtype=DTYPE)]))
    objective = make_objective(model, Data(x[None], y[None], None), 1e-6, torch.zeros(1, dtype=torch.bool))
    assert type(objective) is MultiLinearObjective
    fit = EM(random_state=0, n_init=3).fit(model, x, y)
    ours = dict(zip(fit.param_names, zip(fit.params, fit.bse, strict=True), strict=True))
    for name, truth in (("slope[0,x0]", 3.0), ("intercept[0]", 2.0), ("std[0]", 0.1)):
        value, error = ours[name]
        assert abs(value - truth) < 4.4 * error  # false alarm 1e-5
    share = fit.responsibilities(x, y)[:, 1].mean()
    assert share == pytest.approx(0.1, abs=0.02)


def test_clusters_of_vectors_are_found_among_outliers():
    """The M-step is closed: Gaussian experts beside one without parameters."""
    centers = torch.tensor([[0.0, 0.0], [4.0, 4.0]], dtype=DTYPE)
    y = torch.cat([c + 0.3 * torch.randn(80, 2, dtype=DTYPE, generator=seeded(i)) for i, c in enumerate(centers)])
    y = torch.cat([y, 16.0 * torch.rand(20, 2, dtype=DTYPE, generator=seeded(9)) - 6.0])
    settings = {"response": y, "covariance": "EII", "dtype": DTYPE, "generator": seeded(0)}
    own = family_by_name("multivariate_gaussian", 0, 2, **settings)
    model = MixtureOfExperts(constant_gate(3, dtype=DTYPE), MixedExperts([own, NoiseExperts.over(y, dtype=DTYPE)]))
    fit = EM(random_state=0, n_init=3).fit(model, torch.randn(180, 1, dtype=DTYPE, generator=seeded(5)), y)
    found = fit.model.experts.families[0].predictor.intercept.detach()
    torch.testing.assert_close(found[found[:, 0].argsort()], centers, rtol=0, atol=0.2)
    assert fit.responsibilities(torch.zeros(180, 1, dtype=DTYPE), y)[160:, 2].mean() > 0.9
