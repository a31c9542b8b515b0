"""Component distributions where torch's are rounded away: tails, tiny scales and rates, many degrees of freedom."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy import special, stats

from mixkit.distributions import (
    Atom,
    Beta,
    Binomial,
    Categorical,
    Gamma,
    InverseGaussian,
    Laplace,
    LogNormal,
    NegativeBinomial,
    Normal,
    PerComponentDistribution,
    Poisson,
    StudentT,
    ZeroInflatedLogNormal,
    has_atom,
    negative_binomial_log_prob,
    student_t_log_density,
    student_t_log_normalizer,
)
from tests.mixkit.expert_table import double
from tests.mixkit.gate_table import check_derivatives, normal

INF = torch.inf

LAWS = {
    "normal": (lambda: Normal(double(-1.0, 2.0), double(0.5, 3.0)), stats.norm([-1.0, 2.0], [0.5, 3.0])),
    "poisson": (lambda: Poisson(double(0.5, 40.0)), stats.poisson([0.5, 40.0])),
    "poisson-log-rate": (lambda: Poisson(log_rate=double(0.5, 40.0).log()), stats.poisson([0.5, 40.0])),
    "student-t": (
        lambda: StudentT(double(0.7, 5.0), double(-1.0, 2.0), double(0.5, 3.0)),
        stats.t([0.7, 5.0], [-1.0, 2.0], [0.5, 3.0]),
    ),
    "laplace": (lambda: Laplace(double(-1.0, 2.0), double(0.5, 3.0)), stats.laplace([-1.0, 2.0], [0.5, 3.0])),
    "log-normal": (
        lambda: LogNormal(double(-1.0, 2.0), double(0.5, 3.0)),
        stats.lognorm([0.5, 3.0], scale=np.exp([-1.0, 2.0])),
    ),
    "negative-binomial": (
        lambda: NegativeBinomial(double(0.5, 40.0).log(), double(0.5, 3.0).log()),
        stats.nbinom([2.0, 1 / 3], [2.0 / 2.5, (1 / 3) / (1 / 3 + 40.0)]),
    ),
    "binomial": (
        lambda: Binomial(double(-1.0, 2.0), double(3.0, 40.0)),
        stats.binom([3, 40], special.expit([-1.0, 2.0])),
    ),
    "gamma": (
        lambda: Gamma(double(-1.0, 2.0), double(0.5, 0.2).log()),
        stats.gamma([4.0, 25.0], scale=np.exp([-1.0, 2.0]) * [0.25, 0.04]),
    ),
    "inverse-gaussian": (
        lambda: InverseGaussian(double(-1.0, 2.0), double(0.5, 3.0).log()),
        stats.invgauss(np.exp([-1.0, 2.0]) * [0.25, 9.0], scale=[4.0, 1 / 9]),
    ),
    "beta": (
        lambda: Beta(double(-1.0, 2.0), double(0.5, 0.2).log()),
        stats.beta(special.expit([-1.0, 2.0]) * [4.0, 25.0], special.expit([1.0, -2.0]) * [4.0, 25.0]),
    ),
    "categorical": (
        lambda: Categorical(double(0.2, 0.5, 0.3).log().expand(2, 3)),
        stats.rv_discrete(values=([0, 1, 2], [0.2, 0.5, 0.3])),
    ),
}
every_law = pytest.mark.parametrize(("make", "reference"), LAWS.values(), ids=LAWS.keys())


def points(law):
    if law.support.is_discrete:
        last = 3.0 if isinstance(law, Categorical) else 120.0
        return torch.arange(0.0, last, dtype=torch.float64).unsqueeze(-1)
    line = torch.cat([-torch.logspace(3, -3, 40), torch.zeros(1), torch.logspace(-3, 3, 40)]).double()
    if isinstance(law, Laplace):
        line = line[line.abs() < 300]  # SciPy's logarithm of the density is -inf where the density underflows
    return line[line >= 0 if isinstance(law, LogNormal) else slice(None)].unsqueeze(-1)


@every_law
def test_density_and_distribution_function_are_scipys(make, reference):
    law = make()
    y = points(law)
    log_density = reference.logpmf if law.support.is_discrete else reference.logpdf
    expected, below = (np.broadcast_to(f(y.numpy()), (len(y), 2)) for f in (log_density, reference.cdf))
    np.testing.assert_allclose(law.log_prob(y), expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(law.cdf(y), below, rtol=1e-8, atol=1e-300)


@every_law
def test_expanding_copying_and_pickling(make, reference):
    law = make()
    y = points(law)
    for twin in (law.expand((3, 2)), pickle.loads(pickle.dumps(law)), copy.deepcopy(law)):
        assert type(twin) is type(law)
        for name in ("log_prob", "cdf"):
            found, expected = getattr(twin, name)(y[:, None]), getattr(law, name)(y[:, None])
            torch.testing.assert_close(found, expected.expand_as(found))
    assert law.expand((3, 2)).mean.shape == (3, 2)


@every_law
def test_values_are_validated(make, reference):
    for name in ("log_prob", "cdf"):
        with pytest.raises(ValueError, match="value must hold no NaN, got 1 such"):
            getattr(make(), name)(double(math.nan))
        with pytest.raises(ValueError, match=r"value must have a shape that broadcasts with \(2,\), got \(3,\)"):
            getattr(make(), name)(double(0.0, 1.0, 2.0))


class TestNormal:
    def test_tails_keep_their_relative_precision(self):
        z = double(-37.0, -20.0, -8.0, -5.0, 5.0)
        np.testing.assert_allclose(Normal(0.0, double(1.0)).cdf(z), special.ndtr(z.numpy()), rtol=1e-11)

    def test_quantiles(self):
        p = double(0.0, 1e-300, 1e-12, 0.5, 1 - 1e-12, 1.0)
        np.testing.assert_allclose(Normal(1.0, double(2.0)).icdf(p), stats.norm.ppf(p.numpy(), 1.0, 2.0), rtol=1e-13)

    def test_a_tiny_scale(self):
        law, z = Normal(double(0.0), double(1e-200)), double(0.0, 1.0, -3.0)
        expected = stats.norm.logpdf(z.numpy()) + 200 * math.log(10.0)
        np.testing.assert_allclose(law.log_prob(1e-200 * z), expected, rtol=1e-14)
        np.testing.assert_allclose(law.cdf(1e-200 * z), stats.norm.cdf(z.numpy()), rtol=1e-13)

    def test_a_value_too_far_for_its_square(self):
        loc, scale = double(0.0).requires_grad_(), double(1e-3).requires_grad_()
        law, y = Normal(loc, scale), double(-1e300, 1e300)
        assert law.log_prob(y).tolist() == [-INF, -INF]
        assert law.cdf(y).tolist() == [0.0, 1.0]
        (law.log_prob(y).sum() + law.cdf(y).sum()).backward()
        assert loc.grad == scale.grad == 0.0

    def test_derivatives(self):
        leaves = tuple(t.requires_grad_() for t in (normal(4), normal(4, seed=2).exp(), normal(4, seed=3)))
        check_derivatives(lambda loc, scale, y: (Normal(loc, scale).log_prob(y), Normal(loc, scale).cdf(y)), leaves)


class TestPoisson:
    def test_values_that_are_no_counts_have_probability_zero(self):
        law = Poisson(double(2.0), validate_args=False)
        assert law.log_prob(double(-1.0, 0.5, 2.0)).tolist()[:2] == [-INF, -INF]
        assert law.cdf(double(-0.5)).item() == 0.0
        assert law.cdf(double(1.7)).item() == law.cdf(double(1.0)).item()

    def test_a_rate_of_zero_puts_all_mass_at_zero(self):
        rate = double(0.0).requires_grad_()
        law = Poisson(rate)
        assert law.log_prob(double(0.0, 1.0)).tolist() == [0.0, -INF]
        assert law.cdf(double(0.0)).item() == 1.0
        law.log_prob(double(0.0)).sum().backward()
        assert rate.grad.item() == -1.0

    def test_the_distribution_function_falls_with_the_rate_at_the_speed_of_the_probability(self):
        rate = double(0.5, 3.0, 40.0).requires_grad_()
        law, y = Poisson(rate), double(1.0, 3.0, 35.0)
        law.cdf(y).sum().backward()
        torch.testing.assert_close(rate.grad, -law.log_prob(y).exp().detach())

    def test_one_of_rate_and_log_rate(self):
        for given in ({}, {"rate": double(1.0), "log_rate": double(0.0)}):
            with pytest.raises(ValueError, match="rate or log_rate must be given, and not both"):
                Poisson(**given)


class TestStudentT:
    @pytest.mark.parametrize("df", [1e-3, 0.5, 1.0, 30.0, 63.9, 64.1, 1e3])
    def test_the_normalizer(self, df):
        expected = special.gammaln((df + 1) / 2) - special.gammaln(df / 2) - 0.5 * math.log(math.pi * df)
        assert student_t_log_normalizer(double(df).log()).item() == pytest.approx(expected, rel=1e-12)

    def test_the_normalizer_tends_to_the_normal_laws_at_the_rate_of_its_series(self):
        """log-normalizer + log(2 pi) / 2 = -1 / (4 df) + O(df^-3)."""
        df = double(1e4, 1e6, 1e8)
        gap = student_t_log_normalizer(df.log()) + 0.5 * math.log(2 * math.pi)
        torch.testing.assert_close(gap, -0.25 / df, rtol=1e-7, atol=2e-16)

    def test_the_two_branches_of_the_normalizer_meet(self):
        edge = math.log(64.0)
        log_df = double(edge - 1e-9, edge + 1e-9).requires_grad_()
        value = student_t_log_normalizer(log_df)
        (first,) = torch.autograd.grad(value.sum(), log_df, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), log_df)
        for order in (value, first, second):
            assert abs(float((order[0] - order[1]).detach())) < 1e-11

    def test_extreme_degrees_of_freedom(self):
        log_df = double(-700.0, -30.0, 30.0, 700.0).requires_grad_()
        value = student_t_log_density(double(0.5), log_df)
        value.sum().backward()
        assert value.isfinite().all()
        assert log_df.grad.isfinite().all()
        normal_density = -0.5 * math.log(2 * math.pi) - 0.125
        torch.testing.assert_close(value[2:].detach(), torch.full((2,), normal_density, dtype=torch.float64))

    def test_derivatives(self):
        leaves = tuple(t.requires_grad_() for t in (normal(5, scale=3.0), double(-1.0, 0.0, 2.0, 4.5, 8.0)))
        check_derivatives(student_t_log_density, leaves)

    def test_quantiles_invert_the_distribution_function(self):
        law, p = StudentT(double(0.7, 5.0), double(-1.0, 2.0), double(0.5, 3.0)), double(1e-10, 0.3, 0.99).unsqueeze(-1)
        torch.testing.assert_close(law.cdf(law.icdf(p)), p.expand(3, 2), rtol=1e-9, atol=0)

    def test_distribution_functions_leave_the_graph(self):
        law = StudentT(double(3.0).requires_grad_(), double(0.0), double(1.0))
        assert not law.cdf(double(0.3)).requires_grad


class TestNegativeBinomial:
    @pytest.mark.parametrize("mean", [1e-8, 0.3, 5.0, 400.0])
    @pytest.mark.parametrize("log_dispersion", [-700.0, -40.0, -20.0])
    def test_the_poisson_limit(self, mean, log_dispersion):
        y, log_mean = double(0.0, 1.0, 3.0, 50.0, 1000.0), double(mean).log()
        law = NegativeBinomial(log_mean, double(log_dispersion))
        poisson = Poisson(log_rate=log_mean)
        # The first-order gap is dispersion / 2 times (y - mean)^2 - y, at most 1e6 here.
        gap = 1e6 * math.exp(log_dispersion)
        torch.testing.assert_close(law.log_prob(y), poisson.log_prob(y), rtol=1e-12, atol=1e-12 + gap)
        torch.testing.assert_close(law.cdf(y), poisson.cdf(y), rtol=1e-9, atol=1e-12 + gap)

    def test_series_and_closed_form_meet(self):
        """Values and first and second derivatives on both sides of where the branches change, at r = 32 and m = 0.1."""
        for log_mean, edge in ((math.log(3.0), -math.log(32.0)), (0.7, math.log(0.1) - 0.7)):
            log_dispersion = double(edge - 1e-9, edge + 1e-9).requires_grad_()
            value = negative_binomial_log_prob(double(0.0, 2.0, 9.0).unsqueeze(-1), double(log_mean), log_dispersion)
            (first,) = torch.autograd.grad(value.sum(), log_dispersion, create_graph=True)
            (second,) = torch.autograd.grad(first.sum(), log_dispersion)
            for order in (value.mT, first, second):
                assert float((order[0] - order[1]).detach().abs().max()) < 1e-7

    def test_derivatives(self):
        leaves = tuple(t.requires_grad_() for t in (normal(6), double(-30.0, -5.0, -3.0, -1.0, 0.0, 2.0)))
        y = double(0.0, 1.0, 4.0, 2.0, 30.0, 5.0)
        check_derivatives(
            lambda log_mean, log_dispersion: negative_binomial_log_prob(y, log_mean, log_dispersion), leaves
        )

    def test_values_that_are_no_counts_have_probability_zero(self):
        law = NegativeBinomial(double(0.5), double(0.1), validate_args=False)
        assert law.log_prob(double(-1.0, 0.5)).tolist() == [-INF, -INF]
        assert law.cdf(double(-0.5)).item() == 0.0

    def test_an_extreme_dispersion_draws_counts(self):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            draws = NegativeBinomial(double(1.0).expand(3), double(-800.0, 0.0, 50.0)).sample((500,))
        assert torch.equal(draws, draws.floor())
        mean, error = draws[:, 0].mean(), math.sqrt(math.e / 500)
        assert abs(float(mean) - math.e) < 4.4 * error  # false alarms 1e-5


class TestLaplace:
    def test_tails_keep_their_relative_precision(self):
        z = double(-700.0, -40.0, -1.0, 0.0, 30.0)
        np.testing.assert_allclose(Laplace(double(0.0), double(1.0)).cdf(z), stats.laplace.cdf(z.numpy()), rtol=1e-13)

    def test_quantiles(self):
        p = double(0.0, 1e-300, 1e-12, 0.5, 1 - 1e-12, 1.0)
        np.testing.assert_allclose(
            Laplace(double(1.0), double(2.0)).icdf(p), stats.laplace.ppf(p.numpy(), 1.0, 2.0), rtol=1e-13
        )

    def test_derivatives_away_from_the_kink(self):
        leaves = tuple(t.requires_grad_() for t in (normal(4), normal(4, seed=2).exp(), normal(4, seed=3)))
        check_derivatives(lambda loc, scale, y: (Laplace(loc, scale).log_prob(y), Laplace(loc, scale).cdf(y)), leaves)


class TestPositiveLaws:
    def test_zero_and_below_have_density_zero(self):
        law = LogNormal(double(0.0).requires_grad_(), double(1.0), validate_args=False)
        value = law.log_prob(double(0.0, -1.0, 1.0))
        assert value[:2].tolist() == [-INF, -INF]
        value[2].backward()
        assert law.cdf(double(0.0, -1.0)).tolist() == [0.0, 0.0]
        zero_inflated = ZeroInflatedLogNormal(double(0.0), double(0.0), double(1.0), validate_args=False)
        assert zero_inflated.log_prob(double(-1.0)).item() == -INF
        assert zero_inflated.cdf(double(-1.0)).item() == 0.0

    def test_certain_zeros_and_certain_sales(self):
        for logit, at_zero in ((-800.0, 0.0), (800.0, -800.0)):
            leaf = double(logit).requires_grad_()
            law = ZeroInflatedLogNormal(leaf, double(0.0), double(1.0))
            value = law.log_prob(double(0.0))
            value.backward()
            assert value.item() == at_zero
            assert leaf.grad.isfinite().all()

    @pytest.mark.parametrize("logit", [-800.0, -100.0, -40.0, 0.0, 800.0])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_quantiles_at_the_ends_however_rare_a_sale_is(self, logit, dtype):
        law = ZeroInflatedLogNormal(*(torch.tensor(value, dtype=dtype) for value in (logit, 0.0, 1.0)))
        level = torch.tensor([0.0, 0.25, 1.0], dtype=dtype)
        assert law.icdf(level)[[0, 2]].tolist() == [0.0, INF]
        expected = 0.0 if logit <= 0 else stats.lognorm.ppf(0.25, 1.0)
        assert law.icdf(level)[1].item() == pytest.approx(expected, rel=1e-6)
        assert law.icdf(torch.tensor(torch.nan, dtype=dtype)).isnan()

    def test_an_atom(self):
        law = Atom(double(0.0, 2.0))
        assert law.log_prob(double(2.0)).tolist() == [-INF, 0.0]
        assert law.cdf(double(1.0)).tolist() == [1.0, 0.0]
        assert torch.equal(law.icdf(double(0.3)), law.mean)
        assert torch.equal(law.sample((3,)), law.mean.expand(3, 2))
        assert law.variance.tolist() == [0.0, 0.0]
        assert law.expand((4, 2)).batch_shape == (4, 2)


@every_law
def test_a_law_has_atoms_everywhere_or_nowhere(make, reference):
    found = has_atom(make(), double(0.0, 1.0, 2.0).unsqueeze(-1))
    assert found.shape == (3, 2)
    assert bool(found.all()) is bool(found.any()) is hasattr(reference, "pmf")


def test_laws_that_mix_atoms_with_densities_say_where_they_are():
    zeros, ones = double(0.0, 0.0), double(1.0, 1.0)
    laws = [Atom(double(2.0)), Normal(zeros, ones), Poisson(ones), ZeroInflatedLogNormal(zeros, zeros, ones)]
    joint, value = PerComponentDistribution(laws), double(0.0, 2.0, 3.0).unsqueeze(-1)
    counts = [True, True]
    assert joint.has_atom(value).tolist() == [
        [False, False, False, *counts, True, True],
        [True, False, False, *counts, False, False],
        [False, False, False, *counts, False, False],
    ]
    assert torch.equal(joint.has_atom(double(2.0)), joint.has_atom(value)[1])
    assert torch.equal(joint.has_atom(double(2.0).expand(7)), joint.has_atom(value)[1])


def test_labels_outside_the_classes_have_probability_zero():
    law = Categorical(double(0.2, 0.8).log(), validate_args=False)
    assert law.log_prob(double(2.0, 0.5, -1.0)).tolist() == [-INF, -INF, -INF]
    assert law.mean.item() == pytest.approx(0.8)
    assert law.variance.item() == pytest.approx(0.16)
