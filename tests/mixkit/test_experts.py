"""Contracts of every family of experts."""

import copy
import itertools
import math
import pickle
import re
import warnings

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from mixkit.experts import (
    CategoricalExperts,
    DensityExperts,
    DiagonalCovariance,
    FullCovariance,
    GammaExperts,
    GaussianExperts,
    InverseGaussianExperts,
    LaplaceExperts,
    LogNormalExperts,
    MultivariateGaussianExperts,
    NegativeBinomialExperts,
    PoissonExperts,
    SphericalCovariance,
    StudentTExperts,
    ZeroInflatedLogNormalExperts,
    linear_gaussian_experts,
)
from mixkit.experts.predictors import ConstantPredictor, LinearPredictor, ModulePredictor
from mixkit.mixture import ExpertMixture
from tests.mixkit.expert_table import (
    FAMILIES,
    LOCATION,
    SCALAR,
    VECTOR,
    D,
    K,
    P,
    below,
    build_experts,
    draw,
    nodes,
    with_atom,
)
from tests.mixkit.gate_table import check_derivatives, normal, one_of_batch, seeded

INF = torch.inf
N = 4


def table(rows):
    return pytest.mark.parametrize("family", rows.values(), ids=rows.keys())


def continuous(law):
    return not law.support.is_discrete


def references(family, experts, x):
    """SciPy's laws, ``[row][expert]``."""
    eta = experts.predictor(x).detach().numpy()
    return [[family.reference(experts, eta[i, j], j) for j in range(K)] for i in range(len(x))]


def by_scipy(family, experts, x, method, values=None):
    rows = references(family, experts, x)
    arguments = [[()] * K] * len(x) if values is None else [[(v,) for v in row] for row in values.numpy()]
    results = [
        [getattr(law, method)(*arg) for law, arg in zip(row, args, strict=True)]
        for row, args in zip(rows, arguments, strict=True)
    ]
    return torch.tensor(np.array(results, dtype=np.float64))


@table(FAMILIES)
def test_the_log_density_is_scipys(family):
    experts, x = build_experts(family.make), normal(N, D)
    law = experts(x)
    y = draw(law)
    method = "logpdf" if continuous(law) else "logpmf"
    torch.testing.assert_close(law.log_prob(y), by_scipy(family, experts, x, method, y), rtol=1e-10, atol=1e-11)


@table(SCALAR)
def test_the_density_has_total_mass_one_and_the_moments_of_the_law(family):
    law = build_experts(family.make)(normal(N, D))
    if continuous(law):
        y, weights = nodes(law)
    else:
        y = torch.arange(400, dtype=torch.float64).reshape(-1, 1, 1).expand(400, N, K)
        weights = torch.ones_like(y)
    y, weights = with_atom(family, y, weights)
    mass = law.log_prob(y).exp() * weights
    torch.testing.assert_close(mass.sum(0), torch.ones(N, K, dtype=torch.float64), rtol=1e-9, atol=0)
    torch.testing.assert_close((mass * y).sum(0), law.mean, rtol=1e-8, atol=1e-8)
    square = torch.where(mass > 0, mass * (y - law.mean).square(), 0.0)
    torch.testing.assert_close(square.sum(0), law.variance, rtol=1e-6, atol=0)


@table(VECTOR)
def test_the_density_of_a_vector_has_total_mass_one(family):
    law = build_experts(family.make)(normal(N, D))
    axis = torch.arange(-9.0, 9.0, 0.25, dtype=torch.float64)
    standard = torch.cartesian_prod(axis, axis).reshape(-1, 1, 1, P)
    deviation = law.stddev.amax(-1, keepdim=True)
    # A grid of steps proportional to the narrowest direction of the law resolves its ridge.
    y = law.mean + (law.scale_tril @ standard.unsqueeze(-1)).squeeze(-1)
    area = law.scale_tril.diagonal(dim1=-2, dim2=-1).prod(-1) * 0.25**P
    assert deviation.isfinite().all()
    mass = law.log_prob(y).exp() * area
    torch.testing.assert_close(mass.sum(0), torch.ones(N, K, dtype=torch.float64), rtol=1e-10, atol=0)


