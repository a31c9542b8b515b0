"""Transforms of true models are uniform, exactly where that can be said exactly."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from mixkit import (
    FullCovariance,
    MixtureOfExperts,
    MultivariateGaussianExperts,
    PoissonExperts,
    constant_gate,
    linear_gaussian_experts,
    softmax_gate,
)
from mixkit.experts import LogNormalExperts, MixedExperts, PointMassExperts
from mixkit.experts.predictors import LinearPredictor
from mixkit.residuals import probability_integral_transform, quantile_residuals
from tests.mixkit.gate_table import normal, seeded

DOUBLE = torch.float64


def gaussian(k=3, dtype=DOUBLE):
    gate = softmax_gate(2, k, dtype=dtype, generator=seeded(1))
    return MixtureOfExperts(gate, linear_gaussian_experts(2, k, dtype=dtype, generator=seeded(2)))


def poisson():
    gate = softmax_gate(2, 2, dtype=DOUBLE, generator=seeded(1))
    return MixtureOfExperts(gate, PoissonExperts(LinearPredictor(2, 2, dtype=DOUBLE, generator=seeded(2))))


def with_atom():
    positive = LogNormalExperts(LinearPredictor(2, 1, dtype=DOUBLE, generator=seeded(2)))
    return MixtureOfExperts(constant_gate(2, dtype=DOUBLE), MixedExperts([PointMassExperts(0.0), positive]).to(DOUBLE))


def test_it_inverts_the_quantiles():
    model, x = gaussian(), normal(25, 2)
    level = torch.rand(25, dtype=DOUBLE, generator=seeded(3))
    y = model(x).icdf(level)
    torch.testing.assert_close(probability_integral_transform(model, x, y), level, rtol=0, atol=1e-12)


def test_counts_are_spread_over_their_probability():
    """All n transforms of one count lie between its two cumulative probabilities, and fill the interval."""
    model = poisson()
    x = normal(1, 2).expand(4000, 2)
    y = torch.full((4000,), 2.0, dtype=DOUBLE)
    low, high = model(x[:1]).cdf(torch.tensor([1.0])), model(x[:1]).cdf(torch.tensor([2.0]))
    level = probability_integral_transform(model, x, y, generator=seeded(0))
    share = ((level - low) / (high - low)).detach()
    assert 0.0 <= float(share.min()) < 0.01
    assert 0.99 < float(share.max()) <= 1.0


@pytest.mark.parametrize("make", [gaussian, poisson, with_atom], ids=lambda make: make.__name__)
def test_they_are_uniform_under_the_true_model(make):
    """Kolmogorov and Smirnov's test at level 1e-5, at one fixed seed."""
    model, x = make(), normal(3000, 2, scale=0.7)
    y = model(x).sample(generator=seeded(5))
    level = probability_integral_transform(model, x, y, generator=seeded(6))
    assert kstest(level.numpy(), "uniform").pvalue > 1e-5
    residuals = quantile_residuals(model, x, y, generator=seeded(6))
    torch.testing.assert_close(torch.special.ndtr(residuals), level)


def test_only_the_atom_is_drawn():
    model, x = with_atom(), normal(40, 2)
    y = model(x).sample(generator=seeded(5))
    one, other = (probability_integral_transform(model, x, y, generator=seeded(seed)) for seed in (0, 1))
    assert torch.equal(one == other, y > 0)
    assert (one[y == 0] <= 0.5).all()


def test_a_continuous_law_needs_no_generator_in_single_precision():
    model, x = gaussian(dtype=torch.float32), normal(50, 2, dtype=torch.float32)
    y = model(x).sample(generator=seeded(0))
    level = probability_integral_transform(model, x, y)
    assert level.dtype == DOUBLE
    assert torch.equal(level, model(x).cdf(y).double().detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_narrow_law_far_from_zero_has_no_atoms(dtype):
    """Between 2000 and the float32 number below a normal law of standard deviation 1e-4 has a third of its mass."""
    experts = linear_gaussian_experts(1, 1, dtype=dtype, generator=seeded())
    with torch.no_grad():
        experts.predictor.intercept.fill_(2000.0)
        experts.predictor.slope.zero_()
        experts.log_std.fill_(np.log(1e-4))
    model, x = MixtureOfExperts(constant_gate(1, dtype=dtype), experts), torch.zeros(5, 1, dtype=dtype)
    assert quantile_residuals(model, x, torch.full((5,), 2000.0, dtype=dtype)).tolist() == [0.0] * 5


def test_an_expert_that_is_not_selected_has_no_atoms():
    model = with_atom()
    model.gate.score.bias.data[0] = -torch.inf
    y = torch.tensor([0.0, 1.0], dtype=DOUBLE)
    assert model(normal(2, 2)).has_atom(y).tolist() == [False, False]
    assert with_atom()(normal(2, 2)).has_atom(y).tolist() == [True, False]


def test_residuals_of_impossible_values_are_finite():
    model, x = gaussian(), normal(2, 2)
    residuals = quantile_residuals(model, x, torch.tensor([-1e6, 1e6], dtype=DOUBLE))
    np.testing.assert_allclose(residuals, [-8.22, 8.22], atol=0.1)


def test_the_same_seed_gives_the_same_draws():
    model, x = poisson(), normal(30, 2)
    y = model(x).sample(generator=seeded(5))
    assert torch.equal(*(quantile_residuals(model, x, y, generator=seeded(1)) for _ in "ab"))


class TestBadInput:
    def test_counts_without_a_generator(self):
        with pytest.raises(ValueError, match="generator must be given for a distribution with atoms"):
            quantile_residuals(poisson(), normal(3, 2), torch.ones(3, dtype=DOUBLE))

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_responses_that_are_not_finite(self, value):
        for model in (gaussian(), poisson(), with_atom()):
            y = torch.tensor([1.0, value, 2.0], dtype=DOUBLE)
            with pytest.raises(ValueError, match="y must be finite, got 1 NaN or infinite entries"):
                quantile_residuals(model, normal(3, 2), y, generator=seeded())

    def test_what_is_no_response(self):
        with pytest.raises(ValueError, match="y must hold non-negative integers for Poisson experts"):
            quantile_residuals(poisson(), normal(3, 2), torch.full((3,), 0.5), generator=seeded())
        with pytest.raises(TypeError, match=r"y must be a torch\.Tensor, got list"):
            quantile_residuals(gaussian(), normal(3, 2), [1.0, 2.0, 3.0])
        whole = torch.tensor([1, 2, 3])
        level = quantile_residuals(poisson(), normal(3, 2), whole, generator=seeded())
        assert torch.equal(level, quantile_residuals(poisson(), normal(3, 2), whole.double(), generator=seeded()))

    def test_another_shape(self):
        with pytest.raises(ValueError, match=r"y must have shape \(3,\), got \(3, 1\)"):
            quantile_residuals(gaussian(), normal(3, 2), normal(3, 1))

    def test_a_vector_response(self):
        means = LinearPredictor(2, 2, response_dim=2, dtype=DOUBLE, generator=seeded())
        experts = MultivariateGaussianExperts(means, FullCovariance(2, 2, dtype=DOUBLE))
        model = MixtureOfExperts(softmax_gate(2, 2, dtype=DOUBLE, generator=seeded()), experts)
        with pytest.raises(ValueError, match=r"model must have a scalar response, got event shape \(2,\)"):
            quantile_residuals(model, normal(3, 2), normal(3, 2))
