"""The scikit-learn face."""

import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from estimators import EM, MLE, CollinearityWarning, MixtureOfExpertsRegressor
from mixkit import PoissonExperts, topk_gate
from mixkit.datasets import load_faithful, load_patents
from mixkit.experts.predictors import LinearPredictor

from .models import DTYPE, seeded

CHECKS = """
import warnings
warnings.simplefilter("ignore")
from sklearn.utils.estimator_checks import check_estimator
from estimators import MixtureOfExpertsRegressor
results = check_estimator(MixtureOfExpertsRegressor(random_state=0), on_skip=None, on_fail=None)
wrong = [(r["check_name"], r["status"], r["exception"]) for r in results if r["status"] != "passed"]
print(len(results), wrong)
raise SystemExit(bool(wrong) or len(results) < 50)
"""


def faithful():
    return tuple(part.numpy() for part in load_faithful())


@pytest.fixture(scope="module")
def fitted():
    x, y = faithful()
    return MixtureOfExpertsRegressor(random_state=0).fit(x, y)


def test_scikit_learns_own_checks_pass_and_none_is_skipped():
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}
    done = subprocess.run([sys.executable, "-c", CHECKS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_attributes(fitted):
    assert fitted.log_likelihood_ == pytest.approx(-851.3149, abs=1e-4)
    assert fitted.converged_
    assert fitted.n_iter_ >= 1
    assert fitted.measure_.num_experts == 2
    assert fitted.result_.nobs == 272


def test_density_quantiles_and_distribution_agree(fitted):
    x, y = faithful()
    assert fitted.score_samples(x, y).sum() == pytest.approx(fitted.log_likelihood_)
    levels = [0.01, 0.25, 0.5, 0.9]
    quantiles = fitted.predict_quantiles(x[:20], levels)
    law = fitted.predict_distribution(x[:20])
    np.testing.assert_allclose(law.cdf(torch.as_tensor(quantiles.T)).T, np.tile(levels, (20, 1)), atol=1e-10)
    interval = fitted.predict_interval(x[:20], level=0.8)
    np.testing.assert_allclose(interval, fitted.predict_quantiles(x[:20], [0.1, 0.9]))
    resp = fitted.responsibilities(x, y)
    np.testing.assert_allclose(resp.sum(1), 1.0)


def test_intervals_cover_as_they_say(fitted):
    x, y = faithful()
    low, high = fitted.predict_interval(x, level=0.9).T
    share = ((y >= low) & (y <= high)).mean()
    assert abs(share - 0.9) < norm.isf(5e-6) * np.sqrt(0.09 / len(y))


def test_samples_follow_the_law_and_the_seed(fitted):
    x, _ = faithful()
    draws = fitted.sample(x[:5], n_samples=4000, random_state=1)
    assert draws.shape == (4000, 5)
    error = np.sqrt(fitted.predict_distribution(x[:5]).variance.numpy() / 4000)
    assert (np.abs(draws.mean(0) - fitted.predict(x[:5])) < norm.isf(1e-6) * error).all()
    np.testing.assert_array_equal(draws, fitted.sample(x[:5], n_samples=4000, random_state=1))


def test_one_expert_is_linear_regression():
    x, y = load_diabetes(return_X_y=True)
    ours = MixtureOfExpertsRegressor(n_experts=1, random_state=0).fit(x, y)
    peer = LinearRegression().fit(x, y)
    np.testing.assert_allclose(ours.predict(x), peer.predict(x), rtol=1e-7)
    assert ours.score(x, y) == pytest.approx(peer.score(x, y))


def test_frames_keep_their_names():
    frame, y = load_diabetes(return_X_y=True, as_frame=True)
    model = MixtureOfExpertsRegressor(random_state=0, n_init=2).fit(frame[["bmi", "bp"]], y)
    assert list(model.feature_names_in_) == ["bmi", "bp"]
    assert "slope[0,bmi]" in model.result_.param_names
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["bp", "bmi"]])
    assert isinstance(model.result_.summary().to_frame(), pd.DataFrame)


