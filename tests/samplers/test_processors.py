"""Processors against those of transformers, and against their definitions."""

import pickle

import pytest
import torch
from transformers.generation import logits_process as hf

from samplers.processors import Chain, Epsilon, Eta, MinP, Processor, Temperature, TopK, TopP, Typical
from samplers.processors.typical import atypicality

PAIRS = {
    "top_k": [(TopK(k, n), hf.TopKLogitsWarper(k, min_tokens_to_keep=n)) for k in (1, 3, 50) for n in (1, 5)],
    "top_p": [
        (TopP(p, n), hf.TopPLogitsWarper(p, min_tokens_to_keep=n)) for p in (0.0, 0.1, 0.5, 0.9, 1.0) for n in (1, 4)
    ],
    "min_p": [
        (MinP(p, n), hf.MinPLogitsWarper(p, min_tokens_to_keep=n)) for p in (0.0, 0.05, 0.5, 1.0) for n in (1, 4)
    ],
    "typical": [
        (Typical(p, n), hf.TypicalLogitsWarper(p, min_tokens_to_keep=n)) for p in (0.1, 0.5, 0.9, 0.99) for n in (1, 4)
    ],
    "epsilon": [
        (Epsilon(e, n), hf.EpsilonLogitsWarper(e, min_tokens_to_keep=n)) for e in (3e-4, 0.02, 0.3) for n in (1, 4)
    ],
    "eta": [(Eta(e, n), hf.EtaLogitsWarper(e, min_tokens_to_keep=n)) for e in (3e-4, 0.02, 0.3) for n in (1, 4)],
}
CASES = [pytest.param(*pair, id=repr(pair[0])) for pairs in PAIRS.values() for pair in pairs]
TRUNCATIONS = [TopK(3), TopP(0.7), MinP(0.1), Typical(0.7), Epsilon(0.1), Eta(0.1), Temperature(0)]
IDS = torch.zeros(1, 1, dtype=torch.long)


