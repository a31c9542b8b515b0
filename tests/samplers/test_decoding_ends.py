"""What processors and models are shown: no history past an end, no padding they cannot read, no law that is none."""

from dataclasses import replace

import pytest
import torch

from samplers import (
    KSequential,
    OptimalVerifier,
    RecursiveRejection,
    SampledDrafts,
    SampledTree,
    SpeculativeDecoder,
    SpeculativeSampling,
    TreeVerifier,
    WeightedVerifier,
)
from samplers.decoding import CallableScorer, Histories
from samplers.decoding.prompt_lookup import PromptLookup
from samplers.processors import Temperature, TopK
from samplers.verification.sources import GeneratorSource

from .test_decoding import Table, V, exact_law

END = 2


def strict(ids, scores):
    """A processor that knows no continuation of a history that has ended."""
    if (ids == END).any():
        raise RuntimeError("this history has ended")
    return scores


def chains(num_drafts, verifier, **settings):
    return SpeculativeDecoder(
        Table(0), Table(1), verifier, num_drafts=num_drafts, draft_length=3, eos_token_id=END, **settings
    )


def trees(rule, **settings):
    return SpeculativeDecoder(Table(0), SampledTree(Table(1), (2, 2)), TreeVerifier(rule), eos_token_id=END, **settings)


DECODERS = {
    "chain": lambda **settings: chains(1, SpeculativeSampling(), **settings),
    "drafts": lambda **settings: chains(3, OptimalVerifier(), **settings),
    "weighted": lambda **settings: chains(2, WeightedVerifier(levels=32, steps=2), **settings),
    "tree": lambda **settings: trees(RecursiveRejection(), **settings),
    "lookup": lambda **settings: SpeculativeDecoder(Table(0), PromptLookup(3), eos_token_id=END, **settings),
}


@pytest.mark.parametrize("make", DECODERS.values(), ids=DECODERS)
def test_processors_see_no_history_that_has_ended(make):
    decoder = make(processors=strict)
    for seed in range(10):
        out = decoder.decode([[0], [1, 0, 1, 0], [0, 1]], max_new_tokens=9, generator=[seed, seed + 10, seed + 20])
        for row in out.sequences:
            assert END not in row[:-1].tolist()


@pytest.mark.parametrize("name", ["chain", "drafts", "tree"])
def test_the_law_with_ends_is_that_of_the_target(name):
    found = exact_law(DECODERS[name](pad_token_id=0), [1], 3).view(V, V, V)
    full = Table(0).law([1], 3).view(V, V, V)
    expected = full.clone()
    for first in range(V):  # what follows an end is padding, token 0
        for second in range(V):
            if first == END:
                expected[first, second] = 0.0
            elif second == END:
                expected[first, second] = 0.0
                expected[first, second, 0] = full[first, second].sum()
    expected[END, 0, 0] = full[END].sum()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "rule", [RecursiveRejection(), KSequential(), OptimalVerifier(), WeightedVerifier(levels=32, steps=2)], ids=repr
)
def test_what_a_row_of_trees_draws_depends_on_it_alone(rule):
    decoder = SpeculativeDecoder(Table(0), SampledTree(Table(1), (3, 2)), TreeVerifier(rule))
    prompts = [[0], [1, 2, 0], [2, 2], [1]]
    for seed in range(10):
        seeds = [4 * seed + row for row in range(4)]
        together = decoder.decode(prompts, max_new_tokens=7, generator=seeds)
        for row, prompt in enumerate(prompts):
            alone = decoder.decode([prompt], max_new_tokens=7, generator=[seeds[row]])
            assert torch.equal(alone.sequences[0], together.sequences[row])


@pytest.mark.parametrize("pad", [-100, -1, 10**6])
@pytest.mark.parametrize("name", DECODERS)
def test_models_never_read_the_padding_token(name, pad):
    class Reader(Table):
        def __call__(self, ids):
            assert 0 <= int(ids.min()) <= int(ids.max()) < V
            return super().__call__(ids)

    decoder = DECODERS[name](pad_token_id=pad)
    decoder.target = CallableScorer(Reader(0))
    out = decoder.decode([[0], [1, 0, 1, 0]], max_new_tokens=6, generator=0)
    beyond = torch.arange(out.tokens.shape[1]) >= out.lengths[:, None]
    assert (out.tokens[beyond] == pad).all()
    assert (out.tokens[~beyond] != pad).all()


