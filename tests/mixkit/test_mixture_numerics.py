"""The mixture where numbers end: weights of exactly zero, hardly any variance, far tails, low precision."""

import copy
import math

import pytest
import torch
from scipy import stats
from torch.distributions import Categorical, MixtureSameFamily

from mixkit import ExpertMixture
from mixkit.distributions import Normal, StudentT
from tests.mixkit.expert_table import D, K, double, draw, moe
from tests.mixkit.gate_table import normal, seeded

INF = torch.inf
N = 4


def two_normals(zero_weight_at=50.0):
    return ExpertMixture(double(0.0, -INF), Normal(double(0.0, zero_weight_at), double(1.0, 1.0)))


class TestExactZeros:
    def test_an_unselected_component_has_no_floor_under_it(self):
        """MixtureSameFamily gives log-density -16.9 at 50, where N(0, 1) has -1250.9."""
        law, y = two_normals(), torch.tensor(50.0, dtype=torch.float64)
        exact = -1250.0 - 0.5 * math.log(2 * math.pi)
        assert law.log_prob(y).item() == pytest.approx(exact, rel=1e-15)
        floored = MixtureSameFamily(Categorical(probs=torch.tensor([1.0, 0.0])), Normal(torch.tensor([0.0, 50.0]), 1.0))
        assert floored.log_prob(torch.tensor(50.0)).item() == pytest.approx(-16.9, abs=0.1)
        assert law.log_responsibilities(y).tolist() == [0.0, -INF]

    def test_gradients_stay_finite(self):
        log_weights = double(0.0, -INF).requires_grad_()
        loc, scale, y = double(0.0, 50.0).requires_grad_(), double(1.0, 2.0).requires_grad_(), double(50.0)
        law = ExpertMixture(log_weights, Normal(loc, scale))
        (law.log_prob(y).sum() + law.mean + law.variance + law.cdf(y).sum()).backward()
        for leaf in (log_weights, loc, scale):
            assert leaf.grad.isfinite().all()
        assert loc.grad[1] == scale.grad[1] == 0.0

    def test_what_an_unselected_component_says_does_not_matter(self):
        """Infinite moments, infinite density and NaN of an unselected component stay out of every result."""
        wild = StudentT(double(1e6, 0.5), double(0.0, torch.nan), double(1.0, 1.0), validate_args=False)
        law = ExpertMixture(double(0.0, -INF), wild)
        alone = StudentT(double(1e6), double(0.0), double(1.0))
        y = double(0.7)
        torch.testing.assert_close(law.log_prob(y), alone.log_prob(y))
        torch.testing.assert_close(law.mean, alone.mean[0])
        torch.testing.assert_close(law.variance, alone.variance[0])
        torch.testing.assert_close(law.cdf(y), alone.cdf(y))
        torch.testing.assert_close(law.icdf(law.cdf(y)), y)
        assert law.sample((1000,), generator=seeded()).isfinite().all()

    def test_a_component_of_weight_zero_is_never_drawn(self):
        weights = double(0.0, 0.3, 0.0, 0.7, 0.0)
        law = ExpertMixture(weights.log(), Normal(10 * torch.arange(5.0).double(), torch.full((5,), 0.01).double()))
        drawn = (law.sample((20_000,), generator=seeded()) / 10).round()
        assert set(drawn.tolist()) == {1.0, 3.0}


