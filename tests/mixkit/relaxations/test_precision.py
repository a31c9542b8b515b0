"""Numbers that used to go wrong: offsets, spreads, tiny temperatures, sums in the dtype of the input."""

import math

import pytest
import torch
from scipy import stats
from torch import nn

from mixkit.gates import Gate
from mixkit.gates.scores import ConstantScore
from mixkit.gates.selections import BiasedTopK, NoisyTopK, TopKBySlope
from mixkit.gates.temperatures import FixedTemperature, ScheduledTemperature
from mixkit.numerics.log_space import log_expm1
from mixkit.numerics.precision import clamp_to_dtype, wide_mean, wide_sum
from mixkit.relaxations import (
    ConceptBottleneck,
    ExponentialFamilySubset,
    GumbelSoftmax,
    LogRelaxedOneHot,
    PatternMask,
    PlackettLuceSubset,
    RelaxedSubset,
    Simple,
    SoftTopK,
    add_masks,
    conditional_gumbel,
    gumbel_softmax,
    gumbel_softmax_path,
    harden_masks,
    magnitude_mask,
    ordered_log_prob,
    retained_energy,
    sample_one_hot,
    soft_top_k,
    subset_log_prob,
    successive_softmax,
)
from mixkit.schedules import LinearSchedule

HALF = [torch.float16, torch.bfloat16]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_offset_of_the_logits_leaves_draws_to_the_bit(dtype):
    """In float32 the noise had the digits of 1e7, a grid of whole numbers: the first of ties won 62% of the draws."""
    logits = torch.tensor([0.0, 1.0, -2.0, 4.0], dtype=dtype).expand(2000, -1)
    for offset in (1e7, -1e7):
        assert torch.equal(
            sample_one_hot(logits + offset, generator=seeded()), sample_one_hot(logits, generator=seeded())
        )


def test_large_equal_logits_are_drawn_evenly(generator):
    counts = sample_one_hot(torch.full((200_000, 2), 1e7), generator=generator).sum(0)
    assert stats.binomtest(int(counts[0]), 200_000, 0.5).pvalue > 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_subset_laws_lose_nothing_to_an_offset(dtype):
    logits = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=dtype)
    plain, moved = (ExponentialFamilySubset(2, logits + offset) for offset in (0.0, 1e5))
    tolerance = 1e-6 if dtype == torch.float32 else 1e-10
    assert abs(moved.entropy().item() - 1.1977) < 1e-4
    assert abs(moved.mean.sum().item() - 2.0) < tolerance
    for name in ("mean", "variance"):
        torch.testing.assert_close(getattr(moved, name), getattr(plain, name), rtol=tolerance, atol=tolerance)
    support = plain.enumerate_support()
    torch.testing.assert_close(moved.log_prob(support), plain.log_prob(support), rtol=tolerance, atol=tolerance)


def test_the_entropy_of_large_subsets_does_not_cancel():
    logits = torch.randn(2048, generator=seeded()) + 100.0
    low, high = (ExponentialFamilySubset(1024, q).entropy() for q in (logits, logits.double()))
    assert abs(high.item() - low.item()) < 1e-3
    assert 1000.0 < high.item() < 2048 * math.log(2)


def test_orders_and_sets_keep_their_digits_beside_an_offset():
    logits = torch.tensor([0.0, 1.0, 2.0, 3.0])
    order, mask = torch.tensor([2, 0]), torch.tensor([1.0, 0.0, 1.0, 0.0])
    torch.testing.assert_close(ordered_log_prob(logits + 1e6, order), ordered_log_prob(logits, order))
    torch.testing.assert_close(subset_log_prob(logits + 1e6, mask, 2), subset_log_prob(logits, mask, 2))


def test_conditional_noise_keeps_its_winner_beside_an_offset(generator):
    logits = torch.full((1000, 3), 1e7)
    drawn = sample_one_hot(logits, generator=generator)
    assert torch.equal(conditional_gumbel(logits, drawn, generator=generator).argmax(-1), drawn.argmax(-1))


