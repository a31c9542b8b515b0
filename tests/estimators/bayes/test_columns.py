"""Predictions from frames: columns go by their names."""

import numpy as np
import pandas as pd
import pytest

from estimators import EM
from estimators.bayes import BayesianMixtureOfExperts, fit_chi_square, laplace
from mixkit.datasets import load_ethanol

from ..models import softmax_model


@pytest.fixture(scope="module")
def data():
    x, y = load_ethanol()
    return pd.DataFrame(x.numpy(), columns=["compression", "ratio"]), y


@pytest.fixture(scope="module")
def posterior(data):
    x, y = data
    fit = EM(random_state=0, n_init=1).fit(softmax_model(2, 1), x, y)
    bayes = BayesianMixtureOfExperts(fit.model, x, y)
    return fit_chi_square(bayes, steps=5, num_samples=20, at=laplace(bayes, fit.model), random_state=0)


def test_columns_in_another_order_are_the_same_columns(posterior, data):
    x, y = data
    for form in (x[["ratio", "compression"]], x.to_numpy()):
        np.testing.assert_array_equal(posterior.predict(form), posterior.predict(x))
        np.testing.assert_array_equal(posterior.log_predictive_density(form, y), posterior.log_predictive_density(x, y))


def test_other_columns_are_refused(posterior, data):
    x, _ = data
    with pytest.raises(ValueError, match=r"columns of the fit, \['compression', 'ratio'\], got none of \['ratio'\]"):
        posterior.predict(x.rename(columns={"ratio": "mixture"}))
