"""Component distributions where torch's are rounded away: tails, tiny scales and rates, many degrees of freedom."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy import special, stats

from mixkit.distributions import Normal, Poisson, StudentT, student_t_log_density, student_t_log_normaliser
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
}
every_law = pytest.mark.parametrize(("make", "reference"), LAWS.values(), ids=LAWS.keys())


def points(law):
    if law.support.is_discrete:
        return torch.arange(0.0, 120.0, dtype=torch.float64).unsqueeze(-1)
    return torch.cat([-torch.logspace(3, -3, 40), torch.zeros(1), torch.logspace(-3, 3, 40)]).double().unsqueeze(-1)


@every_law
def test_density_and_distribution_function_are_scipys(make, reference):
    law = make()
    y = points(law)
    log_density = reference.logpmf if law.support.is_discrete else reference.logpdf
    np.testing.assert_allclose(law.log_prob(y), log_density(y.numpy()), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(law.cdf(y), reference.cdf(y.numpy()), rtol=1e-8, atol=1e-300)


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
    with pytest.raises(ValueError, match="within the support"):
        make().log_prob(double(math.nan))


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
    def test_the_normaliser(self, df):
        expected = special.gammaln((df + 1) / 2) - special.gammaln(df / 2) - 0.5 * math.log(math.pi * df)
        assert student_t_log_normaliser(double(df).log()).item() == pytest.approx(expected, rel=1e-12)

    def test_the_normaliser_tends_to_the_normal_laws_at_the_rate_of_its_series(self):
        """log-normaliser + log(2 pi) / 2 = -1 / (4 df) + O(df^-3)."""
        df = double(1e4, 1e6, 1e8)
        gap = student_t_log_normaliser(df.log()) + 0.5 * math.log(2 * math.pi)
        torch.testing.assert_close(gap, -0.25 / df, rtol=1e-7, atol=2e-16)

    def test_the_two_branches_of_the_normaliser_meet(self):
        edge = math.log(64.0)
        log_df = double(edge - 1e-9, edge + 1e-9).requires_grad_()
        value = student_t_log_normaliser(log_df)
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
