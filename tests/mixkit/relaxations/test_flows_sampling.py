"""Losses, ODE sampling and guidance of simplex flows."""

import itertools
import math

import pytest
import torch
from scipy import stats

from mixkit.relaxations.flows import (
    Euler,
    Heun,
    SciPyIntegrator,
    StraightThroughGuidance,
    denoising_loss,
    flow_matching_loss,
    gumbel_softmax_path,
    published_path,
    sample_flow,
    score_matching_loss,
)

V = 3
PRIOR = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)


def exact_denoiser(path, prior=PRIOR):
    return lambda log_x, t: path.log_posterior(log_x, prior.log().to(log_x), t.unsqueeze(-1))


def expected_tokens(path, prior=PRIOR):
    right = float(path.recovery_probability(1.0, V))
    return right * prior + (1 - right) / (V - 1) * (1 - prior)


@pytest.mark.parametrize("path", [gumbel_softmax_path(), gumbel_softmax_path(signal_end=3.0, temperature=0.5)])
def test_exact_denoiser_transports_noise_to_the_law_of_the_tokens(path, generator):
    n = 20000
    sample = sample_flow(exact_denoiser(path), path, (n, 1), num_categories=V, integrator=Heun(40), generator=generator)
    counts = torch.bincount(sample.tokens.flatten(), minlength=V)
    assert stats.chisquare(counts.numpy(), (n * expected_tokens(path)).numpy()).pvalue > 1e-5


def test_scipy_and_torch_agree_and_orders_are_as_declared():
    path = gumbel_softmax_path(signal_end=6.0)

    def end(integrator):
        generator = torch.Generator().manual_seed(5)
        return sample_flow(
            exact_denoiser(path),
            path,
            (50, 2),
            num_categories=V,
            integrator=integrator,
            generator=generator,
            dtype=torch.float64,
        ).log_x

    reference = end(SciPyIntegrator("DOP853", rtol=1e-10, atol=1e-10))
    for rule, order in ((Euler, 1), (Heun, 2)):
        errors = [float((end(rule(steps)) - reference).square().mean().sqrt()) for steps in (320, 640)]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


def test_trajectory_starts_at_noise_and_stays_on_the_simplex(generator):
    path = gumbel_softmax_path()
    sample = sample_flow(exact_denoiser(path), path, (4, 2), num_categories=V, integrator=Euler(7), generator=generator)
    assert sample.times[0] == 0
    assert sample.times[-1] == 1
    assert len(sample.trajectory) == len(sample.times) == 8
    for log_x in sample.trajectory:
        torch.testing.assert_close(log_x.exp().sum(-1), torch.ones(4, 2))
    assert torch.equal(sample.tokens, sample.log_x.argmax(-1))


def test_conditional_targets_average_to_the_marginal_ones():
    path, t = gumbel_softmax_path(signal_end=4.0), 0.7
    log_x = torch.log_softmax(
        torch.randn(9, V, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), dim=-1
    )
    posterior = path.log_posterior(log_x, PRIOR.log(), t)
    one_hots = torch.eye(V, dtype=torch.float64).log()
    for target in (path.velocity, path.score):
        conditional = torch.stack([target(log_x, one_hots[k].expand_as(log_x), t) for k in range(V)], -1)
        torch.testing.assert_close((conditional * posterior.exp().unsqueeze(-2)).sum(-1), target(log_x, posterior, t))


@pytest.mark.parametrize("loss", [denoising_loss, flow_matching_loss, score_matching_loss])
def test_each_loss_is_least_at_the_exact_posterior(loss):
    path = gumbel_softmax_path(signal_end=4.0)
    tokens = torch.multinomial(PRIOR, 40000, replacement=True, generator=torch.Generator().manual_seed(2)).unsqueeze(-1)
    direction = torch.tensor([0.4, -0.4, 0.0], dtype=torch.float64)

    def at(shift):
        exact = exact_denoiser(path)
        return loss(
            lambda log_x, t: exact(log_x, t) + shift * direction,
            tokens,
            path,
            num_categories=V,
            generator=torch.Generator().manual_seed(9),
            dtype=torch.float64,
        )

    assert at(0.0) < at(1.0)
    assert at(0.0) < at(-1.0)
    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(at(shift), shift)
    curvature = at(1.0) + at(-1.0) - 2 * at(0.0)
    assert abs(float(slope)) < 0.1 * float(curvature)


