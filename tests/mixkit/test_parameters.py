"""Records of parameters: what every part says of its own, and what follows from it."""

import pytest
import torch
from torch import nn

from mixkit import MixtureOfExperts, linear_gaussian_experts
from mixkit.experts import (
    CategoricalExperts,
    DiagonalCovariance,
    FullCovariance,
    GaussianExperts,
    LocationExperts,
    MixedExperts,
    MultivariateGaussianExperts,
    NegativeBinomialExperts,
    PoissonExperts,
    SphericalCovariance,
    StudentTExperts,
    ZeroInflatedLogNormalExperts,
)
from mixkit.experts.predictors import ConstantPredictor, LinearPredictor, ModulePredictor
from mixkit.gates import (
    Gate,
    activation_gate,
    dense_to_sparse_gate,
    gate_by_name,
    gate_names,
    laplace_gate,
    sigmoid_gate,
    softmax_gate,
)
from mixkit.gates.normalizers import Softmax
from mixkit.gates.scores import LinearScore, ModuleScore, Score
from mixkit.gates.temperatures import FixedTemperature, InputTemperature, LearnableTemperature
from mixkit.parameters import Axis, CholeskyFactor, Exp, free_mask, has_form, num_redundant, records_of
from tests.mixkit.expert_table import FAMILIES, build_experts
from tests.mixkit.gate_table import GATES, build, seeded

DOUBLE = {"dtype": torch.float64}


def options(seed=0):
    return DOUBLE | {"generator": seeded(seed)}


def labels_of(model):
    """Names of all free entries, as users read them."""
    found = []
    for record in records_of(model):
        mask = free_mask(record, model.get_parameter(record.name))
        found += [record.label(tuple(index)) for index in mask.nonzero().tolist()]
    return found


def mixture(gate=None, experts=None):
    if experts is None:
        experts = linear_gaussian_experts(1, gate.num_experts, **options())
    return MixtureOfExperts(softmax_gate(1, experts.num_experts, **options()) if gate is None else gate, experts)


def constant(num_experts, **settings):
    return ConstantPredictor(num_experts, **options(), **settings)


def linear(**settings):
    return LinearPredictor(1, 1, **options(), **settings)


def network():
    with torch.random.fork_rng(devices=[]):
        return nn.Linear(1, 2, bias=False, dtype=torch.float64)


GATE_LABELS = {
    "softmax": (softmax_gate(1, 2, **options()), ["gate_weight[0,x0]", "gate_bias[0]"]),
    "sigmoid": (
        sigmoid_gate(1, 2, **options()),
        ["gate_weight[0,x0]", "gate_weight[1,x0]", "gate_bias[0]", "gate_bias[1]"],
    ),
    "laplace": (laplace_gate(1, 2, **options()), ["gate_center[0,x0]", "gate_center[1,x0]", "gate_bias[0]"]),
    "activation": (
        activation_gate(1, 2, **options()),
        ["gate_weight[0,x0]", "gate_weight[1,x0]", "gate_bias[0]", "temperature"],
    ),
    "dense to sparse": (dense_to_sparse_gate(1, 2, **options()), ["gate_weight[0,x0]", "gate_bias[0]", "temperature"]),
    "input temperature": (
        Gate(LinearScore(1, 2, **options()), temperature=InputTemperature(1, **DOUBLE)),
        ["gate_weight[0,x0]", "gate_bias[0]", "temperature_weight[x0]", "temperature_bias"],
    ),
    "module": (
        Gate(ModuleScore(network(), 2)),
        ["gate_module.weight[0,0]", "gate_module.weight[1,0]"],
    ),
}


@pytest.mark.parametrize(("gate", "expected"), GATE_LABELS.values(), ids=GATE_LABELS)
def test_labels_of_gates(gate, expected):
    assert labels_of(mixture(gate))[: len(expected)] == expected


def vector(covariance):
    return MultivariateGaussianExperts(constant(1, response_dim=2), covariance(1, 2, **DOUBLE))


