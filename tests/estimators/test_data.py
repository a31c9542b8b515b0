"""Data in every shape that NumPy and pandas give it."""

import numpy as np
import pandas as pd
import pytest
import torch

from estimators import (
    EM,
    MLE,
    CollinearityWarning,
    GivenResponsibilities,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)
from estimators.data.tensors import numeric_tensor, shared_tensor

from .models import softmax_model

QUICK = {"random_state": 0, "n_init": 2, "n_moves": 0}


def lines(n=200):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2))
    is_first = rng.uniform(size=n) < 1.0 / (1.0 + np.exp(-2.0 * x[:, 0]))
    return x, np.where(is_first, 1.0 + x[:, 0], -1.0 - 2.0 * x[:, 1]) + 0.3 * rng.normal(size=n)


RECORDS = np.zeros(5, dtype=[("flag", "i1"), ("value", "f8")])
RECORDS["value"] = np.arange(5.0)
ARRAYS = {
    "reversed": np.arange(5.0)[::-1],
    "reversed columns": np.arange(6.0).reshape(3, 2)[:, ::-1],
    "big-endian": np.arange(5.0).astype(">f8"),
    "big-endian integers": np.arange(5).astype(">i4"),
    "records": RECORDS["value"],
    "strided": np.arange(10.0)[::2],
    "Fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "scalar": np.array(3.0, dtype=">f8"),
}


@pytest.mark.parametrize("name", list(ARRAYS))
def test_arrays_of_any_strides_and_byte_order_are_tensors(name):
    array = ARRAYS[name]
    tensor = numeric_tensor("x", array)
    assert tensor.dtype == torch.float64
    np.testing.assert_array_equal(tensor.numpy(), array)


def test_memory_is_shared_where_it_can_be():
    for array in (np.arange(5.0), np.arange(10.0)[::2], np.arange(6.0).reshape(2, 3).T):
        assert np.shares_memory(shared_tensor(array).numpy(), array)


def test_fits_of_reversed_and_foreign_data_are_those_of_plain_copies():
    x, y = lines()
    weight = np.linspace(1.0, 2.0, len(y))
    plain = EM(**QUICK).fit(softmax_model(2, 2), *(part[::-1].copy() for part in (x, y, weight)))
    for change in (lambda a: a, lambda a: a.astype(">f8")):
        fit = EM(**QUICK).fit(softmax_model(2, 2), *(change(part)[::-1] for part in (x, y, weight)))
        np.testing.assert_array_equal(fit.params, plain.params)
    frame = pd.DataFrame(x, columns=["a", "b"]).iloc[::-1]
    fit = EM(**QUICK).fit(softmax_model(2, 2), frame, pd.Series(y).iloc[::-1], pd.Series(weight).iloc[::-1])
    np.testing.assert_array_equal(fit.params, plain.params)


def test_the_faces_take_reversed_data():
    x, y = lines()
    regressor = MixtureOfExpertsRegressor(random_state=0, n_init=2).fit(x[::-1], y[::-1], np.ones(len(y))[::-1])
    np.testing.assert_array_equal(regressor.predict(x[::-1]), regressor.predict(x)[::-1])
    np.testing.assert_array_equal(regressor.score_samples(x[::-1], y[::-1]), regressor.score_samples(x, y)[::-1])
    quantiles = regressor.predict_quantiles(x, np.array([0.1, 0.9])[::-1])
    np.testing.assert_array_equal(quantiles, regressor.predict_quantiles(x, [0.9, 0.1]))
    labels = np.where(x[:, 0] * x[:, 1] > 0, "p", "q")
    classifier = MixtureOfExpertsClassifier(2, random_state=0, n_init=1).fit(x[:, ::-1], labels[::-1])
    np.testing.assert_array_equal(classifier.predict(x[::-1]), classifier.predict(x)[::-1])


class TestRowsOfWeightZero:
    @pytest.fixture
    def halves(self):
        x, y = lines()
        weight = np.random.default_rng(1).uniform(0.5, 2.0, size=len(y))
        weight[::2] = 0.0
        return x, y, weight

    @pytest.mark.parametrize("estimator", [EM, MLE])
    def test_they_are_left_out(self, estimator, halves):
        x, y, weight = halves
        all_rows = estimator(**QUICK).fit(softmax_model(2, 2), x, y, weight)
        there = estimator(**QUICK).fit(softmax_model(2, 2), *(part[weight > 0] for part in (x, y, weight)))
        np.testing.assert_array_equal(all_rows.params, there.params)
        assert (all_rows.nobs, all_rows.llf, all_rows.bic) == (len(y) // 2, there.llf, there.bic)
        regressor = MixtureOfExpertsRegressor(estimator=estimator(**QUICK), random_state=0).fit(x, y, weight)
        assert regressor.result_.bic == pytest.approx(there.bic, rel=1e-9)

    def test_guesses_of_every_row_lose_theirs(self, halves):
        x, y, weight = halves
        guess = torch.rand(2, len(y), generator=torch.Generator().manual_seed(0))
        guess = guess / guess.sum(0)
        fit = EM(starts=[GivenResponsibilities(guess)], n_init=1, random_state=0).fit(softmax_model(2, 2), x, y, weight)
        there = [part[weight > 0] for part in (x, y, weight)]
        same = EM(starts=[GivenResponsibilities(guess[:, weight > 0])], n_init=1, random_state=0).fit(
            softmax_model(2, 2), *there
        )
        np.testing.assert_array_equal(fit.params, same.params)
        assert fit.estimator.starts[0].values.shape == (2, len(y))

    def test_a_column_that_is_constant_on_the_others_is_named(self, halves):
        x, y, weight = halves
        x = np.column_stack([x, weight > 0])
        with pytest.warns(CollinearityWarning, match=r"columns \[2\] of x are constant"):
            result = EM(**QUICK).fit(softmax_model(3, 2), x, y, weight)
        assert "columns [2]" in result.warnings[0]

    def test_too_few_others_are_refused(self, halves):
        x, y, _ = halves
        weight = np.zeros(len(y))
        weight[0] = 1.0
        with pytest.raises(ValueError, match="positive for as many rows as experts, 2, got 1"):
            EM().fit(softmax_model(2, 2), x, y, weight)
