"""Experts of rows, draws and fitted values: identities with the model's distribution."""

import copy

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from estimators import EM
from estimators.results.maximum import DataRemovedError
from mixkit import MixtureOfExperts, PoissonExperts, softmax_gate
from mixkit.datasets import load_patents, load_tone
from mixkit.experts import FullCovariance, MultivariateGaussianExperts
from mixkit.experts.predictors import LinearPredictor
from tests.estimators.models import seeded, softmax_model

QUICK = {"random_state": 0, "n_init": 2, "n_moves": 0}
X, Y = load_tone()


@pytest.fixture(scope="module")
def fit():
    return EM(**QUICK).fit(softmax_model(1, 2), X, Y)


def test_probabilities_of_experts_are_the_gate_s_or_the_posterior(fit):
    np.testing.assert_allclose(fit.predict_proba(X), fit.model.gate(X.double()).exp().detach(), rtol=1e-12)
    np.testing.assert_allclose(fit.predict_proba(X, Y), fit.responsibilities(X, Y), rtol=1e-9, atol=1e-11)
    for given in ((X,), (X, Y)):
        np.testing.assert_array_equal(fit.classify(*given), fit.predict_proba(*given).argmax(1))


def test_fitted_values_are_of_rows_of_positive_weight():
    weight = np.ones(len(Y))
    weight[[0, 7]] = 0.0
    fit = EM(**QUICK).fit(softmax_model(1, 2), X, Y, weight)
    kept = weight > 0
    np.testing.assert_allclose(fit.fittedvalues, fit.predict(X[kept]), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(fit.resid, Y[kept].double().numpy() - fit.predict(X[kept]), rtol=1e-9, atol=1e-11)
    assert fit.df_resid == kept.sum() - 8


def test_vector_responses_have_vector_residuals():
    generator = seeded(0)
    y = torch.stack([Y, Y.square()], -1)
    experts = MultivariateGaussianExperts(
        LinearPredictor(1, 2, response_dim=2, generator=generator), FullCovariance(2, 2)
    )
    fit = EM(**QUICK).fit(MixtureOfExperts(softmax_gate(1, 2, generator=generator), experts), X, y)
    np.testing.assert_allclose(fit.resid, y.double().numpy() - fit.predict(X), rtol=1e-9, atol=1e-11)
    assert fit.simulate(X, num_replicates=3, random_state=0).shape == (3, len(X), 2)


def test_icl_adds_twice_the_entropy(fit):
    resp = fit.responsibilities(X, Y)
    entropy = -(resp * np.log(np.maximum(resp, 1e-300))).sum()
    assert fit.icl == pytest.approx(fit.bic + 2.0 * entropy, rel=1e-12)


def test_what_needs_the_data_says_so_without(fit):
    twin = copy.deepcopy(fit)
    twin.remove_data()
    for name in ("fittedvalues", "resid", "icl"):
        with pytest.raises(DataRemovedError):
            getattr(twin, name)
    np.testing.assert_allclose(twin.pvalues, fit.pvalues, rtol=1e-9, atol=1e-11)
    assert twin.df_resid == fit.df_resid


class TestSimulate:
    def test_the_same_seed_gives_the_same_draws(self, fit):
        first = fit.simulate(X, random_state=3)
        np.testing.assert_array_equal(first, fit.simulate(X, random_state=3))
        np.testing.assert_array_equal(first, fit.simulate(X, random_state=torch.Generator().manual_seed(3)))
        assert first.shape == (len(X),)
        assert (first != fit.simulate(X, random_state=4)).any()
        assert (fit.simulate(X) != fit.simulate(X)).any()

    def test_a_generator_moves_on(self, fit):
        generator = torch.Generator().manual_seed(0)
        assert (fit.simulate(X, random_state=generator) != fit.simulate(X, random_state=generator)).any()

    def test_draws_follow_the_distribution(self, fit):
        """Shares below the median of each row; false alarm 1e-6."""
        median = fit.model(X[:5].double()).icdf(torch.tensor(0.5, dtype=torch.float64)).detach().numpy()
        below = (fit.simulate(X[:5], num_replicates=2000, random_state=0) < median).sum()
        assert binomtest(int(below), 10_000).pvalue > 1e-6

    def test_counts_are_counts(self):
        x, y = load_patents()
        experts = PoissonExperts(LinearPredictor(1, 2, generator=seeded(0)))
        fit = EM(**QUICK).fit(MixtureOfExperts(softmax_gate(1, 2, generator=seeded(1)), experts), x, y)
        draws = fit.simulate(x, random_state=0)
        assert (draws == np.floor(draws)).all()
        assert (draws >= 0).all()

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"num_replicates": 0}, ValueError, "num_replicates must be at least 1, got 0"),
            ({"random_state": -1}, ValueError, "random_state must be at least 0, got -1"),
            ({"random_state": "a"}, TypeError, "random_state must be an integer, got str 'a'"),
        ],
    )
    def test_bad_input(self, fit, settings, error, message):
        with pytest.raises(error, match=message):
            fit.simulate(X, **settings)
