"""Gamma, inverse Gaussian and beta distributions where plain formulas lose their digits."""

import mpmath
import pytest
import torch
from scipy import stats

from mixkit.distributions import Beta, Gamma, InverseGaussian
from tests.mixkit.expert_table import double

LEVELS = double(1e-250, 1e-30, 1e-3, 0.4, 0.999)


def high(value):
    return mpmath.mpf(float(value))


@pytest.mark.parametrize("scale", [1e-7, 1e-3, 0.17, 0.18, 3.0, 40.0])
@pytest.mark.parametrize("z", [-2.5, 0.0, 1.5])
def test_gamma_log_densities_keep_their_digits(scale, z):
    """At shapes from 6e-4 to 1e14; 0.1768 is where Stirling's series takes over."""
    law = Gamma(double(0.7), double(scale).log())
    y = law.mean * (double(z) * min(scale, 2.0)).exp()
    with mpmath.workdps(60):
        shape = mpmath.exp(-2 * high(law.log_scale))
        rate = shape / mpmath.exp(high(law.log_mean))
        exact = shape * mpmath.log(rate) + (shape - 1) * mpmath.log(high(y)) - rate * high(y) - mpmath.loggamma(shape)
    assert law.log_prob(y).item() == pytest.approx(float(exact), rel=1e-10, abs=1e-8)


@pytest.mark.parametrize("scale", [1e-7, 1e-3, 0.1, 1.0])
@pytest.mark.parametrize("z", [-2.5, 0.0, 1.5])
def test_beta_log_densities_keep_their_digits(scale, z):
    law = Beta(double(-0.7), double(scale).log())
    y = law.mean + z * law.stddev * 0.3
    with mpmath.workdps(60):
        precision, odds = mpmath.exp(-2 * high(law.log_scale)), mpmath.exp(high(law.logit))
        a, b = precision * odds / (1 + odds), precision / (1 + odds)
        exact = (a - 1) * mpmath.log(high(y)) + (b - 1) * mpmath.log(1 - high(y)) - mpmath.log(mpmath.beta(a, b))
    assert law.log_prob(y).item() == pytest.approx(float(exact), rel=1e-9, abs=1e-8)


@pytest.mark.parametrize("kind", [Gamma, Beta])
def test_lower_quantiles_reach_far_and_both_tails_sum_to_one(kind):
    law = kind(double(0.7), double(-1.0))
    y = law.icdf(LEVELS)
    torch.testing.assert_close(law.cdf(y), LEVELS, rtol=1e-11, atol=0)
    torch.testing.assert_close(law.cdf(y) + law.sf(y), torch.ones_like(y))
    assert law.icdf(double(-0.1, 1.1)).isnan().all()


def test_both_tails_of_the_inverse_gaussian_are_scipys():
    law = InverseGaussian(double(0.7), double(-0.5))
    dispersion = law.log_scale.exp().square().item()
    peer = stats.invgauss(law.mean.item() * dispersion, scale=1 / dispersion)
    y = double(1e-3, 0.02, 0.5, 2.0, 8.0, 40.0, 300.0)
    torch.testing.assert_close(law.cdf(y), torch.as_tensor(peer.cdf(y)), rtol=1e-9, atol=0)
    torch.testing.assert_close(law.sf(y), torch.as_tensor(peer.sf(y)), rtol=1e-9, atol=0)
    torch.testing.assert_close(law.cdf(law.icdf(LEVELS)), LEVELS, rtol=1e-12, atol=0)
    assert law.icdf(double(0.0, 1.0)).tolist() == [0.0, torch.inf]
    assert law.icdf(double(-0.1, 1.1)).isnan().all()


@pytest.mark.parametrize("log_scale", [-8.0, 4.0])
def test_draws_of_extreme_shapes_are_inside_the_support(log_scale):
    for kind in (Gamma, InverseGaussian, Beta):
        law = kind(double(0.3), double(log_scale))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            y = law.sample((2000,))
        assert law.log_prob(y).isfinite().all()
        if log_scale < 0:
            torch.testing.assert_close(y.log().mean(), law.mean.log()[0], rtol=0, atol=1e-3)
