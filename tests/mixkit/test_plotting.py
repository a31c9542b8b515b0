"""Pictures hold what they say, where they were told to, and leave matplotlib as it was."""

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import to_hex

from mixkit import (
    FullCovariance,
    MixingMeasure,
    MixtureOfExperts,
    MultivariateGaussianExperts,
    PoissonExperts,
    softmax_gate,
)
from mixkit.experts.predictors import LinearPredictor
from mixkit.plotting import expert_colors, plot_fit, plot_gate, plot_gate_map
from tests.mixkit.expert_table import double
from tests.mixkit.gate_table import normal, seeded


@pytest.fixture(autouse=True)
def _figures_are_closed_and_settings_kept():
    before = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == before


@pytest.fixture
def fitted():
    """Two experts that change over at x = 0.32, and data of theirs."""
    g = MixingMeasure(
        double(-8.0, 0.0),
        double(25.0, 0.0)[:, None],
        double(-20.0, 20.0)[:, None],
        double(15.0, -5.0),
        double(1.0, 4.0),
    )
    x, y = g.sample_xy(80, generator=seeded())
    return g.to_module(), x, y


def collections(ax, kind):
    return [c for c in ax.collections if type(c) is kind or isinstance(c, kind)]


def test_a_fit_shows_data_bands_experts_and_mean(fitted):
    model, x, y = fitted
    ax = plot_fit(model, x, y)
    (points,) = collections(ax, PathCollection)
    np.testing.assert_allclose(points.get_offsets(), torch.cat([x, y.unsqueeze(-1)], -1))
    owner = model(x).log_responsibilities(y).argmax(-1)
    assert [to_hex(c).upper() for c in points.get_facecolors()] == [expert_colors(2)[j] for j in owner]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["95% predictive band", "50% predictive band", "expert 0", "expert 1", "conditional mean"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x", "y")


def test_the_bands_hold_what_their_labels_say(fitted):
    model, x, y = fitted
    ax = plot_fit(model, x, y)
    bands = [c for c in ax.collections if c.get_label().endswith("band")]
    assert len(bands) == 2
    for band, coverage in zip(bands, (0.95, 0.5), strict=True):
        vertices = torch.as_tensor(band.get_paths()[0].vertices)
        inside = vertices[(vertices[:, 0] > x.min() + 0.01) & (vertices[:, 0] < x.max() - 0.01)]
        level = model(inside[:, :1]).cdf(inside[:, 1])
        tail = torch.where(level < 0.5, level, 1 - level)
        torch.testing.assert_close(tail, torch.full_like(tail, (1 - coverage) / 2), rtol=1e-6, atol=0)


def test_the_mean_is_the_conditional_mean(fitted):
    model, x, y = fitted
    ax = plot_fit(model, x, y)
    (line,) = [line for line in ax.lines if line.get_label() == "conditional mean"]
    grid = torch.as_tensor(np.asarray(line.get_xdata()))
    torch.testing.assert_close(torch.as_tensor(np.asarray(line.get_ydata())), model(grid[:, None]).mean.detach())
    assert (grid.min(), grid.max()) == (x.min(), x.max())


def test_an_experts_line_is_its_mean_as_opaque_as_its_weight(fitted):
    model, x, y = fitted
    ax = plot_fit(model, x, y)
    lines = collections(ax, LineCollection)
    assert len(lines) == 2
    for j, line in enumerate(lines):
        ends = torch.as_tensor(np.stack([segment[1] for segment in line.get_segments()]))
        law = model(ends[:, :1])
        torch.testing.assert_close(ends[:, 1], law.components.mean[:, j].detach())
        weight = law.log_weights[:, j].exp().detach()
        assert (weight > 0.03).all()
        np.testing.assert_allclose(line.get_colors()[:, 3], 0.25 + 0.75 * weight)


def test_a_gate_fills_the_unit_interval(fitted):
    model, x, _ = fitted
    ax = plot_gate(model, x)
    areas = collections(ax, PolyCollection)
    assert [area.get_label() for area in areas] == ["expert 0", "expert 1"]
    assert ax.get_ylim() == (0.0, 1.0)
    assert ax.get_ylabel() == "gate weight"
    vertices = torch.as_tensor(areas[0].get_paths()[0].vertices)
    edge = vertices[(vertices[:, 1] > 0.01) & (vertices[:, 1] < 0.99)]
    assert len(edge) > 50
    torch.testing.assert_close(edge[:, 1], model.gate(edge[:, :1])[:, 0].exp().detach())


class TestOffsets:
    """Experts with an offset, the last column of x, which the gate does not see."""

    def model(self, d):
        settings = {"dtype": torch.float64, "generator": seeded()}
        gate = softmax_gate(d, 3, **settings)
        with torch.no_grad():
            gate.score.weight.mul_(100)
        return MixtureOfExperts(gate, PoissonExperts(LinearPredictor(d, 3, offset=True, **settings)))

    @pytest.mark.parametrize("feature", [None, 0, "age"])
    def test_a_gate_of_one_covariate(self, feature):
        model, x = self.model(1), normal(30, 2)
        ax = plot_gate(model, x, feature=feature, names=["age", "log exposure"])
        assert ax.get_xlabel() == "age"
        vertices = torch.as_tensor(collections(ax, PolyCollection)[0].get_paths()[0].vertices)
        edge = vertices[(vertices[:, 1] > 0.01) & (vertices[:, 1] < 0.99)]
        assert len(edge) > 50
        torch.testing.assert_close(edge[:, 1], model.gate(edge[:, :1])[:, 0].exp().detach())

    def test_a_map_of_two_covariates(self):
        model, x = self.model(2), normal(30, 3)
        y = model(x).sample(generator=seeded())
        with_offset = plot_gate_map(model, x, y, names=["age", "dose", "log exposure"])
        bare = MixtureOfExperts(model.gate, PoissonExperts(LinearPredictor(2, 3, generator=seeded())).double())
        alone = plot_gate_map(bare, x[:, :2], names=["age", "dose"])
        assert (with_offset.get_xlabel(), with_offset.get_ylabel()) == ("age", "dose")
        np.testing.assert_array_equal(with_offset.images[0].get_array(), alone.images[0].get_array())

    def test_a_map_needs_two_covariates_beside_the_offset(self):
        with pytest.raises(ValueError, match="x must have at least 2 covariates"):
            plot_gate_map(self.model(1), normal(30, 2))


def test_the_axes_that_are_given_are_drawn_in(fitted):
    model, x, y = fitted
    figure, (top, bottom) = plt.subplots(2, 1)
    assert plot_fit(model, x, y, ax=top) is top
    assert plot_gate(model, x, ax=bottom) is bottom
    assert plt.get_fignums() == [figure.number]
    assert plot_fit(model, x, y).figure is not figure


def test_counts_and_single_precision():
    gate = softmax_gate(1, 2, generator=seeded())
    model = MixtureOfExperts(gate, PoissonExperts(LinearPredictor(1, 2, generator=seeded())))
    x = normal(20, 1, dtype=torch.float32)
    ax = plot_fit(model, x, model(x).sample(generator=seeded()))
    band = next(c for c in ax.collections if c.get_label().endswith("band"))
    heights = band.get_paths()[0].vertices[:, 1]
    assert np.array_equal(heights, heights.round())


def test_no_gradients_are_asked_of_the_user(fitted):
    model, x, y = fitted
    ax = plot_fit(model, x.clone().requires_grad_(), y.clone().requires_grad_())
    assert len(collections(ax, PathCollection)) == 1


@pytest.mark.parametrize("k", [1, 6, 7, 20])
def test_every_expert_has_its_own_color(k):
    colors = expert_colors(k)
    assert len({to_hex(color) for color in colors}) == k


def test_what_cannot_be_drawn_is_named_before_a_figure_is_opened(fitted):
    model, x, y = fitted
    with pytest.raises(ValueError, match=r"x must have 1 covariate in its last dimension, got shape \(80, 2\)"):
        plot_fit(model, x.expand(80, 2), y)
    with pytest.raises(ValueError, match="x must have 1 covariate"):
        plot_gate(model, x.expand(80, 2))
    means = LinearPredictor(1, 2, response_dim=2, generator=seeded(), dtype=torch.float64)
    experts = MultivariateGaussianExperts(means, FullCovariance(2, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"model must have a scalar response, got event shape \(2,\)"):
        plot_fit(MixtureOfExperts(model.gate, experts), x, y)
    assert plt.get_fignums() == []
