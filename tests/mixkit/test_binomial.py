"""Binomial experts whose trials are a column of x, and the distribution at many trials."""

import numpy as np
import pytest
import torch
from scipy import stats

from mixkit import LinearPredictor, MixtureOfExperts, PoissonExperts, softmax_gate
from mixkit.distributions import Binomial
from mixkit.experts import BinomialExperts, DensityExperts, MixedExperts, family_by_name
from mixkit.residuals import probability_integral_transform
from tests.mixkit.expert_table import double
from tests.mixkit.gate_table import normal, seeded


def model(offset=False):
    gate = softmax_gate(2, 3, dtype=torch.float64, generator=seeded(1))
    settings = {"dtype": torch.float64, "generator": seeded(2)}
    return MixtureOfExperts(gate, BinomialExperts(LinearPredictor(2, 3, offset=offset, **settings), trials=None))


def rows(n=6):
    return normal(n, 2), torch.arange(1.0, n + 1.0, dtype=torch.float64).unsqueeze(-1)


def test_trials_belong_to_the_row_and_the_gate_does_not_see_them():
    x, trials = rows()
    moe = model()
    law = moe(torch.cat([x, trials], -1))
    fixed = BinomialExperts(moe.experts.predictor, trials=1)
    expected = MixtureOfExperts(moe.gate, fixed)(x)
    assert torch.equal(law.log_weights, expected.log_weights)
    torch.testing.assert_close(law.mean, trials[:, 0] * expected.mean)
    assert moe.experts.known_columns == ("trials",)


def test_trials_stand_behind_an_offset():
    x, trials = rows()
    moe, offset = model(offset=True), normal(6, 1, seed=5)
    assert moe.experts.known_columns == ("offset", "trials")
    law = moe.experts(torch.cat([x, offset, trials], -1))
    torch.testing.assert_close(law.logit, moe.experts.predictor(torch.cat([x, offset], -1)))
    assert torch.equal(law.trials, trials.expand(6, 3))


def test_density_terms_of_successes_and_trials_are_the_derivatives():
    x, trials = rows()
    experts = model().experts
    y = (0.4 * trials[:, 0]).floor()
    seen = experts.observed(torch.cat([x, trials], -1), y)
    eta = experts.predictor(x).detach().mT
    terms = experts.density_terms(seen.T, eta)
    expected = DensityExperts.density_terms(experts, seen.T, eta)
    for ours, theirs in zip(terms.first + terms.second[0], expected.first + expected.second[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(terms.log_prob.mT, experts(torch.cat([x, trials], -1)).log_prob(y.unsqueeze(-1)))


def test_draws_and_transforms_keep_to_the_trials_of_each_row():
    x, trials = rows()
    x = torch.cat([x, trials], -1)
    y = model()(x).sample((200,), generator=seeded(3))
    assert bool((y <= trials[:, 0]).all())
    assert bool((y == trials[:, 0]).any(0).all())
    u = probability_integral_transform(model(), x, y[0], generator=seeded(4))
    assert bool(((u > 0) & (u < 1)).all())


@pytest.mark.parametrize(
    ("y", "trials", "message"),
    [
        (3.0, 2.0, r"y must be at most the number of trials, got 3\.0 of 2\.0"),
        (1.5, 2.0, r"y must hold non-negative integers for binomial experts, got 1\.5"),
        (-1.0, 2.0, r"y must hold non-negative integers for binomial experts, got -1\.0"),
        (0.0, 0.0, r"trials, the last column of x, must be positive integers, got 0\.0"),
        (1.0, 2.5, r"trials, the last column of x, must be positive integers, got 2\.5"),
        (1.0, torch.nan, "trials, the last column of x, must be finite"),
    ],
)
def test_successes_and_trials_that_cannot_be_are_refused(y, trials, message):
    x = torch.cat([normal(2, 2), double(4.0, trials).unsqueeze(-1)], -1)
    with pytest.raises(ValueError, match=message):
        model().experts.check_rows(x, double(0.0, y))
    with pytest.raises(ValueError, match=message):
        model().log_prob(x, double(0.0, y))


def test_trials_are_an_integer_of_at_least_one():
    predictor = LinearPredictor(2, 3, generator=seeded())
    with pytest.raises(ValueError, match="trials must be at least 1, got 0"):
        BinomialExperts(predictor, trials=0)
    with pytest.raises(TypeError, match="trials must be an integer, got float"):
        BinomialExperts(predictor, trials=2.0)


def test_families_with_other_known_columns_do_not_mix():
    counts = PoissonExperts(LinearPredictor(2, 1, offset=True, generator=seeded()))
    successes = BinomialExperts(LinearPredictor(2, 1, generator=seeded()), trials=None)
    with pytest.raises(ValueError, match=r"the same columns of x, got \('offset',\) and \('trials',\)"):
        MixedExperts([counts, successes])
    law = MixedExperts([successes, family_by_name("poisson", 2, 1, generator=seeded())])(
        torch.cat([normal(3, 2).float(), torch.ones(3, 1)], -1)
    )
    assert law.batch_shape == (3, 2)


@pytest.mark.parametrize("trials", [1.0, 40.0, 1e6, 1e12])
@pytest.mark.parametrize("logit", [-30.0, -2.0, 0.3, 25.0])
def test_many_trials_and_both_tails_are_scipys(trials, logit):
    law = Binomial(double(logit), double(trials))
    probability = 1 / (1 + np.exp(-logit))
    y = (law.mean + law.stddev * double(-8.0, -1.0, 0.0, 2.0, 9.0)).round().clamp(0.0, trials)
    peer = stats.binom(trials, probability)
    if logit < 0 and trials < 1e9:  # SciPy takes p, which rounds near one, and loses digits of many trials
        torch.testing.assert_close(law.log_prob(y), torch.as_tensor(peer.logpmf(y)), rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(law.sf(y), torch.as_tensor(peer.sf(y)), rtol=1e-9, atol=1e-300)
    mirrored = Binomial(-law.logit, law.trials)
    torch.testing.assert_close(mirrored.log_prob(trials - y), law.log_prob(y), rtol=1e-13, atol=0)
    torch.testing.assert_close(mirrored.cdf(trials - y - 1.0), law.sf(y), rtol=1e-12, atol=0)
    torch.testing.assert_close(law.cdf(y) + law.sf(y), torch.ones_like(y))


def test_probabilities_of_a_trillion_trials_sum_to_one():
    law = Binomial(double(0.4), double(1e12))
    offsets = torch.linspace(-9.0, 9.0, 2001, dtype=torch.float64)
    y = (law.mean + law.stddev * offsets).round()
    area = torch.trapezoid(law.log_prob(y).exp(), y)
    assert area.item() == pytest.approx(1.0, abs=1e-6)


def test_outside_the_support_the_probability_is_zero():
    law = Binomial(double(0.4), double(3.0))
    assert law.log_prob(double(-1.0, 0.5, 4.0)).tolist() == [-torch.inf] * 3
    assert law.cdf(double(-0.5, 3.0, 9.0)).tolist() == [0.0, 1.0, 1.0]
    assert law.sf(double(-0.5, 3.0, 9.0)).tolist() == [1.0, 0.0, 0.0]
