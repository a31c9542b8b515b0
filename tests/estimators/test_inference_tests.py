"""Likelihood-ratio tests, by chi-square and by simulation."""

import numpy as np
import pytest
import torch
from scipy.stats import chi2, kstest

from estimators import EM, MLE
from estimators.inference import NonRegularTestWarning, bootstrap_lrt, likelihood_ratio_test
from estimators.penalties import Ridge
from estimators.rates import StudyMismatchError
from mixkit import MixtureOfExperts, constant_gate, linear_gaussian_experts
from mixkit.datasets import load_co2_gnp, load_faithful, load_tone
from mixkit.experts import GaussianExperts
from mixkit.experts.predictors import ConstantPredictor

from .models import DTYPE, seeded, softmax_model


def fit(model, data=None, **settings):
    return MLE(n_init=2, random_state=0).fit(model, *(load_tone() if data is None else data), **settings)


@pytest.fixture(scope="module")
def flat():
    experts = linear_gaussian_experts(1, 2, dtype=DTYPE, generator=seeded(0))
    return fit(MixtureOfExperts(constant_gate(2, dtype=DTYPE), experts))


@pytest.fixture(scope="module")
def full():
    return fit(softmax_model(1, 2))


class TestLikelihoodRatio:
    def test_one_expert_gives_the_ratio_of_variances(self):
        x, y = load_tone()
        experts = GaussianExperts(ConstantPredictor(1, dtype=DTYPE, generator=seeded(0)), dtype=DTYPE)
        constant = fit(MixtureOfExperts(constant_gate(1, dtype=DTYPE), experts))
        found = likelihood_ratio_test(constant, fit(softmax_model(1, 1)))
        r = np.corrcoef(x[:, 0], y)[0, 1]
        assert found.df == 1
        assert found.statistic == pytest.approx(-len(y) * np.log(1 - r**2), rel=1e-8)

    def test_nested_gates_and_experts(self, flat, full):
        found = likelihood_ratio_test(flat, full)
        assert found.df == 1
        assert found.statistic == pytest.approx(3.2992234838, abs=1e-6)  # of R's fits in reference/flexmix_fits.csv
        assert "df 1" in str(found)
        shared = fit(softmax_model(1, 2, shared_std=True))
        assert likelihood_ratio_test(shared, full).df == 1

    def test_the_law_under_the_null_hypothesis(self):
        """Data without a slope in the gate: 200 p values are uniform by Kolmogorov's test, false-alarm rate 1e-5."""
        generator = seeded(7)
        x = torch.rand(200, 400, 1, dtype=DTYPE, generator=generator)
        which = torch.rand(200, 400, generator=generator) < 0.4
        noise = 0.4 * torch.randn(200, 400, dtype=DTYPE, generator=generator)
        y = torch.where(which, 4.0 + x[..., 0], -4.0 - 2.0 * x[..., 0]) + noise
        start = linear_gaussian_experts(1, 2, dtype=DTYPE, generator=generator)
        with torch.no_grad():
            start.predictor.intercept.copy_(torch.tensor([4.0, -4.0]))
        small = MixtureOfExperts(constant_gate(2, dtype=DTYPE), start)
        large = MixtureOfExperts(softmax_model(1, 2).gate, start)
        estimator = EM(n_init=0, starts=[], start_at_model=True)
        fits = [estimator.fit_many(model, x, y) for model in (small, large)]
        assert all(batch.converged.all() for batch in fits)
        p_values = chi2.sf(2.0 * (fits[1].llf - fits[0].llf), 1)
        assert kstest(p_values, "uniform").pvalue > 1e-5

    def test_numbers_of_experts_are_no_regular_test(self, full):
        one = fit(softmax_model(1, 1))
        with pytest.warns(NonRegularTestWarning, match="no chi-square distribution"):
            likelihood_ratio_test(one, full)

    @pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
    def test_fits_that_are_no_maxima_are_named(self, flat):
        early = EM(random_state=0, n_init=2, em_iter=30, finish=False).fit(softmax_model(1, 2), *load_tone())
        early.converged, early.llf = False, flat.llf + 1.0
        early.objective_value = early.llf
        with pytest.warns(NonRegularTestWarning, match="large did not converge"):
            likelihood_ratio_test(flat, early)

    def test_penalized_fits_are_named(self, flat):
        ridge = MLE(n_init=2, random_state=0, penalty=Ridge(gate=0.1)).fit(softmax_model(1, 2), *load_tone())
        with pytest.warns(NonRegularTestWarning, match="large maximized a penalized likelihood"):
            likelihood_ratio_test(flat, ridge)
        assert "Penalized likelihood" in str(ridge.summary())

    def test_pairs_that_are_not_nested_are_refused(self, flat, full):
        with pytest.raises(ValueError, match="more free parameters than small, got 7 and 8"):
            likelihood_ratio_test(full, flat)
        with pytest.raises(ValueError, match="same observations, got 150 and 272"):
            likelihood_ratio_test(flat, fit(softmax_model(1, 2), load_faithful()))
        x, y = load_tone()
        with pytest.raises(ValueError, match="different values of y"):
            likelihood_ratio_test(flat, fit(softmax_model(1, 2), (x, y + 0.1)))
        with pytest.raises(ValueError, match="different values of weight"):
            likelihood_ratio_test(flat, fit(softmax_model(1, 2), sample_weight=torch.ones(len(y))))
        wide = fit(softmax_model(1, 2))
        wide.llf = flat.llf - 1.0
        with pytest.raises(ValueError, match="at least as well"):
            likelihood_ratio_test(flat, wide)
        with pytest.raises(TypeError, match="small must be a FitResult, got MixtureOfExperts"):
            likelihood_ratio_test(flat.model, full)


