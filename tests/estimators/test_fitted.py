"""What a result says of new data: frames go by their names, everything else by position."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

from estimators import EM, MixtureOfExpertsRegressor, StochasticEM
from mixkit import LinearPredictor, MixtureOfExperts, softmax_gate
from mixkit.experts import PoissonExperts

from .models import seeded, softmax_model

QUICK = {"random_state": 0, "n_init": 2, "n_moves": 0}


def lines(n=300):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2))
    is_first = rng.uniform(size=n) < 1.0 / (1.0 + np.exp(-2.0 * x[:, 0]))
    return x, np.where(is_first, 1.0 + x[:, 0], -1.0 - 2.0 * x[:, 1]) + 0.3 * rng.normal(size=n)


X, Y = lines()
FRAME = pd.DataFrame(X, columns=["a", "b"])


def methods(result):
    """What of x alone, and of x and y, the result computes."""
    return [
        result.predict,
        lambda x: result.responsibilities(x, Y),
        lambda x: result.residuals(x, Y),
        lambda x: result.mean_conf_int(x).interval,
    ]


@pytest.fixture(scope="module")
def framed():
    return EM(**QUICK).fit(softmax_model(2, 2), FRAME, Y)


@pytest.fixture(scope="module")
def plain():
    return EM(**QUICK).fit(softmax_model(2, 2), X, Y)


def test_predictions_are_those_of_the_model(framed):
    law = framed.model(torch.as_tensor(X))
    np.testing.assert_array_equal(framed.predict(FRAME), law.mean.detach().numpy())
    np.testing.assert_array_equal(framed.predict(FRAME), framed.mean_conf_int(X).value)
    resp = law.log_responsibilities(torch.as_tensor(Y)).exp().detach().numpy()
    np.testing.assert_array_equal(framed.responsibilities(FRAME, pd.Series(Y)), resp)
    level = law.cdf(torch.as_tensor(Y)).detach().numpy()
    np.testing.assert_allclose(framed.residuals(FRAME, Y), norm.ppf(level), rtol=1e-8)


@pytest.mark.parametrize("method", range(4))
def test_columns_in_another_order_are_the_same_columns(framed, method):
    compute = methods(framed)[method]
    expected = compute(FRAME)
    for form in (FRAME[["b", "a"]], X, torch.as_tensor(X), X.tolist(), FRAME.rename(columns={"a": 0, "b": 1})):
        np.testing.assert_array_equal(compute(form), expected)


@pytest.mark.parametrize("method", range(4))
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.rename(columns={"a": "c"}), r"columns of the fit, \['a', 'b'\], got none of \['a'\], and \['c'\]"),
        (lambda f: f.assign(c=1.0), r"got none of \[\], and \['c'\] beside"),
        (lambda f: f[["a"]], r"got none of \['b'\], and \[\] beside"),
        (lambda f: f[["a", "b", "b"]], r"columns of different names, got more than one of \['b'\]"),
        (lambda f: f.to_numpy()[:, :1], r"x must have shape \(n, 2\), got \(300, 1\)"),
        (lambda f: f.to_numpy()[0], r"x must have shape \(n, 2\), got \(2,\)"),
        (lambda f: f * np.nan, "x must be finite"),
    ],
)
def test_other_columns_are_refused(framed, method, change, message):
    with pytest.raises(ValueError, match=message):
        methods(framed)[method](change(FRAME))


def test_fits_of_arrays_take_frames_by_position(plain):
    expected = plain.predict(X)
    np.testing.assert_array_equal(plain.predict(FRAME), expected)
    np.testing.assert_array_equal(plain.predict(FRAME.rename(columns={"a": "b", "b": "a"})), expected)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (Y[:, None], r"y must have shape \(300,\), a response for each row of x, got \(300, 1\)"),
        (Y[:1], r"got \(1,\)"),
        (Y[:-1], r"got \(299,\)"),
        (Y * np.inf, "y must be finite"),
    ],
)
def test_other_responses_are_refused(framed, y, message):
    for method in (framed.responsibilities, framed.residuals):
        with pytest.raises(ValueError, match=message):
            method(X, y)


def test_counts_need_a_seed_for_their_residuals():
    y = np.random.default_rng(0).poisson(np.exp(0.5 * X[:, 0]))
    experts = PoissonExperts(LinearPredictor(2, 2, generator=seeded(0)))
    result = EM(**QUICK).fit(MixtureOfExperts(softmax_gate(2, 2, generator=seeded(1)), experts), X, y)
    with pytest.raises(ValueError, match="random_state must be a seed for responses of positive probability"):
        result.residuals(X, y)
    found = result.residuals(X, y, random_state=0)
    np.testing.assert_array_equal(found, result.residuals(X, y, random_state=0))
    assert abs(found.mean()) < 5 / len(y) ** 0.5  # one in a million
    with pytest.raises(ValueError, match="non-negative integers"):
        result.responsibilities(X, y - 1.0)


def test_a_result_without_its_data_still_predicts(plain):
    result = EM(**QUICK).fit(softmax_model(2, 2), X, Y)
    result.remove_data()
    np.testing.assert_array_equal(result.predict(X), plain.predict(X))


def test_names_may_be_given_and_changed(plain):
    result = EM(**QUICK).fit(softmax_model(2, 2), X, Y)
    result.rename_features(["b", "a"])
    assert result.param_names[:2] == ["gate_weight[0,b]", "gate_weight[0,a]"]
    np.testing.assert_array_equal(result.predict(FRAME.rename(columns={"a": "b", "b": "a"})), plain.predict(X))
    result.rename_features(["a", "b"])
    assert result.param_names[:2] == ["gate_weight[0,a]", "gate_weight[0,b]"]
    np.testing.assert_array_equal(result.predict(FRAME[["b", "a"]]), plain.predict(X))
    with pytest.raises(ValueError, match=r"names must be 2, one for each covariate, got \['a'\]"):
        result.rename_features(["a"])


def test_the_regressor_gives_its_names_to_the_result():
    fitted = MixtureOfExpertsRegressor(random_state=0, n_init=1).fit(FRAME, Y)
    np.testing.assert_array_equal(fitted.result_.predict(FRAME[["b", "a"]]), fitted.predict(FRAME))
    fitted = MixtureOfExpertsRegressor(random_state=0, n_init=1).partial_fit(FRAME, Y)
    np.testing.assert_array_equal(fitted.result_.predict(FRAME[["b", "a"]]), fitted.predict(FRAME))


def test_streams_of_frames_go_by_names():
    settings = StochasticEM(start_rows=100, batch_size=50, n_init=2, random_state=0)
    ordered = settings.fit(softmax_model(2, 2), [(FRAME[:150], Y[:150]), (FRAME[150:], Y[150:])])
    mixed = settings.fit(softmax_model(2, 2), [(FRAME[:150], Y[:150]), (FRAME[150:][["b", "a"]], Y[150:])])
    np.testing.assert_array_equal(mixed.params, ordered.params)
    assert mixed.param_names[:2] == ["gate_weight[0,a]", "gate_weight[0,b]"]
    np.testing.assert_array_equal(mixed.predict(FRAME[["b", "a"]]), ordered.predict(X))
    with pytest.raises(ValueError, match=r"batch 1: x must have the columns of the fit"):
        settings.fit(softmax_model(2, 2), [(FRAME, Y), (FRAME[["a"]], Y)])
