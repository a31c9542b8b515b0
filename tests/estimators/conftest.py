"""Fits that several modules of tests look at."""

import pytest

from estimators import EM, MLE
from mixkit.datasets import load_ethanol, load_tone

from .models import softmax_model


@pytest.fixture(scope="module")
def tone():
    """Two experts."""
    return EM(random_state=0, n_init=2).fit(softmax_model(1, 2), *load_tone())


@pytest.fixture(scope="module")
def line():
    """One expert: least squares."""
    return MLE(n_init=1, random_state=0).fit(softmax_model(2, 1), *load_ethanol())
