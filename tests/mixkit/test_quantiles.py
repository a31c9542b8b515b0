"""Quantiles of a mixture: the inverse of its distribution function, to the last bit."""

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch.distributions import Exponential, Gamma, LogNormal, Uniform

from mixkit import ExpertMixture
from mixkit.distributions import Normal, Poisson, StudentT
from tests.mixkit.expert_table import SCALAR, D, double, moe
from tests.mixkit.gate_table import normal

INF = torch.inf
LEVELS = double(1e-300, 1e-12, 1e-3, 0.1, 0.5, 0.9, 0.999, 1 - 1e-12)

every_scalar_family = pytest.mark.parametrize("family", SCALAR.values(), ids=SCALAR.keys())


def mixture(components, *weights):
    return ExpertMixture(double(*weights).log(), components)


LAWS = {
    "normal": mixture(Normal(double(-1.0, 2.0), double(0.5, 3.0)), 0.3, 0.7),
    "far-apart": mixture(Normal(double(-1e8, 1e8), double(1.0, 1.0)), 0.3, 0.7),
    "huge": mixture(Normal(double(1e300, -1e299), double(1e298, 1e300)), 0.3, 0.7),
    "narrow": mixture(Normal(double(0.0, 1.0), double(1e-150, 1e-3)), 0.3, 0.7),
    "hardly-any-weight": mixture(Normal(double(0.0, 100.0), double(1.0, 1.0)), 1 - 1e-9, 1e-9),
    "unselected": mixture(Normal(double(0.0, 1e6), double(1.0, 1.0)), 1.0, 0.0),
    "no-moments": mixture(StudentT(double(0.5, 1.0), double(0.0, 3.0), double(1.0, 2.0)), 0.3, 0.7),
    "poisson": mixture(Poisson(double(0.5, 40.0)), 0.3, 0.7),
    "poisson-large": mixture(Poisson(double(1e6, 2e9)), 0.3, 0.7),
    "poisson-small": mixture(Poisson(double(1e-9, 1e-300)), 0.3, 0.7),
    "positive": mixture(Gamma(double(0.5, 5.0), double(1.0, 1.0)), 0.3, 0.7),
    "log-normal": mixture(LogNormal(double(0.0, 5.0), double(1.0, 2.0)), 0.3, 0.7),
    "exponential": mixture(Exponential(double(1.0, 30.0)), 0.3, 0.7),
}
every_law = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())


@every_law
def test_the_quantile_is_the_first_number_to_reach_the_probability(law):
    """F(q) >= p, and F of the floating-point number below q is less than p."""
    q = law.icdf(LEVELS)
    below = torch.nextafter(q, torch.full_like(q, -INF))
    assert (law.cdf(q) >= LEVELS).all()
    inside = below >= getattr(law.support, "lower_bound", -INF)
    assert (law.cdf(below.where(inside, q))[inside] < LEVELS[inside]).all()


@every_law
def test_quantiles_increase_and_end_where_the_support_does(law):
    p = torch.cat([double(0.0), torch.linspace(1e-6, 1 - 1e-6, 400, dtype=torch.float64), double(1.0)])
    q = law.icdf(p)
    assert (q.diff() >= 0).all()
    assert q[0] == getattr(law.support, "lower_bound", -INF)
    assert q[-1] == INF
    assert q[1:-1].isfinite().all()


@every_scalar_family
def test_all_probability_lies_between_the_infinities(family):
    law = moe(family)(normal(3, D))
    for part in (law, law.components):
        ends = torch.tensor([-torch.inf, torch.inf], dtype=torch.float64)
        assert (part.cdf(ends[0]) == 0.0).all()
        assert (part.cdf(ends[1]) - 1.0).abs().max() < 1e-12


@every_scalar_family
def test_quantiles_of_every_family_against_a_root_finder(family):
    law = moe(family)(normal(3, D))
    p = double(1e-12, 0.025, 0.5, 0.975, 1 - 1e-9)
    q = law.icdf(p.unsqueeze(-1))
    assert q.shape == (5, 3)
    assert q.dtype == torch.float64
    for row in range(3):
        one = ExpertMixture(law.log_weights[row], law.components.expand((3, 3)), validate_args=False)
        for level, found in zip(p, q[:, row], strict=True):
            if law.support.is_discrete:
                continue

            def gap(y, one=one, level=level, row=row):
                return float((one.cdf(torch.tensor([y] * 3, dtype=torch.float64))[row] - level).detach())

            root = optimize.brentq(gap, float(found) - 50, float(found) + 50, xtol=1e-13, rtol=1e-14)
            tolerance = 1e-9 if level < 0.99999 else 1e-4  # F itself is rounded to 1e-16 there
            assert abs(root - float(found)) <= tolerance * max(1.0, abs(root))


@pytest.mark.parametrize("rate", [1e-6, 0.3, 5.0, 80.0, 1e4])
def test_one_poisson_component_has_scipys_quantiles(rate):
    law = mixture(Poisson(double(rate)), 1.0)
    levels = double(1e-12, 1e-6, 0.01, 0.3, 0.5, 0.99, 1 - 1e-9)
    expected = stats.poisson.ppf(levels.numpy(), rate)
    assert np.abs(law.icdf(levels).numpy() - expected).max() == 0


