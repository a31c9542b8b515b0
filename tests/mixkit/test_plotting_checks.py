"""Slices, maps, responsibilities and checks of calibration hold what they say."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_hex, to_rgb
from scipy.stats import beta, binom, norm
from sklearn.linear_model import LinearRegression

from mixkit import MixtureOfExperts, PoissonExperts, linear_gaussian_experts, softmax_gate
from mixkit.experts.predictors import LinearPredictor
from mixkit.plotting import (
    expert_colors,
    plot_calibration,
    plot_fit,
    plot_gate,
    plot_gate_map,
    plot_qq,
    plot_residuals,
    plot_responsibilities,
)
from mixkit.residuals import probability_integral_transform, quantile_residuals
from tests.mixkit.gate_table import normal, seeded

DOUBLE = torch.float64


@pytest.fixture(autouse=True)
def _figures_are_closed_and_settings_kept():
    before = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == before


@pytest.fixture
def fitted():
    """A model of two covariates with three experts, and data of it."""
    gate = softmax_gate(2, 3, dtype=DOUBLE, generator=seeded(1))
    model = MixtureOfExperts(gate, linear_gaussian_experts(2, 3, dtype=DOUBLE, generator=seeded(2)))
    with torch.no_grad():
        gate.score.weight.mul_(20.0)
    x = normal(60, 2)
    return model, x, model(x).sample(generator=seeded(3))


class TestSlices:
    def test_the_other_covariates_are_at_their_medians(self, fitted):
        model, x, y = fitted
        ax = plot_fit(model, x, y, feature=1)
        (line,) = [line for line in ax.lines if line.get_label() == "conditional mean"]
        across = torch.as_tensor(np.asarray(line.get_xdata()))
        slice_x = torch.stack([x[:, 0].median().expand_as(across), across], -1)
        np.testing.assert_allclose(line.get_ydata(), model(slice_x).mean.detach())

    def test_or_where_they_are_put(self, fitted):
        model, x, _ = fitted
        at = torch.tensor([3.0, 0.0], dtype=DOUBLE)
        ax = plot_gate(model, x, feature="dose", at=at, names=["age", "dose"])
        assert ax.get_xlabel() == "dose"
        area = next(c for c in ax.collections if isinstance(c, PolyCollection))
        vertices = torch.as_tensor(area.get_paths()[0].vertices)
        edge = vertices[(vertices[:, 1] > 1e-6) & (vertices[:, 1] < 1 - 1e-6)]
        expected = model.gate(torch.stack([torch.full_like(edge[:, 0], 3.0), edge[:, 0]], -1))[:, 0].exp()
        torch.testing.assert_close(edge[:, 1], expected.detach())

    def test_points_far_from_the_slice_are_pale(self, fitted):
        model, x, y = fitted
        ax = plot_fit(model, x, y, feature=0)
        (points,) = [c for c in ax.collections if isinstance(c, PathCollection)]
        opacity = points.get_alpha()
        distance = (x[:, 1] - x[:, 1].median()).abs().numpy()
        assert (np.diff(opacity[np.argsort(distance)]) <= 1e-12).all()
        assert opacity.max() == pytest.approx(0.85)

    def test_names_label_the_axes(self, fitted):
        model, x, y = fitted
        ax = plot_fit(model, x, y, feature=1, names=["age", "dose"], response="effect")
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("dose", "effect")


class TestTheMap:
    def test_every_pixel_has_the_color_of_the_largest_weight(self, fitted):
        model, x, y = fitted
        image = plot_gate_map(model, x, y).images[0]
        left, right, bottom, top = image.get_extent()
        pixels = image.get_array()
        size = pixels.shape[0]
        for row, column in [(0, 0), (size // 2, size // 3), (size - 1, size - 1)]:
            here = torch.tensor(
                [left + (right - left) * column / (size - 1), bottom + (top - bottom) * row / (size - 1)], dtype=DOUBLE
            )
            weight = model.gate(here[None])[0].exp().detach()
            color = np.array(to_rgb(expert_colors(3)[int(weight.argmax())]))
            strength = 0.12 + 0.38 * (float(weight.max()) - 1 / 3) / (2 / 3)
            np.testing.assert_allclose(pixels[row, column], 1.0 - strength * (1.0 - color), atol=1e-6)

    def test_points_have_the_color_of_their_expert(self, fitted):
        model, x, y = fitted
        ax = plot_gate_map(model, x, y, features=(1, 0), names=["age", "dose"])
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("dose", "age")
        (points,) = [c for c in ax.collections if isinstance(c, PathCollection)]
        np.testing.assert_allclose(points.get_offsets(), x.flip(-1))
        owner = model(x).log_responsibilities(y).argmax(-1)
        assert [to_hex(c).upper() for c in points.get_facecolors()] == [expert_colors(3)[j] for j in owner]

    def test_borders_are_where_two_weights_are_equal(self, fitted):
        model, x, _ = fitted
        ax = plot_gate_map(model, x)
        lines = [c for c in ax.collections if not isinstance(c, PathCollection)]
        points = torch.as_tensor(np.concatenate([p.vertices for line in lines for p in line.get_paths()]))
        top = model.gate(points).exp().topk(2, -1).values
        assert len(points) > 100
        torch.testing.assert_close(top[:, 0], top[:, 1], rtol=0, atol=0.05)


class TestResponsibilities:
    def test_columns_are_the_sorted_responsibilities(self, fitted):
        model, x, y = fitted
        ax = plot_responsibilities(model, x, y)
        resp = model(x).log_responsibilities(y).exp().detach().numpy()
        area = next(c for c in ax.collections if c.get_label() == "expert 0")
        heights = area.get_paths()[0].vertices
        middle = np.array([heights[np.isclose(heights[:, 0], 0.0), 1].max()])
        first = np.lexsort((-resp.max(1), resp.argmax(1)))[0]
        np.testing.assert_allclose(middle, resp[first, 0])

    def test_the_number_of_observations_stands_above_each_block(self, fitted):
        model, x, y = fitted
        owner = model(x).log_responsibilities(y).argmax(-1)
        counts = torch.bincount(owner, minlength=3).tolist()
        shown = [text.get_text() for text in plot_responsibilities(model, x, y).texts]
        assert shown == [f"expert {j}\n{count}" for j, count in enumerate(counts) if count]


class TestCalibration:
    def test_bars_and_band(self, fitted):
        model, x, y = fitted
        ax = plot_calibration(model, x, y, bins=6)
        heights = [bar.get_height() for bar in ax.patches if bar.get_width() < 0.5]
        level = probability_integral_transform(model, x, y).numpy()
        assert heights == np.histogram(level, 6, (0, 1))[0].tolist()
        low, high = binom.ppf([0.025 / 6, 1 - 0.025 / 6], 60, 1 / 6)
        drawn = sorted(line.get_ydata()[0] for line in ax.lines)
        assert drawn == [low, 10.0, high]

    def test_quantiles_in_order_with_their_beta_band(self, fitted):
        model, x, y = fitted
        ax = plot_qq(model, x, y)
        points = next(line for line in ax.lines if line.get_marker() == ".")
        residuals = quantile_residuals(model, x, y).sort().values
        np.testing.assert_allclose(points.get_ydata(), residuals)
        np.testing.assert_allclose(points.get_xdata()[0], norm.ppf(0.5 / 60))
        band = ax.collections[0].get_paths()[0].vertices
        assert band[:, 1].min() == pytest.approx(norm.ppf(beta.ppf(0.025, 1, 60)))

    def test_residuals_against_the_mean(self, fitted):
        model, x, y = fitted
        ax = plot_residuals(model, x, y)
        points = next(line for line in ax.lines if line.get_marker() == ".")
        np.testing.assert_allclose(points.get_xdata(), model(x).mean.detach())
        np.testing.assert_allclose(points.get_ydata(), quantile_residuals(model, x, y))
        curves = [line for line in ax.lines if line.get_marker() == "o"]
        assert [len(curve.get_xdata()) for curve in curves] == [4, 4, 4]

    def test_weights_that_repeat_rows_are_repeated_rows(self, fitted):
        model, x, y = fitted
        twice = [torch.cat([part, part]) for part in (x, y)]
        weight = np.full(60, 2.0)
        for draw in (plot_calibration, plot_residuals):
            weighted, repeated = draw(model, x, y, weight), draw(model, *twice)
            heights = [[bar.get_height() for bar in ax.patches if bar.get_width() < 0.5] for ax in (weighted, repeated)]
            assert heights[0] == pytest.approx(heights[1])
        medians = [ax.lines[5].get_ydata() for ax in (plot_residuals(model, x, y, weight), plot_residuals(model, x, y))]
        np.testing.assert_allclose(*medians)

    def test_observations_of_weight_zero_are_not_there(self, fitted):
        model, x, y = fitted
        weight = (torch.arange(60) < 50).double()
        for draw in (plot_calibration, plot_qq, plot_residuals):
            weighted, fewer = draw(model, x, y, weight), draw(model, x[:50], y[:50])
            for one, other in zip(weighted.lines, fewer.lines, strict=True):
                np.testing.assert_allclose(one.get_ydata(), other.get_ydata())
                np.testing.assert_allclose(one.get_xdata(), other.get_xdata())

    def test_weights_count_as_fewer_observations(self, fitted):
        model, x, y = fitted
        weight = torch.rand(60, dtype=DOUBLE, generator=seeded(4)) + 0.1
        count = float(weight.sum() ** 2 / weight.square().sum())
        points = next(line for line in plot_qq(model, x, y, weight).lines if line.get_marker() == ".")
        residuals, order = quantile_residuals(model, x, y).sort()
        np.testing.assert_allclose(points.get_ydata(), residuals)
        below = (weight[order].cumsum(0) - 0.5 * weight[order]) / weight.sum()
        np.testing.assert_allclose(points.get_xdata(), norm.ppf(below), atol=1e-12)
        band = plot_qq(model, x, y, weight).collections[0].get_paths()[0].vertices
        rank = float(below[0]) * count + 0.5
        assert band[:, 1].min() == pytest.approx(norm.ppf(beta.ppf(0.025, rank, count + 1 - rank)), rel=1e-5)

    @pytest.mark.parametrize("weight", [np.ones(3), -np.ones(60), np.zeros(60), np.full(60, np.nan)])
    def test_wrong_weights_are_refused(self, fitted, weight):
        with pytest.raises(ValueError, match="sample_weight must"):
            plot_qq(*fitted, weight)

    def test_few_observations_have_no_curves(self, fitted):
        model, x, y = fitted
        ax = plot_residuals(model, x[:40], y[:40])
        assert not [line for line in ax.lines if line.get_marker() == "o"]

    def test_counts_in_single_precision(self):
        gate = softmax_gate(1, 2, generator=seeded(0))
        model = MixtureOfExperts(gate, PoissonExperts(LinearPredictor(1, 2, generator=seeded(1))))
        x = normal(50, 1, dtype=torch.float32)
        y = model(x).sample(generator=seeded(2))
        first, second = (plot_qq(model, x, y, seed=seed).lines[1].get_ydata() for seed in (0, 1))
        assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    "draw", [plot_responsibilities, plot_calibration, plot_qq, plot_residuals, plot_gate_map], ids=lambda f: f.__name__
)
def test_axes_that_are_given_are_drawn_in(fitted, draw):
    _, ax = plt.subplots()
    assert draw(*fitted, ax=ax) is ax
    assert len(plt.get_fignums()) == 1


class TestForms:
    @pytest.mark.parametrize(
        "draw", [plot_fit, plot_responsibilities, plot_calibration, plot_qq, plot_residuals, plot_gate_map, plot_gate]
    )
    def test_arrays_and_frames_are_drawn_as_tensors_are(self, fitted, draw):
        model, x, y = fitted
        settings = {"feature": 1} if draw in (plot_fit, plot_gate) else {}
        frame, series = pd.DataFrame(x.numpy(), columns=["age", "dose"]), pd.Series(y.numpy(), name="effect")
        forms = [(x, y), (x.numpy(), y.numpy()), (frame, series)]
        axes = [draw(model, *form[: 1 if draw is plot_gate else 2], **settings) for form in forms]
        pictures = [[c.get_paths()[0].vertices for c in ax.collections if c.get_paths()] for ax in axes]
        lines = [[line.get_ydata() for line in ax.lines] for ax in axes]
        for other in (1, 2):
            for kind in (pictures, lines):
                assert len(kind[0]) == len(kind[other])
                assert all(np.array_equal(a, b) for a, b in zip(kind[0], kind[other], strict=True))

    def test_a_frame_names_the_axes(self, fitted):
        model, x, y = fitted
        frame, series = pd.DataFrame(x.numpy(), columns=["age", "dose"]), pd.Series(y.numpy(), name="effect")
        ax = plot_fit(model, frame, series, feature="dose")
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("dose", "effect")
        ax = plot_gate_map(model, frame, features=("dose", "age"))
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("dose", "age")
        assert plot_gate(model, frame, feature=0, names=["u", "v"]).get_xlabel() == "u"

    def test_the_legend_of_a_gate_names_the_experts_in_the_order_of_the_picture(self, fitted):
        legend = plot_gate(*fitted[:2], feature=0).get_legend()
        assert [text.get_text() for text in legend.get_texts()] == ["expert 2", "expert 1", "expert 0"]


class TestBadInput:
    @pytest.mark.parametrize("draw", [plot_fit, plot_responsibilities, plot_qq, plot_gate_map])
    def test_what_is_no_model_or_no_data(self, fitted, draw):
        model, x, y = fitted
        with pytest.raises(TypeError, match=r"of a fitted regressor pass \.result_\.model.*got LinearRegression"):
            draw(LinearRegression(), x, y)
        with pytest.raises(TypeError, match="x must be a numeric tensor, array or frame, got DataFrame"):
            draw(model, pd.DataFrame({"a": ["u"], "b": ["v"]}), y)

    def test_no_feature_of_two(self, fitted):
        with pytest.raises(ValueError, match=r"got shape \(60, 2\); of several, pass feature="):
            plot_gate(*fitted[:2])

    def test_features(self, fitted):
        model, x, y = fitted
        with pytest.raises(ValueError, match=r"feature must be one of \['x0', 'x1'\], got 'age'"):
            plot_fit(model, x, y, feature="age")
        with pytest.raises(ValueError, match="feature must be at most 1, got 2"):
            plot_gate(model, x, feature=2)
        with pytest.raises(ValueError, match="names must hold one name for each of the 2 covariates, got 1"):
            plot_gate(model, x, feature=0, names=["age"])
        with pytest.raises(ValueError, match=r"at must have shape \(2,\), got \(1,\)"):
            plot_gate(model, x, feature=0, at=torch.zeros(1))

    def test_maps(self, fitted):
        model, x, _ = fitted
        with pytest.raises(ValueError, match="x must have at least 2 covariates"):
            plot_gate_map(model, x[:, :1])
        with pytest.raises(ValueError, match=r"features must be two different covariates, got \(1, 1\)"):
            plot_gate_map(model, x, features=(1, 1))

    def test_bins(self, fitted):
        with pytest.raises(ValueError, match="bins must be at least 2, got 1"):
            plot_calibration(*fitted, bins=1)