class TestBootstrap:
    def test_replicates_are_likelihood_ratios_of_simulated_data(self):
        x, y = load_co2_gnp()
        found = bootstrap_lrt(x, y, 1, num_replicates=4, random_state=0)
        assert found.statistic == pytest.approx(2 * (found.large.llf - found.small.llf))
        assert (found.replicates > 0).all()
        expected = (1 + (found.replicates >= found.statistic).sum()) / 5
        assert found.p_value == pytest.approx(expected)
        assert "1 against 2 experts" in repr(found)

    def test_it_resumes_and_refuses_another_design(self, tmp_path):
        x, y = load_co2_gnp()
        path, settings = tmp_path / "t.sqlite", {"random_state": 0, "estimator": EM(n_init=1)}
        first = bootstrap_lrt(x, y, 1, num_replicates=2, path=path, **settings)
        more = bootstrap_lrt(x, y, 1, num_replicates=4, path=path, **settings)
        alone = bootstrap_lrt(x, y, 1, num_replicates=4, **settings)
        np.testing.assert_array_equal(more.replicates, alone.replicates)
        np.testing.assert_array_equal(more.replicates[:2], first.replicates)
        with pytest.raises(StudyMismatchError, match="models"):
            bootstrap_lrt(x, y, 2, num_replicates=2, path=path, **settings)

    def test_two_clear_lines_are_two_experts(self):
        """Two against one is rejected with all replicates; three against two is not at 10% (fixed seed)."""
        generator = seeded(0)
        x = torch.rand(60, 1, dtype=DTYPE, generator=generator)
        y = torch.where(torch.arange(60) % 2 == 0, 3.0 - x[:, 0], -3.0 + 2 * x[:, 0])
        y = y + 0.5 * torch.randn(60, dtype=DTYPE, generator=generator)
        estimator = EM(n_init=1)
        assert bootstrap_lrt(x, y, 1, num_replicates=9, random_state=0, estimator=estimator).p_value == 0.1
        assert bootstrap_lrt(x, y, 2, num_replicates=9, random_state=0, estimator=estimator).p_value > 0.1

    def test_an_estimator_that_starts_at_the_model_alone_does_so(self):
        x, y = load_co2_gnp()
        estimator = EM(start_at_model=True, n_init=0)
        found = bootstrap_lrt(x, y, 1, num_replicates=3, random_state=0, estimator=estimator)
        assert found.num_failed == 0
        assert len(found.small.start_llf) == 1
        assert len(found.large.start_llf) == 1 + 3  # the model, and three splits of one expert

    def test_bad_requests_are_refused(self):
        x, y = load_co2_gnp()
        with pytest.raises(ValueError, match="num_experts must be at least 1"):
            bootstrap_lrt(x, y, 0)
        with pytest.raises(ValueError, match=r"build\(1\) must have 1 experts, got 2"):
            bootstrap_lrt(x, y, 1, build=lambda k: softmax_model(1, 2))
        with pytest.raises(ValueError, match="one row for each"):
            bootstrap_lrt(x, y[:-1], 1)
