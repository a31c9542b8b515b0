"""The acceptance plot draws what the curves say, and the optimum bounds them all."""

import matplotlib.pyplot as plt
import pytest
import torch

from samplers import KSequential, OptimalVerifier, RecursiveRejection
from samplers.acceptance.plotting import acceptance_curves, plot_acceptance

RULES = {"optimal": OptimalVerifier(), "K-SEQ": KSequential(), "recursive": RecursiveRejection()}


@pytest.fixture
def laws(generator):
    return tuple(torch.randn(2, 5, 9, generator=generator, dtype=torch.float64).softmax(-1))


def test_the_optimum_bounds_every_curve_and_its_verifier_reaches_it(laws):
    curves = acceptance_curves(*laws, RULES, [1, 2, 5])
    torch.testing.assert_close(curves["optimal"], curves["optimum"], rtol=0, atol=1e-12)
    for name in RULES:
        assert (curves[name] <= curves["optimum"] + 1e-12).all()
        assert curves[name].dtype == torch.float64


def test_plot_draws_the_curves(laws):
    ax = plot_acceptance(*laws, RULES, [1, 3])
    curves = acceptance_curves(*laws, RULES, [1, 3])
    for line, name in zip(ax.get_lines(), ["optimum", *RULES], strict=True):
        assert line.get_ydata().tolist() == curves[name].tolist()
    assert any("K-SEQ" in text.get_text() for text in ax.texts)
    plt.close(ax.figure)
