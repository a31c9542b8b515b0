"""Inference for every gate and family."""

import math

import pytest
import torch

from estimators.bayes import BayesianMixtureOfExperts, fit_chi_square, laplace

from .cases import CASE_IDS, CASES


@pytest.mark.filterwarnings("ignore")  # forty rows and three experts: some information is singular
@pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
def test_every_model_is_inferred(case):
    """From the model's own parameters to the mode, and to weighted draws there: all finite, the mode a maximum."""
    bayes = BayesianMixtureOfExperts(case.model(), *case.data())
    start = bayes.vector(bayes.read(case.model()))
    at = laplace(bayes, case.model())
    assert at.log_density >= float(bayes.log_density(start))
    posterior = fit_chi_square(bayes, at=at, steps=10, particles=50, num_samples=50, random_state=0)
    assert math.isfinite(posterior.importance.log_evidence)
    assert bool(torch.isfinite(posterior.values).all())