class TestExtremes:
    def test_a_component_with_hardly_any_variance(self):
        """std 1e-150: a square of the standard deviation would be zero."""
        leaves = [double(0.5, 0.5).log(), double(0.0, 1.0), double(1e-150, 1.0)]
        log_weights, loc, scale = (leaf.requires_grad_() for leaf in leaves)
        law = ExpertMixture(log_weights, Normal(loc, scale))
        y = double(0.0, 1e-150, 1e-140, 0.3, 1e10)
        value = law.log_prob(y)
        spike = -math.log(1e-150) - 0.5 * math.log(2 * math.pi) + math.log(0.5)
        assert value[0].item() == pytest.approx(spike, rel=1e-14)
        assert value[1].item() == pytest.approx(spike - 0.5, rel=1e-14)
        other = Normal(1.0, double(1.0)).log_prob(y[2:]) + math.log(0.5)
        torch.testing.assert_close(value[2:], other.detach())
        (value.sum() + law.variance + law.mean + law.cdf(y).sum()).backward()
        assert all(leaf.grad.isfinite().all() for leaf in (log_weights, loc, scale))
        assert not law.log_responsibilities(y).isnan().any()

    @pytest.mark.parametrize("y", [1e200, -1e200, 1e308])
    def test_a_value_no_component_can_reach(self, y):
        """The log-density underflows to -inf; nothing becomes NaN, and the posterior falls back on the weights."""
        loc, scale = double(0.0, 1.0).requires_grad_(), double(1.0, 2.0).requires_grad_()
        law = ExpertMixture(double(0.25, 0.75).log(), Normal(loc, scale))
        value = law.log_prob(torch.tensor(y, dtype=torch.float64))
        assert value.item() == -INF
        value.backward()
        assert torch.equal(loc.grad, torch.zeros(2).double())
        assert torch.equal(scale.grad, torch.zeros(2).double())
        posterior = law.log_responsibilities(torch.tensor(y, dtype=torch.float64)).exp()
        torch.testing.assert_close(posterior, double(0.25, 0.75))

    def test_rows_do_not_disturb_each_other(self):
        loc = double(0.0, 1.0).requires_grad_()
        law = ExpertMixture(double(0.25, 0.75).log(), Normal(loc, double(1.0, 2.0)))
        law.log_prob(double(0.5, 1e200)).sum().backward()
        (alone,) = torch.autograd.grad(law.log_prob(double(0.5)).sum(), loc)
        torch.testing.assert_close(loc.grad, alone)

    def test_far_tails_follow_the_widest_component(self):
        law = ExpertMixture(double(0.5, 0.5).log(), Normal(double(0.0, 0.0), double(1.0, 3.0)))
        y = double(-30.0, -90.0)
        expected = torch.tensor(stats.norm.cdf(y.numpy(), 0.0, 3.0)) / 2
        torch.testing.assert_close(law.cdf(y), expected, rtol=1e-9, atol=0)
        torch.testing.assert_close(
            law.log_prob(y), Normal(0.0, double(3.0)).log_prob(y) - math.log(2), rtol=1e-12, atol=0
        )

    def test_a_nan_is_not_hidden(self):
        components = Normal(double(0.0, 1.0), double(1.0, 1.0), validate_args=False)
        law = ExpertMixture(double(0.5, 0.5).log(), components, validate_args=False)
        y = torch.tensor(torch.nan, dtype=torch.float64)
        assert law.log_prob(y).isnan()
        assert law.cdf(y).isnan()
        assert law.log_responsibilities(y).isnan().all()

    def test_scores_of_ten_thousand(self):
        model, x = moe(selected=K), normal(N, D)
        with torch.no_grad():
            model.gate.score.weight *= 1e4
        y = draw(model(x))
        log_prob = model.log_prob(x, y)
        log_prob.sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())
        chosen = model.gate(x).argmax(-1, keepdim=True)
        alone = model.experts(x).log_prob(y.unsqueeze(-1)).gather(-1, chosen)[:, 0]
        sharp = model.gate(x).gather(-1, chosen)[:, 0] > -1e-300
        assert sharp.sum() > 0.9 * N
        torch.testing.assert_close(log_prob[sharp], alone[sharp])


def test_moments_in_low_precision_are_weighted_averages():
    """Weights of bfloat16 sum to 1 within 1% only, which must not show in the mean."""
    weights = torch.log_softmax(normal(1000, 8), -1).bfloat16()
    law = ExpertMixture(weights, Normal(torch.full((8,), 128.0), torch.ones(8)))
    torch.testing.assert_close(law.mean, torch.full((1000,), 128.0), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_dtype_follows_the_inputs(dtype):
    model, x = moe(dtype=dtype), normal(N, D, dtype=dtype)
    law = model(x)
    y = law.sample(generator=seeded())
    p = torch.full((N,), 0.3, dtype=dtype)
    results = [y, law.log_prob(y), law.log_responsibilities(y), law.mean, law.variance, law.cdf(y), law.icdf(p)]
    assert {r.dtype for r in results} == {dtype}
    exact = copy.deepcopy(model).double()(x.double())
    tolerance = 400.0 * torch.finfo(dtype).eps
    expected = [exact.log_prob(y.double()), exact.mean, exact.variance, exact.cdf(y.double()), exact.icdf(p.double())]
    for value, reference in zip([results[1], *results[3:]], expected, strict=True):
        torch.testing.assert_close(value.double(), reference, rtol=tolerance, atol=tolerance)
    law.log_prob(y).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
