"""Rows that have each an expert of their own and depend: the sandwich by clusters."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes

from estimators import EM
from estimators.results.maximum import DataRemovedError
from mixkit import GaussianExperts, LinearPredictor, MixtureOfExperts, PoissonExperts, constant_gate

from ..models import DTYPE, seeded
from .cases import PANEL, model_of, panel, panel_weights

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "statsmodels_clusters.json").read_text())
NAMES = {"const": "intercept[0]", "bmi": "slope[0,bmi]", "bp": "slope[0,bp]"}


@pytest.mark.parametrize("reference", ["ols", "gaussian", "poisson"])
def test_one_expert_is_statsmodels_with_the_factor_of_groups(reference):
    data = load_diabetes(as_frame=True, scaled=False)
    clusters = np.arange(len(data.target)) % 37
    counts = reference == "poisson"
    predictor = LinearPredictor(2, 1, dtype=DTYPE, generator=seeded(0))
    experts = PoissonExperts(predictor) if counts else GaussianExperts(predictor, dtype=DTYPE)
    y = np.floor(data.target / 25.0) if counts else data.target
    fit = EM(n_init=1, random_state=0).fit(
        MixtureOfExperts(constant_gate(1, dtype=DTYPE), experts), data.data[["bmi", "bp"]], y
    )
    errors = dict(zip(fit.param_names, fit.standard_errors("cluster", groups=clusters), strict=True))
    factor = np.sqrt(37 / 36)  # statsmodels without a correction
    for name, error in REFERENCE[reference]["bse"].items():
        assert errors[NAMES[name]] == pytest.approx(factor * error, rel=1e-6)


def panel_fit(**settings):
    x, y = panel(is_constant=False)
    return EM(random_state=0, n_init=3).fit(model_of("gaussian", "constant"), x, y, **settings)


def test_clusters_of_one_row_are_the_sandwich_with_the_factor_of_groups():
    fit = panel_fit()
    n = len(PANEL)
    expected = n / (n - 1) * fit.cov_params("sandwich")
    np.testing.assert_allclose(fit.cov_params("cluster", groups=range(n)), expected, rtol=1e-10)


def test_a_fit_with_groups_has_clusters_of_its_own_groups():
    fit = panel_fit(groups=PANEL)
    expected = 60 / 59 * fit.cov_params("sandwich")
    np.testing.assert_allclose(fit.cov_params("cluster", groups=PANEL), expected, rtol=1e-10)
    coarse = [int(label[1:]) // 2 for label in PANEL]
    scores = fit.maximum.objective.scores(fit.maximum.theta).reshape(30, 2, -1).sum(1)
    inverse = torch.linalg.inv(-fit.maximum.hessian)
    expected = 30 / 29 * inverse @ scores.mT @ scores @ inverse
    clusters = torch.arange(60) // 2
    torch.testing.assert_close(fit.maximum.covariance("cluster", clusters), expected, rtol=1e-6, atol=1e-12)
    assert np.isfinite(fit.standard_errors("cluster", groups=coarse)).all()
    with pytest.raises(ValueError, match="part rows that share an expert"):
        fit.cov_params("cluster", groups=range(len(PANEL)))


def test_labels_go_with_the_rows_that_were_given():
    """Rows of weight zero are no part of the fit, but have their labels; groups are sorted inside."""
    x, y = panel(is_constant=False)
    weight, order = panel_weights("rows"), torch.randperm(len(PANEL), generator=seeded(3))
    weight[[4, 9]] = 0.0
    labels = np.array(PANEL)
    fits = [
        EM(random_state=0, n_init=3).fit(model_of("gaussian", "constant"), x[rows], y[rows], weight[rows])
        for rows in (torch.arange(len(PANEL)), order)
    ]
    errors = [np.sort(fits[0].standard_errors("cluster", groups=labels))]
    errors.append(np.sort(fits[1].standard_errors("cluster", groups=labels[order])))
    assert errors[0] == pytest.approx(errors[1], rel=1e-5)


def test_every_table_and_interval_takes_clusters():
    fit = panel_fit()
    kind = {"cov_type": "cluster", "groups": PANEL}
    errors = fit.standard_errors(**kind)
    assert not np.allclose(errors, fit.bse)
    np.testing.assert_allclose(fit.summary(**kind).values[:, 1], errors)
    assert "sandwich by clusters" in str(fit.summary(**kind))
    half = (fit.conf_int(**kind) - fit.conf_int()) @ [-1, 1]
    assert np.abs(half).max() > 0
    first = fit.param_names[1]
    assert fit.delta_method(lambda p: p[first], **kind).std_error == pytest.approx(errors[1])
    assert fit.mean_conf_int(np.zeros((1, 2)), **kind).std_error > 0
    assert fit.t_test(f"{first} = 0", **kind).std_error[0] == pytest.approx(errors[1])
    assert fit.wald_test(f"{first} = 0", **kind).statistic == pytest.approx((fit.params[1] / errors[1]) ** 2)


def test_misuse():
    fit = panel_fit()
    with pytest.raises(ValueError, match="groups must be given for cov_type='cluster'"):
        fit.cov_params("cluster")
    with pytest.raises(ValueError, match="groups must be None for cov_type='sandwich'"):
        fit.cov_params("sandwich", groups=PANEL)
    with pytest.raises(ValueError, match="one label for each of the 210 rows of the fit, got 209"):
        fit.cov_params("cluster", groups=PANEL[1:])
    with pytest.raises(ValueError, match="two or more, got one"):
        fit.cov_params("cluster", groups=[0] * len(PANEL))
    fit.remove_data()
    with pytest.raises(DataRemovedError):
        fit.cov_params("cluster", groups=PANEL)
