"""Component distributions at the ends: NaN, values outside the support, both tails, counts beyond 1e15, overflow."""

import math

import mpmath
import numpy as np
import pytest
import torch

from mixkit import ExpertMixture
from mixkit.distributions import (
    Atom,
    Beta,
    Binomial,
    Categorical,
    Gamma,
    GeneralizedNormal,
    Hurdle,
    InverseGaussian,
    Laplace,
    LogNormal,
    NegativeBinomial,
    Normal,
    PerComponentDistribution,
    Poisson,
    StudentT,
    ZeroInflated,
    ZeroInflatedLogNormal,
    ZeroTruncated,
)
from mixkit.experts import NegativeBinomialExperts, PoissonExperts
from mixkit.experts.predictors import ConstantPredictor
from tests.mixkit.expert_table import double
from tests.mixkit.gate_table import seeded

INF = torch.inf
ONES = double(1.0, 1.0)

LAWS = {
    "normal": lambda **o: Normal(ONES, ONES, **o),
    "student-t": lambda **o: StudentT(ONES, ONES, ONES, **o),
    "generalized-normal": lambda **o: GeneralizedNormal(ONES, ONES, ONES, **o),
    "laplace": lambda **o: Laplace(ONES, ONES, **o),
    "poisson": lambda **o: Poisson(ONES, **o),
    "negative-binomial": lambda **o: NegativeBinomial(ONES, ONES, **o),
    "log-normal": lambda **o: LogNormal(ONES, ONES, **o),
    "zero-inflated": lambda **o: ZeroInflatedLogNormal(ONES, ONES, ONES, **o),
    "binomial": lambda **o: Binomial(ONES, ONES, **o),
    "zero-inflated-poisson": lambda **o: ZeroInflated(Poisson(ONES, **o), ONES, **o),
    "hurdle": lambda **o: Hurdle(NegativeBinomial(ONES, ONES, **o), ONES, **o),
    "zero-truncated": lambda **o: ZeroTruncated(Poisson(ONES, **o), **o),
    "gamma": lambda **o: Gamma(ONES, ONES, **o),
    "inverse-gaussian": lambda **o: InverseGaussian(ONES, ONES, **o),
    "beta": lambda **o: Beta(ONES, ONES, **o),
    "categorical": lambda **o: Categorical(double(0.0, 1.0).expand(2, 2), **o),
    "atom": lambda **o: Atom(ONES, **o),
    "side-by-side": lambda **o: PerComponentDistribution(
        [Atom(double(0.0), **o), LogNormal(double(0.0), double(1.0), **o)], **o
    ),
}
OUTSIDE = {
    "poisson": [-1.0, 1.5, INF],
    "negative-binomial": [-1.0, 1.5, INF],
    "log-normal": [0.0, -1.0],
    "zero-inflated": [-1.0],
    "binomial": [-1.0, 0.5, 2.0, INF],
    "zero-inflated-poisson": [-1.0, 1.5, INF],
    "hurdle": [-1.0, 1.5, INF],
    "zero-truncated": [-1.0, 0.0, 1.5, INF],
    "gamma": [-1.0, 0.0, INF],
    "inverse-gaussian": [-1.0, 0.0, INF],
    "beta": [-0.5, 0.0, 1.0, 2.0],
    "categorical": [-1.0, 0.5, 2.0],
    "atom": [0.0],
    "side-by-side": [-1.0],
}
every_law = pytest.mark.parametrize("name", LAWS)


@every_law
def test_nan_gives_nan(name):
    law, nan = LAWS[name](validate_args=False), double(math.nan)
    assert law.log_prob(nan).isnan().all()
    assert law.cdf(nan).isnan().all()
    mixture = ExpertMixture(double(0.5, 0.5).log(), law, validate_args=False)
    assert mixture.log_prob(nan).isnan().all()
    assert mixture.cdf(nan).isnan().all()
    assert mixture.log_responsibilities(nan).isnan().all()


@every_law
def test_validation_refuses_nan(name):
    for law in (LAWS[name](validate_args=True), ExpertMixture(double(0.5, 0.5).log(), LAWS[name]())):
        for method in (law.log_prob, law.cdf):
            with pytest.raises(ValueError, match="value must hold no NaN, got 1 such"):
                method(double(math.nan))


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("validate_args", [False, True])
def test_the_density_outside_the_support_is_zero(name, validate_args):
    law, value = LAWS[name](validate_args=validate_args), double(*OUTSIDE[name])
    assert (law.log_prob(value.unsqueeze(-1)) == -INF).all()
    mixture = ExpertMixture(double(0.5, 0.5).log(), law, validate_args=validate_args)
    assert (mixture.log_prob(value) == -INF).all()