@table(FAMILIES)
def test_first_and_second_derivatives(family):
    experts, x = build_experts(family.make), normal(N, D)
    law = experts(x)
    y, names = draw(law), [name for name, _ in experts.named_parameters()]
    with_response = continuous(law) and not family.has_atom

    def call(x, *given):
        *parameters, response = given if with_response else (*given, y)
        values = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(experts, values, (x,)).log_prob(response)

    leaves = (x, *experts.parameters(), *((y,) if with_response else ()))
    check_derivatives(call, tuple(leaf.detach().clone().requires_grad_() for leaf in leaves))


def _location_arguments(family, rows=6):
    experts, x = build_experts(family.make), normal(rows, D)
    law = experts(x)
    locations = experts.predictor(x).detach()
    locations = [locations.mT] if locations.ndim == 2 else [part.mT for part in locations.unbind(-1)]
    assert len(locations) == experts.num_locations
    constants = [getattr(experts, name).detach().unsqueeze(-1) for name in experts.constant_names]
    return experts, law, draw(law), [*locations, *constants]


@table(LOCATION)
def test_the_log_density_of_the_estimators_is_that_of_the_law(family):
    experts, law, y, arguments = _location_arguments(family)
    for j in range(K):
        expected = law.log_prob(y[:, j : j + 1])
        torch.testing.assert_close(experts.log_density(y[:, j], *arguments).mT, expected, rtol=1e-12, atol=1e-12)


@table(LOCATION)
def test_density_terms_are_the_derivatives(family):
    experts, _, y, arguments = _location_arguments(family)
    terms = experts.density_terms(y[:, 0], *arguments)
    expected = DensityExperts.density_terms(experts, y[:, 0], *arguments)
    assert len(terms.first) == len(arguments)
    assert [len(row) for row in terms.second] == list(range(1, 1 + len(arguments)))
    flat = [terms.log_prob, *terms.first, *itertools.chain(*terms.second)]
    other = [expected.log_prob, *expected.first, *itertools.chain(*expected.second)]
    for ours, theirs in zip(flat, other, strict=True):
        assert not ours.requires_grad
        torch.testing.assert_close(ours.expand_as(theirs), theirs, rtol=1e-11, atol=1e-11)


@table(LOCATION)
def test_a_named_scale_is_a_scale(family):
    """With y and eta multiplied by c and the scale too, the log-density moves by -log c."""
    experts, _, y, arguments = _location_arguments(family)
    if getattr(experts, "scale_name", None) is None:
        assert not isinstance(experts, GaussianExperts | StudentTExperts | LaplaceExperts)
        return
    eta, *constants = arguments
    at = experts.constant_names.index(experts.scale_name)
    scaled = [c + math.log(7.0) * (i == at) for i, c in enumerate(constants)]
    before = experts.log_density(y[:, 0], eta, *constants)
    after = experts.log_density(7.0 * y[:, 0], 7.0 * eta, *scaled)
    torch.testing.assert_close(after, before - math.log(7.0), rtol=1e-12, atol=1e-12)


@table(FAMILIES)
@pytest.mark.parametrize("own_x", [True, False], ids=["own-x", "shared-x"])
def test_a_batch_equals_a_loop(family, own_x):
    experts = build_experts(family.make, batch_shape=(2, 3))
    x = normal(2, 3, N, D) if own_x else normal(N, D)
    law = experts(x)
    y = draw(law)
    event = law.event_shape
    batched = law.log_prob(y).expand(2, 3, N, K)
    for index in itertools.product(range(2), range(3)):
        single = one_of_batch(family.make, experts, index)(x[index] if own_x else x)
        assert single.batch_shape == (N, K)
        assert single.event_shape == event
        own = y.expand(2, 3, N, K, *event)[index]
        torch.testing.assert_close(batched[index], single.log_prob(own), rtol=1e-12, atol=1e-12)


@table(SCALAR)
def test_distribution_and_quantile_functions(family):
    experts, x = build_experts(family.make), normal(N, D)
    law = experts(x)
    y = draw(law)
    torch.testing.assert_close(law.cdf(y), by_scipy(family, experts, x, "cdf", y), rtol=1e-10, atol=0)
    if continuous(law) and not family.has_atom:
        p = torch.tensor([1e-10, 1e-3, 0.3, 0.9, 1 - 1e-6], dtype=torch.float64).reshape(-1, 1, 1)
        torch.testing.assert_close(law.cdf(law.icdf(p)), p.expand(5, N, K), rtol=1e-8, atol=0)