@pytest.mark.parametrize("value", [-torch.inf, torch.nan, torch.inf])
@pytest.mark.parametrize("side", ["processors", "draft_processors"])
def test_laws_that_are_none_are_refused(side, value):
    decoder = SpeculativeDecoder(Table(0), Table(1), **{side: lambda ids, scores: torch.full_like(scores, value)})
    with pytest.raises(ValueError, match="logits after the processors must hold no NaN, no \\+inf and no row"):
        decoder.decode([[0]], max_new_tokens=3, generator=0)
    bad = SpeculativeDecoder(lambda ids: torch.full((*ids.shape, V), torch.nan), Table(1))
    with pytest.raises(ValueError, match="must hold no NaN"):
        bad.decode([[0]], max_new_tokens=1, generator=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_temperature_near_zero_is_greedy(dtype):
    scores = torch.tensor([[100.0, 101.0, -torch.inf, 99.0]], dtype=dtype)
    law = Temperature(1e-38).process(scores).softmax(-1)
    assert law.tolist() == [[0.0, 1.0, 0.0, 0.0]]


def test_drafts_end_before_a_token_that_the_target_lacks():
    """The prompt repeats token 2, which is read but never decoded."""
    decoder = SpeculativeDecoder(Table(0), PromptLookup(4), vocab_size=2)
    for seed in range(10):
        out = decoder.decode([[0, 1, 2, 0, 1, 2, 0]], max_new_tokens=6, generator=seed)
        assert int(out.tokens.max()) < 2


def test_a_row_that_a_draft_model_cannot_read_gets_no_draft():
    scorer = CallableScorer(Table(1))
    scorer.num_readable = 2
    for drafts, verifier in (
        (SampledDrafts(scorer, draft_length=2), None),
        (SampledTree(scorer, (1, 1)), TreeVerifier(SpeculativeSampling())),
    ):
        decoder = SpeculativeDecoder(Table(0), drafts, verifier)
        out = decoder.decode([[2], [0]], max_new_tokens=1 + 2, generator=[0, 1])
        assert int(out.statistics.accepted[0].sum()) == 0
        law = exact_law(decoder, [2, 1], 2)
        torch.testing.assert_close(law, Table(0).law([2, 1], 2), rtol=0, atol=1e-12)


def test_drafts_take_the_targets_processors_if_they_have_none():
    def greedy_tokens(drafts, verifier):
        decoder = SpeculativeDecoder(Table(0), drafts, verifier, processors=TopK(1))
        out = decoder.decode([[0]], max_new_tokens=9, generator=0)
        return out.statistics.block_efficiency

    tree = TreeVerifier(SpeculativeSampling())
    assert greedy_tokens(SampledTree(Table(0), (1, 1, 1)), tree) == 4.0
    assert greedy_tokens(SampledDrafts(Table(0), draft_length=3), None) == 4.0
    assert greedy_tokens(SampledTree(Table(0), (1, 1, 1), Temperature(9.0)), tree) < 4.0


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_drafts", 4), ("draft_length", 9), ("draft_processors", TopK(2))],
    ids=lambda part: str(part),
)
def test_settings_that_would_not_be_used_are_refused(name, value):
    drafts = [(SampledTree(Table(1)), TreeVerifier(KSequential())), (PromptLookup(3), None)]
    for one, verifier in drafts:
        with pytest.raises(ValueError, match=f"{name} must be None where a .* has its own, got"):
            SpeculativeDecoder(Table(0), one, verifier, **{name: value})


def test_several_models_make_as_many_drafts():
    decoder = SpeculativeDecoder(Table(0), [Table(1), Table(2)], WeightedVerifier(levels=32, steps=2))
    assert decoder.drafter.num_drafts == 2
    assert SpeculativeDecoder(Table(0), Table(1)).drafter.num_drafts == 1


def test_a_draft_that_could_not_be_drawn_is_none_though_its_padding_ends_rows():
    """A greedy law has one token: of two drafts without replacement the second is not drawn. Token 0 ends rows."""
    rule = RecursiveRejection(with_replacement=False)
    settings = {"processors": TopK(1), "num_drafts": 2, "draft_length": 2, "eos_token_id": 0}
    for prompt in ([1], [2], [1, 2]):
        out = SpeculativeDecoder(Table(0), Table(1), rule, **settings).decode([prompt], max_new_tokens=5, generator=0)
        greedy, history = [], list(prompt)
        while len(greedy) < 5 and (not greedy or greedy[-1] != 0):
            greedy.append(int(Table(0)(torch.tensor([history]))[0, -1].argmax()))
            history.append(greedy[-1])
        assert out.sequences[0][len(prompt) :].tolist() == greedy
    drafts = SampledDrafts(Table(1), 2, 2, TopK(1), with_replacement=False)
    histories = replace(Histories.of([[1], [2]]), eos=torch.tensor([0]))
    lengths = drafts.propose(
        histories, torch.tensor([2, 2]), V, GeneratorSource(torch.Generator().manual_seed(0), 2, torch.device("cpu"))
    ).lengths
    assert lengths[:, 1].tolist() == [0, 0]
