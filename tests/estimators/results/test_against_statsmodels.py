"""One expert is a generalized linear model: its statistics are statsmodels' (reference/statsmodels_fits.py)."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from estimators import EM, FitResult
from mixkit import GaussianExperts, LinearPredictor, MixtureOfExperts, PoissonExperts, constant_gate

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "statsmodels_fits.json").read_text())
NAMES = {"const": "intercept[0]", "bmi": "slope[0,bmi]", "bp": "slope[0,bp]", "s5": "slope[0,s5]"}
FAMILIES = {"gaussian": (GaussianExperts, lambda y: y), "poisson": (PoissonExperts, lambda y: np.floor(y / 25.0))}
CLOSE = {"rtol": 1e-8, "atol": 1e-12}


@pytest.fixture(scope="module", params=FAMILIES)
def fit_and_reference(request) -> tuple[FitResult, dict]:
    family, response = FAMILIES[request.param]
    data = load_diabetes(as_frame=True, scaled=False)
    x = data.data[["bmi", "bp", "s5"]]
    model = MixtureOfExperts(constant_gate(1), family(LinearPredictor(3, 1)))
    return EM(random_state=0, n_init=1).fit(model, x, response(data.target)), REFERENCE[request.param]


@pytest.mark.parametrize("name", ["params", "bse", "tvalues", "pvalues"])
def test_statistics_of_coefficients(fit_and_reference, name):
    fit, reference = fit_and_reference
    found = getattr(fit, name)
    np.testing.assert_allclose([found[NAMES[own]] for own in reference[name]], list(reference[name].values()), **CLOSE)
    np.testing.assert_allclose(found[list(NAMES.values())], [reference[name][own] for own in NAMES], **CLOSE)


def test_fitted_values_and_residuals(fit_and_reference):
    fit, reference = fit_and_reference
    np.testing.assert_allclose(fit.fittedvalues[:5], reference["fittedvalues"], **CLOSE)
    np.testing.assert_allclose(fit.resid[:5], reference["resid"], rtol=1e-7, atol=1e-9)
    is_scale = "std[0]" in fit.params
    assert fit.df_resid == reference["df_resid"] - is_scale  # statsmodels does not count the scale
    assert fit.icl == pytest.approx(fit.bic)  # one expert is told apart


@pytest.mark.parametrize("place", range(3))
def test_tests_of_restrictions(fit_and_reference, place):
    fit, reference = fit_and_reference
    expected = reference["tests"][place]
    text = expected["restrictions"]
    for own, name in NAMES.items():
        text = text.replace(own, name)
    joint, single = fit.wald_test(text), fit.t_test(text)
    np.testing.assert_allclose([joint.statistic, joint.p_value], [expected["statistic"], expected["p_value"]], **CLOSE)
    assert joint.df == len(single.value) == text.count("=")
    np.testing.assert_allclose(single.value, expected["value"], **CLOSE)
    np.testing.assert_allclose(single.std_error, expected["std_error"], **CLOSE)
    np.testing.assert_allclose(single.z, expected["z"], **CLOSE)
    np.testing.assert_allclose(single.p_value, expected["single_p_values"], **CLOSE)
    np.testing.assert_allclose(single.interval, expected["intervals"], **CLOSE)
