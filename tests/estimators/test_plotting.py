"""Pictures of fits hold what they say."""

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from scipy.stats import chi2, norm

from estimators import EM
from estimators.inference import bootstrap, profile_likelihood
from estimators.model_selection import mixing_dendrogram, select_experts
from estimators.plotting import plot_dendrogram, plot_history, plot_profile, plot_selection, plot_starts
from mixkit import MixingMeasure
from mixkit.datasets import load_faithful
from mixkit.plotting import expert_colors


@pytest.fixture(autouse=True)
def _figures_are_closed_and_settings_kept():
    before = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == before


@pytest.fixture(scope="module")
def selection():
    return select_experts(
        *load_faithful(), num_experts=[1, 2, 3], criterion="cv", folds=2, random_state=0, estimator=EM(n_init=3)
    )


@pytest.fixture(scope="module")
def tree(selection):
    return mixing_dendrogram(selection.fits[2], *load_faithful())


def test_the_path_of_a_fit(selection):
    fit = selection.best
    (line,) = plot_history(fit).lines
    heights = fit.llf - fit.history[np.asarray(line.get_xdata()) - 1]
    np.testing.assert_allclose(line.get_ydata(), heights)
    assert (np.diff(line.get_ydata()) <= 1e-9).all()


def test_the_ends_of_all_starts(selection):
    fit = selection.fits[2]
    lower, best = plot_starts(fit).lines
    drawn = np.concatenate([best.get_ydata(), lower.get_ydata()])
    np.testing.assert_allclose(drawn, fit.start_llf.max() - np.sort(fit.start_llf)[::-1])
    assert (best.get_ydata() < 1e-6 * (1 + abs(fit.llf))).all()


@pytest.mark.parametrize("parameter", ["gate_bias[0]", "std[1]"])
def test_the_profile_crosses_the_quantile_at_the_ends_of_its_interval(selection, parameter):
    fit = selection.fits[1]
    index = fit.param_names.index(parameter)
    ax = plot_profile(fit, parameter, num_points=9, level=0.9)
    wald, profile, quantile, estimate = ax.lines
    values = np.asarray(profile.get_xdata())
    expected = 2.0 * (fit.llf - profile_likelihood(fit, parameter, values))
    np.testing.assert_allclose(profile.get_ydata(), np.maximum(expected, 0.0), atol=1e-9)
    assert quantile.get_ydata()[0] == pytest.approx(chi2.ppf(0.9, 1))
    assert estimate.get_xdata()[0] == fit.params[index]
    low, high = fit.conf_int(level=0.9, method="profile")[index]
    assert (ax.patches[0].get_x(), ax.patches[0].get_width()) == (pytest.approx(low), pytest.approx(high - low))
    away = (
        fit.params[index] * np.log(values / fit.params[index]) if parameter == "std[1]" else values - fit.params[index]
    )
    np.testing.assert_allclose(wald.get_ydata(), (away / fit.bse[index]) ** 2, atol=1e-9)


def test_a_parameter_without_bounds_has_no_picture():
    x = torch.linspace(-1, 1, 80, dtype=torch.float64).unsqueeze(-1)
    noise = 0.01 * torch.randn(80, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.where(x[:, 0] > 0, 5.0 + x[:, 0], -5.0 - x[:, 0]) + noise  # a gate that may as well jump
    fit = select_experts(x, y, num_experts=[2], random_state=0, estimator=EM(n_init=2)).best
    with pytest.raises(ValueError, match=r"parameter must have a standard error .* got 'gate_weight\[0,x0\]'"):
        plot_profile(fit, "gate_weight[0,x0]", num_points=5)


def test_replicates_and_their_interval(selection):
    found = bootstrap(selection.fits[1], 60, random_state=0)
    ax = found.plot("slope[0,x0]", level=0.8, method="percentile")
    index = found.param_names.index("slope[0,x0]")
    low, high = found.conf_int(level=0.8, method="percentile")[index]
    band, *bars = ax.patches
    assert (band.get_x(), band.get_width()) == (pytest.approx(low), pytest.approx(high - low))
    assert sum(bar.get_height() * bar.get_width() for bar in bars) == pytest.approx(1.0, abs=0.02)
    law, estimate = ax.lines
    assert max(law.get_ydata()) == pytest.approx(norm.pdf(0.0, scale=found.bse[index]), rel=1e-2)
    assert estimate.get_xdata()[0] == found.params[index]


def test_curves_of_criteria_touch_zero_at_their_choice(selection):
    ax = plot_selection(selection)
    labels = ["AIC", "BIC", "ICL", "cross-validation, 1 s.e."]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == labels
    for container, name in zip(ax.containers, ("aic", "bic", "icl", "cv-max"), strict=True):
        line = container[0]
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
        assert line.get_ydata()[selection.num_experts.index(selection.choose(name))] == 0.0
        assert min(line.get_ydata()) == 0.0
    values = selection.values["bic"]
    np.testing.assert_allclose(ax.containers[1][0].get_ydata(), values - values.min())


def test_cross_validation_is_on_the_scale_of_the_others(selection):
    ax = plot_selection(selection, ["cv"])
    n = selection.best.nobs
    below = selection.held_out.mean.max() - selection.held_out.mean
    np.testing.assert_allclose(ax.containers[0][0].get_ydata(), 2 * n * below)


def test_the_branches_below_the_cut_have_the_colors_of_experts(tree):
    ax = plot_dendrogram(tree, 2)
    assert ax.get_title() == "cut at k = 2"
    colors = {to_hex(color).upper() for lines in ax.collections for color in lines.get_colors()}
    assert "#8C8C8C" in colors  # the merge above the cut is gray
    assert colors - {"#8C8C8C"} <= set(expert_colors(2))
    labels = [text.get_text() for text in ax.get_xticklabels()]
    assert sorted(labels) == sorted(f"{j}\n{mass:.1%}" for j, mass in enumerate(tree.masses))
    height = ax.lines[-1].get_ydata()[0]
    assert tree.height(3) < height < tree.height(2)


def test_the_methods_draw_where_they_are_told(selection, tree):
    _, (left, right) = plt.subplots(1, 2)
    assert selection.plot(ax=left) is left
    assert tree.plot(ax=right) is right
    assert len(plt.get_fignums()) == 1


def test_what_cannot_be_drawn_is_named(selection):
    with pytest.raises(ValueError, match="criteria must be one of"):
        plot_selection(selection, ["hqc"])
    one = torch.ones(1, dtype=torch.float64)
    measure = MixingMeasure(one, one[:, None], one[:, None], one, one)
    with pytest.raises(ValueError, match="dendrogram must have at least 2 atoms"):
        plot_dendrogram(mixing_dendrogram(measure))
