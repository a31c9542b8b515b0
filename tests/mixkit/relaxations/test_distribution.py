"""The relaxed one-hot law in log space: support, density, gradients, use in Pyro."""

import copy
import pickle

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Predictive, Trace_ELBO
from scipy import integrate, stats

from mixkit.relaxations import LogRelaxedOneHot, gumbel_softmax, harden, log_simplex


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pyro_seed():
    """Pyro draws from torch's default generator: seed it, and give the old state back."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pyro.clear_param_store()
        yield
        pyro.clear_param_store()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_draws_pass_their_own_support_check_and_have_finite_density(dtype, temperature, generator):
    logits = torch.randn(512, generator=generator).to(dtype)
    law = LogRelaxedOneHot(temperature, logits=logits, validate_args=True)
    value = law.rsample((1000,), generator)
    assert value.dtype == dtype
    assert law.support.check(value).all()
    log_prob = law.log_prob(value)
    assert log_prob.isfinite().all()
    assert log_prob.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_the_peers_fail_where_this_law_does_not(generator):
    logits = torch.randn(512, generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        peer = torch.distributions.RelaxedOneHotCategorical(torch.tensor(0.05), logits=logits, validate_args=False)
        density = peer.log_prob(peer.rsample((200,)))
    assert (~density.isfinite()).float().mean() > 0.9


def test_density_is_that_of_torch_where_torch_is_right(generator):
    logits = torch.randn(3, 6, dtype=torch.float64, generator=generator)
    temperature = torch.tensor(0.8, dtype=torch.float64)
    law = LogRelaxedOneHot(temperature, logits=logits)
    value = law.rsample((10,), generator)
    peer = torch.distributions.RelaxedOneHotCategorical(temperature, logits=logits).base_dist
    assert torch.allclose(law.log_prob(value), peer.log_prob(value), rtol=1e-12)


def test_density_integrates_to_one():
    """Over the two log-odds that determine a point of three; p(y) = p(z) z_1 z_2 z_3 is their density."""
    law = LogRelaxedOneHot(0.7, logits=torch.tensor([0.5, 0.0, -1.0], dtype=torch.float64))
    grid = np.linspace(-60, 60, 601)
    odds = torch.tensor(np.stack(np.meshgrid(grid, grid, indexing="ij"), -1))
    log_simplex_value = torch.nn.functional.pad(odds, (0, 1)).log_softmax(-1)
    density = law.log_prob(log_simplex_value).exp().numpy()
    total = integrate.trapezoid(integrate.trapezoid(density, grid), grid)
    assert abs(total - 1.0) < 1e-8


def test_the_argmax_follows_the_categorical_law(generator):
    law = LogRelaxedOneHot(0.3, probs=torch.tensor([0.6, 0.0, 0.3, 0.1]))
    counts = harden(law.sample((50_000,), generator)).sum(0)
    assert counts[1] == 0
    assert stats.chisquare(counts[[0, 2, 3]], [30_000, 15_000, 5_000]).pvalue > 1e-5


def test_log_relaxed_values_are_logs_of_gumbel_softmax():
    logits = torch.randn(4, 5, generator=seeded(1))
    value = LogRelaxedOneHot(0.7, logits=logits).rsample(generator=seeded())
    assert torch.allclose(value.exp(), gumbel_softmax(logits, 0.7, generator=seeded()))


def test_gradients_of_samples_and_densities():
    logits = torch.tensor([[0.3, -torch.inf, 1.0, -0.5]], dtype=torch.float64, requires_grad=True)
    temperature = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    present = torch.tensor([0, 2, 3])

    def sample(q, t):
        return LogRelaxedOneHot(t, logits=q).rsample((3,), seeded())[..., present]

    value = LogRelaxedOneHot(0.6, logits=logits.detach()).rsample((3,), seeded(1))
    assert torch.autograd.gradcheck(sample, (logits, temperature))
    assert torch.autograd.gradcheck(lambda q, t: LogRelaxedOneHot(t, logits=q).log_prob(value), (logits, temperature))


def test_extreme_logits_have_finite_gradients(generator):
    logits = torch.tensor([1e4, -1e4, 0.0, -torch.inf], requires_grad=True)
    law = LogRelaxedOneHot(0.05, logits=logits)
    value = law.rsample((50,), generator)
    (law.log_prob(value).sum() + harden(value).square().sum()).backward()
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().max() < 1e-3  # the density of a draw moves with it, and the choice is certain


def test_values_beyond_the_range_of_half_precision_stay_finite(generator):
    law = LogRelaxedOneHot(0.05, logits=torch.tensor([1e4, 0.0, -torch.inf], dtype=torch.float16), validate_args=True)
    value = law.rsample((5,), generator)
    assert value[:, :2].isfinite().all()
    exact = LogRelaxedOneHot(
        0.05, logits=torch.tensor([1e4, 0.0, -torch.inf], dtype=torch.float64), validate_args=False
    )
    torch.testing.assert_close(law.log_prob(value).double(), exact.log_prob(value.double()), rtol=5e-3, atol=0.0)


def test_absent_categories_are_outside_the_density():
    law = LogRelaxedOneHot(0.5, logits=torch.tensor([0.0, 0.0, -torch.inf]))
    smaller = LogRelaxedOneHot(0.5, logits=torch.zeros(2))
    inside = torch.tensor([0.25, 0.75]).log()
    padded = torch.nn.functional.pad(inside, (0, 1), value=-torch.inf)
    assert torch.allclose(law.log_prob(padded), smaller.log_prob(inside))
    assert law.log_prob(torch.tensor([0.25, 0.5, 0.25]).log()) == -torch.inf
    assert law.log_prob(torch.tensor([0.0, -torch.inf, -torch.inf])) == -torch.inf


def test_harden_is_one_hot_with_the_gradient_of_the_relaxed_value():
    log_relaxed = torch.randn(3, 4, dtype=torch.float64, generator=seeded()).log_softmax(-1).requires_grad_()
    hard = harden(log_relaxed)
    assert torch.equal(hard, torch.nn.functional.one_hot(log_relaxed.argmax(-1), 4).double())
    weight = torch.arange(4.0, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad((z * weight).sum(), log_relaxed)[0] for z in (hard, log_relaxed.exp()))
    assert torch.equal(ours, theirs)


def test_shapes_expand_and_copies(generator):
    law = LogRelaxedOneHot(torch.tensor([[0.5], [0.9]]), logits=torch.zeros(3, 4))
    assert (law.batch_shape, law.event_shape) == ((2, 3), (4,))
    wide = law.expand((5, 2, 3))
    assert wide.rsample((7,), generator).shape == (7, 5, 2, 3, 4)
    assert wide.log_prob(wide.sample(generator=generator)).shape == (5, 2, 3)
    assert law.to_event(1).batch_shape == (2,)
    assert torch.allclose(law.probs.sum(-1), torch.ones(2, 3))
    assert pickle.loads(pickle.dumps(law)).batch_shape == copy.deepcopy(law).batch_shape == (2, 3)
    assert "LogRelaxedOneHot" in repr(law)


def test_values_off_the_support_are_refused():
    law = LogRelaxedOneHot(0.5, logits=torch.zeros(3), validate_args=True)
    assert not log_simplex.check(torch.zeros(3))
    with pytest.raises(ValueError, match="support"):
        law.log_prob(torch.zeros(3))


def test_bad_parameters_are_refused():
    with pytest.raises(ValueError, match="exactly one of probs and logits must be given, got neither"):
        LogRelaxedOneHot(0.5)
    with pytest.raises(ValueError, match="got both"):
        LogRelaxedOneHot(0.5, torch.ones(2), torch.ones(2))
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="temperature"):
            LogRelaxedOneHot(temperature, logits=torch.zeros(2))
    with pytest.raises(ValueError, match="finite entry in every row"):
        LogRelaxedOneHot(0.5, logits=torch.full((2,), -torch.inf))
    with pytest.raises(ValueError, match="logits must hold no NaN"):
        LogRelaxedOneHot(0.5, logits=torch.tensor([0.0, torch.nan]))
    with pytest.raises(ValueError, match="probs must be non-negative"):
        LogRelaxedOneHot(0.5, torch.tensor([0.5, -0.5]))


def _fit(use, temperature, k, steps, learning_rate=0.05):
    means = torch.linspace(-2.0, 2.0, k)
    observed = means[k // 2 + 1].clone()

    def model():
        z = pyro.sample("z", LogRelaxedOneHot(temperature, logits=torch.zeros(k), validate_args=True))
        pyro.sample("y", dist.Normal((use(z) * means).sum(-1), 0.5), obs=observed)

    def guide():
        logits = pyro.param("logits", torch.zeros(k))
        pyro.sample("z", LogRelaxedOneHot(temperature, logits=logits, validate_args=True))

    svi = SVI(
        model, guide, pyro.optim.Adam({"lr": learning_rate}), Trace_ELBO(num_particles=5, vectorize_particles=True)
    )
    losses = [svi.step() for _ in range(steps)]
    return losses, pyro.param("logits").detach(), (model, guide, means, observed)


@pytest.mark.parametrize("use", [torch.exp, harden], ids=["relaxed", "straight-through"])
def test_svi_finds_the_posterior(use, pyro_seed):
    losses, logits, (model, guide, means, observed) = _fit(use, 0.3, k=5, steps=300)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-50:]) < np.mean(losses[:20])
    exact = (-((observed - means) ** 2) / (2 * 0.5**2)).softmax(-1)
    assert (logits.softmax(-1) - exact).abs().max() < 0.2  # the prior is 0.59 away
    drawn = Predictive(model, guide=guide, num_samples=10)()
    assert log_simplex.check(drawn["z"]).all()


@pytest.mark.parametrize("use", [torch.exp, harden], ids=["relaxed", "straight-through"])
def test_svi_is_finite_at_low_temperature_and_many_categories(use, pyro_seed):
    losses, logits, _ = _fit(use, 0.05, k=512, steps=20)
    assert np.isfinite(losses).all()
    assert logits.isfinite().all()
