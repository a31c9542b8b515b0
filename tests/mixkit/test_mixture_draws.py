"""Draws of the mixture: their law, their shapes, their seeds; and the mixture as a site of a Pyro model."""

import pyro
import pytest
import torch
from pyro import poutine
from scipy import stats

from mixkit import ExpertMixture
from mixkit.distributions import Normal
from tests.mixkit.expert_table import FAMILIES, D, K, below, double, draw, moe
from tests.mixkit.gate_table import normal, seeded

N = 4

every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())


class TestPyro:
    """The law as a site of a Pyro model."""

    law = ExpertMixture(double(0.3, 0.7).log(), Normal(double(-1.0, 2.0), double(0.5, 3.0)))

    def test_an_observed_site_scores_the_data(self):
        model, x = moe(), normal(30, D)
        y = draw(model(x))

        def program():
            with pyro.plate("data", 30):
                pyro.sample("y", model(x), obs=y)

        trace = poutine.trace(program).get_trace()
        torch.testing.assert_close(trace.log_prob_sum(), model.log_prob(x, y).sum())

    def test_gradients_of_a_trace_reach_the_parameters(self):
        model, x = moe(), normal(30, D)
        y = draw(model(x))
        trace = poutine.trace(lambda: pyro.sample("y", model(x).to_event(1), obs=y)).get_trace()
        by_pyro = torch.autograd.grad(trace.log_prob_sum(), list(model.parameters()))
        by_hand = torch.autograd.grad(model.log_prob(x, y).sum(), list(model.parameters()))
        for ours, theirs in zip(by_pyro, by_hand, strict=True):
            torch.testing.assert_close(ours, theirs)

    def test_a_latent_site_is_drawn_under_pyros_seed(self):
        def program():
            with pyro.plate("many", 50):
                return pyro.sample("y", self.law)

        with torch.random.fork_rng(devices=[]):
            first, second = (poutine.seed(program, rng_seed=7)() for _ in range(2))
        assert first.shape == (50,)
        assert torch.equal(first, second)

    def test_reshaping_masking_and_expanding(self):
        wide = self.law.expand_by([4]).to_event(1)
        assert wide.event_shape == (4,)
        y = normal(4)
        torch.testing.assert_close(wide.log_prob(y), self.law.log_prob(y).sum())
        masked = self.law.expand((4,)).mask(torch.tensor([True, False, True, False]))
        torch.testing.assert_close(masked.log_prob(y), self.law.log_prob(y) * double(1.0, 0.0, 1.0, 0.0))


@every_family
def test_draws_follow_the_law(family):
    """Kolmogorov-Smirnov against the conditional distribution functions; false alarms 1e-5 a family."""
    law = moe(family)(normal(2, D))
    y = law.sample((4000,), generator=seeded(21))
    if law.event_shape:  # the marginals of both coordinates are scalar mixtures
        marginals = [Normal(law.components.mean[..., i], law.components.stddev[..., i]) for i in range(2)]
        pairs = [(y[..., i], ExpertMixture(law.log_weights, marginal)) for i, marginal in enumerate(marginals)]
    else:
        pairs = [(y, law)]
    for values, marginal in pairs:
        upper = marginal.cdf(values).detach()
        lower = below(family, marginal, values).detach()
        uniform = lower + (upper - lower) * torch.rand(upper.shape, generator=seeded(22), dtype=torch.float64)
        for column in uniform.T.numpy():
            assert stats.kstest(column, "uniform").pvalue > 1e-5 / 4


def test_the_components_are_drawn_with_their_weights():
    """Chi-square on 100,000 draws of well separated components; false alarm 1e-5."""
    weights = double(0.05, 0.15, 0.5, 0.3)
    law = ExpertMixture(weights.log(), Normal(10 * torch.arange(4.0).double(), torch.ones(4).double() * 0.1))
    counts = (law.sample((100_000,), generator=seeded(23)) / 10).round().long().bincount(minlength=4)
    assert stats.chisquare(counts.numpy(), 100_000 * weights.numpy()).pvalue > 1e-5


def test_the_largest_uniform_draw_falls_on_a_component_of_positive_weight(monkeypatch):
    law = ExpertMixture(double(0.4, 0.6, 0.0).log(), Normal(double(0.0, 10.0, 20.0), double(0.1, 0.1, 0.1)))
    monkeypatch.setattr(torch, "rand", lambda shape, **options: torch.ones(shape, **options))
    assert round(law.sample(generator=seeded()).item() / 10) == 1


def test_the_draws_are_the_generators():
    law = moe()(normal(N, D))
    first, second = (law.sample((3,), generator=seeded(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, law.sample((3,), generator=seeded(6)))
    assert not first.requires_grad
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        unseeded = law.sample((3,))
        torch.manual_seed(5)
        assert torch.equal(unseeded, law.sample((3,)))


def test_a_generator_is_moved_on_by_a_draw():
    law, generator = moe()(normal(N, D)), seeded(5)
    assert not torch.equal(law.sample(generator=generator), law.sample(generator=generator))


def test_the_global_state_survives_a_draw_that_fails():
    class Broken(Normal):
        def sample(self, sample_shape=()):
            raise RuntimeError("no draws today")

    law = ExpertMixture(double(0.0), Broken(double(0.0), double(1.0)))
    with pytest.raises(RuntimeError, match="no draws today"):
        law.sample(generator=seeded())


@pytest.mark.parametrize("shape", [(), (5,), (2, 5)])
def test_shapes_of_draws_and_densities(shape):
    scalar = moe(batch_shape=shape[:-1])(normal(*shape[:-1], 6, D))
    assert scalar.sample(shape, generator=seeded()).shape == (*shape, *shape[:-1], 6)
    vector = moe(FAMILIES["full-own"], batch_shape=shape[:-1])(normal(*shape[:-1], 6, D))
    y = vector.sample(shape, generator=seeded())
    assert y.shape == (*shape, *shape[:-1], 6, 2)
    assert vector.log_prob(y).shape == (*shape, *shape[:-1], 6)
    assert vector.log_responsibilities(y).shape == (*shape, *shape[:-1], 6, K)
    assert vector.mean.shape == vector.variance.shape == (*shape[:-1], 6, 2)