@pytest.mark.parametrize("name", ["normal", "student-t", "laplace", "log-normal", "zero-inflated", "atom"])
def test_quantiles_exist_for_probabilities_alone(name):
    law = LAWS[name](validate_args=False)
    assert law.icdf(double(-0.1, 1.1, math.nan).unsqueeze(-1)).isnan().all()
    assert not law.icdf(double(0.0, 0.5, 1.0).unsqueeze(-1)).isnan().any()


class TestStudentT:
    @staticmethod
    def below(df, z):
        """The exact distribution function at z < 0."""
        df, z = mpmath.mpf(df), mpmath.mpf(z)
        return mpmath.betainc(df / 2, mpmath.mpf(1) / 2, 0, df / (df + z * z), regularized=True) / 2

    @pytest.mark.parametrize("df", [0.05, 0.5, 1.0, 3.0, 30.0, 1e6])
    def test_quantiles_of_both_tails(self, df):
        law = StudentT(double(df), double(0.0), double(1.0))
        for level in (0.499, 0.1, 1e-5, 1e-12, 1e-100, 1e-300):
            quantile = law.icdf(double(level)).item()
            with mpmath.workdps(40):
                if mpmath.isfinite(quantile):
                    assert float(self.below(df, quantile)) == pytest.approx(level, rel=1e-11)
                else:  # beyond the largest number
                    assert quantile == -INF
                    assert level < self.below(df, -np.finfo(float).max)
            if level > 1e-10:
                assert law.icdf(double(1 - level)).item() == pytest.approx(-law.icdf(double(level)).item(), rel=1e-4)

    def test_the_quantile_at_the_least_probability(self):
        quantile = StudentT(double(3.0), double(0.0), double(1.0)).icdf(double(1e-300)).item()
        assert quantile == pytest.approx(-1.0331108360446528e100, rel=1e-13)

    def test_the_distribution_function_where_the_square_of_the_value_overflows(self):
        law = StudentT(double(0.5), double(0.0), double(1.0))
        with mpmath.workdps(40):
            expected = float(self.below(0.5, -1e200))
        assert law.cdf(double(-1e200)).item() == pytest.approx(expected, rel=1e-12)
        assert law.cdf(double(1e200)).item() == 1.0


def exact_negative_binomial(count, log_mean, log_dispersion):
    mean, size = mpmath.exp(mpmath.mpf(log_mean)), mpmath.exp(-mpmath.mpf(log_dispersion))
    rising = mpmath.loggamma(count + size) - mpmath.loggamma(size) - mpmath.loggamma(count + 1)
    return rising + size * mpmath.log(size / (size + mean)) + count * mpmath.log(mean / (size + mean))


class TestLargeCounts:
    """Leeways are what one rounding of ``log_mean`` changes, whose first derivative is the count less the mean."""

    @pytest.mark.parametrize("log_mean", [-3.0, 0.0, 3.5, 10.0, 35.0, 60.0])
    @pytest.mark.parametrize("share", [0.5, 1.0, 1.001, 3.0, 1e3])
    def test_log_probabilities(self, log_mean, share):
        count = math.floor(math.exp(log_mean) * share)
        error = np.finfo(float).eps * (1.0 + abs(log_mean))
        leeway = 1e-13 + error * abs(count - math.exp(log_mean)) + error**2 * count
        with mpmath.workdps(60):
            poisson = count * mpmath.mpf(log_mean) - mpmath.exp(mpmath.mpf(log_mean)) - mpmath.loggamma(count + 1)
            found = Poisson(log_rate=double(log_mean)).log_prob(double(float(count))).item()
            assert found == pytest.approx(float(poisson), rel=1e-11, abs=leeway)
            for log_dispersion in (-60.0, -10.0, -3.0, 0.0, 3.0, 30.0):
                law = NegativeBinomial(double(log_mean), double(log_dispersion))
                found, exact = (
                    law.log_prob(double(float(count))).item(),
                    float(exact_negative_binomial(count, log_mean, log_dispersion)),
                )
                assert found == pytest.approx(exact, rel=1e-11, abs=leeway)

    def test_single_precision(self):
        count = torch.tensor([40.0, 1e4, 1e6])
        poisson = Poisson(log_rate=count.log()).log_prob(count)
        torch.testing.assert_close(poisson, Poisson(log_rate=count.double().log()).log_prob(count.double()).float())
        law = NegativeBinomial(count.log(), torch.tensor(0.0))
        wide = NegativeBinomial(count.double().log(), double(0.0))
        torch.testing.assert_close(law.log_prob(count), wide.log_prob(count.double()).float())

    def test_the_experts_compute_what_their_distributions_do(self):
        y, eta = double(1e15), double(1e15).log().requires_grad_()
        poisson = PoissonExperts(ConstantPredictor(1, generator=seeded()))
        torch.testing.assert_close(poisson.log_density(y, eta), Poisson(log_rate=eta).log_prob(y), rtol=0, atol=0)
        assert poisson.log_density(y, eta).item() == pytest.approx(-0.5 * math.log(2e15 * math.pi), abs=1e-6)
        counts = NegativeBinomialExperts(ConstantPredictor(1, generator=seeded()))
        assert counts.log_density(y, eta, double(0.0)).item() == pytest.approx(-1.0 - 15 * math.log(10.0), rel=1e-12)

    @pytest.mark.parametrize(("log_mean", "log_dispersion"), [(40.0, 0.0), (40.0, 3.0), (300.0, 0.0), (60.0, -3.0)])
    def test_the_distribution_function_tends_to_that_of_a_gamma_distribution(self, log_mean, log_dispersion):
        law, size = NegativeBinomial(double(log_mean), double(log_dispersion)), math.exp(-log_dispersion)
        for share in (1e-3, 0.5, 1.0, 2.0):
            with mpmath.workdps(40):
                expected = float(mpmath.gammainc(size, 0, size * mpmath.mpf(share), regularized=True))
            # The gamma limit itself is off by less than 1 / mean, here below 1e-17 of a density of order one.
            assert law.cdf(share * law.mean).item() == pytest.approx(expected, rel=1e-9)

    def test_the_median(self):
        """That of a geometric distribution is -log(2) / log(1 - 1 / (1 + mean)), here log(2) mean to rounding."""
        law = ExpertMixture(torch.zeros(1, dtype=torch.float64), NegativeBinomial(double(40.0).expand(1), double(0.0)))
        assert law.icdf(double(0.5)).item() == pytest.approx(math.log(2.0) * math.exp(40.0), rel=1e-13)


