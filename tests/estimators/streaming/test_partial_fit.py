"""The regressor in pieces."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from estimators import EM, FitResult, MixtureOfExpertsRegressor
from estimators.penalties import Ridge
from estimators.streaming import StreamResult
from mixkit.datasets import load_faithful

from ..models import reference_truth, seeded


def faithful():
    return tuple(part.numpy() for part in load_faithful())


def regressor(**settings):
    return MixtureOfExpertsRegressor(estimator=EM(n_init=3, random_state=0), **settings)


def test_few_rows_in_pieces_are_a_fit():
    x, y = faithful()
    whole, pieces = regressor().fit(x, y), regressor()
    for rows in np.array_split(np.arange(len(y)), 5):
        assert pieces.partial_fit(x[rows], y[rows]) is pieces
    assert pieces.n_samples_seen_ == len(y)
    np.testing.assert_array_equal(pieces.predict(x), whole.predict(x))
    assert isinstance(pieces.result_, StreamResult)


def test_many_rows_move_the_estimates():
    x, y = (part.numpy() for part in reference_truth().sample_xy(16_000, generator=seeded(0)))
    whole, pieces = regressor().fit(x, y), regressor()
    for rows in np.array_split(np.arange(len(y)), 9):
        pieces.partial_fit(x[rows], y[rows])
    assert pieces.result_.num_blocks == 3
    gap = whole.score_samples(x, y).sum() - pieces.score_samples(x, y).sum()
    assert 0.0 <= gap < 1.0  # nats, over 9 parameters


def test_rows_of_a_fit_come_first():
    x, y = faithful()
    fitted = regressor().fit(x[:150], y[:150])
    assert isinstance(fitted.result_, FitResult)
    fitted.partial_fit(x[150:], y[150:])
    assert fitted.n_samples_seen_ == len(y)
    assert not hasattr(fitted, "log_likelihood_")
    np.testing.assert_array_equal(fitted.predict(x), regressor().fit(x, y).predict(x))


def test_a_fit_starts_anew():
    x, y = faithful()
    model = regressor().partial_fit(x[:50], y[:50]).fit(x, y)
    assert not hasattr(model, "n_samples_seen_")
    np.testing.assert_array_equal(model.predict(x), regressor().fit(x, y).predict(x))


def test_weights_and_pickles():
    x, y = faithful()
    weight = (np.arange(len(y)) < 200).astype(float)
    weighted = regressor().partial_fit(x, y, sample_weight=weight)
    twin = pickle.loads(pickle.dumps(weighted))
    np.testing.assert_array_equal(twin.predict(x), weighted.predict(x))
    np.testing.assert_allclose(weighted.predict(x), regressor().fit(x[:200], y[:200]).predict(x), rtol=1e-5)


def test_frames_keep_their_names():
    x, y = faithful()
    frame = pd.DataFrame(x, columns=["eruptions"])
    model = regressor().partial_fit(frame[:100], y[:100])
    assert "slope[0,eruptions]" in model.result_.param_names
    with pytest.raises(ValueError, match="feature names"):
        model.partial_fit(frame.rename(columns={"eruptions": "length"}), y)


def test_other_covariates_are_refused():
    x, y = faithful()
    model = regressor().partial_fit(x, y)
    with pytest.raises(ValueError, match="X has 2 features, but MixtureOfExpertsRegressor is expecting 1"):
        model.partial_fit(np.column_stack([x, x]), y)


def test_penalties_are_refused():
    x, y = faithful()
    with pytest.raises(ValueError, match="penalty must be None for partial_fit"):
        regressor(penalty=Ridge(experts=1.0)).partial_fit(x, y)
    with pytest.raises(ValueError, match=r"penalty must be None for partial_fit, .* got Ridge\(gate=2.0"):
        MixtureOfExpertsRegressor(estimator=EM(penalty=Ridge(2.0))).partial_fit(x, y)


def test_nothing_is_known_before_the_first_rows():
    with pytest.raises(NotFittedError):
        _ = regressor().result_
