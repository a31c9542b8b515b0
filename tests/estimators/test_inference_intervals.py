"""Covariances of every kind, Wald and profile intervals, the delta method: against closed forms."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import chi2, norm

from estimators import EM, MLE, MixtureOfExpertsRegressor, SingularInformationWarning
from estimators.bayes import LaplaceApproximation, Posterior
from estimators.inference import (
    BootstrapResult,
    DataRemovedError,
    ProfileWarning,
    delta_method,
    profile_intervals,
    profile_likelihood,
    wald_intervals,
)
from estimators.streaming import StreamResult
from mixkit import (
    MixtureOfExperts,
    constant_gate,
    linear_gaussian_experts,
    sigmoid_gate,
    softmax_gate,
)
from mixkit.datasets import load_ethanol, load_faithful, load_mcycle, load_patents, load_tone
from mixkit.experts import GaussianExperts, PoissonExperts
from mixkit.experts.predictors import ConstantPredictor, LinearPredictor

from .models import DTYPE, seeded, softmax_model


class Plain(LinearPredictor):
    """A linear predictor that the fast objective does not know."""


def slow_model(k: int = 2) -> MixtureOfExperts:
    generator = seeded(0)
    experts = GaussianExperts(Plain(1, k, dtype=DTYPE, generator=generator), dtype=DTYPE)
    return MixtureOfExperts(softmax_gate(1, k, dtype=DTYPE, generator=generator), experts)


def least_squares():
    x, y = (part.numpy() for part in load_ethanol())
    design = np.column_stack([x, np.ones(len(y))])
    coefficients, *_ = np.linalg.lstsq(design, y, rcond=None)
    return design, y - design @ coefficients


class TestSandwich:
    def test_one_expert_is_the_heteroscedasticity_robust_covariance(self, line):
        design, residual = least_squares()
        bread = np.linalg.inv(design.T @ design)
        expected = bread @ (design.T * residual**2) @ design @ bread
        np.testing.assert_allclose(line.cov_params("sandwich")[:3, :3], expected, rtol=1e-6)

    def test_the_outer_product_of_one_expert(self, line):
        design, residual = least_squares()
        variance = np.mean(residual**2)
        scores = np.column_stack(
            [design * (residual / variance)[:, None], (residual**2 / variance - 1) / variance**0.5]
        )
        np.testing.assert_allclose(line.cov_params("opg"), np.linalg.inv(scores.T @ scores), rtol=1e-5)

    def test_both_routes_agree(self):
        x, y = load_faithful()
        fast, slow = (EM(random_state=0, n_init=2).fit(m, x, y) for m in (softmax_model(1, 2), slow_model()))
        for kind in ("sandwich", "opg"):
            errors = dict(zip(fast.param_names, fast.standard_errors(kind), strict=True))
            others = dict(zip(slow.param_names, slow.standard_errors(kind), strict=True))
            expected = sorted(errors[f"slope[{j},x0]"] for j in range(2))
            found = sorted(others[f"slope[{j},x0]"] for j in range(2))
            np.testing.assert_allclose(found, expected, rtol=1e-4)

    def test_integer_weights_are_counts_for_the_information_and_clusters_for_the_sandwich(self):
        x, y = load_tone()
        counts = torch.randint(0, 4, (len(y),), generator=seeded(0))
        weighted = EM(random_state=0, n_init=2).fit(softmax_model(1, 2), x, y, counts)
        rows = torch.arange(len(y)).repeat_interleave(counts)
        repeated = EM(random_state=0, n_init=0, starts=[], start_at_model=True).fit(weighted.model, x[rows], y[rows])
        for kind in ("observed", "opg"):
            np.testing.assert_allclose(weighted.cov_params(kind), repeated.cov_params(kind), rtol=1e-4, atol=1e-6)
        scores = repeated.maximum.objective.scores(repeated.maximum.theta)
        clusters = torch.zeros(len(y), scores.shape[1], dtype=DTYPE).index_add_(0, rows, scores)
        bread = repeated.maximum.to_user.jacobian(repeated.maximum.theta) @ repeated.maximum.covariance("observed")
        expected = bread @ clusters.mT @ clusters @ bread.mT
        np.testing.assert_allclose(weighted.cov_params("sandwich"), expected, rtol=1e-4, atol=1e-6)

    def test_the_scale_of_weights_does_not_matter(self, tone):
        x, y = load_tone()
        doubled = EM(random_state=0, n_init=2).fit(softmax_model(1, 2), x, y, torch.full((len(y),), 2.0, dtype=DTYPE))
        np.testing.assert_allclose(doubled.cov_params("sandwich"), tone.cov_params("sandwich"), rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(doubled.cov_params(), 0.5 * tone.cov_params(), rtol=1e-4, atol=1e-8)

    def test_undetermined_parameters_stay_without_errors_and_the_rest_have_them(self, jump):
        missing = np.isnan(jump.bse)
        assert missing.any()
        for kind in ("sandwich", "opg"):
            errors = jump.standard_errors(kind)
            assert np.isnan(errors[missing]).all()
        assert np.isfinite(jump.standard_errors("sandwich")[~missing]).all()


@pytest.fixture(scope="module")
def jump():
    """Two lines, one on each side of a gap in x: the gate has no finite weight."""
    generator = seeded(5)
    x = torch.cat(
        [torch.rand(60, 1, dtype=DTYPE, generator=generator) - 1.1, 0.1 + torch.rand(60, 1, generator=generator)]
    )
    y = torch.where(x[:, 0] < 0, 10.0 + x[:, 0], -10.0 - 3 * x[:, 0])
    y = y + torch.randn(120, dtype=DTYPE, generator=generator)
    with pytest.warns(SingularInformationWarning, match="gate_weight"):
        return EM(random_state=0, n_init=3, n_moves=0).fit(softmax_model(1, 2), x, y)


class TestWald:
    def test_intervals_are_symmetric_and_those_of_scales_symmetric_in_the_logarithm(self, tone):
        ends, quantile = tone.conf_int(level=0.9, cov_type="sandwich"), norm.ppf(0.95)
        errors, positive = tone.standard_errors("sandwich"), tone.is_positive
        expected = tone.params[:, None] + quantile * errors[:, None] * np.array([-1, 1])
        np.testing.assert_allclose(ends[~positive], expected[~positive])
        np.testing.assert_allclose(ends[positive].prod(1), tone.params[positive] ** 2)
        ratio = np.exp(2.0 * quantile * errors[positive] / tone.params[positive])
        np.testing.assert_allclose(ends[positive, 1] / ends[positive, 0], ratio)
        assert positive.tolist() == [name.startswith("std") for name in tone.param_names]

    def test_intervals_of_scales_are_those_of_their_logarithm(self):
        """The delta method for log theta, whose standard error is se / theta, at estimates far from one."""
        values, errors = np.array([0.02, 0.5, 1.0, 40.0]), np.array([0.01, 0.1, 0.3, 4.0])
        ends = wald_intervals(values, errors, np.ones(4, dtype=bool), level=0.9)
        step = norm.ppf(0.95) * errors / values
        np.testing.assert_allclose(np.log(ends), np.log(values)[:, None] + step[:, None] * np.array([-1, 1]))

    def test_the_summary_shows_what_was_asked_for(self, tone):
        frame = tone.to_frame(cov_type="sandwich", level=0.9)
        assert list(frame.columns) == ["coef", "std err", "z", "P>|z|", "[0.05", "0.95]"]
        assert list(frame.index) == tone.param_names
        np.testing.assert_array_equal(frame["std err"], tone.standard_errors("sandwich"))
        np.testing.assert_array_equal(frame[["[0.05", "0.95]"]], tone.conf_int(level=0.9, cov_type="sandwich"))
        text = str(tone.summary(cov_type="sandwich", level=0.9))
        assert "sandwich" in text
        assert "[0.05" in text

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda r: r.cov_params("hessian"), "cov_type must be one of"),
            (lambda r: r.conf_int(level=1.0), "level must be strictly between 0 and 1, got 1.0"),
            (lambda r: r.conf_int(method="exact"), "method must be one of"),
            (lambda r: r.conf_int(cov_type="nonsense", method="profile"), "cov_type must be one of"),
            (lambda r: r.summary(level=-0.1), "level must be"),
            (lambda r: r.mean_conf_int([[1.0, 2.0]]), r"x must have shape \(n, 1\)"),
            (lambda r: r.mean_conf_int([[np.nan]]), "x must be finite"),
            (lambda r: r.delta_method(lambda p: torch.tensor(1.0)), "must depend on the parameters"),
        ],
        ids=["kind", "level", "method", "kind of profile", "summary", "shape", "nan", "constant"],
    )
    def test_bad_requests_are_refused(self, tone, call, message):
        with pytest.raises(ValueError, match=message):
            call(tone)

    def test_a_level_must_be_a_number(self, tone):
        with pytest.raises(TypeError, match="level must be a number"):
            tone.conf_int(level="0.9")

    def test_a_level_goes_by_its_name(self, tone):
        """Others ask for alpha: ``conf_int(0.05)`` must not be an interval that covers once in twenty times."""
        mapping = dict(zip(tone.param_names, tone.params.tolist(), strict=True))
        calls = [
            lambda: tone.conf_int(0.05),
            lambda: tone.summary(0.05),
            lambda: tone.delta_method(lambda p: p["std[0]"], 0.05),
            lambda: tone.mean_conf_int([[2.0]], 0.05),
            lambda: profile_intervals(tone, None, 0.05),
            lambda: wald_intervals(tone.params, tone.bse, tone.is_positive, 0.05),
            lambda: delta_method(lambda p: p["std[0]"], mapping, tone.cov_params(), 0.05),
            lambda: BootstrapResult.conf_int(None, 0.05),
            lambda: BootstrapResult.to_frame(None, 0.05),
            lambda: StreamResult.conf_int(None, 0.05),
            lambda: StreamResult.summary(None, 0.05),
            lambda: Posterior.interval(None, 0.05),
            lambda: Posterior.summary(None, 0.05),
            lambda: Posterior.mean_interval(None, [[2.0]], 0.05),
            lambda: Posterior.predict_interval(None, [[2.0]], 0.05),
            lambda: LaplaceApproximation.interval(None, 0.05),
            lambda: LaplaceApproximation.summary(None, 0.05),
            lambda: MixtureOfExpertsRegressor.predict_interval(None, [[2.0]], 0.05),
        ]
        for call in calls:
            with pytest.raises(TypeError, match="positional argument"):
                call()
        low, high = tone.conf_int(level=0.05).T  # by name it is what it says
        assert ((high - low) < 0.1 * (tone.conf_int()[:, 1] - tone.conf_int()[:, 0])).all()

    def test_without_the_data_what_was_computed_stays(self, tone):
        result = pickle.loads(pickle.dumps(tone))
        kept = result.cov_params("sandwich")
        size = len(pickle.dumps(result))
        result.remove_data()
        assert len(pickle.dumps(result)) < size
        np.testing.assert_array_equal(result.cov_params("sandwich"), kept)
        np.testing.assert_array_equal(result.bse, tone.bse)
        assert "coef" in str(result.summary())
        for call in (lambda: result.cov_params("opg"), lambda: profile_intervals(result)):
            with pytest.raises(DataRemovedError, match="remove_data"):
                call()


class TestDeltaMethod:
    def test_a_ratio_has_the_textbook_error(self, tone):
        found = tone.delta_method(lambda p: p["intercept[0]"] / p["slope[0,x0]"])
        i, j = (tone.param_names.index(name) for name in ("intercept[0]", "slope[0,x0]"))
        a, b, c = tone.params[i], tone.params[j], tone.cov_params()
        variance = c[i, i] / b**2 - 2 * a * c[i, j] / b**3 + a**2 * c[j, j] / b**4
        assert found.value == pytest.approx(a / b)
        assert found.std_error == pytest.approx(variance**0.5)
        np.testing.assert_allclose(found.interval, a / b + norm.ppf(0.975) * variance**0.5 * np.array([-1, 1]))

    def test_shapes_follow_the_function(self, tone):
        found = tone.delta_method(lambda p: torch.stack([p["std[0]"], p["std[1]"]]).square().reshape(2, 1))
        assert found.std_error.shape == (2, 1)
        assert found.interval.shape == (2, 1, 2)
        assert "shape=(2, 1)" in repr(found)

    def test_undetermined_parameters_spoil_only_what_uses_them(self, jump):
        found = jump.delta_method(lambda p: torch.stack([p["gate_weight[0,x0]"] * p["slope[0,x0]"], p["slope[0,x0]"]]))
        assert np.isnan(found.std_error[0])
        assert found.std_error[1] == pytest.approx(jump.bse[jump.param_names.index("slope[0,x0]")])

    def test_the_function_must_return_a_tensor(self, tone):
        with pytest.raises(TypeError, match=r"must return a torch.Tensor"):
            tone.delta_method(lambda p: 1.0)

    def test_a_wrong_name_is_told_the_right_ones(self, line):
        with pytest.raises(KeyError, match=r"no parameter is named 'slope\[0,dose\]'; .*'slope\[0,x0\]'"):
            line.delta_method(lambda p: p["slope[0,dose]"])

    def test_the_mean_takes_arrays_and_frames(self, line):
        x = torch.tensor([[9.0, 0.7], [15.0, 1.1]], dtype=DTYPE)
        expected = line.mean_conf_int(x).interval
        for form in (x.tolist(), x.numpy(), pd.DataFrame(x.numpy(), columns=["compression", "ratio"])):
            np.testing.assert_array_equal(line.mean_conf_int(form).interval, expected)
        with pytest.raises(TypeError, match=r"x must be numeric, got columns \['a', 'b'\] of other kinds"):
            line.mean_conf_int(pd.DataFrame({"a": ["u"], "b": ["v"]}))

    def test_the_mean_of_one_expert_is_that_of_least_squares(self, line):
        x = torch.tensor([[9.0, 0.7], [15.0, 1.1]], dtype=DTYPE)
        design = np.column_stack([x, np.ones(2)])
        expected = np.sqrt(np.einsum("ij,jk,ik->i", design, line.cov_params()[:3, :3], design))
        np.testing.assert_allclose(line.mean_conf_int(x).std_error, expected, rtol=1e-8)

    @pytest.mark.parametrize("points", [3, 20])  # fewer and more than parameters
    def test_the_mean_of_two_experts_is_the_function_of_the_parameters_written_out(self, tone, points):
        x = torch.linspace(1.0, 3.0, points, dtype=DTYPE)

        def mean(p):
            weight = torch.sigmoid(p["gate_weight[0,x0]"] * x + p["gate_bias[0]"])
            lines = [p[f"slope[{j},x0]"] * x + p[f"intercept[{j}]"] for j in range(2)]
            return weight * lines[0] + (1 - weight) * lines[1]

        for kind in ("observed", "sandwich"):
            expected = tone.delta_method(mean, level=0.8, cov_type=kind)
            found = tone.mean_conf_int(x[:, None], level=0.8, cov_type=kind)
            np.testing.assert_allclose(found.value, expected.value, rtol=1e-10)
            np.testing.assert_allclose(found.interval, expected.interval, rtol=1e-7)

    @pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
    def test_a_band_has_no_holes_where_a_border_is_far(self):
        """Beside the border of a gate that jumps derivatives in the gate are as small as 1e-268, which is not zero."""
        result = EM(random_state=0).fit(softmax_model(1, 3), *load_mcycle())
        assert np.isnan(result.bse).any()
        band = result.mean_conf_int(np.linspace(3.0, 57.0, 50)[:, None])
        assert np.isfinite(band.interval).all()
        np.testing.assert_allclose(band.value, result.predict(np.linspace(3.0, 57.0, 50)[:, None]))
        np.testing.assert_allclose(band.interval.mean(-1), band.value)
        assert (np.diff(band.interval)[:, 0] > 0.1).all()


class TestProfile:
    @pytest.mark.parametrize("level", [0.5, 0.95])
    def test_one_expert_has_closed_forms(self, line, level):
        design, residual = least_squares()
        n, variance, quantile = len(residual), np.mean(residual**2), chi2.ppf(level, 1)
        half = np.sqrt(n * variance * np.diag(np.linalg.inv(design.T @ design)) * np.expm1(quantile / n))
        ends = line.conf_int(level=level, method="profile")
        np.testing.assert_allclose(ends[:3], line.params[:3, None] + half[:, None] * np.array([-1, 1]), rtol=1e-6)
        ratio = np.log(ends[3] / variance**0.5)
        np.testing.assert_allclose(n * (2 * ratio + np.exp(-2 * ratio) - 1), quantile, rtol=1e-5)

    @pytest.mark.parametrize("model", [softmax_model(1, 2), slow_model()], ids=["linear", "autograd"])
    def test_the_profile_falls_by_the_quantile_at_the_ends(self, model):
        result = EM(random_state=0, n_init=2).fit(model, *load_tone())
        names = [name for name in result.param_names if "slope" in name or "std" in name or "weight" in name][:4]
        ends = profile_intervals(result, names)
        for name, pair in zip(names, ends, strict=True):
            drop = 2 * (result.llf - profile_likelihood(result, name, pair))
            np.testing.assert_allclose(drop, chi2.ppf(0.95, 1), rtol=1e-5)
            assert pair[0] < result.params[result.param_names.index(name)] < pair[1]

    def test_other_families_and_gates(self):
        x, y = load_patents()
        poisson = PoissonExperts(LinearPredictor(1, 2, dtype=DTYPE, generator=seeded(0)))
        model = MixtureOfExperts(constant_gate(2, dtype=DTYPE), poisson)
        result = EM(random_state=0, n_init=20).fit(model, x, y)
        ends = result.conf_int(method="profile")
        assert (ends[:, 0] < result.params).all()
        assert (result.params < ends[:, 1]).all()

    def test_a_higher_likelihood_on_the_way_is_reported(self, tone):
        lower = copy.copy(tone)
        lower.objective_value -= 5.0
        with pytest.warns(ProfileWarning, match=r"std\[1\] met a higher likelihood than the fit's: use more starts"):
            ends = profile_intervals(lower, ["std[1]"])
        assert np.isnan(ends).all()

    def test_a_single_parameter_needs_no_refit(self):
        _, y = load_patents()
        poisson = PoissonExperts(ConstantPredictor(1, dtype=DTYPE, generator=seeded(0)))
        result = MLE(random_state=0, n_init=1).fit(
            MixtureOfExperts(constant_gate(1, dtype=DTYPE), poisson),
            torch.zeros(len(y), 1, dtype=DTYPE) + y[:, None],
            y,
        )
        assert result.df_model == 1
        total, n = float(y.sum()), len(y)
        for end in profile_intervals(result)[0]:
            drop = 2 * (total * np.log(total / n) - total) - 2 * (total * end - n * np.exp(end))
            assert drop == pytest.approx(chi2.ppf(0.95, 1), rel=1e-5)

    def test_a_gate_that_jumps_has_no_largest_weight(self, jump):
        ends = dict(zip(jump.param_names, jump.conf_int(method="profile"), strict=True))
        weight = jump.params[jump.param_names.index("gate_weight[0,x0]")]
        steep, flat = (0, 1) if weight < 0 else (1, 0)
        assert np.isinf(ends["gate_weight[0,x0]"][steep])
        assert np.isfinite(ends["gate_weight[0,x0]"][flat])
        assert abs(ends["gate_weight[0,x0]"][flat]) > 5.0
        assert np.isfinite(ends["slope[0,x0]"]).all()

    def test_the_other_numbering_of_the_experts_is_outside(self):
        """Beyond zero the mirror image of the fit waits, with as high a likelihood."""
        result = EM(random_state=0, n_init=4).fit(softmax_model(1, 2), *load_faithful())
        index = result.param_names.index("gate_weight[0,x0]")
        low, high = np.sort(np.abs(result.conf_int(method="profile")[index]))
        assert low == pytest.approx(3.0529, abs=1e-3)  # where a grid of constrained fits finds the quantile
        assert np.isinf(high)
        sign = np.sign(result.params[index])
        with pytest.warns(ProfileWarning, match=r"no profile of gate_weight\[0,x0\] at"):
            assert np.isnan(profile_likelihood(result, "gate_weight[0,x0]", [-8.35 * sign]))

    def test_a_fit_that_is_no_maximum_has_no_intervals(self, tone):
        x, y = load_tone()
        with pytest.warns(SingularInformationWarning):
            early = EM(random_state=0, n_init=1, em_iter=2, finish=False).fit(softmax_model(1, 2), x, y)
        with pytest.warns(ProfileWarning, match="rose above the fit"):
            ends = early.conf_int(method="profile")
        assert np.isnan(ends).any()

    def test_positive_parameters_and_names_are_checked(self, tone):
        with pytest.raises(ValueError, match="parameters must be among"):
            profile_intervals(tone, ["scale[0]"])
        with pytest.raises(ValueError, match=r"values of std\[0\] must be positive"):
            profile_likelihood(tone, "std[0]", [-1.0])
        with pytest.raises(ValueError, match="finite"):
            profile_likelihood(tone, "slope[0,x0]", [np.inf])

    @pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
    def test_gates_without_linear_scores(self):
        x, y = load_faithful()
        gate = sigmoid_gate(1, 2, dtype=DTYPE, generator=seeded(0))
        experts = linear_gaussian_experts(1, 2, dtype=DTYPE, generator=seeded(1))
        result = EM(random_state=0, n_init=8).fit(MixtureOfExperts(gate, experts), x, y)
        name = "slope[0,x0]"
        ends = profile_intervals(result, [name])[0]
        drop = 2 * (result.llf - profile_likelihood(result, name, ends))
        np.testing.assert_allclose(drop, chi2.ppf(0.95, 1), rtol=1e-5)