@pytest.mark.parametrize("temperature", [1e-38, 1e-46, 1e-300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF])
def test_tiny_temperatures_give_the_limit(temperature, dtype, generator):
    logits = torch.tensor([[3.0, 4.0, 1.0]], dtype=dtype).expand(50, -1)
    draws = [
        gumbel_softmax(logits, temperature, generator=generator),
        gumbel_softmax(logits, torch.tensor(temperature, dtype=torch.float64), generator=generator),
        GumbelSoftmax(temperature)(logits, generator),
        LogRelaxedOneHot(temperature, logits=logits).sample(generator=generator).exp(),
        soft_top_k(logits, 1, temperature),
    ]
    for value in draws:
        assert torch.equal(value.sort(-1).values, torch.tensor([0.0, 0.0, 1.0], dtype=dtype).expand(50, -1))
    pairs = [RelaxedSubset(temperature)(logits, 2, generator), SoftTopK(temperature)(logits, 2)]
    for value in pairs:
        assert torch.equal(value.sort(-1).values, torch.tensor([0.0, 1.0, 1.0], dtype=dtype).expand(50, -1))
    log_relaxed = LogRelaxedOneHot(temperature, logits=logits)
    assert log_relaxed.log_prob(log_relaxed.sample(generator=generator)).isfinite().all()


def test_numbers_stay_in_their_dtype():
    for dtype in (torch.float32, torch.float64):
        for number in (5e-324, 1e-46, 1e-38, 1.0, 1e39, 1e308):
            inside = torch.tensor(clamp_to_dtype(number, dtype), dtype=dtype)
            assert (22.0 / inside).isfinite()
            assert inside > 0
        assert clamp_to_dtype(0.3, dtype) == 0.3


@pytest.mark.parametrize("dtype", [*HALF, torch.float32])
def test_sums_are_in_float64(dtype):
    value = torch.full((70_000,), 0.1).to(dtype)
    exact = value.double().sum()
    torch.testing.assert_close(wide_sum(value).double(), exact, rtol=1e-7, atol=0.0)
    torch.testing.assert_close(wide_mean(value).double(), exact / 70_000, rtol=1e-7, atol=0.0)
    assert wide_sum(value).dtype == wide_mean(value).dtype == torch.float32


@pytest.mark.parametrize("dtype", HALF)
def test_frequencies_and_alignment_of_concepts_in_half_precision(dtype):
    similarities = torch.rand(5000, 4, generator=seeded()).to(dtype)
    layer = ConceptBottleneck(4, 2, 1, generator=seeded(1), dtype=dtype).eval()
    frequency = layer.choice_frequency(similarities)
    predicted = layer.report(similarities).predicted.unique()
    torch.testing.assert_close(frequency[predicted].sum(-1), torch.ones(len(predicted)))
    assert layer.alignment(100.0 * similarities).item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("dtype", HALF)
def test_the_energy_of_a_large_layer_in_half_precision(dtype):
    model = nn.utils.skip_init(nn.Linear, 1024, 1024, bias=False, dtype=dtype)
    nn.init.constant_(model.weight, 1.0)
    add_masks(model, lambda w: PatternMask(w.shape, 2, 4, generator=seeded()))
    assert retained_energy(model).item() == pytest.approx(1024 * 1024 / 2, rel=1e-6)


def test_the_posterior_of_a_flow_does_not_overflow():
    path = gumbel_softmax_path(signal_end=12.0)
    generator = seeded()
    for dtype, end in ((torch.float16, 12.0), (torch.float32, 200.0)):
        path = gumbel_softmax_path(signal_end=end)
        tokens = torch.tensor([0, 1, 2])
        log_x = path.sample(tokens, 1.0, num_categories=3, generator=generator, dtype=dtype)
        posterior = path.log_posterior(log_x, torch.zeros(3, dtype=dtype), 1.0)
        assert torch.equal(posterior.argmax(-1), tokens)
        assert path.score(log_x, posterior, 1.0).isfinite().all()
    x = torch.tensor([0.0, 1e-8, 1.0, 1.5, 100.0, 1e4], dtype=torch.float64)
    expected = torch.tensor(
        [-math.inf, math.log(1e-8) + 5e-9, math.log(math.e - 1), math.log(math.exp(1.5) - 1), 100, 1e4]
    )
    torch.testing.assert_close(log_expm1(x), expected.double(), rtol=1e-7, atol=1e-12)


def tied(second=nn.Linear):
    model = nn.ModuleDict({"first": nn.utils.skip_init(nn.Linear, 8, 8, bias=False), "second": second(8, 8)})
    model["first"].weight.data = torch.randn(8, 8, generator=seeded())
    model["second"].weight = model["first"].weight
    return model


