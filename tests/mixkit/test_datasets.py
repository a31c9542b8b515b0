"""The data sets: sizes and values that anyone can look up in R."""

import pytest
import torch

from mixkit import datasets

# name: rows, covariates, first row (x, y), mean of y as R's summary() rounds it
FACTS = {
    "mcycle": (133, 1, [2.4], 0.0, -25.55),
    "faithful": (272, 1, [3.6], 79.0, 70.9),
    "ethanol": (88, 2, [12.0, 0.907], 3.741, 1.957),
    "tone": (150, 1, [1.35], 1.461, None),
    "co2_gnp": (28, 1, [19.02], 14.7, None),
    "patents": (70, 1, [4.0869], 42.0, None),
}


@pytest.mark.parametrize("name", FACTS)
def test_a_data_set(name):
    rows, columns, first_x, first_y, mean = FACTS[name]
    x, y = getattr(datasets, f"load_{name}")()
    assert x.shape == (rows, columns)
    assert y.shape == (rows,)
    assert x.dtype == y.dtype == torch.float64
    assert x[0].tolist() == first_x
    assert y[0].item() == first_y
    assert x.isfinite().all()
    assert y.isfinite().all()
    assert mean is None or y.mean().item() == pytest.approx(mean, rel=3e-4)


def test_every_loader_is_tested_and_documented():
    assert {f"load_{name}" for name in [*FACTS, "articles"]} == set(datasets.__all__)
    assert all("Source:" in getattr(datasets, name).__doc__ for name in datasets.__all__)


def test_articles_have_columns_of_numbers_and_words():
    """Facts of R's summary(bioChemists)."""
    data = datasets.load_articles()
    assert {name: len(column) for name, column in data.items()} == dict.fromkeys(data, 915)
    assert (data["fem"].count("Women"), data["mar"].count("Married")) == (421, 606)
    assert sum(data["art"]) / 915 == pytest.approx(1.693, abs=5e-4)
    assert sum(data["ment"]) / 915 == pytest.approx(8.767, abs=5e-4)


def test_patents_are_counts():
    _, y = datasets.load_patents()
    assert torch.equal(y, y.round())
    assert (y >= 0).all()


def test_each_call_gives_its_own_tensors():
    x, _ = datasets.load_mcycle()
    x += 1.0
    assert datasets.load_mcycle()[0][0, 0] == 2.4