EXPERT_LABELS = {
    "student": (StudentTExperts(constant(1)), ["intercept[0]", "scale[0]", "df[0]"]),
    "shared": (GaussianExperts(constant(2), shared_std=True), ["intercept[0]", "intercept[1]", "std[0]"]),
    "categorical": (
        CategoricalExperts(linear(response_dim=2)),
        ["slope[0,0,x0]", "slope[0,1,x0]", "intercept[0,0]", "intercept[0,1]"],
    ),
    "zero-inflated": (
        ZeroInflatedLogNormalExperts(constant(1, response_dim=2)),
        ["intercept[0,logit]", "intercept[0,mean]", "std[0]"],
    ),
    "full": (
        vector(FullCovariance),
        ["intercept[0,0]", "intercept[0,1]", "std[0,0]", "correlation[0,1,0]", "std[0,1]"],
    ),
    "diagonal": (vector(DiagonalCovariance), ["intercept[0,0]", "intercept[0,1]", "std[0,0]", "std[0,1]"]),
    "spherical": (vector(SphericalCovariance), ["intercept[0,0]", "intercept[0,1]", "std[0]"]),
    "mixed": (
        MixedExperts([PoissonExperts(constant(2)), NegativeBinomialExperts(constant(1))]),
        ["intercept[0]", "intercept[1]", "intercept[2]", "dispersion[2]"],
    ),
    "module": (
        GaussianExperts(ModulePredictor(network(), 2)),
        ["experts.predictor.module.weight[1,0]", "std[0]", "std[1]"],
    ),
}


@pytest.mark.parametrize(("experts", "expected"), EXPERT_LABELS.values(), ids=EXPERT_LABELS)
def test_labels_of_experts(experts, expected):
    assert labels_of(mixture(experts=experts))[-len(expected) :] == expected


@pytest.mark.parametrize("name", GATES)
def test_every_gate_has_a_record_of_each_parameter(name):
    gate = build(GATES[name])
    model = MixtureOfExperts(gate, linear_gaussian_experts(3, gate.num_experts, **options()))
    records = records_of(model)
    own = dict(model.named_parameters())
    assert {record.name for record in records} == own.keys()
    for record in records:
        assert not record.axes or len(record.axes) == own[record.name].ndim
        if Axis.EXPERT in record.axes:
            assert own[record.name].shape[record.axes.index(Axis.EXPERT)] in (1, model.num_experts)
        if Axis.COVARIATE in record.axes:
            assert own[record.name].shape[record.axes.index(Axis.COVARIATE)] == 3
    assert len(set(labels_of(model))) == len(labels_of(model))


