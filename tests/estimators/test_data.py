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
    StochasticEM,
)
from estimators.data.tensors import numeric_tensor, shared_tensor
from estimators.rates.laws import compare_laws
from estimators.streaming import array_batches
from mixkit import Gate, MixtureOfExperts
from mixkit.gates.scores import LinearScore
from mixkit.gates.tuned_temperatures import PositionTemperature

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


class TestColumnsByNames:
    """Names count whatever their type; columns of integers are called as those of arrays."""

    @pytest.mark.parametrize("names", [[0, 1], [("a", 1), ("a", 2)], ["a", 2], [1.5, 2.5]])
    def test_frames_are_read_by_them(self, names):
        x, y = lines()
        frame = pd.DataFrame(dict(zip(names, x.T, strict=True)))
        frame.columns = pd.Index(names, tupleize_cols=False)
        fit = EM(**QUICK).fit(softmax_model(2, 2), frame, y)
        np.testing.assert_array_equal(fit.predict(frame.iloc[:, ::-1]), fit.predict(frame))
        with pytest.raises(ValueError, match="x must have the columns of the fit"):
            fit.predict(frame.set_axis(["p", "q"], axis=1))

    def test_integers_are_called_as_columns_of_arrays(self):
        x, y = lines()
        named = EM(**QUICK).fit(softmax_model(2, 2), pd.DataFrame(x), y)
        assert named.param_names == EM(**QUICK).fit(softmax_model(2, 2), x, y).param_names

    def test_the_faces_refuse_another_order(self):
        x, y = lines()
        frame = pd.DataFrame(x)
        regressor = MixtureOfExpertsRegressor(random_state=0, n_init=2).fit(frame, y)
        assert np.isfinite(regressor.predict(frame)).all()
        with pytest.raises(ValueError, match="X must have the columns of the fit in their order"):
            regressor.predict(frame[[1, 0]])

    def test_names_that_repeat_are_refused(self):
        x, y = lines()
        with pytest.raises(ValueError, match=r"x must have columns of different names, got more than one of \['a'\]"):
            EM(**QUICK).fit(softmax_model(2, 2), pd.DataFrame(x, columns=["a", "a"]), y)


class TestRefusals:
    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_masked_arrays(self, place):
        x, y = lines()
        parts = [x, y, np.ones(len(y))]
        parts[place] = np.ma.masked_array(parts[place], mask=parts[place] > 1.0)
        match = f"{('[xX]', 'y', 'sample_weight')[place]} must have no mask, got a masked array"
        for fit in (
            lambda *data: EM(**QUICK).fit(softmax_model(2, 2), *data),
            MixtureOfExpertsRegressor(random_state=0, n_init=1).fit,
            MixtureOfExpertsRegressor(random_state=0, n_init=1).partial_fit,
            MixtureOfExpertsClassifier(random_state=0, n_init=1).fit,
            StochasticEM(start_rows=100, random_state=0).stream(softmax_model(2, 2)).partial_fit,
            lambda *data: list(array_batches(*data)),
        ):
            with pytest.raises(TypeError, match=match):
                fit(*parts)

    def test_masked_responses_of_a_fit_and_losses_of_a_study(self):
        x, y = lines()
        masked = np.ma.masked_array(y, mask=y > 1.0)
        fit = EM(**QUICK).fit(softmax_model(2, 2), x, y)
        regressor = MixtureOfExpertsRegressor(random_state=0, n_init=2).fit(x, y)
        for method in (fit.responsibilities, regressor.score_samples, regressor.responsibilities):
            with pytest.raises(TypeError, match="y must have no mask, got a masked array"):
                method(x, masked)
        with pytest.raises(TypeError, match="loss must have no mask"):
            compare_laws(np.geomspace(100, 1e5, 8), np.ma.masked_less(np.geomspace(1, 0.01, 8), 0.05))

    @pytest.mark.parametrize(
        ("value", "error", "match"),
        [
            (np.array(["1", "2"]), TypeError, "y must be numeric, got ndarray of dtype <U1"),
            (np.array([1.0, 2.0 + 1j]), ValueError, "y must be real, got torch.complex128"),
            (pd.Series([1, 2], dtype="category"), TypeError, "y must be numeric, got Series of dtype category"),
            (np.array([1.0, None]), TypeError, "y must be numeric|y must be finite"),
            (
                torch.zeros(2, device="meta"),
                TypeError,
                "y must be a dense tensor with data, got one of the meta device",
            ),
            (torch.zeros(2).to_sparse(), TypeError, "y must be a dense tensor with data, got one of layout"),
        ],
        ids=["text", "complex", "category", "object", "meta", "sparse"],
    )
    def test_what_holds_no_real_numbers(self, value, error, match):
        stream = StochasticEM(start_rows=100, random_state=0).stream(softmax_model(1, 1))
        for take in (lambda y: numeric_tensor("y", y), lambda y: stream.partial_fit(np.zeros((2, 1)), y)):
            with pytest.raises((error, ValueError) if "|" in match else error, match=match):
                take(value)

    def test_settings_are_named(self):
        with pytest.raises(ValueError, match=r"random_state must be a non-negative integer.* got -1"):
            EM(random_state=-1)
        with pytest.raises(TypeError, match=r"random_state must be .* got 'x'"):
            EM(random_state="x")
        with pytest.raises(TypeError, match=r"starts must be a list of .*Start or None, got 'x'"):
            EM(starts="x")


class TestRefitsThatFail:
    @pytest.mark.parametrize("face", [MixtureOfExpertsRegressor, MixtureOfExpertsClassifier])
    def test_they_leave_the_old_fit_whole(self, face):
        x, y = lines()
        y = y if face is MixtureOfExpertsRegressor else np.where(y > 0, "p", "q")
        frame = pd.DataFrame(x, columns=["a", "b"])
        model = face(random_state=0, n_init=2).fit(frame, y)
        before, prediction = dict(vars(model)), model.predict(frame)
        failing = [(frame[["b", "a"]], y, -np.ones(len(y))), (frame.iloc[:2], y[:1], None)]
        for data in failing:
            with pytest.raises(ValueError, match=r"sample_weight|inconsistent|Negative"):
                model.fit(*data)
            assert {name: vars(model)[name] is part for name, part in before.items()} == dict.fromkeys(before, True)
            np.testing.assert_array_equal(model.predict(frame), prediction)


def test_gates_that_count_rows_are_refused():
    """A search runs on subsets of the rows, where their places are others."""
    x, y = lines()
    gate = Gate(LinearScore(2, 2, generator=torch.Generator().manual_seed(0)), temperature=PositionTemperature())
    model = MixtureOfExperts(gate, softmax_model(2, 2).experts)
    with pytest.raises(ValueError, match="not depend on the place of a row, got PositionTemperature"):
        EM(**QUICK).fit(model, x, y)
