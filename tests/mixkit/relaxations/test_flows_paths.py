"""The Gumbel-softmax path: its velocity, density, posterior and score against exact identities."""

import math

import pytest
import torch
from scipy import integrate, stats

from mixkit.relaxations.flows import (
    ConstantCurve,
    Curve,
    ExponentialCurve,
    GumbelSoftmaxPath,
    LinearCurve,
    gumbel_softmax_path,
    published_path,
)

V = 4
PATHS = {
    "published": published_path(),
    "linear signal": gumbel_softmax_path(),
    "cooled": gumbel_softmax_path(signal_end=6.0, temperature=ExponentialCurve(3.0, -1.5)),
    "exponential signal": GumbelSoftmaxPath(ExponentialCurve(0.1, 3.0, -0.1), ConstantCurve(0.5)),
}
every_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)


def noise(*shape, seed=0):
    uniform = torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return -torch.log(-torch.log(uniform))


def point(path, one_hot, g, t):
    return torch.log_softmax((path.signal(t)[..., None] * one_hot + g) / path.temperature(t)[..., None], -1)


def derivative(function, t):
    """Value and derivative where each entry of ``t`` moves its own rows alone."""
    return torch.autograd.functional.jvp(function, t, torch.ones_like(t))


def one_hot_of(tokens):
    return torch.nn.functional.one_hot(tokens, V).double()


@pytest.fixture
def drawn():
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(V, (64,), generator=generator)
    t = torch.rand(64, dtype=torch.float64, generator=generator)
    return tokens, one_hot_of(tokens), noise(64, V), t


@every_path
def test_velocity_is_the_derivative_of_the_path_at_fixed_noise(path, drawn):
    _, one_hot, g, t = drawn
    log_x, slope = derivative(lambda s: point(path, one_hot, g, s), t)
    torch.testing.assert_close(path.velocity(log_x, one_hot.log(), t), log_x.exp() * slope, rtol=1e-10, atol=1e-12)


def test_published_velocity_leaves_out_exactly_the_motion_of_the_noise(drawn):
    _, one_hot, g, t = drawn
    beta, decay = 2.0, 3.0
    path = published_path(temperature_max=10.0, decay=decay, noise_divisor=beta)
    log_x = point(path, one_hot, g, t)
    x, tau = log_x.exp(), (10.0 * torch.exp(-decay * t))[:, None]
    eq_13 = decay / tau * (x * one_hot).sum(-1, keepdim=True) * (one_hot - x)
    missing = decay / (beta * tau) * x * (g - (x * g).sum(-1, keepdim=True))
    torch.testing.assert_close(path.noise_free_velocity(log_x, one_hot.log(), t), eq_13)
    torch.testing.assert_close(path.velocity(log_x, one_hot.log(), t), eq_13 + missing)


def test_exact_velocity_of_the_published_path_does_not_depend_on_the_token(drawn):
    _, one_hot, g, t = drawn
    path = published_path()
    log_x = point(path, one_hot, g, t)
    other = path.velocity(log_x, one_hot.roll(1, -1).log(), t)
    torch.testing.assert_close(path.velocity(log_x, one_hot.log(), t), other)


def test_published_form_is_exact_where_the_temperature_is_constant(drawn):
    _, one_hot, g, t = drawn
    path = PATHS["exponential signal"]
    log_x = point(path, one_hot, g, t)
    torch.testing.assert_close(
        path.noise_free_velocity(log_x, one_hot.log(), t), path.velocity(log_x, one_hot.log(), t)
    )


def continuity_residual(path, velocity, prior, points, t):
    """d rho/dt + d(rho ds/dt)/ds for v = 2 in s = log x_1 - log x_2, relative to the size of the terms."""

    def log_x(s):
        return torch.stack((torch.nn.functional.logsigmoid(s), torch.nn.functional.logsigmoid(-s)), -1)

    def density(s, time):
        at = log_x(s)
        joint = [path.log_prob(at, torch.full(s.shape, k), time) + prior[k].log() for k in range(2)]
        return torch.logsumexp(torch.stack(joint), 0).exp()

    def flux(s):
        at = log_x(s)
        u = velocity(at, path.log_posterior(at, prior.log(), t), t) / at.exp()
        return density(s, t) * (u[..., 0] - u[..., 1])

    change = derivative(lambda time: density(points, time), t)[1]
    divergence = derivative(flux, points)[1]
    return (change + divergence).abs().max() / change.abs().max()


