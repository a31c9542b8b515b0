"""Gradients of the categorical estimators against exact expectations, closed forms and finite differences."""

import pytest
import torch
from scipy import stats

from mixkit.relaxations import (
    Enumeration,
    GumbelRao,
    LeaveOneOut,
    Rebar,
    ReinMax,
    StraightThrough,
    StraightThroughGumbelSoftmax,
    conditional_gumbel,
    expectation,
    gumbel_rao,
    gumbel_softmax,
    sample_one_hot,
    straight_through,
)

ALPHA = 1e-5


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def with_absent(*shape, seed=0):
    logits = torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))
    logits[..., 1] = -torch.inf
    return logits.requires_grad_()


def quadratic(k, seed=3):
    form = torch.randn(k, k, dtype=torch.float64, generator=seeded(seed))
    return lambda choices: ((choices @ form) * choices).sum(-1)


def exact_gradient(function, logits, choice_dims=0):
    value = expectation(function, logits, estimator=Enumeration(), choice_dims=choice_dims)
    return torch.autograd.grad(value.sum(), logits)[0]


def expected_gradient(estimator, function, logits, generator):
    """The mean over the draw of a gradient that depends on nothing but the draw: one sample of every category."""
    total = torch.zeros_like(logits)
    for category in range(len(logits)):
        while True:
            sample = estimator(logits, generator)
            if sample[category] == 1:
                break
        (gradient,) = torch.autograd.grad(function(sample), logits)
        total += logits.softmax(-1)[category].detach() * gradient
    return total


def test_enumeration_is_the_sum_over_all_joint_choices():
    logits = torch.randn(2, 3, 4, dtype=torch.float64, generator=seeded()).requires_grad_()
    weight = torch.randn(3, 4, dtype=torch.float64, generator=seeded(1))
    function = lambda choices: torch.tanh((choices * weight).sum((-1, -2)) ** 2)  # noqa: E731
    probs, total = logits.softmax(-1), 0.0
    for i in range(4):
        for j in range(4):
            for h in range(4):
                value = torch.tanh((weight[0, i] + weight[1, j] + weight[2, h]) ** 2)
                total = total + probs[:, 0, i] * probs[:, 1, j] * probs[:, 2, h] * value
    result = expectation(function, logits, estimator=Enumeration(), choice_dims=1)
    assert torch.allclose(result, total, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda q: expectation(function, q, estimator=Enumeration(), choice_dims=1), logits)


def test_enumeration_ignores_infinite_values_of_impossible_choices():
    logits = torch.tensor([0.0, 0.0, -torch.inf], requires_grad=True)
    value = expectation(lambda d: 1.0 / d[..., :2].sum(-1), logits, estimator=Enumeration())
    value.backward()
    assert value.item() == 1.0
    assert torch.equal(logits.grad, torch.zeros(3))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_gumbel_softmax_gradcheck_with_absent_categories(temperature):
    tau = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda logits, t: gumbel_softmax(logits, t, generator=seeded()), (with_absent(3, 5), tau)
    )
    with torch.random.fork_rng():  # gradgradcheck draws directions from torch's own generator
        assert torch.autograd.gradgradcheck(
            lambda logits: gumbel_softmax(logits, temperature, generator=seeded()), with_absent(2, 4)
        )


def test_hard_gumbel_softmax_has_the_value_of_the_argmax_and_the_gradient_of_the_relaxation():
    logits, weight = with_absent(6, 5), torch.randn(6, 5, dtype=torch.float64, generator=seeded(2))
    soft, hard = (gumbel_softmax(logits, 0.7, hard=hard, generator=seeded()) for hard in (False, True))
    assert torch.equal(hard.argmax(-1), soft.argmax(-1))
    soft_gradient, hard_gradient = (torch.autograd.grad((y * weight).sum(), logits)[0] for y in (soft, hard))
    assert torch.equal(soft_gradient, hard_gradient)


