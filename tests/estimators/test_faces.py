"""What both scikit-learn faces have: coefficients, criteria, warm starts, and a fit that survives a failed one."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.exceptions import NotFittedError

from estimators import EM, MixtureOfExpertsClassifier, MixtureOfExpertsRegressor
from mixkit.experts import GaussianExperts
from mixkit.experts.predictors import ConstantPredictor

from .models import seeded

X, Y = load_diabetes(return_X_y=True)
X = X[:, 2:4]
CLASSES = np.digitize(Y, [100.0, 200.0])
QUICK = {"n_init": 2, "random_state": 0}
FACES = {
    "regressor": (MixtureOfExpertsRegressor(2, **QUICK), Y),
    "classifier": (MixtureOfExpertsClassifier(2, **QUICK), CLASSES),
}


@pytest.fixture(scope="module", params=FACES)
def fitted(request):
    face, y = FACES[request.param]
    return face.fit(X, y), y


def test_coefficients_are_those_of_the_experts(fitted):
    face, _ = fitted
    predictor = face.result_.model.experts.predictor
    np.testing.assert_array_equal(face.coef_, predictor.slope.detach())
    np.testing.assert_array_equal(face.intercept_, predictor.intercept.detach())
    face.coef_[:] = 0.0
    assert predictor.slope.abs().min() > 0
    name = "slope[1,x0]" if face.coef_.ndim == 2 else "slope[1,0,x0]"
    assert face.result_.params[name] == pytest.approx(face.coef_[1].flat[0], rel=1e-12)


def test_criteria_are_those_of_the_result(fitted):
    face, _ = fitted
    assert (face.aic_, face.bic_) == (face.result_.aic, face.result_.bic)


@pytest.mark.parametrize("name", ["coef_", "intercept_", "aic_", "bic_"])
def test_before_a_fit_there_are_none(name):
    for kind in (MixtureOfExpertsRegressor, MixtureOfExpertsClassifier):
        assert not hasattr(kind(), name)
        with pytest.raises(NotFittedError):
            getattr(kind(), name)


def test_other_experts_have_no_coefficients_and_streams_no_criteria():
    constant = MixtureOfExpertsRegressor(
        2, experts=GaussianExperts(ConstantPredictor(2, generator=seeded(0))), **QUICK
    ).fit(X, Y)
    with pytest.raises(AttributeError, match="only experts with a LinearPredictor have coefficients"):
        constant.coef_  # noqa: B018
    stream = MixtureOfExpertsRegressor(2, **QUICK).partial_fit(X, Y)
    assert stream.coef_.shape == (2, 2)
    with pytest.raises(AttributeError, match="a stream has no log-likelihood"):
        stream.bic_  # noqa: B018


class TestWarmStart:
    def test_it_climbs_from_the_fit_before_alone(self, fitted):
        face, y = fitted
        twin = type(face)(2, warm_start=True, **QUICK).fit(X, y)
        first = twin.result_
        again = twin.fit(X, y).result_
        assert len(again.start_llf) == 1
        assert again.converged
        assert again.objective_value == pytest.approx(first.objective_value, abs=1e-8)
        np.testing.assert_allclose(again.params, first.params, rtol=1e-5, atol=1e-7)

    def test_new_rows_move_the_fit_and_leave_the_old_result_alone(self, fitted):
        face, y = fitted
        twin = type(face)(2, warm_start=True, **QUICK).fit(X[:300], y[:300])
        first, before = twin.result_, twin.result_.params
        twin.fit(X, y)
        np.testing.assert_array_equal(first.params, before)
        assert twin.result_.nobs == len(y)
        assert twin.converged_

    def test_a_model_of_another_form_starts_anew(self):
        face = MixtureOfExpertsRegressor(2, warm_start=True, **QUICK).fit(X, Y)
        assert len(face.set_params(n_experts=3).fit(X, Y).result_.start_llf) > 1
        assert len(face.set_params(shared_std=True).fit(X, Y).result_.start_llf) > 1
        assert len(face.fit(X[:, :1], Y).result_.start_llf) > 1

    def test_a_given_estimator_keeps_its_settings(self):
        estimator = EM(**QUICK)
        face = MixtureOfExpertsRegressor(2, warm_start=True, estimator=estimator).fit(X, Y).fit(X, Y)
        assert len(face.result_.start_llf) == 1
        assert not estimator.start_at_model


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda face, y: face.fit(np.where(X > 0.1, np.nan, X), y),
        lambda face, y: face.fit(X[:, :1], y[:5]),
        lambda face, y: face.set_params(gate="nonsense").fit(X, y),
        lambda face, y: face.set_params(n_experts=0).fit(X, y),
        lambda face, y: face.set_params(n_init=0).fit(X, y),
        lambda face, y: face.fit(X, y, np.zeros(len(y))),
    ],
)
def test_a_fit_that_fails_leaves_the_one_before_whole(fitted, warm_start, spoil):
    face, y = fitted
    twin = type(face)(2, warm_start=warm_start, **QUICK).fit(X, y)
    before = {name: value for name, value in vars(twin).items() if name.endswith("_") or name.startswith("_")}
    predicted = twin.predict(X)
    with pytest.raises((ValueError, TypeError)):
        spoil(twin, y)
    after = {name: value for name, value in vars(twin).items() if name.endswith("_") or name.startswith("_")}
    assert before.keys() == after.keys()
    assert all(after[name] is before[name] for name in before)
    np.testing.assert_array_equal(twin.predict(X), predicted)
