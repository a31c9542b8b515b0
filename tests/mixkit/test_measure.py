"""The mixing measure: round trips, its two freedoms, sampling, and how it shows and moves."""

import copy
import itertools
import pickle
import warnings

import numpy as np
import pytest
import torch
from scipy import stats

from mixkit import (
    Gate,
    GaussianExperts,
    MixingMeasure,
    MixtureOfExperts,
    ModulePredictor,
    PoissonExperts,
    activation_gate,
    constant_gate,
    dense_to_sparse_gate,
    laplace_gate,
    linear_gaussian_experts,
    sigmoid_gate,
    softmax_gate,
    topk_gate,
)
from mixkit.experts.predictors import LinearPredictor
from mixkit.gates.normalizers import Sparsemax
from mixkit.gates.scores import CosineScore, LinearScore, QuadraticScore
from mixkit.gates.temperatures import FixedTemperature, InputTemperature, LearnableTemperature, ScheduledTemperature
from mixkit.schedules import LinearSchedule
from tests.mixkit.expert_table import double
from tests.mixkit.gate_table import normal, seeded

FIELDS = ("gate_bias", "gate_weight", "slope", "intercept", "variance")


def measure(k=3, d=2, batch=(), seed=1, dtype=torch.float64):
    parts = [(*batch, k), (*batch, k, d), (*batch, k, d), (*batch, k), (*batch, k)]
    values = [normal(*shape, seed=100 * seed + i, dtype=dtype) for i, shape in enumerate(parts)]
    return MixingMeasure(*values[:-1], values[-1].exp())


def assert_same(first, second, **tolerance):
    for name in FIELDS:
        torch.testing.assert_close(getattr(first, name), getattr(second, name), **tolerance)


def log_density(g, x, y, **gate):
    return g.to_module(**gate).log_prob(x, y)


def moved(g, seed=7):
    """The same law: atoms permuted at random in each measure of the batch, the gate translated at random."""
    order = torch.rand(g.gate_bias.shape, generator=seeded(seed)).argsort(-1)
    out = g.permute(order)
    shift_0 = normal(*g.batch_shape, 1, seed=seed + 1, scale=5.0)
    shift_1 = normal(*g.batch_shape, 1, g.num_features, seed=seed + 2, scale=5.0)
    return MixingMeasure(out.gate_bias + shift_0, out.gate_weight + shift_1, out.slope, out.intercept, out.variance)


every_size = pytest.mark.parametrize(
    ("k", "d", "batch"),
    [*itertools.product(range(2, 7), range(1, 4), [()]), (3, 2, (4,)), (5, 1, (2, 3)), (1, 2, ())],
)


@every_size
def test_a_round_trip_through_a_module(k, d, batch):
    g = measure(k, d, batch)
    model = g.to_module()
    assert_same(MixingMeasure.from_module(model), g, rtol=1e-14, atol=0)
    assert isinstance(model, MixtureOfExperts)
    assert not any(p.dtype != torch.float64 for p in model.parameters())


def test_the_density_is_the_papers():
    g, x, y = measure(3, 2), normal(20, 2), normal(20)
    parts = {name: getattr(g, name).numpy() for name in FIELDS}
    scores = np.exp(x.numpy() @ parts["gate_weight"].T + parts["gate_bias"])
    means = x.numpy() @ parts["slope"].T + parts["intercept"]
    density = stats.norm.pdf(y.numpy()[:, None], means, np.sqrt(parts["variance"]))
    expected = np.log((scores * density).sum(-1) / scores.sum(-1))
    np.testing.assert_allclose(log_density(g, x, y).detach(), expected, rtol=1e-12, atol=1e-12)


