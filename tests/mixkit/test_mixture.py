"""The mixture: an independent log-likelihood, invariances, moments, shapes, checks; and the module."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch.distributions import Bernoulli, Exponential, MultivariateNormal, Uniform

from mixkit import (
    ExpertMixture,
    Gate,
    MixtureOfExperts,
    linear_gaussian_experts,
    softmax_gate,
    topk_gate,
)
from mixkit.distributions import Normal, Poisson
from mixkit.experts.predictors import ModulePredictor
from mixkit.gates.scores import LinearScore
from mixkit.gates.selections import NoisyTopK
from mixkit.mixture import check_normalized
from tests.mixkit.expert_table import FAMILIES, SCALAR, D, K, build_experts, double, draw, moe, nodes, with_atom
from tests.mixkit.gate_table import build, check_derivatives, normal, seeded

INF = torch.inf
N = 4

every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
every_scalar_family = pytest.mark.parametrize("family", SCALAR.values(), ids=SCALAR.keys())


@every_family
def test_the_log_likelihood_is_numpys(family):
    """Weights and densities from the parameters in NumPy and SciPy, to 1e-10."""
    model, x = moe(family), normal(40, D)
    y = draw(model(x))
    weight, bias = (p.detach().numpy() for p in (model.gate.score.weight, model.gate.score.bias))
    eta = model.experts.predictor(x).detach().numpy()
    expected = []
    for row in range(40):
        slope_scores = weight @ x[row].numpy()
        kept = np.argsort(-slope_scores)[:2]
        scores = (slope_scores + bias)[kept]
        laws = [family.reference(model.experts, eta[row, j], j) for j in kept]
        log_f = [getattr(law, "logpdf", getattr(law, "logpmf", None))(y[row].numpy()) for law in laws]
        expected.append(logsumexp(scores - logsumexp(scores) + np.array(log_f)))
    np.testing.assert_allclose(model.log_prob(x, y).detach().numpy(), expected, rtol=1e-10, atol=1e-10)


@every_family
def test_responsibilities_are_bayes_rule(family):
    model, x = moe(family), normal(N, D)
    law = model(x)
    y = draw(law)
    log_resp = law.log_responsibilities(y)
    assert log_resp.shape == (N, K)
    assert torch.equal(log_resp == -INF, law.log_weights == -INF)
    torch.testing.assert_close(log_resp.exp().sum(-1), torch.ones(N, dtype=torch.float64), rtol=1e-14, atol=0)
    joint = law.log_weights + law.components.log_prob(y.unsqueeze(-1 - len(law.event_shape)))
    torch.testing.assert_close(log_resp, joint - law.log_prob(y).unsqueeze(-1), rtol=1e-12, atol=1e-12)


@every_family
def test_first_and_second_derivatives_in_all_parameters(family):
    model, x = moe(family, selected=K), normal(2, D)
    y, names = draw(model(x)), [name for name, _ in model.named_parameters()]

    def call(x, *parameters):
        return torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), (x,)).log_prob(y)

    leaves = (x, *model.parameters())
    check_derivatives(call, tuple(leaf.detach().clone().requires_grad_() for leaf in leaves))


def test_derivatives_of_moments_and_distribution_function():
    log_weights, loc, scale = (
        normal(2, 3).requires_grad_(),
        normal(2, 3, seed=2).requires_grad_(),
        normal(2, 3, seed=3).exp(),
    )
    scale = scale.requires_grad_()

    def call(log_weights, loc, scale, y):
        law = ExpertMixture(torch.log_softmax(log_weights, -1), Normal(loc, scale), validate_args=False)
        return law.mean, law.variance, law.cdf(y)

    check_derivatives(call, (log_weights, loc, scale, normal(2, seed=4).requires_grad_()))


@every_family
def test_permuted_experts_and_shifted_scores_leave_the_law(family):
    model, x = moe(family), normal(N, D)
    y, order = draw(model(x)), torch.tensor([2, 0, 1])
    before = model.log_prob(x, y)
    shifted = copy.deepcopy(model)
    with torch.no_grad():
        shifted.gate.score.bias += 3.0
        shifted.gate.score.weight += normal(D, seed=8)
    torch.testing.assert_close(shifted.log_prob(x, y), before, rtol=1e-11, atol=1e-11)
    log_weights = model(x).log_weights
    if isinstance(model.experts.predictor, ModulePredictor):
        return  # its parameters have no row for each expert
    state = model.state_dict()
    permuted = {n: v[order] if v.ndim and v.shape[0] == K else v for n, v in state.items()}
    model.load_state_dict(permuted)
    torch.testing.assert_close(model.log_prob(x, y), before, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model(x).log_weights, log_weights[:, order])


def test_a_law_changes_with_the_unit_of_the_response_as_a_density_does():
    law = ExpertMixture(double(0.3, 0.7).log(), Normal(double(-1.0, 2.0), double(0.5, 3.0)))
    scaled = ExpertMixture(double(0.3, 0.7).log(), Normal(1e6 * double(-1.0, 2.0), 1e6 * double(0.5, 3.0)))
    y, p = normal(20), torch.linspace(0.01, 0.99, 20, dtype=torch.float64)
    torch.testing.assert_close(scaled.log_prob(1e6 * y), law.log_prob(y) - math.log(1e6))
    torch.testing.assert_close(scaled.cdf(1e6 * y), law.cdf(y))
    torch.testing.assert_close(scaled.icdf(p), 1e6 * law.icdf(p), rtol=1e-12, atol=0)


@every_scalar_family
def test_total_mass_mean_variance_and_distribution_function_by_quadrature(family):
    law = moe(family)(normal(N, D))
    if law.support.is_discrete:
        y = torch.arange(400, dtype=torch.float64).unsqueeze(-1).expand(400, N)
        weights = torch.ones_like(y)
    else:
        y, weights = with_atom(family, *nodes(law, step=0.004))
    mass = law.log_prob(y).exp() * weights
    torch.testing.assert_close(mass.sum(0), torch.ones(N, dtype=torch.float64), rtol=1e-9, atol=0)
    torch.testing.assert_close((mass * y).sum(0), law.mean, rtol=1e-8, atol=1e-8)
    square = torch.where(mass > 0, mass * (y - law.mean).square(), 0.0)
    torch.testing.assert_close(square.sum(0), law.variance, rtol=1e-6, atol=0)
    if law.support.is_discrete:
        torch.testing.assert_close(mass.cumsum(0), law.cdf(y), rtol=1e-9, atol=0)


def test_moments_of_a_vector_response_are_those_of_its_marginals():
    law = moe(FAMILIES["full-own"])(normal(N, D))
    for coordinate in range(2):
        parts = law.components.mean[..., coordinate], law.components.stddev[..., coordinate]
        marginal = ExpertMixture(law.log_weights, Normal(*parts))
        torch.testing.assert_close(law.mean[..., coordinate], marginal.mean)
        torch.testing.assert_close(law.variance[..., coordinate], marginal.variance)


@every_family
def test_expanding_repeats_the_law(family):
    law = moe(family)(normal(N, D))
    wide = law.expand((3, N))
    y = draw(law)
    assert wide.batch_shape == (3, N)
    assert wide.event_shape == law.event_shape
    torch.testing.assert_close(wide.log_prob(y), law.log_prob(y).expand(3, N), rtol=1e-14, atol=1e-14)
    assert wide.sample(generator=seeded()).shape == (3, N, *law.event_shape)


@pytest.mark.parametrize("checked", [True, False])
def test_expanding_keeps_whether_values_are_checked(checked):
    law = ExpertMixture(double(0.5, 0.5).log(), Normal(double(0.0, 1.0), double(1.0, 1.0)), validate_args=checked)
    assert law.expand((3,))._validate_args is checked


def test_weights_and_components_broadcast():
    law = ExpertMixture(double(0.2, 0.8).log(), Normal(normal(3, 5, 2), torch.ones(2).double()))
    assert law.batch_shape == (3, 5)
    y = normal(3, 5, seed=7)
    components = Normal(normal(3, 5, 2), torch.ones(2).double()).log_prob(y.unsqueeze(-1))
    torch.testing.assert_close(law.log_prob(y), (components + double(0.2, 0.8).log()).logsumexp(-1))
    weights = torch.log_softmax(normal(3, 5, 2), -1)
    other = ExpertMixture(weights, Normal(double(0.0, 1.0), double(1.0, 1.0)))
    assert other.batch_shape == other.sample(generator=seeded()).shape == (3, 5)
    components = Normal(double(0.0, 1.0), double(1.0, 1.0)).log_prob(y.unsqueeze(-1))
    torch.testing.assert_close(other.log_prob(y), (components + weights).logsumexp(-1))


class TestChecks:
    components = Normal(torch.zeros(2), torch.ones(2))

    @pytest.mark.parametrize(
        ("log_weights", "message"),
        [
            ([0.0, 0.0], "log_weights must sum to 1 after exp, got sums off by up to 1"),
            ([math.log(0.5), math.log(0.499)], "log_weights must sum to 1 after exp, got sums off by up to 0.001"),
            ([torch.nan, 0.0], r"log_weights must hold no NaN and no \+inf, got 1 such entries"),
            ([INF, 0.0], r"log_weights must hold no NaN and no \+inf"),
            ([-INF, -INF], "log_weights must sum to 1 after exp, got sums off by up to 1"),
        ],
    )
    def test_bad_weights(self, log_weights, message):
        with pytest.raises(ValueError, match=message):
            ExpertMixture(torch.tensor(log_weights), self.components)

    def test_bad_parts(self):
        weights = torch.tensor([0.5, 0.5]).log()
        with pytest.raises(TypeError, match=r"log_weights must be a torch\.Tensor, got list"):
            ExpertMixture([0.0], self.components)
        with pytest.raises(TypeError, match="log_weights must have a floating dtype"):
            ExpertMixture(torch.tensor([1, 0]), self.components)
        with pytest.raises(TypeError, match=r"components must be a torch\.distributions\.Distribution, got Tensor"):
            ExpertMixture(weights, weights)
        with pytest.raises(ValueError, match=r"components must have 2 components .*, got batch shape \(3,\)"):
            ExpertMixture(weights, Normal(torch.zeros(3), torch.ones(3)))
        with pytest.raises(ValueError, match=r"components must have 2 components .*, got batch shape \(\)"):
            ExpertMixture(weights, Normal(0.0, 1.0))
        with pytest.raises(ValueError, match=r"log_weights must have shape \(\*batch, k\) with k >= 1, got \(\)"):
            ExpertMixture(torch.tensor(0.0), self.components)

    def test_values_outside_the_support(self):
        law = ExpertMixture(torch.tensor([0.5, 0.5]).log(), Poisson(torch.tensor([1.0, 2.0])))
        assert law.log_prob(torch.tensor([0.5, -1.0])).tolist() == [-INF, -INF]
        with pytest.raises(ValueError, match="value must hold no NaN"):
            law.log_prob(torch.tensor(torch.nan))
        unchecked = ExpertMixture(law.log_weights, law.components, validate_args=False)
        unchecked.components._validate_args = False
        assert unchecked.log_prob(torch.tensor([0.5, -1.0])).tolist() == [-INF, -INF]
        assert unchecked.log_prob(torch.tensor(torch.nan)).isnan()
        assert unchecked.log_responsibilities(torch.tensor(torch.nan)).isnan().all()

    def test_validation_may_be_switched_off(self):
        law = ExpertMixture(torch.zeros(2), self.components, validate_args=False)
        assert law.batch_shape == ()
        density = 2.0 * Normal(0.0, 1.0).log_prob(torch.tensor(0.3)).exp()  # as the weights say: twice one
        torch.testing.assert_close(law.log_prob(torch.tensor(0.3)), density.log())

    def test_rounded_weights_pass(self):
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            rounded = torch.log_softmax(normal(200, 64), -1).to(dtype)
            assert check_normalized(rounded) is rounded

    def test_functions_of_a_scalar_response(self):
        law = ExpertMixture(torch.tensor([0.0]), MultivariateNormal(torch.zeros(1, 2), torch.eye(2)))
        for name in ("cdf", "icdf"):
            with pytest.raises(ValueError, match=rf"{name} needs a scalar response, got event shape \(2,\)"):
                getattr(law, name)(torch.tensor(0.5))


class TestModule:
    def test_parts_must_fit(self):
        gate, experts = softmax_gate(D, 2, generator=seeded()), linear_gaussian_experts(D, 3, generator=seeded())
        with pytest.raises(ValueError, match="gate and experts must have one number of experts, got 2 and 3"):
            MixtureOfExperts(gate, experts)
        with pytest.raises(TypeError, match=r"gate must be a mixkit\.gates\.Gate, got GaussianExperts"):
            MixtureOfExperts(experts, gate)
        with pytest.raises(TypeError, match=r"experts must be mixkit\.experts\.Experts, got Gate"):
            MixtureOfExperts(gate, gate)

    def test_the_law_is_the_gate_and_the_experts(self):
        model, x = moe(), normal(N, D)
        law = model(x)
        assert torch.equal(law.log_weights, model.gate(x))
        assert torch.equal(law.components.mean, model.experts(x).mean)
        assert model.num_experts == law.num_components == K

    @pytest.mark.parametrize("shape", [(N, 1), (1,), (N + 1,), ()])
    def test_a_response_of_another_shape(self, shape):
        """A column (n, 1) would broadcast to n^2 densities."""
        with pytest.raises(ValueError, match=rf"y must have shape \(\*batch, {N}\), got "):
            moe().log_prob(normal(N, D), torch.zeros(shape, dtype=torch.float64))

    def test_bad_values(self):
        model, x, y = moe(), normal(N, D), normal(N)
        y[1] = torch.nan
        with pytest.raises(
            ValueError, match=r"y must be finite, got 1 NaN or infinite entries, the first at index \(1,\)"
        ):
            model.log_prob(x, y)
        with pytest.raises(ValueError, match="x must be finite"):
            model.log_prob(x / 0.0, normal(N))
        with pytest.raises(ValueError, match=r"x must have 3 covariates in its last dimension, got shape \(4, 2\)"):
            model(x[:, :2])

    def test_many_responses_at_one_set_of_covariates(self):
        model, x, y = moe(), normal(N, D), normal(7, N)
        torch.testing.assert_close(model.log_prob(x, y)[3], model.log_prob(x, y[3]))

    @every_family
    def test_state_dict_and_pickle(self, family):
        model, x = moe(family), normal(N, D)
        y = draw(model(x))
        for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            assert torch.equal(twin.log_prob(x, y), model.log_prob(x, y))
            assert repr(twin) == repr(model)
        other = MixtureOfExperts(
            build(lambda **o: topk_gate(D, K, 2, generator=seeded(), **o), seed=8), build_experts(family.make, seed=9)
        )
        other.load_state_dict(model.state_dict())
        assert torch.equal(other.log_prob(x, y), model.log_prob(x, y))

    def test_a_noisy_gate_takes_the_generator(self):
        score = LinearScore(D, K, generator=seeded(), dtype=torch.float64)
        gate = Gate(score, selection=NoisyTopK(2, D, K, dtype=torch.float64))
        model, x = MixtureOfExperts(gate, build_experts(SCALAR["gaussian"].make)), normal(N, D)
        assert torch.equal(model(x, seeded(3)).log_weights, model(x, seeded(3)).log_weights)
        assert not torch.equal(model(x, seeded(3)).log_weights, model(x, seeded(4)).log_weights)
        y = normal(N)
        assert torch.equal(model.log_prob(x, y, generator=seeded(3)), model(x, seeded(3)).log_prob(y))

    def test_per_row_gradients_by_vmap(self):
        model, x, y = moe(selected=K), normal(N, D), normal(N)
        parameters = dict(model.named_parameters())

        def loss(parameters, row, response):
            law = torch.func.functional_call(model, parameters, (row.unsqueeze(0),))
            return law.log_prob(response.unsqueeze(0)).sum()

        per_row = torch.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, x, y)
        model.log_prob(x, y).sum().backward()
        for name, parameter in parameters.items():
            torch.testing.assert_close(per_row[name].sum(0), parameter.grad)


def test_components_of_torch_serve_as_they_are():
    law = ExpertMixture(double(0.5, 0.5).log(), Exponential(double(1.0, 3.0)))
    assert law.icdf(double(0.0, 1.0)).tolist() == [0.0, INF]
    torch.testing.assert_close(law.cdf(law.icdf(double(0.2, 0.8))), double(0.2, 0.8))
    coin = ExpertMixture(double(0.5, 0.5).log(), Bernoulli(double(0.1, 0.9)))
    torch.testing.assert_close(coin.log_prob(double(1.0)), double(0.5).log())
    assert ExpertMixture(double(0.5, 0.5).log(), Uniform(double(0.0, 1.0), double(1.0, 2.0))).mean.item() == 1.0


def test_the_repr_tells_what_is_mixed():
    law = moe(FAMILIES["full-own"])(normal(N, D))
    assert repr(law) == "ExpertMixture(3 x MultivariateNormal, batch_shape=(4,), event_shape=(2,))"