@every_path
def test_marginal_velocity_solves_the_continuity_equation(path):
    prior = torch.tensor([0.8, 0.2], dtype=torch.float64)
    points, t = torch.linspace(-4, 4, 41, dtype=torch.float64), torch.full((41,), 0.6, dtype=torch.float64)
    assert continuity_residual(path, path.velocity, prior, points, t) < 1e-10


def test_published_velocity_does_not_solve_the_continuity_equation_of_its_path():
    prior = torch.tensor([0.8, 0.2], dtype=torch.float64)
    points, t = torch.linspace(-4, 4, 41, dtype=torch.float64), torch.full((41,), 0.6, dtype=torch.float64)
    path = published_path()
    assert continuity_residual(path, path.noise_free_velocity, prior, points, t) > 0.3


@every_path
def test_log_prob_is_that_of_the_concrete_law(path, drawn):
    tokens, one_hot, g, t = drawn
    log_x = point(path, one_hot, g, t)
    for i in range(8):
        oracle = torch.distributions.RelaxedOneHotCategorical(
            path.temperature(t[i]), logits=path.signal(t[i]) * one_hot[i], validate_args=False
        )
        expected = oracle.log_prob(log_x[i].exp()) + log_x[i].sum()
        torch.testing.assert_close(path.log_prob(log_x[i], tokens[i], t[i]), expected)


@every_path
def test_log_prob_integrates_to_one(path):
    def density(s):
        log_x = torch.nn.functional.logsigmoid(torch.tensor([s, -s], dtype=torch.float64))
        return float(path.log_prob(log_x, torch.tensor(1), 0.7).exp())

    assert integrate.quad(density, -80, 80, limit=400, points=[0])[0] == pytest.approx(1, abs=1e-6)


@every_path
def test_posterior_is_bayes_rule(path, drawn):
    _, one_hot, g, t = drawn
    log_x = point(path, one_hot, g, t)
    log_prior = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64).log()
    joint = torch.stack([path.log_prob(log_x, torch.full((64,), k), t) + log_prior[k] for k in range(V)], -1)
    torch.testing.assert_close(path.log_posterior(log_x, log_prior, t), torch.log_softmax(joint, -1))


@every_path
def test_score_is_the_gradient_of_the_marginal_density(path, drawn):
    _, one_hot, g, t = drawn
    log_x = point(path, one_hot, g, t).requires_grad_(True)
    log_prior = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64).log()
    joint = torch.stack([path.log_prob(log_x, torch.full((64,), k), t) + log_prior[k] for k in range(V)], -1)
    (gradient,) = torch.autograd.grad(joint.logsumexp(-1).sum(), log_x)
    score = path.score(log_x, path.log_posterior(log_x, log_prior, t), t)
    torch.testing.assert_close(score, gradient)
    torch.testing.assert_close(score.sum(-1), torch.zeros(64, dtype=torch.float64), atol=1e-10, rtol=0)


@every_path
def test_score_at_time_zero_needs_no_posterior(path):
    log_x = point(path, torch.zeros(3, V).double(), noise(3, V), torch.zeros(3).double())
    score = path.score(log_x, torch.full((3, V), -math.log(V), dtype=torch.float64), 0.0)
    log_x.requires_grad_(True)
    densities = [path.log_prob(log_x, torch.full((3,), k), torch.zeros(3).double()) for k in range(V)]
    (mean_gradient,) = torch.autograd.grad(torch.stack(densities).mean(0).sum(), log_x)
    torch.testing.assert_close(score, mean_gradient)


def test_sample_follows_the_law(generator):
    path, n = gumbel_softmax_path(signal_end=2.0), 20000
    log_x = path.sample(torch.zeros(n, dtype=torch.long), 0.8, num_categories=3, generator=generator)
    right = int((log_x.argmax(-1) == 0).sum())
    assert stats.binomtest(right, n, float(path.recovery_probability(0.8, 3))).pvalue > 1e-5
    log_odds = log_x[:, 0] - log_x[:, 1]  # logistic about the signal
    assert stats.kstest(log_odds.numpy(), stats.logistic(loc=1.6).cdf).pvalue > 1e-5


