"""The noise: its law, its tails, its coupling with the draw, and the temperatures that divide it."""

import numpy as np
import pytest
import torch
from scipy import stats

from mixkit.gates.temperatures import LearnableTemperature, ScheduledTemperature
from mixkit.relaxations import (
    GumbelRao,
    GumbelSoftmax,
    PathEstimator,
    Rebar,
    ReinMax,
    StraightThrough,
    StraightThroughGumbelSoftmax,
    choice_log_prob,
    conditional_gumbel,
    expectation,
    gumbel,
    gumbel_like,
    gumbel_rao,
    gumbel_softmax,
    joint_choices,
    reinmax,
    sample_one_hot,
    straight_through,
)
from mixkit.schedules import CosineSchedule, GeometricSchedule, LinearSchedule

ALPHA = 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gumbel_noise_follows_its_law(dtype, generator):
    noise = gumbel((200_000,), dtype=dtype, generator=generator).double().numpy()
    assert stats.kstest(noise, "gumbel_r").pvalue > ALPHA
    upper = np.exp(-noise) < 1e-3  # the tail that decides winners
    assert stats.kstest(np.exp(-noise[upper]) / 1e-3, "uniform").pvalue > ALPHA


def test_noise_in_many_chunks_is_finite_and_without_repeats(generator):
    noise = gumbel((300_000,), generator=generator)
    assert noise.isfinite().all()
    assert len(noise[noise > 7.0].unique()) == int((noise > 7.0).sum()) > 200


def test_the_upper_tail_is_resolved_in_float32(generator):
    top = gumbel((400, 32_000), generator=generator).topk(2, -1).values
    assert (top[:, 0] > top[:, 1]).all()  # 24-bit uniforms tie here about once in 500 rows


def test_noise_of_half_precision_logits_is_float32(generator):
    assert gumbel_like(torch.zeros(3, dtype=torch.bfloat16), generator=generator).dtype == torch.float32
    with pytest.raises(ValueError, match=r"dtype must be torch\.float32 or torch.float64, got torch.float16"):
        gumbel((3,), dtype=torch.float16, generator=generator)


def hard_gumbel_softmax(logits, generator):
    return gumbel_softmax(logits, 0.3, hard=True, generator=generator)


@pytest.mark.parametrize("draw", [sample_one_hot, straight_through, reinmax, gumbel_rao, hard_gumbel_softmax])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_follow_the_softmax(draw, dtype, generator):
    """Chi-square over an asymmetric law, false-alarm rate 1e-5."""
    logits = torch.tensor([2.0, 0.5, -torch.inf, -3.0, 0.0], dtype=dtype)
    counts = draw(logits.expand(50_000, -1), generator=generator).sum(0)
    present = logits.isfinite()
    expected = 50_000 * logits.double().softmax(-1)[present]
    assert counts[~present].sum() == 0
    assert stats.chisquare(counts[present].double(), expected).pvalue > ALPHA


def test_conditional_noise_keeps_the_winner_and_the_joint_law(generator):
    logits = torch.tensor([1.0, 0.0, -torch.inf, -2.0], dtype=torch.float64)
    drawn = sample_one_hot(logits.expand(50_000, -1), generator=generator)
    perturbed = conditional_gumbel(logits, drawn, generator=generator)
    assert torch.equal(perturbed.argmax(-1), drawn.argmax(-1))
    for item in (0, 1, 3):
        noise = (perturbed[:, item] - (logits - logits.max())[item]).numpy()
        assert stats.kstest(noise, "gumbel_r").pvalue > ALPHA / 3
    difference = (perturbed[:, 0] - perturbed[:, 1] - 1.0).numpy()
    assert stats.kstest(difference, "logistic").pvalue > ALPHA


def test_conditional_noise_gradcheck():
    logits = torch.tensor([[1.0, 0.0, -torch.inf, 3.0]], dtype=torch.float64, requires_grad=True)
    drawn = torch.tensor([[0.0, 1.0, 0.0, 0.0]], dtype=torch.float64)

    def relaxed(scores):
        return conditional_gumbel(scores, drawn, generator=torch.Generator().manual_seed(1)).softmax(-1)

    assert torch.autograd.gradcheck(relaxed, logits)


def test_choice_log_prob_against_all_joint_choices(generator):
    logits = torch.randn(2, 2, 3, dtype=torch.float64, generator=generator)
    logits[0, 0, 1] = -torch.inf
    choices = joint_choices((2,), 3, like=logits).unsqueeze(1)
    log_prob = choice_log_prob(logits, choices.expand(9, 2, 2, 3), choice_dims=1)
    assert torch.allclose(log_prob.exp().sum(0), torch.ones(2, dtype=torch.float64))
    assert (log_prob[:, 0].isneginf()).sum() == 3


@pytest.mark.parametrize("module", [GumbelSoftmax, GumbelRao, StraightThrough])
def test_learnable_temperatures_learn(module, generator):
    estimator = module(LearnableTemperature(0.7))
    logits = torch.tensor([[1.0, -torch.inf, 0.3]])
    (estimator(logits, generator) * torch.arange(3.0)).sum().backward()
    (parameter,) = estimator.parameters()
    assert parameter.grad.isfinite().all()
    assert (parameter.grad != 0).all()


