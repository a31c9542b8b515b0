"""Experts of tiny scales: lines that the data follow are found, coincidences are named and come last."""

import warnings

import numpy as np
import pytest
import torch
from scipy.special import comb
from scipy.stats import binom

from estimators import EM
from estimators.data.dataset import Data
from estimators.optimizers.objective import EndRules
from estimators.search.plausibility import _log_coincidences, _most_equal, _num_distinct, doubts, finest_variance
from estimators.search.starts import GivenResponsibilities
from mixkit import (
    MixtureOfExperts,
    constant_gate,
    linear_gaussian_experts,
    sigmoid_gate,
    softmax_gate,
)
from mixkit.datasets import load_mcycle

T = np.linspace(-1.0, 1.0, 60)
IS_ODD = np.arange(60) % 2 == 1
LINES = np.where(IS_ODD, 1.0 + T, -1.0 - 2.0 * T)


def settings():
    return {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}


def two_lines(make_gate=softmax_gate):
    return MixtureOfExperts(make_gate(1, 2, **settings()), linear_gaussian_experts(1, 2, **settings()))


def quiet_fit(model, x, y, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return EM(**{"random_state": 0, **options}).fit(model, x, y)


# -- lines of little noise --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make_gate", [softmax_gate, sigmoid_gate])
@pytest.mark.parametrize("std", [1e-5, 1e-3])
def test_lines_of_little_noise_are_found(std, make_gate):
    """The maximum is at least as high as the log-likelihood at the two least-squares lines and equal weights."""
    y = LINES + std * np.random.default_rng(0).normal(size=60)
    truth = -60.0 * np.log(2.0)
    for rows in (IS_ODD, ~IS_ODD):
        line = np.polyfit(T[rows], y[rows], 1)
        variance = np.mean((y[rows] - np.polyval(line, T[rows])) ** 2)
        truth -= 0.5 * rows.sum() * (np.log(2.0 * np.pi * variance) + 1.0)
    fit = quiet_fit(two_lines(make_gate), T[:, None], y)
    assert fit.converged
    assert fit.llf >= truth - 1e-6
    assert not any("floor" in remark or "set aside" in remark for remark in fit.warnings)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_lines_without_noise_are_found_in_any_units(scale):
    fit = quiet_fit(two_lines(), T[:, None], scale * LINES)
    slopes = np.sort(fit.model.experts.predictor.slope.detach().numpy().ravel()) / scale
    assert slopes == pytest.approx([-2.0, 1.0], abs=1e-9)
    assert fit.llf > 800.0 - 60.0 * np.log(scale)
    assert any("tells from zero" in remark for remark in fit.warnings)


def test_lines_are_found_in_one_of_several_data_sets_and_the_others_stay_as_they_are():
    noisy = LINES + 0.3 * np.random.default_rng(1).normal(size=60)
    fits = EM(random_state=0).fit_many(two_lines(), np.stack([T[:, None]] * 2), np.stack([LINES, noisy]))
    alone = EM(random_state=0).fit_many(two_lines(), T[None, :, None], noisy[None])
    assert fits.llf[0] > 800.0
    assert fits.llf[1] == pytest.approx(alone.llf[0], rel=1e-12)


def test_many_equal_responses_are_no_line():
    """A share of exact zeros, as in rainfall: an expert at zero has no density; its scale stays at the safeguard."""
    rng = np.random.default_rng(2)
    x = rng.uniform(size=(100, 1))
    y = np.where(rng.uniform(size=100) < 0.3, 0.0, 3.0 + x[:, 0] + 0.3 * rng.normal(size=100))
    fit = quiet_fit(two_lines(constant_mixture), x, y)
    least = float(fit.model.experts.log_std.detach().exp().min()) / y.std()
    assert least == pytest.approx(1e-3)  # the safeguard, not lowered
    assert any("floor" in remark for remark in fit.warnings)


def constant_mixture(_, k, generator, dtype):
    return constant_gate(k, dtype=dtype)


def test_a_floor_that_was_given_stays():
    fit = quiet_fit(two_lines(), T[:, None], LINES, variance_floor=1e-6, spurious="keep")
    least = np.exp(fit.model.experts.log_std.detach().numpy()) / LINES.std()
    assert least == pytest.approx([1e-3, 1e-3])
    assert fit.llf == fit.start_llf.max()


def test_the_finest_variance_is_that_of_the_rounding_of_responses():
    y = torch.as_tensor(LINES)[None]
    assert finest_variance(Data(y, y, None)) == pytest.approx(1e-14)
    far = 1e12 * y.std() + y
    rounding = 8.0 * np.finfo(float).eps * float(far.abs().max() / far.std(correction=0))
    assert finest_variance(Data(y, far, None)) == pytest.approx(rounding**2)
    assert finest_variance(Data(y, torch.ones_like(y), None)) == pytest.approx(1e-14)


# -- coincidences -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coincidence():
    """Responses of one line and ten idle covariates, and responsibilities for 14 rows near a plane through 11."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(200, 10))
    y = x[:, 0] + rng.normal(size=200)
    design = np.c_[x, np.ones(200)]
    plane = np.linalg.solve(design[:11], y[:11])
    rows = np.argsort(np.abs(y - design @ plane))[:14]
    resp = np.repeat([[0.0], [1.0]], 200, 1)
    resp[:, rows] = [[1.0], [0.0]]
    return x, y, resp


def ten_columns():
    return MixtureOfExperts(constant_gate(2, dtype=torch.float64), linear_gaussian_experts(10, 2, **settings()))


def test_a_tiny_scale_on_a_handful_of_rows_comes_last_and_is_named(coincidence):
    x, y, resp = coincidence
    given = [GivenResponsibilities(resp)]
    kept = quiet_fit(ten_columns(), x, y, n_init=1, starts=given, spurious="keep")
    scales = kept.model.experts.log_std.detach().exp()
    assert kept.converged
    assert float(scales[0] / scales[1]) < 0.05
    found = doubts(kept.maximum.objective, kept.maximum.theta[None, None])
    assert found.spurious.item()
    both = quiet_fit(ten_columns(), x, y, n_init=2, starts=[*given, GivenResponsibilities(half(x))])
    assert both.llf < kept.llf - 1.0
    assert both.start_llf.max() == pytest.approx(kept.llf)
    assert any("chance alone" in remark and f"{kept.llf:.6g}" in remark for remark in both.warnings)


def test_an_end_that_is_set_aside_in_one_of_several_data_sets_disturbs_none(coincidence):
    x, y, resp = coincidence
    starts = [GivenResponsibilities(resp), GivenResponsibilities(half(x))]
    other = y[::-1].copy()
    em = EM(random_state=0, n_moves=0)
    both = em.fit_many(ten_columns(), np.stack([x, x]), np.stack([y, other]), starts=[starts] * 2)
    alone = [em.fit_many(ten_columns(), x[None], own[None], starts=[starts]) for own in (y, other)]
    assert both.llf == pytest.approx([fit.llf[0] for fit in alone], rel=1e-9)
    single = quiet_fit(ten_columns(), x, y, n_init=2, starts=starts)
    assert any("set aside" in remark for remark in single.warnings)
    assert both.llf[0] == pytest.approx(single.llf, rel=1e-9)


def half(x):
    above = x[:, 1] > 0.0
    return np.stack([above, ~above]).astype(float)


def test_a_spurious_end_that_no_better_end_replaces_is_named(coincidence):
    x, y, resp = coincidence
    only = quiet_fit(ten_columns(), x, y, n_init=1, starts=[GivenResponsibilities(resp)])
    assert any("chance alone" in remark for remark in only.warnings)


def test_expected_coincidences_are_binomial():
    y = torch.as_tensor(np.random.default_rng(4).normal(size=(1, 50)))

    class Told:
        data, n, end_rules = Data(y[..., None], y, None), 50, EndRules(least_observations=3)

    log_std = torch.tensor([[[[-4.0], [0.0]]]], dtype=torch.float64)
    counts = torch.tensor([[[9.0, 41.0]]], dtype=torch.float64)
    chance = 4.0 * np.exp(-4.0) / np.sqrt(2.0 * np.pi)
    choices = np.log(comb(50, 3)) - np.log(comb(9, 3))
    right = choices + binom.logsf(5, 47, chance)  # 6 rows or more beside the 3 chosen ones
    assert _log_coincidences(Told, log_std, counts)[0, 0, 0].item() == pytest.approx(right)


def test_copies_of_rows_and_equal_responses_are_counted():
    x = torch.tensor([[[0.0], [1.0], [1.0], [2.0]]])
    y = torch.tensor([[1.0, 2.0, 2.0, 2.0]])
    assert _num_distinct(Data(x, y, None)).tolist() == [3]
    assert _most_equal(Data(x, y, None)).tolist() == [3]


def test_a_narrow_expert_that_the_data_follow_is_not_spurious():
    """Before the impact the head does not move: 24 of 133 rows, with a 26th of the widest expert's scale."""
    fit = quiet_fit(
        MixtureOfExperts(softmax_gate(1, 3, **settings()), linear_gaussian_experts(1, 3, **settings())), *load_mcycle()
    )
    scales = fit.model.experts.log_std.detach().exp()
    assert float(scales.min() / scales.max()) < 0.05
    assert fit.llf == pytest.approx(fit.start_llf.max())
    assert not any("spurious" in remark for remark in fit.warnings)
