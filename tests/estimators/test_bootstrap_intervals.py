"""Intervals from the replicates of a bootstrap."""

import numpy as np
import pytest
import torch
from scipy.stats import norm, skew

from estimators import EM, SingularInformationWarning
from estimators.inference import (
    BootstrapLevelWarning,
    BootstrapResult,
    bootstrap,
)
from estimators.inference.bootstrap_intervals import INTERVALS, Replicates, acceleration, unresolved
from mixkit.datasets import load_ethanol

from .models import DTYPE, seeded, softmax_model


class TestIntervals:
    def test_methods_are_what_they_say(self, tone):
        found = bootstrap(tone, 200, random_state=0)
        low, high = np.quantile(found.replicates, [0.05, 0.95], axis=0, method="weibull")
        np.testing.assert_allclose(found.conf_int(level=0.9, method="percentile"), np.stack([low, high], 1))
        plain = ~tone.is_positive
        basic, normal = (found.conf_int(level=0.9, method=method) for method in ("basic", "normal"))
        np.testing.assert_allclose(basic[plain], (2 * tone.params[:, None] - np.stack([high, low], 1))[plain])
        np.testing.assert_allclose(basic[~plain].prod(1), (tone.params**4 / low / high)[~plain])
        half = norm.ppf(0.95) * found.bse
        np.testing.assert_allclose(normal[plain], (tone.params[:, None] + np.outer(half, [-1, 1]))[plain])
        np.testing.assert_allclose(normal[~plain].prod(1), tone.params[~plain] ** 2)
        np.testing.assert_allclose(found.bias, found.replicates.mean(0) - tone.params)
        np.testing.assert_allclose(np.sqrt(np.diag(found.cov_params())), found.bse)
        frame = found.to_frame(level=0.9)
        assert list(frame.columns) == ["coef", "std err", "bias", "[0.05", "0.95]"]
        assert list(frame.index) == tone.param_names

    def test_the_corrected_ends_written_out(self, tone):
        found = bootstrap(tone, 199, random_state=0)
        for method, used in (("bc", np.zeros(8)), ("bca", found.acceleration)):
            ends = found.conf_int(level=0.9, method=method)
            for j in range(8):
                column = np.sort(found.replicates[:, j])
                z = norm.ppf((column < tone.params[j]).mean())
                for end, tail in zip(ends[j], (0.05, 0.95), strict=True):
                    moved = z + norm.ppf(tail)
                    place = norm.cdf(z + moved / (1 - used[j] * moved)) * 200
                    assert column[int(place) - 1] <= end <= column[min(int(place), 198)]

    def test_the_acceleration_of_a_mean_is_a_sixth_of_its_skewness(self, line):
        rows = np.random.default_rng(0).exponential(size=(500, 2)) - 1.0
        rows -= rows.mean(0)
        np.testing.assert_allclose(acceleration(rows), skew(rows) / (6 * np.sqrt(500)))
        found = bootstrap(line, 2, random_state=0)
        x, y = (part.numpy() for part in load_ethanol())
        design = np.column_stack([x, np.ones(len(y))])
        residual = y - design @ line.params[:3]
        exact = acceleration(np.linalg.solve(design.T @ design, design.T * residual).T)
        np.testing.assert_allclose(found.acceleration[:3], exact, rtol=1e-6)
        np.testing.assert_allclose(found.acceleration[3], acceleration((residual**2 - line.params[3] ** 2)[:, None]))

    def test_corrected_ends_follow_transformations(self):
        """Ends of exp(theta) are exp of the ends, where quantiles fall on replicates."""
        draws = np.random.default_rng(0).normal(0.3, 1.0, size=(19, 1))
        plain = Replicates(np.array([0.5]), draws, np.array([False]), np.array([0.0]))
        other = Replicates(np.exp(plain.params), np.exp(draws), np.array([True]), np.array([0.0]))
        np.testing.assert_allclose(INTERVALS["percentile"](other, 0.9), np.exp(INTERVALS["percentile"](plain, 0.9)))
        for rule in (INTERVALS["basic"], INTERVALS["normal"]):
            np.testing.assert_allclose(rule(other, 0.9), np.exp(rule(plain, 0.9)))

    def test_corrections_undo_a_bias_of_the_replicates(self):
        """Replicates that lie low by a third of a standard error: the interval moves up by twice that."""
        at = norm.ppf(np.arange(1, 1000) / 1000)[:, None]
        shifted = Replicates(np.array([0.0]), at - 0.33, np.array([False]), np.array([0.0]))
        ends = INTERVALS["bc"](shifted, 0.95)
        np.testing.assert_allclose(ends, [[0.33 - 1.96, 0.33 + 1.96]], atol=0.02)
        assert INTERVALS["percentile"](shifted, 0.95)[0, 1] == pytest.approx(1.63, abs=0.01)

    def test_levels_among_the_last_replicates_are_noise(self):
        """Nine tenths of the replicates run away below the estimate; the few above it would be the end."""
        below = np.linspace(-1000.0, -8.4, 540)
        draws = np.concatenate([below, np.linspace(-8.3, -3.0, 57), [1.0, 4.0, 9.0]])[:, None]
        found = Replicates(np.array([-8.35]), draws, np.array([False]), np.array([0.05]))
        plain = INTERVALS["percentile"](found, 0.95)
        assert plain[0, 1] < 0.0
        for method in ("bc", "bca"):
            assert unresolved(found, 0.95, method).tolist() == [True]
            np.testing.assert_array_equal(INTERVALS[method](found, 0.95), plain)
        for method in ("percentile", "basic", "normal"):
            assert unresolved(found, 0.95, method).tolist() == [False]
        symmetric = found._replace(params=np.median(draws, 0), acceleration=np.zeros(1))
        assert not unresolved(symmetric, 0.95, "bca").any()

    def test_an_interval_without_its_correction_is_named(self):
        """A gate that is nearly a step: the sign of its weight is sure, and the interval says so."""
        draws = np.concatenate([np.linspace(-900.0, -9.0, 590), [-4.0, -3.0, 5.0]])[:, None]
        result = BootstrapResult(
            param_names=["gate_weight[0,x0]"],
            params=np.array([-9.5]),
            is_positive=np.array([False]),
            undetermined=np.array([False]),
            replicates=draws,
            llf=np.zeros(len(draws)),
            converged=np.ones(len(draws), dtype=bool),
            errors={},
            acceleration=np.zeros(1),
        )
        with pytest.warns(BootstrapLevelWarning, match=r"'bca' moves the ends of gate_weight\[0,x0\]"):
            ends = result.conf_int()
        np.testing.assert_array_equal(ends, result.conf_int(method="percentile"))
        assert ends[0, 1] < 0.0

    def test_what_the_data_do_not_determine_has_no_error(self):
        generator = seeded(5)
        x = torch.rand(120, 1, dtype=DTYPE, generator=generator)
        x[:60] -= 1.1
        x[60:] += 0.1
        y = torch.where(x[:, 0] < 0, 10.0 + x[:, 0], -10.0 - 3 * x[:, 0])
        y = y + torch.randn(120, dtype=DTYPE, generator=generator)
        with pytest.warns(SingularInformationWarning):
            result = EM(random_state=0, n_init=3).fit(softmax_model(1, 2), x, y)
        with pytest.warns(SingularInformationWarning, match=r"no bootstrap error for gate_weight\[0,x0\]"):
            found = bootstrap(result, 20, random_state=0)
        np.testing.assert_array_equal(np.isnan(found.bse), np.isnan(result.bse))
        with pytest.warns(
            UserWarning, match="20 replicates do not reach the quantiles of 0.95 intervals by 'bca'.* at least 39"
        ):
            ends = found.conf_int()
        np.testing.assert_array_equal(np.isnan(ends).any(1), np.isnan(result.bse))
        np.testing.assert_array_equal(np.isnan(found.conf_int(method="normal")).any(1), np.isnan(result.bse))
