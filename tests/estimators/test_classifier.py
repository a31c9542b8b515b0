"""The scikit-learn face of classification."""

import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from estimators import EM, MLE, CollinearityWarning, MixtureOfExpertsClassifier
from estimators.penalties import Ridge
from mixkit import CategoricalExperts, ModulePredictor, PoissonExperts, topk_gate
from mixkit.experts.predictors import LinearPredictor

from .models import DTYPE, seeded

CHECKS = """
import warnings
warnings.simplefilter("ignore")
from sklearn.utils.estimator_checks import check_estimator
from estimators import MixtureOfExpertsClassifier
results = check_estimator(MixtureOfExpertsClassifier(random_state=0), on_skip=None, on_fail=None)
wrong = [(r["check_name"], r["status"], r["exception"]) for r in results if r["status"] != "passed"]
print(len(results), wrong)
raise SystemExit(bool(wrong) or len(results) < 50)
"""


def opposite_corners(n=300, seed=0):
    """Labels that agree in opposite corners of a square, 5% of them wrong: no hyperplane separates them."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.0, 1.0, size=(n, 2))
    same = (x[:, 0] * x[:, 1] > 0) ^ (rng.uniform(size=n) < 0.05)
    return x, np.where(same, "same", "other")


@pytest.fixture(scope="module")
def fitted():
    return MixtureOfExpertsClassifier(ridge=0.1, random_state=0).fit(*opposite_corners())


def test_scikit_learns_own_checks_pass_and_none_is_skipped():
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}
    done = subprocess.run([sys.executable, "-c", CHECKS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_experts_find_what_one_hyperplane_cannot(fitted):
    x, y = opposite_corners(seed=1)
    linear = LogisticRegression().fit(*opposite_corners())
    assert linear.score(x, y) < 0.65
    assert fitted.score(x, y) > 0.88
    assert fitted.converged_
    assert list(fitted.classes_) == ["other", "same"]


@pytest.mark.parametrize("classes", [2, 3])
def test_one_expert_is_logistic_regression(classes):
    x, y = load_iris(return_X_y=True)
    x, y = StandardScaler().fit_transform(x)[y < classes], y[y < classes]
    x = StandardScaler().fit_transform(x)
    ours = MixtureOfExpertsClassifier(1, ridge=2.0, random_state=0).fit(x, y)
    # Of two classes scikit-learn penalizes the difference of the logits, ours the distances from their mean: half.
    peer = LogisticRegression(C=0.5 if classes > 2 else 1.0, tol=1e-10, max_iter=10_000).fit(x, y)
    np.testing.assert_allclose(ours.predict_proba(x), peer.predict_proba(x), atol=1e-5)
    np.testing.assert_array_equal(ours.predict(x), peer.predict(x))


def test_probabilities_are_those_of_the_mixture(fitted):
    x, y = opposite_corners()
    probabilities = fitted.predict_proba(x)
    np.testing.assert_allclose(probabilities.sum(1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(np.log(probabilities), fitted.predict_log_proba(x))
    law = fitted.predict_distribution(x)
    for index in range(2):
        label = torch.full((len(x),), float(index), dtype=DTYPE)
        np.testing.assert_allclose(law.log_prob(label).exp(), probabilities[:, index], rtol=1e-10)
    index = np.searchsorted(fitted.classes_, y)
    log_likelihood = np.log(probabilities[np.arange(len(y)), index]).sum()
    assert log_likelihood == pytest.approx(fitted.log_likelihood_)
    np.testing.assert_allclose(fitted.gate_weights(x).sum(1), 1.0)
    resp = fitted.responsibilities(x, y)
    np.testing.assert_allclose(resp.sum(1), 1.0)
    components = law.components.logits.exp()[np.arange(len(y)), :, index].numpy()
    joint = fitted.gate_weights(x) * components
    np.testing.assert_allclose(resp, joint / joint.sum(1, keepdims=True), rtol=1e-8)
    for form in (y[:, None], list(y), pd.Series(y), pd.DataFrame({"label": y})):
        np.testing.assert_array_equal(fitted.responsibilities(x, form), resp)


def test_labels_that_are_separated_have_finite_slopes():
    x, y = load_iris(return_X_y=True)
    model = MixtureOfExpertsClassifier(2, ridge=1.0, n_init=4, random_state=0).fit(x, y)
    assert model.converged_
    # Intercepts are not penalized: where an expert never meets a class, that class's has none.
    slopes = np.array(["slope" in name or "weight" in name for name in model.result_.param_names])
    assert np.isfinite(model.result_.bse[slopes]).all()
    assert np.abs(model.result_.params[slopes]).max() < 20.0
    assert model.score(x, y) > 0.95


def test_weights_are_repeated_rows():
    x, y = opposite_corners(120)
    weight = np.arange(120) % 3
    weighted = MixtureOfExpertsClassifier(ridge=0.5, random_state=0).fit(x, y, sample_weight=weight)
    repeated = MixtureOfExpertsClassifier(ridge=0.5, random_state=0).fit(np.repeat(x, weight, 0), np.repeat(y, weight))
    np.testing.assert_allclose(weighted.predict_proba(x), repeated.predict_proba(x), atol=1e-4)


def test_a_constant_column_is_named_in_a_warning_and_in_the_result():
    x, y = opposite_corners(100)
    frame = pd.DataFrame({"across": x[:, 0], "up": x[:, 1], "flat": 2.0})
    message = r"columns \['flat'\] of x are constant"
    with pytest.warns(CollinearityWarning, match=message):
        model = MixtureOfExpertsClassifier(ridge=0.1, n_init=1, random_state=0).fit(frame, y)
    assert re.search(message, " ".join(model.result_.warnings))


def test_clone_pickle_pipeline_and_grid_search():
    x, y = opposite_corners(150)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), MixtureOfExpertsClassifier(random_state=0, n_init=2)),
        {"mixtureofexpertsclassifier__ridge": [0.3, 3.0]},
        cv=2,
    ).fit(x, y)
    twin = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(twin.predict(x), search.predict(x))
    model = MixtureOfExpertsClassifier(3, gate="sigmoid", estimator=MLE(n_init=2, penalty=Ridge(1.0)), random_state=5)
    assert clone(model).get_params()["gate"] == "sigmoid"


def test_neural_experts():
    x, y = opposite_corners(150)
    network = torch.nn.utils.skip_init(torch.nn.Linear, 2, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, 0.5], [-0.5, 1.0]]))
        network.bias.zero_()
    locations = torch.nn.Sequential(network, torch.nn.Tanh(), torch.nn.Unflatten(-1, (2, 1)))
    experts = CategoricalExperts(ModulePredictor(locations, 2, response_dim=1))
    model = MixtureOfExpertsClassifier(2, experts=experts, ridge=0.3, n_init=2, random_state=0).fit(x, y)
    assert model.score(x, y) > 0.6


def test_an_unfinished_fit_warns():
    estimator = EM(n_init=1, max_iter=1, em_iter=0, random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"did not reach a maximum in \d+ iterations .* or add a penalty"):
        MixtureOfExpertsClassifier(estimator=estimator).fit(*opposite_corners())


BAD_SETTINGS = [
    ({"gate": "hard"}, ValueError, r"gate must be a Gate or one of \['activation', .*'temperature'\], got 'hard'"),
    ({"n_experts": 0}, ValueError, "n_experts must be at least 1, got 0"),
    ({"ridge": -1.0}, ValueError, "ridge must be non-negative and finite, got -1"),
    ({"n_experts": 400}, ValueError, "at least as many rows as experts, 400"),
    ({"gate": topk_gate(2, 4, 2, generator=seeded(0))}, ValueError, "gate must have n_experts=2 experts"),
    (
        {"experts": PoissonExperts(LinearPredictor(2, 2, generator=seeded(0)))},
        TypeError,
        r"experts must be mixkit\.experts\.CategoricalExperts, got PoissonExperts",
    ),
    (
        {"experts": CategoricalExperts(LinearPredictor(2, 2, response_dim=3, generator=seeded(0)))},
        ValueError,
        "experts must have the 2 classes of y, got 4",
    ),
]


@pytest.mark.parametrize(("settings", "error", "message"), BAD_SETTINGS)
def test_bad_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        MixtureOfExpertsClassifier(**settings, random_state=0).fit(*opposite_corners())


def test_bad_data_are_refused(fitted):
    x, y = opposite_corners()
    with pytest.raises(ValueError, match="y must hold at least 2 classes, got 1 class"):
        MixtureOfExpertsClassifier().fit(x, np.zeros(len(x)))
    with pytest.raises(ValueError, match="y must hold labels of"):
        fitted.responsibilities(x, np.full(len(y), "third"))
    for wrong in (y[:1], y[:-1], []):
        with pytest.raises(ValueError, match=f"y must have one label for each of 300 rows of X, got {len(wrong)}"):
            fitted.responsibilities(x, wrong)
    with pytest.raises(ValueError, match="y should be a 1d array"):
        fitted.responsibilities(x, np.column_stack([y, y]))
    with pytest.raises(NotFittedError):
        MixtureOfExpertsClassifier().predict(x)