def test_straight_through_has_the_gradient_of_the_tempered_probabilities():
    logits, weight = with_absent(6, 5), torch.randn(6, 5, dtype=torch.float64, generator=seeded(2))
    tau = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    sample = straight_through(logits, tau, generator=seeded())
    ours = torch.autograd.grad((sample * weight).sum(), (logits, tau))
    safe = torch.where(logits.isneginf(), -1e300, logits)
    theirs = torch.autograd.grad(((safe / tau).softmax(-1) * weight).sum(), (logits, tau))
    assert torch.allclose(ours[0], theirs[0], rtol=1e-12)
    assert torch.allclose(ours[1], theirs[1], rtol=1e-12)


def test_gumbel_rao_holds_the_conditional_noise_fixed():
    logits, weight = with_absent(6, 5), torch.randn(6, 5, dtype=torch.float64, generator=seeded(2))
    tau = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    sample = gumbel_rao(logits, tau, num_samples=4, generator=seeded())
    ours = torch.autograd.grad((sample * weight).sum(), (logits, tau))
    generator = seeded()
    drawn = sample_one_hot(logits, generator=generator)
    assert torch.equal(drawn, sample)
    perturbed = conditional_gumbel(logits.detach(), drawn.expand(4, -1, -1), generator=generator)
    soft = (perturbed / tau.detach()).softmax(-1)
    inner = weight - (soft * weight).sum(-1, keepdim=True)
    assert torch.allclose(ours[0], (soft * inner).mean(0) / 0.5, rtol=1e-10)
    scaled = torch.where(perturbed.isneginf(), 0.0, perturbed)
    assert torch.allclose(ours[1], -(soft * inner * scaled).sum() / 4 / 0.25, rtol=1e-10)


def test_reinmax_is_exact_for_quadratics_and_straight_through_for_linear_functions(generator):
    logits = torch.randn(4, dtype=torch.float64, generator=generator).requires_grad_()
    linear = lambda choices: choices @ torch.arange(4.0, dtype=torch.float64)  # noqa: E731
    for estimator, function in ((ReinMax(), quadratic(4)), (ReinMax(), linear), (StraightThrough(), linear)):
        mean = expected_gradient(estimator, function, logits, generator)
        assert torch.allclose(mean, exact_gradient(function, logits), rtol=1e-10)
    off = expected_gradient(StraightThrough(), quadratic(4), logits, generator)
    assert not torch.allclose(off, exact_gradient(quadratic(4), logits), rtol=0.05)


@pytest.mark.parametrize("temperature", [1.0, 1.5])
def test_reinmax_gradient_is_the_published_algorithm(temperature, generator):
    logits, weight = with_absent(20, 5), torch.randn(20, 5, dtype=torch.float64, generator=generator)
    sample = ReinMax(temperature)(logits, generator)
    (ours,) = torch.autograd.grad((sample * weight).sum(), logits)
    probs, tempered = logits.detach().softmax(-1), (logits.detach() / temperature).softmax(-1)

    def jacobian_product(p):
        return p * (weight - (p * weight).sum(-1, keepdim=True))

    expected = 2 * jacobian_product((tempered + sample.detach()) / 2) - 0.5 * jacobian_product(probs)
    assert torch.allclose(ours, expected, rtol=1e-12, atol=1e-15)


def per_replicate_gradients(estimator, num_samples, function, logits, generator, replicates=20_000):
    batch = logits.detach().expand(replicates, *logits.shape).clone().requires_grad_()
    value = expectation(
        function, batch, estimator=estimator, num_samples=num_samples, choice_dims=1, generator=generator
    )
    return torch.autograd.grad(value.sum(), batch)[0], value


def largest_z(samples, mean):
    error = samples.std(0) / len(samples) ** 0.5
    return ((samples.mean(0) - mean).abs() / error)[error > 1e-12].max().item()


def z_bound(comparisons):
    return stats.norm.isf(ALPHA / comparisons / 2)


@pytest.mark.parametrize(
    ("estimator", "num_samples"), [(LeaveOneOut(), 2), (LeaveOneOut(), 5), (Rebar(0.5), 1), (Rebar(1.0, 0.6), 2)]
)
def test_unbiased_estimators_in_value_and_gradient(estimator, num_samples, generator):
    """False alarms: 1e-5 a row (normal approximation, Bonferroni over the coordinates)."""
    logits = with_absent(2, 4, seed=4)
    weight = torch.randn(8, dtype=torch.float64, generator=seeded(9))
    function = lambda choices: torch.exp((choices.flatten(-2) * weight).sum(-1))  # noqa: E731
    gradients, values = per_replicate_gradients(estimator, num_samples, function, logits, generator)
    exact = expectation(function, logits, estimator=Enumeration(), choice_dims=1)
    assert largest_z(gradients, exact_gradient(function, logits, 1)) < z_bound(6)
    assert largest_z(values.detach(), exact.detach()) < z_bound(1)