class TestEnds:
    def test_of_a_mixture_of_atoms(self):
        law = ExpertMixture(double(0.2, 0.3, 0.5).log(), Atom(double(1.0, 2.0, 3.0)))
        assert law.icdf(double(0.0, 0.1, 0.3, 0.49, 0.51, 1.0)).tolist() == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]

    def test_of_the_selected_components_alone(self):
        parts = [Atom(double(-1.0)), LogNormal(double(0.0), double(1.0)), Normal(double(0.0), double(1.0))]
        components = PerComponentDistribution(parts)
        ends = double(0.0, 1.0)
        weights = {(0.5, 0.5, 0.0): [-1.0, INF], (1.0, 0.0, 0.0): [-1.0, -1.0], (0.5, 0.0, 0.5): [-INF, INF]}
        for weight, expected in weights.items():
            assert ExpertMixture(double(*weight).log(), components).icdf(ends).tolist() == expected

    def test_of_atoms_that_single_precision_cannot_hold(self):
        components = PerComponentDistribution([Atom(double(1 / 3)), Atom(double(2 / 3))])
        assert ExpertMixture(double(0.5, 0.5).log(), components).icdf(double(0.0, 1.0)).tolist() == [1 / 3, 2 / 3]

    def test_of_a_mixture_of_uniform_distributions(self):
        uniform = torch.distributions.Uniform(double(0.0, 2.0), double(1.0, 4.0), validate_args=False)
        law = ExpertMixture(double(0.5, 0.5).log(), uniform)
        assert law.icdf(double(0.0, 0.25, 0.75, 1.0)).tolist() == [0.0, 0.5, 3.0, 4.0]


class TestOverflow:
    def test_the_variance_is_infinite_where_a_mean_is(self):
        components = LogNormal(double(0.0, 800.0), ONES)
        law = ExpertMixture(double(0.5, 0.5).log(), components)
        assert (law.mean.item(), law.variance.item()) == (INF, INF)
        alone = ExpertMixture(double(1.0, 0.0).log(), components)
        assert alone.variance.item() == pytest.approx(math.e * math.expm1(1.0), rel=1e-13)

    def test_factors_that_vanish_and_overflow(self):
        assert LogNormal(double(800.0), double(1e-200)).variance.item() == pytest.approx(
            float(mpmath.exp(1600) * mpmath.mpf(10) ** -400), rel=1e-11
        )
        zero_inflated = ZeroInflatedLogNormal(double(-800.0), double(400.0), double(1.0))
        assert zero_inflated.variance.item() == pytest.approx(math.exp(2.0), rel=1e-11)
        assert ZeroInflatedLogNormal(double(-800.0), double(800.0), double(1.0)).mean.item() == pytest.approx(
            math.exp(0.5), rel=1e-12
        )
        assert NegativeBinomial(double(-800.0), double(1600.0)).variance.item() == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("name", ["poisson", "negative-binomial"])
@pytest.mark.parametrize("size", [20, 40])
def test_a_large_count_among_them_changes_no_other(name, size):
    law, counts = LAWS[name](), torch.arange(float(size), dtype=torch.float64).unsqueeze(-1)
    together = law.log_prob(torch.cat([counts, double(1e6, 1e6).unsqueeze(-1)]))
    assert torch.equal(law.log_prob(counts), together[:size])
