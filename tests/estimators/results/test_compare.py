"""Fits side by side: criteria are the fits' own, and a test is shown only where it holds."""

import copy
import re

import numpy as np
import pandas as pd
import pytest

from estimators import EM, compare, fit_formula
from estimators.inference import likelihood_ratio_test
from estimators.penalties import Ridge
from mixkit import MixtureOfExperts, constant_gate, laplace_gate, linear_gaussian_experts, sigmoid_gate
from mixkit.datasets import load_tone
from mixkit.experts import StudentTExperts
from mixkit.experts.predictors import LinearPredictor
from tests.estimators.models import seeded, softmax_model

QUICK = {"random_state": 0, "n_init": 3, "n_moves": 0}
X, Y = load_tone()


def fit(model, x=X, y=Y, **settings):
    return EM(**QUICK, **settings).fit(model, x, y)


@pytest.fixture(scope="module")
def full():
    return fit(softmax_model(1, 2))


@pytest.fixture(scope="module")
def constant():
    return fit(MixtureOfExperts(constant_gate(2), linear_gaussian_experts(1, 2, generator=seeded(0))))


def test_figures_are_those_of_the_fits_and_of_the_test(full, constant):
    found = compare(constant, full)
    test = likelihood_ratio_test(constant, full)
    expected = [[f.model.num_experts, f.llf, f.df_model, f.aic, f.bic, f.icl] for f in (constant, full)]
    np.testing.assert_array_equal(found.values[:, :6], expected)
    np.testing.assert_array_equal(found.values[:, 6:], [[np.nan] * 3, [test.statistic, test.df, test.p_value]])
    assert found.notes == ()
    assert list(found.to_frame().index) == ["1", "2"]
    pd.testing.assert_series_equal(found.to_frame()["BIC"], pd.Series([constant.bic, full.bic], ["1", "2"], name="BIC"))


def test_the_order_is_the_caller_s_and_the_smaller_is_tested_in_the_larger(full, constant):
    found = compare(full=full, constant=constant)
    assert found.names == ("full", "constant")
    np.testing.assert_array_equal(found.values[1, 6:], compare(constant, full).values[1, 6:])
    for form in (str, type(found).as_latex, type(found).as_html, type(found).as_markdown):
        assert "full" in form(found)
        assert f"{full.bic:.2f}" in form(found)
        assert form(found).count(f"{found.values[1, 6]:.3f}") == 1


def behind(gate):
    return fit(MixtureOfExperts(gate, linear_gaussian_experts(1, 2, generator=seeded(0))))


def student():
    return fit(MixtureOfExperts(constant_gate(2), StudentTExperts(LinearPredictor(1, 2, generator=seeded(0)))))


RAMP = np.linspace(0.0, 1.0, len(X)) ** 2


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (lambda: fit(softmax_model(1, 1)), "1 and 2 experts: the statistic has no chi-square distribution"),
        (lambda: fit(softmax_model(1, 2, seed=1)), "neither has more parameters, 8 and 8"),
        (student, "families differ, GaussianExperts and StudentTExperts"),
        (lambda: fit(softmax_model(1, 2, shared_std=True), penalty=Ridge(1.0)), "the smaller maximized a penalized"),
        (lambda: behind(sigmoid_gate(1, 2, generator=seeded(0))), "gates differ, Softmax and NormalizedSigmoid"),
        (lambda: behind(laplace_gate(1, 2, generator=seeded(0))), "gates differ, LinearScore and DistanceScore"),
        (lambda: fit(softmax_model(2, 2), np.column_stack([RAMP, X])), "covariates x0 differ in value"),
    ],
)
@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
def test_a_test_that_does_not_hold_is_not_shown(full, other, reason):
    found = compare(full, other())
    assert found.tests == (None, None)
    assert f"No test of 2 against 1: {reason}" in found.notes[0]
    assert np.isnan(found.values[1, 6:]).all()


def test_more_covariates_are_a_larger_model(full):
    found = compare(full, fit(softmax_model(2, 2), np.column_stack([X, RAMP])))
    assert found.tests[1].df == 3
    assert found.notes == ()


