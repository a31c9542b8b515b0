"""Counts with zeros apart, where rates vanish or are large."""

import pytest
import torch

from mixkit.distributions import Hurdle, NegativeBinomial, Poisson, ZeroInflated, ZeroTruncated
from mixkit.experts import TruncatedNegativeBinomialExperts, TruncatedPoissonExperts
from mixkit.experts.predictors import ConstantPredictor
from tests.mixkit.expert_table import double

COUNTS = {
    "poisson": lambda mean: Poisson(double(mean)),
    "negative-binomial": lambda mean: NegativeBinomial(double(mean).log(), double(0.7)),
}
every_family = pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)


@every_family
@pytest.mark.parametrize("mean", [1e-12, 1e-3, 0.8, 60.0])
def test_positive_counts_have_mass_one_and_both_tails(counts, mean):
    law, y = ZeroTruncated(counts(mean)), torch.arange(1.0, 4000.0, dtype=torch.float64)
    mass = law.log_prob(y).exp()
    assert mass.sum().item() == pytest.approx(1.0, rel=1e-10)
    assert (mass * y).sum().item() == pytest.approx(law.mean.item(), rel=1e-10)
    torch.testing.assert_close(law.cdf(y)[:200], mass.cumsum(0)[:200], rtol=1e-9, atol=0)
    torch.testing.assert_close(law.sf(y)[:20], mass.flip(0).cumsum(0).flip(0)[1:21], rtol=1e-7, atol=1e-300)


@every_family
def test_extra_zeros_and_hurdles_agree_where_they_are_one_law(counts):
    """A hurdle with the probability of zero that an inflated law has is that law."""
    inflated = ZeroInflated(counts(1.3), double(-0.4))
    zero = inflated.log_prob(double(0.0)).exp()
    hurdle, y = Hurdle(counts(1.3), torch.logit(zero)), torch.arange(12.0, dtype=torch.float64)
    torch.testing.assert_close(hurdle.log_prob(y), inflated.log_prob(y))
    torch.testing.assert_close(hurdle.cdf(y), inflated.cdf(y))
    torch.testing.assert_close(hurdle.sf(y), inflated.sf(y), rtol=1e-10, atol=0)
    torch.testing.assert_close(
        torch.stack([hurdle.mean, hurdle.variance]), torch.stack([inflated.mean, inflated.variance])
    )


def test_a_vanishing_rate_gives_one_and_finite_derivatives():
    y = double(1.0, 2.0)
    for kind in (TruncatedPoissonExperts, TruncatedNegativeBinomialExperts):
        experts = kind(ConstantPredictor(1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
        eta, constants = double(-40.0, -40.0), [double(0.0, 0.0)] * len(experts.constant_names)
        terms = experts.density_terms(y, eta, *constants)
        assert terms.log_prob[0].item() == pytest.approx(0.0, abs=1e-12)
        assert terms.first[0].tolist() == pytest.approx([0.0, 1.0], abs=1e-12)
        extreme = experts.density_terms(y, double(-900.0, -900.0), *constants)
        assert all(part.isfinite().all() for part in (extreme.log_prob, *extreme.first, *extreme.second[-1]))