MODULES = {
    "gumbel_softmax": lambda t: GumbelSoftmax(t),
    "straight_through_gumbel_softmax": lambda t: StraightThroughGumbelSoftmax(t),
    "straight_through": lambda t: StraightThrough(t),
    "gumbel_rao": lambda t: GumbelRao(t, num_samples=3),
    "reinmax": lambda t: ReinMax(t),
    "rebar": lambda t: Rebar(t),
}


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 4, 3)])
@pytest.mark.parametrize("name", MODULES)
def test_a_temperature_module_does_what_its_number_does(name, shape):
    """On one row of logits, too, though the temperature has two dimensions."""
    logits = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()

    def square(choices):
        return (choices * torch.arange(3.0)).sum(-1).square()

    def run(temperature):
        estimator, draw = MODULES[name](temperature), torch.Generator().manual_seed(2)
        value = expectation(square, logits, estimator=estimator, num_samples=5, generator=draw)
        return value, torch.autograd.grad(value.sum(), logits)[0]

    learnable = LearnableTemperature(0.7, dtype=torch.float64)
    for module in (learnable, ScheduledTemperature(LinearSchedule(0.7, 0.1, 3), dtype=torch.float64)):
        for found, expected in zip(run(module), run(0.7), strict=True):
            assert found.shape == expected.shape
            torch.testing.assert_close(found, expected)
    if isinstance(MODULES[name](0.7), PathEstimator):
        sample = MODULES[name](learnable)(logits, torch.Generator().manual_seed(3))
        assert sample.shape == shape
        (sample * torch.arange(3.0)).sum().backward()


@pytest.mark.parametrize("shape", [(3,), (5, 3)])
@pytest.mark.parametrize("name", MODULES)
def test_temperatures_of_more_models_than_the_logits_are_refused(name, shape, generator):
    estimator = MODULES[name](LearnableTemperature(batch_shape=(2,)))
    with pytest.raises(ValueError, match=r"temperature must broadcast to the logits, .* got shape \(2, 1, 1\)"):
        expectation(lambda c: c[..., 0], torch.zeros(shape), estimator=estimator, generator=generator)


@pytest.mark.parametrize(
    "schedule",
    [
        GeometricSchedule(start=1.0, end=0.1, rate=0.5),
        LinearSchedule(start=1.0, end=0.1, num_steps=3),
        CosineSchedule(start=1.0, end=0.1, num_steps=3),
    ],
)
def test_scheduled_temperatures_anneal_and_resume(schedule):
    estimator, logits = GumbelSoftmax(ScheduledTemperature(schedule)), torch.randn(4, 3, generator=torch.Generator())

    def sample(module):
        return module(logits, torch.Generator().manual_seed(1))

    for step in range(3):
        expected = gumbel_softmax(logits, schedule(step), generator=torch.Generator().manual_seed(1))
        assert torch.allclose(sample(estimator), expected)
        estimator.temperature.step()
    resumed = GumbelSoftmax(ScheduledTemperature(schedule))
    resumed.load_state_dict(estimator.state_dict())
    assert torch.equal(sample(resumed), sample(estimator))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("function", [gumbel_softmax, straight_through, gumbel_rao, reinmax])
def test_bad_temperatures_are_refused(function, temperature, generator):
    with pytest.raises(ValueError, match="temperature must be positive"):
        function(torch.zeros(2), temperature, generator=generator)
    with pytest.raises(ValueError, match="temperature must be"):
        function(torch.zeros(2), torch.tensor(temperature), generator=generator)
    with pytest.raises(ValueError, match="temperature must be positive"):
        ReinMax(temperature)


def test_a_temperature_module_is_refused_by_the_functions(generator):
    with pytest.raises(TypeError, match="temperature must be a number or a tensor"):
        gumbel_softmax(torch.zeros(2), LearnableTemperature(1.0), generator=generator)


@pytest.mark.parametrize("temperature", [torch.nn.Parameter(torch.ones(())), "warm", None])
def test_a_temperature_that_would_not_be_learned_is_refused(temperature):
    with pytest.raises(TypeError, match="temperature must be a"):
        GumbelSoftmax(temperature)


def test_num_samples_of_gumbel_rao_is_checked(generator):
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        gumbel_rao(torch.zeros(2), num_samples=0, generator=generator)
    with pytest.raises(TypeError, match="num_samples must be an integer"):
        GumbelRao(num_samples=2.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_transform_draws_the_same_bits_as_a_plain_call(dtype):
    logits = torch.randn(70, 1000, dtype=dtype, generator=torch.Generator().manual_seed(1))
    plain = gumbel_like(logits, generator=torch.Generator().manual_seed(7))

    def with_noise(scores):
        return scores.sum(), gumbel_like(scores, generator=torch.Generator().manual_seed(7))

    _, under_grad = torch.func.grad(with_noise, has_aux=True)(logits)
    assert torch.equal(under_grad, plain)


def test_noise_under_vmap_follows_the_law_too(generator):
    noise = torch.func.vmap(lambda row: gumbel_like(row, generator=generator), randomness="different")
    values = noise(torch.zeros(50, 2000)).flatten().double().numpy()
    assert stats.kstest(values, "gumbel_r").pvalue > ALPHA