def test_gumbel_rao_has_the_mean_of_straight_through_gumbel_and_less_variance(generator):
    logits = torch.randn(2, 4, dtype=torch.float64, generator=generator)
    weight = torch.randn(8, dtype=torch.float64, generator=generator)
    function = lambda choices: torch.tanh((choices.flatten(-2) * weight).sum(-1))  # noqa: E731
    plain, _ = per_replicate_gradients(StraightThroughGumbelSoftmax(0.5), 1, function, logits, generator)
    rao, _ = per_replicate_gradients(GumbelRao(0.5, 10), 1, function, logits, generator)
    error = ((plain.var(0) + rao.var(0)) / len(plain)).sqrt()
    assert ((plain.mean(0) - rao.mean(0)).abs() / error).max() < z_bound(8)
    assert rao.var(0).sum() < 0.6 * plain.var(0).sum()


def test_the_parameters_of_the_function_get_their_gradient(generator):
    weight = torch.randn(3, dtype=torch.float64, generator=generator).requires_grad_()
    logits = torch.zeros(20_000, 3, dtype=torch.float64)
    for estimator in (LeaveOneOut(), Rebar(), ReinMax()):
        value = expectation(
            lambda d: (d @ weight) ** 2, logits, estimator=estimator, num_samples=2, generator=generator
        )
        (gradient,) = torch.autograd.grad(value.mean(), weight)
        spread = 2 * weight.detach().abs() / (40_000**0.5)
        assert ((gradient - 2 * weight.detach() / 3).abs() < z_bound(9) * spread).all()


def test_rebar_takes_the_whole_control_variate_by_default():
    def gradient(estimator):
        logits = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64, requires_grad=True)
        function = lambda d: (d @ torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)) ** 2  # noqa: E731
        value = expectation(function, logits, estimator=estimator, num_samples=8, generator=seeded(3))
        return torch.autograd.grad(value, logits)[0]

    assert Rebar().scale == 1.0
    assert torch.equal(gradient(Rebar()), gradient(Rebar(0.5, scale=1.0)))
    assert not torch.equal(gradient(Rebar()), gradient(Rebar(0.5, scale=0.9)))


def test_leave_one_out_needs_two_samples(generator):
    with pytest.raises(ValueError, match="num_samples must be at least 2 for LeaveOneOut, got 1"):
        expectation(lambda d: d.sum(-1), torch.zeros(2), estimator=LeaveOneOut(), generator=generator)


def test_enumeration_refuses_too_many_terms():
    with pytest.raises(ValueError, match="max_terms=100, got 256"):
        expectation(lambda d: d.sum((-1, -2)), torch.zeros(8, 2), estimator=Enumeration(100), choice_dims=1)


def test_expectation_names_bad_arguments(generator):
    logits = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="one value per sample and batch, shape \\(1, 3\\)"):
        expectation(lambda d: d, logits, estimator=ReinMax(), generator=generator)
    with pytest.raises(TypeError, match=r"function must return a torch\.Tensor, got float"):
        expectation(lambda d: 1.0, logits, estimator=ReinMax(), generator=generator)
    with pytest.raises(TypeError, match="estimator must be a GradientEstimator object"):
        expectation(lambda d: d.sum(-1), logits, estimator="reinmax", generator=generator)
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        expectation(lambda d: d.sum(-1), logits, estimator=ReinMax(), num_samples=0, generator=generator)
    with pytest.raises(ValueError, match="choice_dims must be at most 1, got 2"):
        expectation(lambda d: d.sum(-1), logits, estimator=ReinMax(), choice_dims=2, generator=generator)
    with pytest.raises(ValueError, match="scale must be finite"):
        Rebar(scale=float("inf"))