def test_denoising_loss_of_the_uniform_guess_is_log_v(generator):
    loss = denoising_loss(
        lambda log_x, t: torch.zeros_like(log_x),
        torch.zeros(4, 2, 3, dtype=torch.long),
        gumbel_softmax_path(),
        num_categories=V,
        generator=generator,
    )
    assert float(loss) == pytest.approx(math.log(V))


@pytest.mark.parametrize("loss", [denoising_loss, flow_matching_loss, score_matching_loss])
def test_losses_gradcheck(loss):
    tokens = torch.tensor([[0, 1], [2, 2]])
    bias = torch.zeros(V, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda b: loss(
            lambda log_x, t: log_x * t[:, None, None] + b,
            tokens,
            gumbel_softmax_path(),
            num_categories=V,
            generator=torch.Generator().manual_seed(0),
            dtype=torch.float64,
        ),
        (bias,),
    )


def test_guidance_is_exact_for_a_log_linear_classifier(generator):
    weight = torch.tensor([[0.3, -1.0, 2.0], [0.0, 1.0, -0.5]], dtype=torch.float64)
    logits = torch.randn(5, 2, V, dtype=torch.float64, generator=generator)
    guided = StraightThroughGuidance(lambda one_hot: (one_hot * weight).sum((-1, -2)))(logits, generator)
    sequences = torch.tensor(list(itertools.product(range(V), repeat=2)))
    one_hot = torch.nn.functional.one_hot(sequences, V).double()
    joint = (one_hot * (torch.log_softmax(logits, -1)[:, None] + weight)).sum((-1, -2)).exp()  # p(x) p(label | x)
    exact = torch.einsum("bs,slv->blv", joint / joint.sum(-1, keepdim=True), one_hot)
    torch.testing.assert_close(torch.softmax(guided, -1), exact)


def test_guided_flow_reaches_the_tilted_law(generator):
    path, n, reward = gumbel_softmax_path(), 20000, torch.tensor([0.0, 0.7, 1.5])
    guidance = StraightThroughGuidance(lambda one_hot: (one_hot * reward).sum((-1, -2)), num_samples=1)
    sample = sample_flow(
        exact_denoiser(path),
        path,
        (n, 1),
        num_categories=V,
        guidance=guidance,
        generator=generator,
        integrator=Heun(40),
    )
    tilted = PRIOR * reward.double().exp()
    expected = expected_tokens(path, tilted / tilted.sum())
    counts = torch.bincount(sample.tokens.flatten(), minlength=V)
    assert stats.chisquare(counts.numpy(), (n * expected).numpy()).pvalue > 1e-5


def test_scale_zero_is_no_guidance(generator):
    logits = torch.randn(2, 2, V, generator=generator)
    guided = StraightThroughGuidance(lambda one_hot: one_hot.square().sum((-1, -2)), scale=0.0)(logits, generator)
    torch.testing.assert_close(guided, torch.log_softmax(logits, -1))


def test_sampling_is_reproducible():
    path = gumbel_softmax_path()
    draws = [
        sample_flow(
            exact_denoiser(path), path, (3, 2), num_categories=V, generator=torch.Generator().manual_seed(4)
        ).log_x
        for _ in range(2)
    ]
    assert torch.equal(*draws)


def test_bad_input_is_refused(generator):
    path = gumbel_softmax_path()
    with pytest.raises(ValueError, match=r"path must have signal\(0\) = 0"):
        sample_flow(exact_denoiser(path), published_path(), (2, 1), num_categories=V, generator=generator)
    with pytest.raises(ValueError, match="num_steps must be at least 1"):
        Heun(0)
    with pytest.raises(ValueError, match="rtol must be positive"):
        SciPyIntegrator(rtol=0.0)
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        StraightThroughGuidance(torch.sum, num_samples=0)
    with pytest.raises(ValueError, match="classifier must return one number for each sequence"):
        StraightThroughGuidance(torch.sum)(torch.zeros(2, 2, V), generator)
    with pytest.raises(ValueError, match="tokens must have shape"):
        denoising_loss(exact_denoiser(path), torch.tensor(1), path, num_categories=V, generator=generator)