@table(SCALAR)
@torch.no_grad()
def test_draws_follow_the_distribution_function(family):
    """Kolmogorov-Smirnov on the (randomized) probability transform; false alarms 1e-5 a family, K laws each."""
    law, count, generator = build_experts(family.make)(normal(1, D)), 4000, seeded(11)
    one_hot = torch.eye(K, dtype=torch.float64).log()
    components = law.expand((K, K))  # every expert chosen in its turn
    y = ExpertMixture(one_hot, components).sample((count,), generator=generator)
    upper, lower = law.cdf(y), below(family, law, y)
    uniform = lower + (upper - lower) * torch.rand(y.shape, generator=generator, dtype=torch.float64)
    for j in range(K):
        assert stats.kstest(uniform[:, j].numpy(), "uniform").pvalue > 1e-5 / K


@table(VECTOR)
@torch.no_grad()
def test_draws_of_a_vector_whiten_to_independent_standard_normals(family):
    """Kolmogorov-Smirnov on both coordinates, their sum and difference; false alarms 1e-5 a family."""
    law = build_experts(family.make)(normal(1, D))
    y = ExpertMixture(torch.eye(K, dtype=torch.float64).log(), law.expand((K, K))).sample((4000,), generator=seeded(12))
    white = torch.linalg.solve_triangular(law.scale_tril, (y - law.mean).unsqueeze(-1), upper=False).squeeze(-1)
    sums = torch.stack([white.sum(-1), white.diff(dim=-1).squeeze(-1)], -1) / math.sqrt(2)
    for column in torch.cat([white, sums], -1).flatten(1).T.numpy():
        assert stats.kstest(column, "norm").pvalue > 1e-5 / (4 * K)


@table(SCALAR)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_dtype_follows_the_inputs(family, dtype):
    experts, x = build_experts(family.make, dtype=dtype), normal(N, D, dtype=dtype)
    law = experts(x)
    y = draw(law)
    assert y.dtype == law.log_prob(y).dtype == law.mean.dtype == law.cdf(y).dtype == dtype
    exact = copy.deepcopy(experts).double()(x.double())
    tolerance = 200.0 * torch.finfo(dtype).eps
    for value, expected in ((law.mean, exact.mean), (law.log_prob(y), exact.log_prob(y.double()))):
        torch.testing.assert_close(value.double(), expected, rtol=tolerance, atol=tolerance)
    law.log_prob(y).sum().backward()
    assert all(p.grad.dtype == dtype and p.grad.isfinite().all() for p in experts.parameters())


@pytest.mark.parametrize(
    ("family", "response_dim"),
    [
        (GaussianExperts, None),
        (LaplaceExperts, None),
        (StudentTExperts, None),
        (LogNormalExperts, None),
        (GammaExperts, None),
        (InverseGaussianExperts, None),
        (NegativeBinomialExperts, None),
        (ZeroInflatedLogNormalExperts, 2),
    ],
)
class TestConstantsArePredictorsUnlessTold:
    def names(self, experts):
        return {name: getattr(experts, name) for name in experts.constant_names}

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
    def test_batch_shape_dtype_and_device(self, family, response_dim, dtype):
        settings = {"response_dim": response_dim, "batch_shape": (3, 2), "dtype": dtype, "device": "meta"}
        for predictor in (LinearPredictor(D, K, **settings), ConstantPredictor(K, **settings)):
            for name, value in self.names(family(predictor)).items():
                assert (value.shape, value.dtype, value.is_meta) == ((3, 2, K), dtype, True), name

    def test_of_a_module(self, family, response_dim):
        layers = torch.nn.utils.skip_init(torch.nn.Linear, D, K * (response_dim or 1), dtype=torch.float64)
        tail = (K,) if response_dim is None else (K, response_dim)
        network = torch.nn.Sequential(layers, torch.nn.Unflatten(-1, tail))
        for value in self.names(family(ModulePredictor(network, K, response_dim=response_dim))).values():
            assert (value.shape, value.dtype) == ((K,), torch.float64)
        bare = ModulePredictor(torch.nn.Unflatten(-1, tail), K, response_dim=response_dim)
        assert {value.dtype for value in self.names(family(bare)).values()} == {torch.float32}

    def test_told(self, family, response_dim):
        predictor = LinearPredictor(D, K, response_dim=response_dim, batch_shape=(3,), generator=seeded())
        for value in self.names(family(predictor, batch_shape=(), dtype=torch.float64, device="meta")).values():
            assert (value.shape, value.dtype, value.is_meta) == ((K,), torch.float64, True)

    def test_a_batch_of_models_has_its_own(self, family, response_dim):
        settings = {"batch_shape": (3,), "dtype": torch.float64, "generator": seeded()}
        experts = family(LinearPredictor(D, K, response_dim=response_dim, **settings))
        law, y = experts(normal(N, D)), normal(3, N, 1).exp().ceil()
        law.log_prob(y)[1].sum().backward()
        for value in self.names(experts).values():
            assert (value.grad[1] != 0).all()
            assert (value.grad[[0, 2]] == 0).all()