def test_same_seed_same_bits():
    draws = [
        gumbel_softmax_path().sample(torch.arange(3), 0.5, num_categories=3, generator=torch.Generator().manual_seed(7))
        for _ in range(2)
    ]
    assert torch.equal(*draws)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtype_follows(dtype, generator):
    path = gumbel_softmax_path()
    log_x = path.sample(torch.arange(3), 0.5, num_categories=3, generator=generator, dtype=dtype)
    assert log_x.dtype == dtype
    tolerance = {"rtol": 10 * torch.finfo(dtype).eps, "atol": 10 * torch.finfo(dtype).eps}
    for value in (path.velocity, path.score):
        assert value(log_x, log_x, 0.5).dtype == dtype
        exact = value(log_x.double(), log_x.double(), 0.5)
        torch.testing.assert_close(value(log_x, log_x, 0.5).double(), exact, **tolerance)


@pytest.mark.parametrize("name", ["velocity", "score", "log_posterior"])
def test_extremes_stay_finite_with_finite_gradients(name):
    log_x = torch.tensor([[0.0, -1e4, -1e4], [-1e4, 0.0, -50.0]], dtype=torch.float64, requires_grad=True)
    log_law = torch.log_softmax(torch.tensor([[1e4, 0.0, -1e4]], dtype=torch.float64), -1)
    value = getattr(gumbel_softmax_path(), name)(log_x, log_law, 0.9)
    (gradient,) = torch.autograd.grad(value.sum(), log_x)
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()
    if name == "log_posterior":
        expected = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)  # the prior is as certain
        assert torch.equal(value.exp(), expected)
    else:
        torch.testing.assert_close(value.sum(-1), torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize("name", ["velocity", "score", "log_posterior"])
def test_gradcheck(name, drawn):
    path = PATHS["cooled"]
    log_x = point(path, *(part[:5] for part in drawn[1:])).requires_grad_(True)
    logits = noise(5, V, seed=1).requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda a, b: getattr(path, name)(a, torch.log_softmax(b, -1), drawn[3][:5]), (log_x, logits)
    )


@every_path
def test_vmap_and_compile(path, drawn):
    _, one_hot, g, t = drawn
    log_x = point(path, one_hot, g, t)
    expected = path.velocity(log_x, one_hot.log(), t)
    torch.testing.assert_close(torch.func.vmap(path.velocity)(log_x, one_hot.log(), t), expected)
    compiled = torch.compile(path.velocity, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(log_x, one_hot.log(), t), expected)


@pytest.mark.parametrize("curve", [ConstantCurve(2.0), LinearCurve(1.0, 4.0), ExponentialCurve(2.0, -1.0, 0.5)])
def test_curve_derivatives(curve):
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    torch.testing.assert_close(curve.derivative(t), Curve.derivative(curve, t))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: gumbel_softmax_path(signal_end=0.0), ValueError, "signal_end must be positive"),
        (lambda: gumbel_softmax_path(temperature=-1.0), ValueError, "temperature must be positive"),
        (lambda: gumbel_softmax_path(temperature=LinearCurve(1.0, 0.0)), ValueError, "temperature must be positive"),
        (lambda: published_path(decay=-3.0), ValueError, "decay must be positive"),
        (lambda: GumbelSoftmaxPath(LinearCurve(-1.0, 1.0), ConstantCurve(1.0)), ValueError, "signal must be at least"),
        (lambda: ExponentialCurve(1.0, math.inf), ValueError, "rate must be finite"),
        (lambda: ConstantCurve("1"), TypeError, "value must be a number"),
        (
            lambda: gumbel_softmax_path().sample(torch.tensor([3]), 0.5, num_categories=3),
            ValueError,
            r"tokens must lie in \[0, 3\)",
        ),
        (
            lambda: gumbel_softmax_path().sample(torch.tensor([1.0]), 0.5, num_categories=3),
            TypeError,
            "tokens must have an integer dtype",
        ),
        (
            lambda: gumbel_softmax_path().sample(torch.tensor([1]), 1.5, num_categories=3),
            ValueError,
            r"t must lie in \[0, 1\]",
        ),
    ],
)
def test_bad_input_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()