def test_a_constant_column_is_named_in_a_warning_and_in_the_summary():
    x, y = faithful()
    frame = pd.DataFrame({"waiting": x[:, 0], "flat": 2.0, "twice": 2.0 * x[:, 0]})
    message = r"columns \['flat', 'twice'\] of x are constant or linear combinations of others"
    with pytest.warns(CollinearityWarning, match=message) as caught:
        model = MixtureOfExpertsRegressor(random_state=0, n_init=2).fit(frame, y)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert re.search(message, " ".join(model.result_.warnings))
    assert "Warning: columns ['flat', 'twice']" in str(model.result_.summary())
    with pytest.warns(CollinearityWarning, match=r"columns \[1, 2\]"):
        MixtureOfExpertsRegressor(random_state=0, n_init=2).fit(frame.to_numpy(), y)


def test_experts_by_name_are_refused():
    with pytest.raises(TypeError, match=r"experts must be a mixkit\.experts\.Experts.*, got 'poisson'"):
        MixtureOfExpertsRegressor(experts="poisson").fit(*faithful())


def test_clone_pickle_pipeline_and_grid_search():
    x, y = faithful()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), MixtureOfExpertsRegressor(random_state=0, n_init=2)),
        {"mixtureofexpertsregressor__n_experts": [1, 2]},
        cv=3,
    ).fit(x, y)
    twin = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(twin.predict(x), search.predict(x))
    model = MixtureOfExpertsRegressor(3, gate="sigmoid", estimator=MLE(n_init=2), random_state=5)
    assert clone(model).get_params()["gate"] == "sigmoid"


def test_gates_and_experts_as_objects():
    x, y = (part.numpy() for part in load_patents())
    experts = PoissonExperts(LinearPredictor(1, 3, dtype=DTYPE, generator=seeded(0)))
    model = MixtureOfExpertsRegressor(3, experts=experts, random_state=0).fit(x, y)
    assert model.converged_
    assert (model.predict(x) > 0).all()
    quantiles = model.predict_quantiles(x, [0.5])
    np.testing.assert_array_equal(quantiles, np.round(quantiles))
    gate = topk_gate(1, 3, 2, dtype=DTYPE, generator=seeded(0))
    assert MixtureOfExpertsRegressor(3, gate=gate, random_state=0, n_init=4).fit(x, y).log_likelihood_ > -np.inf


def test_weights_of_zero_leave_observations_out():
    x, y = faithful()
    weight = (np.arange(len(y)) < 200).astype(float)
    weighted = MixtureOfExpertsRegressor(random_state=0).fit(x, y, sample_weight=weight)
    subset = MixtureOfExpertsRegressor(random_state=0).fit(x[:200], y[:200])
    assert weighted.log_likelihood_ == pytest.approx(subset.log_likelihood_, abs=1e-7)


def test_an_unfinished_fit_warns():
    x, y = faithful()
    estimator = EM(n_init=1, max_iter=1, em_iter=0, random_state=0)
    with pytest.warns(ConvergenceWarning, match="did not reach a maximum"):
        MixtureOfExpertsRegressor(estimator=estimator).fit(x, y)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gate": "hard"}, r"gate must be a Gate or one of \['activation', .*'temperature'\], got 'hard'"),
        ({"n_experts": 0}, "n_experts must be at least 1, got 0"),
        ({"n_experts": 300}, "at least as many rows as experts, 300"),
        ({"gate": topk_gate(1, 4, 2, generator=seeded(0))}, "gate must have n_experts=2 experts"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MixtureOfExpertsRegressor(**settings, random_state=0).fit(*faithful())


def test_bad_predictions_are_refused(fitted):
    x, y = faithful()
    for method in (fitted.score_samples, fitted.responsibilities):
        with pytest.raises(ValueError, match="y must have one value for each of 2 rows of X, got 3"):
            method(x[:2], y[:3])
    with pytest.raises(ValueError, match=r"level must be strictly between 0 and 1, got 1\.5"):
        fitted.predict_interval(x, level=1.5)
    with pytest.raises(ValueError, match=r"probabilities in \[0, 1\]"):
        fitted.predict_quantiles(x, [1.5])
    with pytest.raises(NotFittedError):
        MixtureOfExpertsRegressor().predict(x)