@pytest.mark.parametrize("kind", [FullCovariance, DiagonalCovariance, SphericalCovariance])
def test_a_covariance_goes_where_the_predictor_is(kind):
    means = LinearPredictor(D, K, response_dim=P, dtype=torch.float64, generator=seeded())
    law = MultivariateGaussianExperts(means, kind(K, P))(normal(N, D))
    assert law.log_prob(draw(law)).dtype == torch.float64
    meta = MultivariateGaussianExperts(LinearPredictor(D, K, response_dim=P, device="meta"), kind(K, P))
    assert all(p.is_meta for p in meta.parameters())


@table(VECTOR)
def test_the_dtype_of_a_vector_follows_the_inputs(family):
    for dtype in (torch.float32, torch.float64):
        experts, x = build_experts(family.make, dtype=dtype), normal(N, D, dtype=dtype)
        law, exact = experts(x), copy.deepcopy(experts).double()(x.double())
        y = draw(law)
        assert y.dtype == law.log_prob(y).dtype == law.mean.dtype == law.variance.dtype == dtype
        torch.testing.assert_close(law.mean.double(), exact.mean, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(law.log_prob(y).double(), exact.log_prob(y.double()), rtol=1e-4, atol=1e-4)


@table(FAMILIES)
def test_state_dict_pickle_and_copy_keep_the_law(family):
    experts, x = build_experts(family.make), normal(N, D)
    law = experts(x)
    y, other = draw(law), build_experts(family.make, seed=9)
    assert not torch.equal(other(x).log_prob(y), law.log_prob(y))
    other.load_state_dict(experts.state_dict())
    for twin in (other, pickle.loads(pickle.dumps(experts)), copy.deepcopy(experts)):
        assert torch.equal(twin(x).log_prob(y), law.log_prob(y))
        assert repr(twin) == repr(experts)


@table(FAMILIES)
def test_the_repr_tells_the_sizes(family):
    assert f"num_experts={K}" in repr(build_experts(family.make))


@table(FAMILIES)
def test_responses_are_checked(family):
    experts = build_experts(family.make)
    y = draw(experts(normal(N, D)))[:, 0]
    assert experts.check_response(y) is y
    bad = y.clone()
    bad.flatten()[2] = torch.nan
    with pytest.raises(ValueError, match="y must be finite, got 1 NaN or infinite entries"):
        experts.check_response(bad)
    with pytest.raises(TypeError, match=r"y must be a torch\.Tensor, got ndarray"):
        experts.check_response(y.numpy())
    with pytest.raises(TypeError, match=r"y must have a floating dtype, got torch\.int64"):
        experts.check_response(y.long())


BAD_RESPONSES = [
    ("poisson", -1.0, "non-negative integers for Poisson experts, got -1.0"),
    ("poisson", 0.5, "non-negative integers for Poisson experts, got 0.5"),
    ("negative-binomial", 1.5, "non-negative integers for negative binomial experts, got 1.5"),
    ("binary", 0.5, "non-negative integers for binomial experts, got 0.5"),
    ("binomial", 8.0, "at most the number of trials, got 8.0 of 7.0"),
    ("gamma", 0.0, "positive for gamma experts, got 0.0"),
    ("inverse-gaussian", -1.0, "positive for inverse Gaussian experts, got -1.0"),
    ("ordinal", 4.0, "levels 0, ..., 3 in their order for ordinal experts, got 4.0"),
    ("zero-inflated-poisson", 0.5, "non-negative integers for Poisson experts, got 0.5"),
    ("truncated-negative-binomial", 0.0, "positive integers for truncated negative binomial experts, got 0.0"),
    ("log-normal", -0.5, "non-negative for log-normal experts, got -0.5"),
    ("zero-inflated", -0.5, "non-negative for zero-inflated log-normal experts, got -0.5"),
    ("categorical", 4.0, "labels 0, ..., 3 for categorical experts, got 4.0"),
    ("categorical", 0.5, "labels 0, ..., 3 for categorical experts, got 0.5"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD_RESPONSES)
def test_responses_outside_the_support_are_refused(name, value, message):
    experts = build_experts(SCALAR[name].make)
    with pytest.raises(ValueError, match=f"y must (be|hold) {re.escape(message)}"):
        experts.check_response(torch.tensor([1.0, value]))


def test_multi_location_families_name_the_predictor_they_need():
    with pytest.raises(ValueError, match="response_dim 2 for ZeroInflatedLogNormalExperts, got 3"):
        ZeroInflatedLogNormalExperts(LinearPredictor(D, K, response_dim=3, generator=seeded()))
    with pytest.raises(ValueError, match="response_dim 1 for CategoricalExperts, got None"):
        CategoricalExperts(LinearPredictor(D, K, generator=seeded()))


def test_negative_binomial_experts_without_dispersion_are_poisson_ones():
    """At a dispersion of 1e-13 all derivatives in the location agree to the order of the dispersion."""
    experts = NegativeBinomialExperts(ConstantPredictor(1, generator=seeded()))
    y = torch.tensor([0.0, 1.0, 7.0, 60.0], dtype=torch.float64)
    eta, log_dispersion = normal(1, 4), torch.full((1, 1), math.log(1e-13), dtype=torch.float64)
    ours, poisson = (
        experts.density_terms(y, eta, log_dispersion),
        PoissonExperts(experts.predictor).density_terms(y, eta),
    )
    torch.testing.assert_close(ours.log_prob, poisson.log_prob, rtol=1e-10, atol=0)
    torch.testing.assert_close(ours.first[0], poisson.first[0], rtol=1e-10, atol=0)
    torch.testing.assert_close(ours.second[0][0], poisson.second[0][0], rtol=1e-10, atol=0)
    rate = eta.exp()
    expected = 0.5e-13 * ((y - rate).square() - y)  # the score test of overdispersion
    torch.testing.assert_close(ours.first[1], expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.second[1][1], expected, rtol=1e-6, atol=0)


def test_vector_responses_have_the_dimension_of_the_experts():
    with pytest.raises(ValueError, match=r"y must have 2 responses in its last dimension, got shape \(5, 3\)"):
        build_experts(VECTOR["full-own"].make).check_response(torch.zeros(5, 3))


SCALAR_FAMILIES = [GaussianExperts, LaplaceExperts, NegativeBinomialExperts, PoissonExperts, StudentTExperts]


@pytest.mark.parametrize("family", SCALAR_FAMILIES)
def test_predictors_of_another_kind_are_named(family):
    with pytest.raises(TypeError, match=r"predictor must be a mixkit\.experts\.predictors\.Predictor .*, got Identity"):
        family(nn.Identity())
    with pytest.raises(ValueError, match=r"predictor must have response_dim None .*, got 2"):
        family(LinearPredictor(D, K, response_dim=2, generator=seeded()))


def test_parts_of_a_vector_family_must_agree():
    means = LinearPredictor(D, K, response_dim=P, generator=seeded())
    with pytest.raises(ValueError, match="predictor and covariance must have one num_experts, got 3 and 4"):
        MultivariateGaussianExperts(means, FullCovariance(4, P))
    with pytest.raises(ValueError, match="predictor and covariance must have one response_dim, got 2 and 5"):
        MultivariateGaussianExperts(means, FullCovariance(K, 5))
    with pytest.raises(TypeError, match=r"covariance must be a mixkit\.experts\.Covariance, got str"):
        MultivariateGaussianExperts(means, "full")
    with pytest.raises(TypeError, match="predictor must be"):
        MultivariateGaussianExperts(torch.ones(2), FullCovariance(K, P))


def test_degrees_of_freedom_are_positive():
    for df in (0.0, -1.0, INF):
        with pytest.raises(ValueError, match=f"df must be positive and finite, got {df}"):
            StudentTExperts(ConstantPredictor(2, generator=seeded()), df=df)


def test_families_start_where_they_say():
    x = torch.zeros(1, D)
    law = StudentTExperts(ConstantPredictor(2, generator=seeded()), df=3.0)(x)
    torch.testing.assert_close(law.df, torch.full((1, 2), 3.0))
    assert torch.equal(law.scale, torch.ones(1, 2))
    assert torch.equal(linear_gaussian_experts(D, 2, generator=seeded())(x).stddev, torch.ones(1, 2))
    first, second = (linear_gaussian_experts(D, 2, generator=seeded(5)).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_gaussian_experts_of_tiny_and_huge_scales_have_finite_densities_and_gradients():
    experts = build_experts(SCALAR["gaussian-constant-mean"].make)
    with torch.no_grad():
        experts.log_std.copy_(torch.tensor([1e-150, 1.0, 1e150], dtype=torch.float64).log())
        experts.predictor.intercept.zero_()
    y = experts(torch.zeros(1, D)).mean.detach() + experts.log_std.detach().exp() * 2.0
    value = experts(torch.zeros(1, D).double()).log_prob(y)
    torch.testing.assert_close(value, (-2.0 - experts.log_std - 0.5 * math.log(2 * math.pi)).unsqueeze(0))
    value.sum().backward()
    assert all(p.grad.isfinite().all() for p in experts.parameters())


def test_poisson_experts_of_tiny_rates_keep_their_log_probabilities():
    experts = PoissonExperts(ConstantPredictor(2, dtype=torch.float64, generator=seeded()))
    with torch.no_grad():
        experts.predictor.intercept.copy_(torch.tensor([-1e4, -800.0]))
    value = experts(torch.zeros(1, D)).log_prob(torch.tensor([[3.0], [0.0]], dtype=torch.float64).unsqueeze(-1))
    expected = torch.tensor([[-3e4, -2400.0]], dtype=torch.float64) - math.log(6.0)
    torch.testing.assert_close(value[0], expected)
    assert torch.equal(value[1], torch.zeros(1, 2, dtype=torch.float64))
    value.sum().backward()
    assert torch.equal(experts.predictor.intercept.grad, torch.tensor([3.0, 3.0], dtype=torch.float64))


def test_student_t_with_many_degrees_of_freedom_is_normal():
    """At df = 1e12 the difference is of order 1e-12; a difference of log-gammas would be wrong by 1e-3."""
    experts = StudentTExperts(ConstantPredictor(1, dtype=torch.float64, generator=seeded()), dtype=torch.float64)
    with torch.no_grad():
        experts.log_df.fill_(math.log(1e12))
    law, y = experts(torch.zeros(1, 1)), normal(20, 1, seed=7, scale=3.0)
    expected = torch.distributions.Normal(law.loc, 1.0).log_prob(y)
    torch.testing.assert_close(law.log_prob(y), expected, rtol=1e-10, atol=1e-10)
    terms = experts.density_terms(y[:, 0], law.loc.expand(1, 20), torch.zeros(1, 1), experts.log_df.reshape(1, 1))
    assert terms.first[2].abs().max() < 1e-8
    assert terms.second[2][2].abs().max() < 1e-8


def test_student_t_far_out_is_a_power_law():
    experts = StudentTExperts(ConstantPredictor(1, generator=seeded()))
    y = torch.tensor([1e100, 1e200, 1e300], dtype=torch.float64)
    eta = torch.zeros(1, 3, dtype=torch.float64)
    constants = [torch.zeros(1, 1, dtype=torch.float64), torch.full((1, 1), math.log(3.0), dtype=torch.float64)]
    terms = experts.density_terms(y, eta, *constants)
    torch.testing.assert_close(terms.log_prob.diff(), torch.full((1, 2), -400 * math.log(10.0), dtype=torch.float64))
    assert all(t.isfinite().all() for t in [*terms.first, *itertools.chain(*terms.second)])
    torch.testing.assert_close(terms.first[1], torch.full((1, 3), 3.0, dtype=torch.float64))  # df
    leaf = eta.clone().requires_grad_()
    experts.log_density(y, leaf, *constants).sum().backward()
    torch.testing.assert_close(leaf.grad, terms.first[0])


def test_building_experts_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for family in FAMILIES.values():
            build_experts(family.make)(normal(N, D))