def test_a_large_poisson_rate_is_limited_by_the_distribution_function():
    law, levels = mixture(Poisson(double(1e7)), 1.0), double(1e-12, 0.5, 1 - 1e-9)
    expected = torch.as_tensor(stats.poisson.ppf(levels.numpy(), 1e7))
    torch.testing.assert_close(law.icdf(levels), expected, rtol=2e-6, atol=0)


def test_poisson_quantiles_are_the_smallest_integers_by_enumeration():
    law = mixture(Poisson(double(0.5, 12.0)), 0.3, 0.7)
    counts = torch.arange(100, dtype=torch.float64)
    total = law.log_prob(counts).exp().cumsum(0)
    levels = torch.linspace(0.001, 0.999, 97, dtype=torch.float64)
    expected = (total.unsqueeze(0) < levels.unsqueeze(1)).sum(-1).double()
    assert torch.equal(law.icdf(levels), expected)


def test_at_a_jump_the_quantile_is_the_count_itself():
    law = mixture(Poisson(double(0.5, 12.0)), 0.3, 0.7)
    counts = torch.arange(30, dtype=torch.float64)
    assert torch.equal(law.icdf(law.cdf(counts)), counts)


def test_quantiles_of_one_normal_component():
    law = mixture(Normal(double(3.0), double(2.0)), 1.0)
    expected, found = torch.as_tensor(stats.norm.ppf(LEVELS.numpy(), 3.0, 2.0)), law.icdf(LEVELS)
    torch.testing.assert_close(found[:-1], expected[:-1], rtol=1e-11, atol=0)
    # At 1 - 1e-12 the last bit of F, 1e-16, is worth 1e-16 / f = 1.5e-5.
    torch.testing.assert_close(found[-1], expected[-1], rtol=0, atol=3e-5)


def test_between_modes_where_nothing_lies_the_lower_edge_is_returned():
    """F is flat at 0.3 between the two uniform components: the smallest y with F(y) >= 0.3 ends the first."""
    law = mixture(Uniform(double(0.0, 5.0), double(1.0, 6.0), validate_args=False), 0.3, 0.7)
    level = law.cdf(double(3.0))
    torch.testing.assert_close(law.icdf(level), double(1.0))


def test_the_median_at_zero_is_zero():
    law = mixture(Normal(double(-1.0, 1.0), double(1.0, 1.0)), 0.5, 0.5)
    assert abs(law.icdf(double(0.5)).item()) < 1e-15


def test_weights_that_do_not_quite_sum_to_one_reach_every_probability():
    """In float32 a hundred weights may sum to less than the largest probability below 1, which do is up to the CPU."""
    log_weights = torch.log_softmax(torch.randn(1000, 100, generator=torch.Generator().manual_seed(18)), -1)
    law = ExpertMixture(log_weights, Normal(torch.zeros(1000, 100), torch.ones(1000, 100)))
    largest = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    assert bool((law.cdf(torch.tensor(INF)) < largest).any())
    quantiles = law.icdf(largest)
    assert bool(((quantiles > 4.0) & (quantiles < 6.0)).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision(dtype):
    exact = LAWS["normal"]
    components = Normal(exact.components.loc.to(dtype), exact.components.scale.to(dtype))
    law = ExpertMixture(exact.log_weights.to(dtype), components)
    p = torch.tensor([0.1, 0.5, 0.9], dtype=dtype)
    q = law.icdf(p)
    assert q.dtype == dtype
    torch.testing.assert_close(q.double(), exact.icdf(p.double()), rtol=0, atol=100 * torch.finfo(dtype).eps)


def test_levels_broadcast_with_the_batch():
    law = ExpertMixture(torch.log_softmax(normal(5, 2), -1), Normal(normal(5, 2), torch.ones(2).double()))
    assert law.icdf(torch.tensor(0.3)).shape == (5,)
    assert law.icdf(double(0.1, 0.9).unsqueeze(-1)).shape == (2, 5)
    assert torch.equal(
        law.icdf(double(0.1, 0.9).unsqueeze(-1))[1], law.icdf(torch.full((5,), 0.9, dtype=torch.float64))
    )
    assert law.icdf(0.3).shape == (5,)


def test_quantiles_carry_no_gradient():
    loc = double(0.0, 1.0).requires_grad_()
    assert not ExpertMixture(double(0.5, 0.5).log(), Normal(loc, double(1.0, 1.0))).icdf(double(0.3)).requires_grad


@pytest.mark.parametrize(("value", "shown"), [(-0.1, "-0.1"), (1.5, "1.5"), (torch.nan, "nan")])
def test_probabilities_outside_zero_and_one(value, shown):
    with pytest.raises(ValueError, match=rf"value must hold probabilities in \[0, 1\], got {shown}"):
        LAWS["normal"].icdf(torch.tensor([0.5, value]))
    with pytest.raises(ValueError, match=f"got {shown}"):  # the ends themselves are probabilities
        LAWS["normal"].icdf(torch.tensor([0.0, 1.0, value]))