def rows(kind: str, size: int, generator: torch.Generator) -> torch.Tensor:
    noise = torch.randn(12, size, generator=generator)
    if kind == "smooth":
        return noise * torch.tensor([0.01, 0.5, 1.0, 2.0, 5.0, 30.0]).repeat(2)[:, None]
    if kind == "ties":  # a few distinct values, so that ties straddle every cut
        return (noise * torch.tensor([1.0, 2.0, 4.0]).repeat(4)[:, None]).round()
    if kind == "holes":
        return torch.where(torch.rand(12, size, generator=generator) < 0.5, -torch.inf, 3 * noise).index_fill(
            1, torch.tensor([size // 2]), 1.0
        )
    return torch.zeros(12, size).index_fill(1, torch.tensor([1]), 1e4)  # one-hot


@pytest.mark.parametrize(("ours", "theirs"), CASES)
@pytest.mark.parametrize("kind", ["smooth", "ties", "holes", "one-hot"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_same_as_transformers(ours, theirs, kind, dtype, generator):
    for size in (7, 300):
        scores = rows(kind, size, generator).to(dtype)
        expected = theirs(IDS, scores.clone())
        assert torch.equal(ours(IDS, scores), expected)


@pytest.mark.parametrize("size", [32_000, 128_256])
@pytest.mark.parametrize("name", ["top_p", "typical", "top_k"])
def test_same_as_transformers_at_full_vocabulary(name, size, generator):
    scores = torch.randn(4, size, generator=generator) * torch.tensor([1.0, 2.0, 4.0, 8.0])[:, None]
    for ours, theirs in PAIRS[name][-2:]:
        assert torch.equal(ours(IDS, scores), theirs(IDS, scores))


@pytest.mark.parametrize("mass", [0.2, 0.5, 0.9])
def test_typical_where_the_mass_falls_on_a_sum(mass):
    # probabilities of tenths: cumulative sums are within rounding of the mass
    scores = torch.tensor([[0.1, 0.1, 0.2, 0.2, 0.1, 0.3]]).log()
    assert torch.equal(Typical(mass)(IDS, scores), hf.TypicalLogitsWarper(mass)(IDS, scores))


@pytest.mark.parametrize("mass", [0.2, 0.5, 0.9, 0.99])
def test_typical_where_ties_move_the_sums(mass, generator):
    """Rows of many tokens at equal distance, on one side of the entropy and on both, and a mass beside their sums."""
    scales = torch.tensor([0.01, 0.1, 1.0, 3.0]).repeat(3)[:, None]
    scores = scales * torch.randn(12, 5000, generator=generator)
    scores = torch.stack([scores, scores.bfloat16().float(), (64 * scores).round() / 64]).flatten(0, 1)
    assert torch.equal(Typical(mass)(IDS, scores), hf.TypicalLogitsWarper(mass)(IDS, scores))
    row = scores[2:3]
    order = (row.log_softmax(-1) + (row.softmax(-1) * -row.log_softmax(-1)).sum()).abs().argsort(-1)
    for beside in row.gather(-1, order).softmax(-1).cumsum(-1)[0, 1000:4000:500].tolist():
        assert torch.equal(Typical(beside)(IDS, row), hf.TypicalLogitsWarper(beside)(IDS, row))


def test_typical_tells_neighboring_distances_apart(generator):
    """Tokens at neighboring float32 distances: where the nearer reaches the mass, the farther is not kept."""
    scores, found = 0.3 * torch.randn(4, 5000, generator=generator), 0
    scores[:, 7] = 11.0  # entropy is low, so that the many others are as far from it as float32 tells numbers apart
    for row in scores:
        distance, index = atypicality(row).sort()
        cumulative = row[index].softmax(-1).cumsum(-1)
        (places,) = (distance.view(torch.int32).diff() == 1).nonzero(as_tuple=True)
        for place in places.tolist():
            if distance[place] == distance[place - 1] or cumulative[place] - cumulative[place - 1] < 2e-6:
                continue
            mass = float(cumulative[place - 1] + cumulative[place]) / 2.0
            kept = Typical(mass).process(row) > -torch.inf
            assert kept.sum() == place + 1
            assert not kept[index[place + 1]]
            found += 1
    assert found > 5


def test_any_leading_dimensions(generator):
    scores = torch.randn(2, 3, 4, 50, generator=generator)
    for processor in (TopK(5), TopP(0.7), MinP(0.1), Typical(0.7), Epsilon(0.02), Eta(0.02), Temperature(0.7)):
        flat = processor.process(scores.reshape(-1, 50))
        assert torch.equal(processor.process(scores), flat.reshape(scores.shape))
        assert torch.equal(processor.process(scores[0, 0, 0]), flat[0])


def test_temperature(generator):
    scores = torch.randn(5, 20, generator=generator)
    assert torch.equal(Temperature(0.7)(IDS, scores), hf.TemperatureLogitsWarper(0.7)(IDS, scores))
    greedy = Temperature(0).process(scores).softmax(-1)
    assert torch.equal(greedy, torch.nn.functional.one_hot(scores.argmax(-1), 20).float())


def test_temperature_zero_takes_the_first_of_ties():
    assert Temperature(0).process(torch.tensor([1.0, 2.0, 2.0])).tolist() == [-torch.inf, 2.0, -torch.inf]


def test_chain_is_composition(generator):
    scores = torch.randn(5, 200, generator=generator)
    ours = Chain(Temperature(0.8), TopK(30), TopP(0.9))
    theirs = hf.LogitsProcessorList(
        [hf.TemperatureLogitsWarper(0.8), hf.TopKLogitsWarper(30), hf.TopPLogitsWarper(0.9)]
    )
    assert torch.equal(ours(IDS, scores), theirs(IDS, scores))
    assert torch.equal(ours.process(scores), theirs(IDS, scores))
    assert torch.equal(hf.LogitsProcessorList(ours)(IDS, scores), theirs(IDS, scores))
    assert len(ours) == 3
    assert not ours.needs_history


def test_chain_takes_foreign_processors(generator):
    scores, ids = torch.randn(1, 10, generator=generator), torch.tensor([[3, 4]])
    chain = Chain(Chain(hf.RepetitionPenaltyLogitsProcessor(2.0)), TopK(3))
    expected = hf.TopKLogitsWarper(3)(ids, hf.RepetitionPenaltyLogitsProcessor(2.0)(ids, scores.clone()))
    assert torch.equal(chain(ids, scores.clone()), expected)
    assert chain.needs_history
    with pytest.raises(TypeError, match="history"):
        chain.process(scores)


def test_empty_chain_changes_nothing():
    scores = torch.tensor([[1.0, 2.0]])
    assert Chain().process(scores) is scores


@pytest.mark.parametrize(
    "processor", [TopK(3), TopP(0.7), MinP(0.1), Typical(0.7), Epsilon(0.1), Eta(0.1), Temperature(0)]
)
def test_gradient_is_one_where_kept(processor, generator):
    scores = torch.randn(2, 10, generator=generator, dtype=torch.float64, requires_grad=True)
    processed = processor.process(scores)
    kept = processed > -torch.inf
    (gradient,) = torch.autograd.grad(processed[kept].sum(), scores)
    assert torch.equal(gradient, kept.double())


@pytest.mark.parametrize(
    "processor", [TopK(3), TopP(0.7), MinP(0.1), Typical(0.7), Epsilon(0.1), Eta(0.1), Temperature(0)]
)
def test_scores_are_not_changed_in_place(processor, generator):
    scores = torch.randn(3, 10, generator=generator)
    before = scores.clone()
    processor.process(scores)
    assert torch.equal(scores, before)


@pytest.mark.parametrize("processor", [TopK(3), TopP(0.7), Typical(0.7), Temperature(0.5), Chain(TopK(2))])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_bad_scores_are_refused(processor: Processor, bad):
    scores = torch.zeros(3, 4)
    scores[1, 2] = bad
    with pytest.raises(ValueError, match=r"scores must hold no NaN.*index \(1,\)"):
        processor(IDS, scores)


def test_empty_law_is_refused():
    with pytest.raises(ValueError, match="at least one finite entry"):
        TopP(0.5).process(torch.full((2, 3), -torch.inf))
    with pytest.raises(TypeError, match="floating"):
        TopP(0.5).process(torch.zeros(2, 3, dtype=torch.long))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Temperature(-0.1), "temperature must be non-negative"),
        (lambda: Temperature(float("nan")), "temperature must be non-negative"),
        (lambda: TopK(0), "top_k must be at least 1"),
        (lambda: TopP(1.1), r"top_p must be in \[0, 1\], got 1.1"),
        (lambda: MinP(-1), "min_p"),
        (lambda: Typical(1.0), r"mass must be in \(0, 1\), got 1.0"),
        (lambda: Epsilon(0), "epsilon"),
        (lambda: Eta(1), "epsilon"),
        (lambda: TopP(0.5, 0), "min_tokens_to_keep must be at least 1, got 0"),
    ],
)
def test_bad_settings_are_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_settings_of_the_wrong_type_are_refused():
    with pytest.raises(TypeError, match="temperature must be a number"):
        Temperature("1")
    with pytest.raises(TypeError, match="top_p must be a number"):
        TopP(None)
    with pytest.raises(TypeError, match="callables"):
        Chain(3)


def test_repr_and_pickle():
    chain = Chain(Temperature(0.5), TopP(0.9))
    assert repr(chain) == "Chain(Temperature(temperature=0.5), TopP(min_tokens_to_keep=1, top_p=0.9))"
    assert repr(pickle.loads(pickle.dumps(chain))) == repr(chain)


@pytest.mark.parametrize("processor", [*TRUNCATIONS, Temperature(0.7), Chain(TopK(3), TopP(0.5))])
def test_any_layout(processor, generator):
    """Strided, transposed and broadcast scores, one token, no row."""
    scores = torch.randn(6, 40, generator=generator)
    expected = processor.process(scores)
    assert torch.equal(processor.process(scores.repeat(1, 2).unflatten(1, (2, 40))[:, 1]), expected)
    assert torch.equal(processor.process(scores.t().contiguous().t()), expected)
    assert torch.equal(processor.process(scores[:1].expand(3, -1)), expected[:1].expand(3, -1))
    assert torch.equal(processor.process(torch.tensor([[-3.0]])).isfinite(), torch.tensor([[True]]))
    assert processor.process(scores[:0]).shape == (0, 40)


@pytest.mark.parametrize("processor", [TopK(3), TopP(0.7), Typical(0.7), Typical(0.2, 4), MinP(0.1), Epsilon(0.1)])
@pytest.mark.parametrize("kind", ["smooth", "ties", "holes", "one-hot"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_mask_is_what_survives(processor, kind, dtype, generator):
    """The scores are truncated without the mask; both must say the same."""
    scores = rows(kind, 200, generator).to(dtype)
    expected = torch.where(processor.kept(scores), scores, -torch.inf)
    assert torch.equal(processor.process(scores), expected)
    assert torch.equal(processor.process(scores.requires_grad_()).detach(), expected)


@pytest.mark.parametrize(
    "scores", [[-1.0, 0.0, -2.0], [-1.0, 1e-39, -2.0], [-1.0, torch.finfo(torch.float32).tiny, -2.0]]
)
def test_denormals_that_are_flushed_change_nothing(scores):
    """The number below zero is denormal: where it is flushed, a threshold at it would mask all."""
    scores = torch.tensor([scores, [-3.0, 1.0, 2.0]])
    processors = [TopK(1), TopP(0.3), Typical(0.3), MinP(0.9), Epsilon(0.4), Eta(0.4), Temperature(0)]
    expected = [processor.process(scores).argmax(-1).tolist() for processor in processors]
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormals")
    try:
        found = [processor.process(scores) for processor in processors]
    finally:
        torch.set_flush_denormal(False)
    assert [row.argmax(-1).tolist() for row in found] == expected
    assert all(row.isfinite().any(-1).all() for row in found)
    for row in found[:3]:
        assert row.isfinite().sum(-1).tolist() == [1, 1]


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-46, 1e-38, 1e-3, 0.02, 0.5])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scores", [[2000.0, 1999.0, -torch.inf], [-3.0, 600.0, 599.0]])
def test_any_low_temperature_gives_a_distribution(temperature, dtype, scores):
    scores = torch.tensor(scores, dtype=dtype)
    law = Temperature(temperature).process(scores).double().softmax(-1)
    exact = scores.double() - scores.double().max()
    exact = torch.where(exact < 0, exact / max(temperature, 1e-307), exact).softmax(-1)
    torch.testing.assert_close(law, exact, rtol=0, atol=0.05 if dtype == torch.bfloat16 else 2e-3)


@pytest.mark.parametrize("temperature", [1e39, 1e300, 1.7e308])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_any_high_temperature_gives_a_distribution(temperature, dtype):
    law = Temperature(temperature).process(torch.tensor([3.0, -torch.inf, 600.0], dtype=dtype)).softmax(-1)
    assert law.tolist() == [0.5, 0.0, 0.5]


@pytest.mark.parametrize("processor", [TopK(1), TopP(0.3), Typical(0.3), MinP(0.9), Temperature(0), Temperature(0.5)])
def test_the_largest_finite_scores(processor):
    for dtype in (torch.float32, torch.float64):
        big = torch.finfo(dtype).max
        scores = torch.tensor([[big, 0.0, -big], [0.5 * big, 0.0, big], [0.0, big, 0.0]], dtype=dtype)
        assert processor.process(scores).softmax(-1).argmax(-1).tolist() == [0, 2, 1]