@pytest.mark.parametrize("name", GATES)
def test_a_translation_of_all_experts_changes_nothing_where_records_say_so(name):
    """One vector added to every translated parameter's rows."""
    gate = build(GATES[name]).eval()
    if gate.normalizer.couples_rows:
        pytest.skip("iterations that balance rows and columns forget a shift only in the limit")
    model = MixtureOfExperts(gate, linear_gaussian_experts(3, gate.num_experts, **options()))
    x = torch.randn(7, 3, generator=seeded(4), **DOUBLE)
    before = gate(x)
    with torch.no_grad():
        for record in records_of(model):
            if record.is_translated:
                value = model.get_parameter(record.name)
                value.add_(0.3 * torch.randn(value.shape[1:], generator=seeded(5), **DOUBLE))
    torch.testing.assert_close(gate(x), before, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_family_has_a_record_of_each_parameter(family):
    experts = build_experts(family.make, **DOUBLE)
    model = MixtureOfExperts(softmax_gate(3, experts.num_experts, **options()), experts)
    assert {record.name for record in records_of(model)} == {name for name, _ in model.named_parameters()}
    assert not any(record.is_generic for record in records_of(model) if "module" not in record.name)


class TestCholeskyFactor:
    def test_users_read_standard_deviations_and_correlations(self):
        covariance = FullCovariance(3, 4, **DOUBLE)
        with torch.no_grad():
            covariance.factor.copy_(torch.randn(3, 4, 4, generator=seeded(0), **DOUBLE))
        tril = covariance.scale_tril()
        matrix = tril @ tril.mT
        std = matrix.diagonal(dim1=-2, dim2=-1).sqrt()
        users = CholeskyFactor().value(covariance.factor)
        torch.testing.assert_close(users.diagonal(dim1=-2, dim2=-1), std)
        correlation = matrix / (std.unsqueeze(-1) * std.unsqueeze(-2))
        torch.testing.assert_close(users.tril(-1), correlation.tril(-1))
        assert not users.triu(1).any()

    def test_extremes(self):
        factor = torch.tensor([[-400.0, 0.0], [0.0, 300.0]], **DOUBLE)
        users = CholeskyFactor().value(factor)
        torch.testing.assert_close(users.diagonal(), torch.tensor([-400.0, 300.0], **DOUBLE).exp())
        assert float(users[1, 0]) == 0.0

    def test_the_jacobian_is_that_of_the_value(self):
        factor = torch.randn(2, 3, 3, generator=seeded(1), **DOUBLE)
        found, step = CholeskyFactor().jacobian(factor), 1e-6
        bent = factor.clone()
        bent[1, 2, 0] += step
        slope = (CholeskyFactor().value(bent) - CholeskyFactor().value(factor)) / step
        torch.testing.assert_close(found[..., 1, 2, 0], slope, atol=1e-5, rtol=1e-5)

    def test_zeros_above_the_diagonal_are_no_parameters(self):
        record = next(r for r in records_of(mixture(experts=vector(FullCovariance))) if r.block == "covariance")
        assert free_mask(record, torch.zeros(1, 2, 2)).tolist() == [[[True, False], [True, True]]]


REDUNDANT = {
    "linear": (dense_to_sparse_gate(1, 2, **options()), 1),
    "activation": (activation_gate(1, 2, **options()), 0),
    "distance": (Gate(laplace_gate(1, 2, **options()).score, temperature=LearnableTemperature(**DOUBLE)), 0),
    "no temperature": (softmax_gate(1, 2, **options()), 0),
    "input": (Gate(LinearScore(1, 2, **options()), temperature=InputTemperature(1, **DOUBLE)), 0),
}


@pytest.mark.parametrize(("gate", "expected"), REDUNDANT.values(), ids=REDUNDANT)
def test_a_temperature_beside_homogeneous_scores_is_redundant(gate, expected):
    assert num_redundant(mixture(gate)) == expected
    if expected:
        gate.score.weight.requires_grad_(False)  # a weight that is known tells the temperature
        assert num_redundant(mixture(gate)) == 0
        gate.score.weight.requires_grad_(True)


class TestUsersParts:
    def test_a_family_that_names_its_scale_says_all_by_it(self):
        class Family(LocationExperts):
            constant_names = ("log_sigma", "log_tail", "skew")
            scale_name = "log_sigma"

            def __init__(self, predictor):
                super().__init__(predictor)
                for name in self.constant_names:
                    setattr(self, name, nn.Parameter(torch.zeros(self.num_experts)))
                self.extra = nn.Parameter(torch.zeros(2))

            def forward(self, x):
                raise NotImplementedError

            def log_density(self, y, eta, *constants):
                raise NotImplementedError

        records = {record.name: record for record in records_of(mixture(experts=Family(constant(1))))}
        sigma, tail, skew, extra = (records[f"experts.{name}"] for name in ("log_sigma", "log_tail", "skew", "extra"))
        assert (sigma.block, sigma.transform, sigma.has_floor) == ("sigma", Exp(), True)
        assert (tail.block, tail.transform, tail.has_floor) == ("tail", Exp(), False)
        assert (skew.block, skew.has_floor, skew.label((0,))) == ("skew", False, "skew[0]")
        assert not skew.transform.is_log((1,)).any()
        assert extra.is_generic
        assert extra.label((1,)) == "extra[1]"

    def test_a_score_inherits_no_statement_about_what_it_overrides(self):
        class Same(LinearScore):
            pass

        class Other(LinearScore):
            def slope_score(self, x):
                return super().slope_score(x).exp()

        class Told(Other):
            is_homogeneous = True

            def add_bias(self, slope_scores):
                return 2 * super().add_bias(slope_scores)

        assert Same.is_homogeneous
        assert Same.translated == ("weight", "bias")
        assert has_form(Same(1, 2, **options()), LinearScore)
        assert Other.translated == Score.translated == ("bias",)
        stated = (Other.is_homogeneous, Other.is_vectorized, Other.can_shift, Other.can_scale)
        assert stated == (False, False, False, False)
        assert not has_form(Other(1, 2, **options()), LinearScore)
        assert Told.is_homogeneous
        assert not Told.is_vectorized
        score = LinearScore(1, 2, **options())
        score.slope_score = lambda x: x  # one object of its own
        assert not has_form(score, LinearScore)

    def test_nor_does_a_temperature_or_a_normalizer(self):
        class ByRow(FixedTemperature):
            def divide(self, scores, x):
                return scores / x[..., :1].exp()

        class Cubed(Softmax):
            def log_weights(self, scores):
                return super().log_weights(scores**3)

        assert (FixedTemperature.depends_on_x, ByRow.depends_on_x, ByRow.is_vectorized) == (False, True, False)
        assert (Softmax.shift_invariant, Cubed.shift_invariant) == (True, False)


def test_gates_by_name():
    assert set(gate_names()) == {"softmax", "top-k", "temperature", "activation", "sigmoid", "laplace", "constant"}
    assert set(gate_names()) - set(gate_names(with_options=False)) == {"top-k"}
    x = torch.randn(5, 2, generator=seeded(0), **DOUBLE)
    for name in gate_names(with_options=False):
        assert gate_by_name(name, 2, 3, **options())(x).exp().sum(-1).tolist() == pytest.approx([1.0] * 5)
    assert gate_by_name("top-k", 2, 3, num_selected=1, **options()).num_selected == 1
    with pytest.raises(ValueError, match=r"gate must be one of \['activation', .*'top-k'\], got 'soft'"):
        gate_by_name("soft", 2, 3)
