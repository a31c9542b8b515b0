"""Mixtures of bivariate normal distributions of the Old Faithful data, as mclust fits them."""

import numpy as np
import pytest
import torch

from estimators import EM
from mixkit import MixtureOfExperts, constant_gate
from mixkit.datasets import load_faithful
from mixkit.experts import covariance_names, family_by_name

from .models import DTYPE, seeded


def fitted(name, k, n_init):
    waiting, eruptions = load_faithful()
    y = torch.column_stack([eruptions, waiting]).double()
    settings = {"response": y, "covariance": name, "dtype": DTYPE, "generator": seeded(0)}
    model = MixtureOfExperts(constant_gate(k, dtype=DTYPE), family_by_name("multivariate_gaussian", 0, k, **settings))
    noise = torch.randn(len(y), 1, dtype=DTYPE, generator=seeded(1))  # a covariate that nothing reads
    return EM(random_state=0, n_init=n_init).fit(model, noise, y)


# From mclust's documentation: likelihoods, numbers of parameters and BIC (there with the other sign). Its EM stops at a
# relative change of 1e-5, up to 0.02 below the maximum.
MCLUST = [("VVV", 2, -1130.264, 11, 2322.192), ("EEE", 3, -1126.326, 11, 2314.316)]


@pytest.mark.parametrize(("name", "k", "llf", "df", "bic"), MCLUST)
def test_likelihoods_and_criteria_are_mclusts(name, k, llf, df, bic):
    fit = fitted(name, k, n_init=3)
    assert fit.df_model == df
    assert llf - 1e-3 <= fit.llf <= llf + 0.02
    assert bic - 0.04 <= fit.bic <= bic + 2e-3


def test_models_that_contain_others_are_as_likely_at_least():
    """All fourteen at k = 2; a model is above another if each of its letters frees at least as much."""
    order = {"I": 0, "E": 1, "V": 2}
    fits = {name: fitted(name, 2, n_init=1) for name in covariance_names()}
    for name, fit in fits.items():
        assert np.isfinite(fit.bse).all(), name
        for other, lower in fits.items():
            if all(order[a] >= order[b] for a, b in zip(name, other, strict=True)):
                assert fit.llf >= lower.llf - 1e-6, (name, other)