def test_tied_layers_share_one_mask():
    with torch.random.fork_rng(devices=[]):
        model = tied()
    weight = model["first"].weight.detach().clone()
    masks = add_masks(model, lambda w: PatternMask(w.shape, 2, 4, prior=magnitude_mask(w, 2, 4), generator=seeded()))
    assert masks["first"] is masks["second"]
    alone = masks["first"].retained_energy(weight)
    torch.testing.assert_close(retained_energy(model), alone)
    hard = harden_masks(model)
    assert torch.equal(hard["first"], hard["second"])
    assert model["first"].weight is model["second"].weight
    assert torch.equal(model["first"].weight, weight * hard["first"])


def test_a_weight_that_is_shared_with_another_type_is_refused():
    with torch.random.fork_rng(devices=[]):
        model = tied(nn.Embedding)
    with pytest.raises(ValueError, match=r"model must not share .* got that of 'first' as 'second.weight'"):
        add_masks(model, lambda w: PatternMask(w.shape, 2, 4))


@pytest.mark.parametrize("assign", [True, False])
def test_buffers_of_small_steps_keep_float32(assign):
    selection = BiasedTopK(1, 2, update_rate=1e-3)
    state = {"selection_bias": torch.tensor([1.0, 1.0], dtype=torch.bfloat16)}
    selection.load_state_dict(state, assign=assign)
    selection.update_bias(torch.tensor([1.0, 0.0]))
    assert selection.selection_bias.dtype == torch.float32
    torch.testing.assert_close(selection.selection_bias, torch.tensor([0.999, 1.001]))
    temperature = ScheduledTemperature(LinearSchedule(2.0, 1.0, 1000)).to(torch.bfloat16)
    temperature.step()
    assert temperature.value.item() == pytest.approx(1.999, abs=1e-6)
    mask = PatternMask((2, 4), 2, 4, generator=seeded()).to(torch.bfloat16)
    mask.advance()
    assert mask.scale_value.dtype == torch.float32


def test_noise_of_a_gate_beside_large_scores(generator):
    selection = NoisyTopK(1, 1, 2)
    scores = torch.full((20_000, 2), 1e8)
    kept = selection(scores, slope_scores=scores, x=torch.ones(20_000, 1), generator=generator)
    assert stats.binomtest(int((kept[:, 0] > -torch.inf).sum()), 20_000, 0.5).pvalue > 1e-5


def test_temperatures_that_leave_the_dtype_of_a_gate_are_named():
    x, gate = torch.ones(3, 1), Gate(ConstantScore(2), temperature=FixedTemperature(1e-46))
    with pytest.raises(ValueError, match=r"the temperature must be from 1\.17549e-38 .* got 1e-46"):
        gate(x)
    wide = Gate(ConstantScore(2, dtype=torch.float64), temperature=FixedTemperature(1e-46))
    assert wide(x.double()).exp().tolist() == [[0.5, 0.5]] * 3


def test_bad_arguments_that_used_to_pass():
    with pytest.raises(ValueError, match="num_selected must be at most 3"):
        successive_softmax(torch.zeros(3), 5, 1.0)
    with pytest.raises(ValueError, match="order must name different items"):
        ordered_log_prob(torch.zeros(3), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match=r"order must lie in \[0, 3\)"):
        ordered_log_prob(torch.zeros(3), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="mask must have num_selected=2 nonzero entries"):
        subset_log_prob(torch.zeros(3), torch.tensor([1.0, 0.0, 0.0]), 2)
    with pytest.raises(ValueError, match="logits must have a finite entry in every row"):
        sample_one_hot(torch.full((2, 3), -torch.inf))
    scores = torch.tensor([[torch.nan, 1.0, 2.0]])
    with pytest.raises(ValueError, match="no NaN"):
        TopKBySlope(1)(scores, slope_scores=torch.tensor([[0.0, 1.0, 2.0]]), x=torch.ones(1, 1))


@pytest.mark.parametrize("law", [PlackettLuceSubset, ExponentialFamilySubset])
def test_subset_draws_beside_an_offset(law):
    logits = torch.tensor([0.0, 1.0, 2.0, 3.0])
    draws = [law(2, logits + offset).sample((500,), generator=seeded()) for offset in (0.0, 1e6)]
    assert torch.equal(*draws)
    masks = [Simple()((logits + offset).expand(500, -1), 2, seeded()) for offset in (0.0, 1e6)]
    assert torch.equal(*masks)


def test_a_temperature_of_its_own_form_is_asked_for_its_value():
    class Halved(FixedTemperature):
        def forward(self, x):
            return super().forward(x) / 2.0

    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    own, plain = (GumbelSoftmax(t)(logits, torch.Generator().manual_seed(1)) for t in (Halved(1.0), 0.5))
    torch.testing.assert_close(own, plain)