@every_size
def test_permuting_and_translating_leave_the_law(k, d, batch):
    g, x, y = measure(k, d, batch), normal(*batch, 10, d), normal(*batch, 10)
    before = log_density(g, x, y)
    torch.testing.assert_close(log_density(moved(g), x, y), before, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(log_density(g.canonical(), x, y), before, rtol=1e-10, atol=1e-10)


@every_size
@pytest.mark.parametrize("seed", range(3))
def test_aligning_undoes_permutation_and_translation(k, d, batch, seed):
    g = measure(k, d, batch, seed=seed + 1)
    assert_same(moved(g, seed=seed).align(g), g, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("seed", range(5))
def test_aligning_a_noisy_copy_finds_the_permutation(seed):
    """The atoms come back in order, and the gates with the mean of the noise taken out."""
    g = measure(5, 2, seed=seed + 1)
    noise = [1e-3 * normal(*getattr(g, name).shape, seed=50 + seed + i) for i, name in enumerate(FIELDS)]
    noisy = MixingMeasure(*(getattr(g, name) * (1 + e) for name, e in zip(FIELDS, noise, strict=True)))
    aligned = moved(noisy, seed=seed).align(g)
    for name in ("slope", "intercept", "variance"):
        torch.testing.assert_close(getattr(aligned, name), getattr(noisy, name))
    gap = noisy.gate_weight - g.gate_weight
    torch.testing.assert_close(aligned.gate_weight - g.gate_weight, gap - gap.mean(-2, keepdim=True))


def test_aligning_leaves_the_law():
    g, other, x, y = measure(4, 2), measure(4, 2, seed=2), normal(10, 2), normal(10)
    torch.testing.assert_close(log_density(g.align(other), x, y), log_density(g, x, y), rtol=1e-11, atol=1e-11)


def test_aligning_is_by_the_gate_where_the_experts_are_alike():
    g = measure(4, 2)
    same = MixingMeasure(g.gate_bias, g.gate_weight, 0 * g.slope, 0 * g.intercept, 0 * g.variance + 1)
    assert_same(moved(same).align(same), same, rtol=1e-12, atol=1e-13)


def test_aligning_is_by_the_experts_where_the_gate_is_constant():
    g = measure(4, 2)
    constant = MixingMeasure(g.gate_bias, 0 * g.gate_weight, g.slope, g.intercept, g.variance)
    assert_same(moved(constant).align(constant), constant, rtol=1e-12, atol=1e-13)


def test_the_assignment_is_the_best_of_all_permutations():
    """By enumeration of the 24 permutations with each translation that makes one pair of gates agree."""
    g, other = measure(4, 2, seed=3), measure(4, 2, seed=4)

    def cost(order, shift):
        p = g.permute(order)
        gate = (other.gate_weight - p.gate_weight - shift).norm(dim=-1).sum()
        experts = (other.slope - p.slope).norm(dim=-1).sum()
        return float(
            gate + experts + (other.intercept - p.intercept).abs().sum() + (other.variance - p.variance).abs().sum()
        )

    shifts = (other.gate_weight[:, None] - g.gate_weight[None]).reshape(-1, 2)
    orders = list(itertools.permutations(range(4)))
    best = min(orders, key=lambda order: min(cost(order, shift) for shift in shifts))
    assert torch.equal(g.align(other).slope, g.permute(best).slope)


def test_the_canonical_form_has_its_last_atom_at_zero():
    g = measure(3, 2, (4,)).canonical()
    assert (g.gate_bias[..., -1] == 0).all()
    assert (g.gate_weight[..., -1, :] == 0).all()
    assert_same(g.canonical(), g, rtol=0, atol=0)


def test_permuting():
    g = measure(3, 2, (2,))
    each = g.permute(torch.tensor([[2, 0, 1], [0, 1, 2]]))
    assert torch.equal(each.slope[0], g.slope[0, [2, 0, 1]])
    assert torch.equal(each.gate_bias[1], g.gate_bias[1])
    assert_same(g.permute([2, 0, 1]).permute([1, 2, 0]), g, rtol=0, atol=0)
    for order in ([0, 0, 1], [0, 1], [1, 2, 3], [0.0, 1.0, 2.5], 0):
        with pytest.raises(ValueError, match=r"order must be a permutation of 0\.\.2, got"):
            g.permute(order)


class TestSampling:
    def test_the_draws_are_the_generators(self):
        g = measure(2, 3, (4,))
        x, y = g.sample_xy(50, generator=seeded(5))
        assert x.shape == (4, 50, 3)
        assert y.shape == (4, 50)
        assert x.dtype == y.dtype == torch.float64
        assert ((x >= 0) & (x < 1)).all()
        again = g.sample_xy(50, generator=seeded(5))
        assert torch.equal(x, again[0])
        assert torch.equal(y, again[1])
        assert not torch.equal(y, g.sample(x, generator=seeded(6)))

    def test_the_responses_follow_the_conditional_law(self):
        """Kolmogorov-Smirnov of the probability transform; false alarm 1e-5."""
        g = measure(3, 2)
        x, y = g.sample_xy(5000, generator=seeded(6))
        assert stats.kstest(g.to_module()(x).cdf(y).detach().numpy(), "uniform").pvalue > 1e-5

    def test_a_gate_of_another_kind(self):
        g = measure(3, 2)
        gate = topk_gate(2, 3, 1, generator=seeded())
        x, y = g.sample_xy(5000, gate=gate, generator=seeded(7))
        law = g.to_module(gate)(x)
        assert ((law.log_weights > -torch.inf).sum(-1) == 1).all()
        assert stats.kstest(law.cdf(y).detach().numpy(), "uniform").pvalue > 1e-5
        assert gate.score.weight.dtype == torch.float32  # the gate that was given is left as it was

    def test_the_number_of_pairs(self):
        with pytest.raises(ValueError, match="n must be at least 1, got 0"):
            measure().sample_xy(0, generator=seeded())


class TestModules:
    def test_other_gates_with_a_linear_score(self):
        g = measure(3, 2)
        gate = Gate(LinearScore(2, 3, generator=seeded()), normalizer=Sparsemax())
        model = g.to_module(gate)
        assert isinstance(model.gate.normalizer, Sparsemax)
        assert_same(MixingMeasure.from_module(model), g, rtol=1e-14, atol=0)

    def test_centers_of_a_laplace_gate_are_its_weights(self):
        g = measure(3, 2)
        model = g.to_module(laplace_gate(2, 3, generator=seeded()))
        assert torch.equal(model.gate.score.center, g.gate_weight)
        x = torch.randn(5, 2, dtype=torch.float64, generator=seeded(8))
        scores = g.gate_bias - torch.cdist(x, g.gate_weight)
        torch.testing.assert_close(model.gate(x), torch.log_softmax(scores, -1))
        assert_same(MixingMeasure.from_module(model), g, rtol=1e-14, atol=0)

    def test_a_shared_standard_deviation(self):
        experts = linear_gaussian_experts(2, 3, shared_std=True, dtype=torch.float64, generator=seeded())
        model = MixtureOfExperts(softmax_gate(2, 3, dtype=torch.float64, generator=seeded()), experts)
        assert MixingMeasure.from_module(model).variance.tolist() == [1.0, 1.0, 1.0]

    def test_a_batch_of_experts_built_of_a_predictor_alone(self):
        settings = {"batch_shape": (4,), "dtype": torch.float64, "generator": seeded()}
        model = MixtureOfExperts(softmax_gate(2, 3, **settings), GaussianExperts(LinearPredictor(2, 3, **settings)))
        g = MixingMeasure.from_module(model)
        assert torch.equal(g.variance, torch.ones(4, 3, dtype=torch.float64))
        assert_same(MixingMeasure.from_module(g.to_module()), g, rtol=1e-14, atol=0)

    def test_gradients_flow_to_the_module_but_values_are_copies(self):
        model = measure(3, 2).to_module()
        g = MixingMeasure.from_module(model)
        (g.slope.sum() + g.variance.sum() + g.gate_bias.sum()).backward()
        torch.testing.assert_close(model.experts.log_std.grad, 2 * g.variance.detach())
        before = g.detach().slope.clone()
        with torch.no_grad():
            model.experts.predictor.slope += 1.0
        assert torch.equal(g.slope, before)
        assert not g.detach().variance.requires_grad

    def test_models_that_are_no_mixing_measure(self):
        gate, linear = softmax_gate(2, 3, generator=seeded()), linear_gaussian_experts(2, 3, generator=seeded())
        with torch.random.fork_rng(devices=[]):
            network = ModulePredictor(torch.nn.Linear(2, 3), 3)
        with pytest.raises(TypeError, match=r"model\.experts must be Gaussian with a linear mean, got PoissonExperts"):
            MixingMeasure.from_module(MixtureOfExperts(gate, PoissonExperts(LinearPredictor(2, 3, generator=seeded()))))
        with pytest.raises(TypeError, match=r"model\.experts must be Gaussian with a linear mean"):
            MixingMeasure.from_module(MixtureOfExperts(gate, GaussianExperts(network)))
        for own in (constant_gate(3), Gate(QuadraticScore(2, 3, generator=seeded()))):
            with pytest.raises(TypeError, match=r"model\.gate\.score must have a bias and one weight per expert, got "):
                MixingMeasure.from_module(MixtureOfExperts(own, linear))

    @pytest.mark.parametrize(
        "gate",
        [softmax_gate(3, 3, generator=seeded()), constant_gate(3), softmax_gate(2, 3, bias=False, generator=seeded())],
    )
    def test_gates_that_cannot_hold_the_measure(self, gate):
        with pytest.raises(ValueError, match=r"gate\.score\.(weight|bias) must be a parameter of shape \(3.*, got"):
            measure(3, 2).to_module(gate)


def other_gates(d=2, k=3):
    """Gates that are more than their parameters, with what may move of them: beta_0, beta_1."""
    settings = {"dtype": torch.float64, "generator": seeded(20)}
    warm, by_x = LearnableTemperature(0.3, dtype=torch.float64), InputTemperature(d, dtype=torch.float64)
    return {
        "temperature": (dense_to_sparse_gate(d, k, temperature=warm, **settings), True, True),
        "input temperature": (dense_to_sparse_gate(d, k, temperature=by_x, **settings), True, True),
        "top-k": (topk_gate(d, k, 2, **settings), True, True),
        "sparsemax": (Gate(LinearScore(d, k, **settings), normalizer=Sparsemax()), True, True),
        "laplace": (laplace_gate(d, k, **settings), True, False),
        "cosine": (Gate(CosineScore(d, k, **settings)), True, False),
        "activation": (activation_gate(d, k, **settings), True, False),
        "sigmoid": (sigmoid_gate(d, k, **settings), False, False),
    }


every_other_gate = pytest.mark.parametrize("name", list(other_gates()))


class TestOtherGates:
    """A measure read off a gate that is more than its parameters."""

    def of(self, name):
        gate, *moves = other_gates()[name]
        model = measure(3, 2).to_module(gate)
        return model, MixingMeasure.from_module(model).detach(), moves

    @every_other_gate
    def test_it_asks_for_the_gate(self, name):
        model, g, _ = self.of(name)
        x, y = normal(20, 2), normal(20)
        for again in (g, pickle.loads(pickle.dumps(g)), copy.deepcopy(g), g.detach().to("cpu").permute([0, 1, 2])):
            for use in (again.to_module, lambda m=again: m.sample(x), lambda m=again: m.sample_xy(2)):
                with pytest.raises(ValueError, match=r"gate must be given for a measure that was read off a gate of "):
                    use()
        torch.testing.assert_close(g.to_module(model.gate).log_prob(x, y), model.log_prob(x, y), rtol=1e-12, atol=0)
        assert isinstance(g.to_module(softmax_gate(2, 3, generator=seeded())).gate.score, LinearScore)

    @every_other_gate
    @pytest.mark.parametrize("known", [True, False], ids=["read off", "given"])
    def test_aligning_and_the_canonical_form_leave_the_law(self, name, known):
        model, g, (bias_moves, weight_moves) = self.of(name)
        x, y, before = normal(20, 2), normal(20), model.log_prob(normal(20, 2), normal(20))
        far = MixingMeasure(g.gate_bias + 1, g.gate_weight + 2, g.slope, g.intercept, g.variance).permute([2, 0, 1])
        told = {} if known else {"gate": model.gate}
        g = g if known else MixingMeasure(*(getattr(g, field) for field in FIELDS))
        for moved_to in (g.align(far, **told), g.canonical(**told)):
            found = moved_to.to_module(model.gate).log_prob(x, y)
            torch.testing.assert_close(found, before, rtol=1e-10, atol=1e-10)
        aligned = g.align(far, **told)
        assert torch.equal(aligned.slope, far.slope)
        for moves, own, target in (
            (bias_moves, aligned.gate_bias, far.gate_bias),
            (weight_moves, aligned.gate_weight, far.gate_weight),
        ):
            assert torch.allclose(own, target) == moves

    def test_experts_alike_are_matched_by_gates_that_may_not_move(self):
        """The centers of a Laplace gate say which is which, without a translation first."""
        _, g, _ = self.of("laplace")
        alike = MixingMeasure(g.gate_bias, g.gate_weight, 0 * g.slope, 0 * g.intercept, 0 * g.variance + 1)
        back = alike.permute([1, 2, 0]).align(alike, gate=laplace_gate(2, 3, generator=seeded()))
        assert_same(back, alike, rtol=1e-12, atol=1e-13)

    def test_what_is_no_gate(self):
        with pytest.raises(TypeError, match=r"gate must be a mixkit\.gates\.Gate or None, got str"):
            measure().canonical(gate="laplace")

    @pytest.mark.parametrize(
        "temperature",
        [
            FixedTemperature(0.3),
            LearnableTemperature(0.3, dtype=torch.float64),
            ScheduledTemperature(LinearSchedule(0.3, 0.1, 5), dtype=torch.float64),
        ],
        ids=lambda t: type(t).__name__,
    )
    def test_a_temperature_folded_in(self, temperature):
        model = measure(3, 2).to_module(softmax_gate(2, 3, generator=seeded()))
        model.gate.temperature = temperature
        g, x, y = MixingMeasure.from_module(model, fold_temperature=True), normal(20, 2), normal(20)
        torch.testing.assert_close(g.to_module().log_prob(x, y), model.log_prob(x, y), rtol=1e-12, atol=0)
        torch.testing.assert_close(g.gate_weight, measure(3, 2).gate_weight / 0.3)
        assert_same(MixingMeasure.from_module(model), measure(3, 2), rtol=1e-12, atol=0)

    def test_temperatures_of_a_batch_folded_in(self):
        model = measure(3, 2, (4,)).to_module()
        model.gate.temperature = LearnableTemperature(batch_shape=(4,), dtype=torch.float64)
        with torch.no_grad():
            model.gate.temperature.log_temperature.copy_(normal(4))
        g, x, y = MixingMeasure.from_module(model, fold_temperature=True), normal(4, 20, 2), normal(4, 20)
        torch.testing.assert_close(g.to_module().log_prob(x, y), model.log_prob(x, y), rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("name", ["laplace", "input temperature", "activation"])
    def test_temperatures_that_do_not_fold(self, name):
        model, _, _ = self.of(name)
        with pytest.raises(ValueError, match="fold_temperature must be False unless the score is linear and the temp"):
            MixingMeasure.from_module(model, fold_temperature=True)

    def test_folding_leaves_the_rest_of_the_gate_to_be_given(self):
        model, _, _ = self.of("sigmoid")
        with pytest.raises(ValueError, match="a gate of LinearScore, Dense, NormalizedSigmoid: pass that gate"):
            MixingMeasure.from_module(model, fold_temperature=True).to_module()

    def test_stacking(self):
        _, g, _ = self.of("laplace")
        _, other, _ = self.of("sigmoid")
        both = MixingMeasure.stack([g, g.permute([2, 1, 0])])
        assert both.batch_shape == (2,)
        assert torch.equal(both[1].slope, g.slope.flip(0))
        with pytest.raises(ValueError, match="gate must be given"):
            both[0].to_module()
        with pytest.raises(ValueError, match="measures must hold at least one, all of one kind of gate, got"):
            MixingMeasure.stack([g, other])
        with pytest.raises(ValueError, match="measures must hold at least one"):
            MixingMeasure.stack([])
        with pytest.raises(ValueError, match=r"measures must have one shape .*, got \[\(2, 1\), \(3, 2\)"):
            MixingMeasure.stack([measure(3, 2), measure(2, 1)])


class TestValue:
    def test_the_table(self):
        g = MixingMeasure(
            double(-8.0, 0.0),
            double(25.0, 0.0)[:, None],
            double(-20.0, 20.0)[:, None],
            double(15.0, -5.0),
            double(0.09, 0.16),
        )
        lines = repr(g).splitlines()
        assert lines[0] == "MixingMeasure(k=2, d=1)"
        assert lines[1].split() == ["expert", *FIELDS]
        assert [float(v) for v in lines[2].split()] == [0, -8, 25, -20, 15, 0.09]
        assert len({len(line) for line in lines[1:]}) == 1

    def test_the_table_of_many_covariates_and_of_a_batch(self):
        assert "gate_weight[2]" in repr(measure(2, 3))
        assert "slope[0]" in repr(measure(2, 3))
        assert repr(measure(2, 3, (4, 5))) == "MixingMeasure(k=2, d=3, batch_shape=(4, 5))"

    def test_sizes(self):
        g = measure(2, 3, (4,))
        assert (g.num_experts, g.num_features, g.batch_shape) == (2, 3, (4,))

    def test_pickling_and_copying(self):
        for g in (measure(2, 3, (4,)), MixingMeasure.from_module(measure(2, 3).to_module()).detach()):
            for twin in (pickle.loads(pickle.dumps(g)), copy.deepcopy(g)):
                assert_same(twin, g, rtol=0, atol=0)
                assert repr(twin) == repr(g)

    def test_moving(self):
        g = measure()
        single = g.to(torch.float32)
        assert all(getattr(single, name).dtype == torch.float32 for name in FIELDS)
        assert single.to_module().experts.log_std.dtype == torch.float32
        assert_same(g.to("cpu"), g, rtol=0, atol=0)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    def test_on_a_gpu(self):
        g = measure(3, 2, (2,)).to("cuda")
        x, y = g.sample_xy(10, generator=torch.Generator("cuda").manual_seed(0))
        assert x.device.type == y.device.type == log_density(g, x, y).device.type == "cuda"
        assert_same(moved(g.to("cpu")).to("cuda").align(g), g, rtol=1e-12, atol=1e-13)

    def test_indexing_a_batch(self):
        g = measure(2, 3, (4, 5))
        assert_same(g[1][2], g[1, 2], rtol=0, atol=0)
        assert g[:, 1:3].batch_shape == (4, 2)
        with pytest.raises(ValueError, match="indexing needs a batch of measures, got a single one"):
            g[0, 0][0]

    def test_it_is_frozen(self):
        with pytest.raises(AttributeError):
            measure().slope = torch.zeros(2)


class TestChecks:
    def build(self, **changes):
        g = measure(2, 1)
        return MixingMeasure(**{name: changes.get(name, getattr(g, name)) for name in FIELDS})

    @pytest.mark.parametrize("name", FIELDS)
    def test_values(self, name):
        good = getattr(measure(2, 1), name)
        for wrong in (torch.nan, torch.inf):
            bad = good.clone()
            bad.flatten()[1] = wrong
            with pytest.raises(ValueError, match=f"{name} must be finite, got 1 NaN or infinite entries"):
                self.build(**{name: bad})
        with pytest.raises(TypeError, match=rf"{name} must be a torch\.Tensor, got list"):
            self.build(**{name: [1.0, 2.0]})
        with pytest.raises(TypeError, match=f"{name} must have a floating dtype"):
            self.build(**{name: good.long()})
        with pytest.raises(TypeError, match=f"tensors of a measure must have one dtype, got .*{name} of torch.float32"):
            self.build(**{name: good.float()})

    @pytest.mark.parametrize("name", ["gate_bias", "intercept", "variance"])
    def test_shapes_of_rows(self, name):
        with pytest.raises(ValueError, match=rf"{name} must have shape \(2,\), .*got \(3,\)"):
            self.build(**{name: torch.ones(3).double()})

    def test_shapes_of_matrices(self):
        with pytest.raises(ValueError, match=r"slope must have the shape of gate_weight, \(2, 1\), got \(2, 2\)"):
            self.build(slope=torch.ones(2, 2).double())
        for shape in ((2,), (0, 1), (2, 0)):
            with pytest.raises(ValueError, match=r"gate_weight must have shape \(\*batch, k, d\) with k, d >= 1, got"):
                self.build(gate_weight=torch.ones(shape).double())

    @pytest.mark.parametrize("value", [0.0, -1.0])
    def test_variances_are_positive(self, value):
        with pytest.raises(ValueError, match=f"variance must be positive, got a smallest entry of {value}"):
            self.build(variance=double(1.0, value))

    def test_aligning_to_another_size(self):
        with pytest.raises(ValueError, match=r"other must have the shape of this measure, \(2, 1\), got \(3, 1\)"):
            measure(2, 1).align(measure(3, 1))

    def test_nothing_warns(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            moved(measure(3, 2, (2,))).align(measure(3, 2, (2,)))