def test_other_ways_of_being_nested_are_told_of(full):
    frame = pd.DataFrame(X.numpy(), columns=["a"])
    renamed = fit(softmax_model(1, 2, shared_std=True), frame)
    assert (
        "not nested by their names: gate_weight[0,a], slope[0,a], slope[1,a] is in" in compare(renamed, full).notes[0]
    )


def test_fits_that_did_not_end_at_a_maximum_are_not_tested(full):
    stopped = EM(**QUICK, em_iter=1, finish=False).fit(softmax_model(1, 2, shared_std=True), X, Y)
    assert "the smaller did not converge" in compare(stopped, full).notes[0]


def test_a_larger_model_that_fits_worse_is_told(full, constant):
    worse = copy.copy(full)
    worse.llf = worse.objective_value = constant.llf - 1.0
    assert "must fit at least as well" in compare(constant, worse).notes[0]


def test_without_data_there_is_no_icl(full, constant):
    twin = copy.deepcopy(full)
    twin.remove_data()
    found = compare(constant, twin)
    assert np.isnan(found.values[1, 5])
    assert found.tests[1] is not None


def test_bad_input(full):
    with pytest.raises(TypeError, match="fits must be FitResults, got int for 2"):
        compare(full, 2)
    with pytest.raises(ValueError, match="fits must be two or more, got 1"):
        compare(full)
    with pytest.raises(ValueError, match=re.escape("same observations, got different values of y")):
        compare(full, fit(softmax_model(1, 2), X, Y + 1.0))


def counts():
    rng = np.random.default_rng(0)
    x, w, hours = rng.normal(size=100), rng.normal(size=100), rng.uniform(1.0, 3.0, 100)
    count = rng.poisson(np.exp(0.5 + 0.5 * x) * hours)
    return {"x": x, "w": w, "hours": hours, "count": count, "y": x + rng.normal(size=100)}


def by_formula(formula, **settings):
    return fit_formula(formula, counts(), 1, **QUICK, **settings)


OFFSET = {"family": "poisson", "offset": "log(hours)"}
PAIR = {"y": "gaussian", "count": "poisson"}


@pytest.mark.parametrize(
    ("small", "large", "reason"),
    [
        (("count ~ x", {"family": "poisson"}), ("count ~ x + w", OFFSET), "known columns differ, [] and ['offset']"),
        (
            ("count ~ x", OFFSET),
            ("count ~ x + w", OFFSET | {"offset": "hours"}),
            "known columns offset differ in value",
        ),
        (
            ("y ~ x", {"fixed": {(0, "x"): 0.3}}),
            ("y ~ x + w", {"fixed": {(0, "x"): 0.9}}),
            "a coefficient of x is held at 0.9 in the larger, and not in the smaller",
        ),
        (
            ("y ~ w", {"fixed": {(0, "w"): 0.3}}),
            ("y ~ x", {}),
            "a coefficient of w is held at 0 in the larger, and not in the smaller",
        ),
        (
            ("y + count ~ x", {"family": PAIR}),
            ("y + count ~ x", {"family": PAIR | {"count": "zero_inflated_poisson"}}),
            "families differ, GaussianExperts, PoissonExperts and GaussianExperts, ZeroInflatedPoissonExperts",
        ),
    ],
)
def test_models_of_one_name_for_each_parameter_need_not_be_nested(small, large, reason):
    first, second = (by_formula(formula, **settings) for formula, settings in (small, large))
    found = compare(first, second)
    assert found.tests == (None, None)
    assert found.notes == (f"No test of 2 against 1: {reason}.",)


def test_what_is_known_in_both_is_no_obstacle():
    held = {"fixed": {(0, "x"): 0.3}} | OFFSET
    first, second = (by_formula(formula, **held) for formula in ("count ~ x", "count ~ x + w"))
    assert compare(first, second).tests[1].df == 1
    assert compare(by_formula("count ~ x", **held), by_formula("count ~ x", **OFFSET)).tests[1].df == 1
