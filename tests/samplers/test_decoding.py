"""The decoding loop: its exact law by enumeration of every branch, and what it promises besides."""

import pytest
import torch
from transformers.generation import logits_process as hf

from samplers import (
    BlockVerification,
    GumbelListCoupling,
    ImportanceWeighted,
    KSequential,
    OptimalVerifier,
    RecursiveRejection,
    SamplerMatch,
    SpeculativeSampling,
    WeightedVerifier,
)
from samplers.decoding import CallableScorer, Scorer, SpeculativeDecoder
from samplers.decoding.ngrams import NGramModel
from samplers.decoding.prompt_lookup import PromptLookup
from samplers.exactness import chi_square
from samplers.exactness.branches import Branches
from samplers.processors import Chain, Temperature, TopK, TopP

V = 3


class Table:
    """A model whose logits depend on the last two tokens, through a table ``(v, v, v)``."""

    def __init__(self, seed: int, size: int = V, sharpness: float = 1.5, dtype: torch.dtype = torch.float64):
        generator = torch.Generator().manual_seed(seed)
        self.table = sharpness * torch.randn(V, V, size, generator=generator, dtype=torch.float64).to(dtype)
        self.num_calls = 0

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        self.num_calls += 1
        before = torch.nn.functional.pad(ids, (1, 0))[:, :-1]
        return self.table[before.clamp(max=V - 1), ids.clamp(max=V - 1)]

    def law(self, prompt: list[int], length: int, process=lambda logits: logits) -> torch.Tensor:
        """Joint law ``(v ** length,)`` of the continuation."""
        law, prefixes = torch.ones(1, dtype=torch.float64), torch.tensor([prompt])
        for _ in range(length):
            probs = process(self(prefixes)[:, -1]).softmax(-1)
            law = (law[:, None] * probs).flatten()
            prefixes = torch.cat(
                (prefixes.repeat_interleave(V, 0), torch.arange(V).repeat(len(prefixes))[:, None]), dim=1
            )
        return law


def exact_law(decoder: SpeculativeDecoder, prompt: list[int], length: int) -> torch.Tensor:
    """Joint law ``(v ** length,)`` of a decoder's output: every branch of drafts and of the verifier's decisions."""
    law = torch.zeros(V**length, dtype=torch.float64)
    forced = torch.zeros(1, 0, dtype=torch.long)
    powers = V ** torch.arange(length - 1, -1, -1)
    while len(forced) > 0:
        source = Branches(forced, torch.ones(len(forced), dtype=torch.float64))
        out = decoder.decode([prompt] * len(forced), max_new_tokens=length, generator=source)
        tokens = torch.nn.functional.pad(out.tokens, (0, length - out.tokens.shape[1]))
        law.index_add_(0, (tokens * powers).sum(-1), source.weight)
        _, forced = source.unexplored()
    return law


VERIFIERS = [
    pytest.param(SpeculativeSampling(), 1, id="single"),
    pytest.param(BlockVerification(), 1, id="block"),
    pytest.param(SamplerMatch(), 2, id="match"),
    pytest.param(RecursiveRejection(), 2, id="recursive"),
    pytest.param(RecursiveRejection(with_replacement=False), 2, id="recursive-without"),
    pytest.param(KSequential(), 2, id="k-seq"),
    pytest.param(ImportanceWeighted(), 2, id="importance"),
    pytest.param(OptimalVerifier(), 2, id="optimal"),
]


@pytest.mark.parametrize(("verifier", "num_drafts"), VERIFIERS)
def test_law_is_exactly_the_target(verifier, num_drafts):
    target, draft = Table(1), Table(2)
    decoder = SpeculativeDecoder(target, draft, verifier, num_drafts=num_drafts, draft_length=2)
    torch.testing.assert_close(exact_law(decoder, [0, 2], 3), target.law([0, 2], 3), rtol=0, atol=1e-12)


@pytest.mark.parametrize("processor", [Temperature(0.6), TopK(2), Chain(Temperature(1.5), TopP(0.7))])
@pytest.mark.parametrize("draft_processor", [None, Temperature(2.0), TopK(1)])
def test_law_is_exactly_the_processed_target(processor, draft_processor):
    target = Table(3)
    decoder = SpeculativeDecoder(
        target, Table(4), draft_length=2, processors=processor, draft_processors=draft_processor
    )
    expected = target.law([1], 3, processor.process)
    torch.testing.assert_close(exact_law(decoder, [1], 3), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("verifier", [RecursiveRejection(), WeightedVerifier(steps=5)])
def test_law_with_drafts_of_different_models_and_temperatures(verifier):
    target = Table(5)
    expected = target.law([1], 3)
    for drafts, processors in (
        ([Table(6), Table(7)], None),
        (Table(6), [Temperature(0.5), Temperature(2.0)]),
        ([Table(6), Table(7)], [TopK(2), Temperature(2.0)]),
    ):
        decoder = SpeculativeDecoder(
            target, drafts, verifier, num_drafts=2, draft_length=2, draft_processors=processors
        )
        torch.testing.assert_close(exact_law(decoder, [1], 3), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [2, 5])
def test_law_with_a_draft_vocabulary_of_another_size(size):
    target = Table(8)
    decoder = SpeculativeDecoder(target, Table(9, size), draft_length=2)
    torch.testing.assert_close(exact_law(decoder, [1], 3), target.law([1], 3), rtol=0, atol=1e-12)


def test_padding_of_the_target_vocabulary_is_never_decoded():
    target = Table(8, size=5)
    decoder = SpeculativeDecoder(target, Table(9, size=4), draft_length=2, vocab_size=V)
    expected = target.law([1], 3, lambda logits: logits[..., :V])
    torch.testing.assert_close(exact_law(decoder, [1], 3), expected, rtol=0, atol=1e-12)


def test_a_vocabulary_of_one_token_is_decoded(generator):
    decoder = SpeculativeDecoder(Table(8), Table(9), draft_length=2, vocab_size=1)
    assert decoder.decode([[0]], max_new_tokens=5, generator=generator).sequences[0].tolist() == [0] * 6


def test_law_with_drafts_without_a_law():
    target = Table(10)
    decoder = SpeculativeDecoder(target, PromptLookup(2, 2))
    prompt = [0, 1, 2, 0, 1]
    torch.testing.assert_close(exact_law(decoder, prompt, 3), target.law(prompt, 3), rtol=0, atol=1e-12)


def test_enumeration_sees_a_verifier_that_is_given_the_wrong_law():
    class Liar(SpeculativeSampling):
        def verify(self, target_logits, draft_logits, *args, **kwargs):
            return super().verify(target_logits, draft_logits / 2, *args, **kwargs)

    target = Table(1)
    decoder = SpeculativeDecoder(target, Table(2), Liar(), draft_length=2)
    assert (exact_law(decoder, [0, 2], 3) - target.law([0, 2], 3)).abs().max() > 1e-3


@pytest.mark.parametrize("verifier", [OptimalVerifier(), GumbelListCoupling()])
def test_law_of_a_ragged_batch_by_chi_square(verifier, generator):
    """10,000 rows at once, accepted lengths all different. False-alarm rate 1e-6."""
    target, draft = Table(11, dtype=torch.float32), Table(12, dtype=torch.float32)
    decoder = SpeculativeDecoder(target, draft, verifier, num_drafts=3, draft_length=3)
    out = decoder.decode([[1]] * 10_000, max_new_tokens=5, generator=generator)
    code = (out.tokens * V ** torch.arange(4, -1, -1)).sum(-1)
    assert chi_square(torch.bincount(code, minlength=V**5)[None], target.law([1], 5)[None]).passed


def greedy(model, prompt: list[int], length: int) -> list[int]:
    ids = torch.tensor([prompt])
    for _ in range(length):
        ids = torch.cat((ids, model(ids)[:, -1:].argmax(-1)), dim=1)
    return ids[0, len(prompt) :].tolist()


@pytest.mark.parametrize(("verifier", "num_drafts"), VERIFIERS)
def test_temperature_zero_is_greedy(verifier, num_drafts, generator):
    target = Table(13)
    for draft_processors in (None, Temperature(1.0)):
        decoder = SpeculativeDecoder(
            target,
            Table(14),
            verifier,
            num_drafts=num_drafts,
            draft_length=3,
            processors=Temperature(0),
            draft_processors=draft_processors,
        )
        prompts = [[0], [1, 2], [2, 2, 1]]
        out = decoder.decode(prompts, max_new_tokens=20, generator=generator)
        assert out.tokens.tolist() == [greedy(target, prompt, 20) for prompt in prompts]


@pytest.mark.parametrize(("verifier", "num_drafts"), VERIFIERS)
def test_a_row_does_not_depend_on_the_batch(verifier, num_drafts):
    decoder = SpeculativeDecoder(
        Table(15), Table(16), verifier, num_drafts=num_drafts, draft_length=3, eos_token_id=None
    )
    prompts = [[0], [1, 2], [2, 2, 1], [0, 1]]
    seeds = [torch.Generator().manual_seed(row) for row in range(4)]
    together = decoder.decode(prompts, max_new_tokens=13, generator=seeds)
    for row, prompt in enumerate(prompts):
        alone = decoder.decode([prompt], max_new_tokens=13, generator=[torch.Generator().manual_seed(row)])
        assert torch.equal(alone.tokens[0], together.tokens[row])


def test_same_seed_same_tokens():
    decoder = SpeculativeDecoder(Table(17), Table(18))
    first, second = (
        decoder.decode([[0], [1]], max_new_tokens=30, generator=torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(first.tokens, second.tokens)


def test_end_of_sequence_cuts_the_row(generator):
    decoder = SpeculativeDecoder(Table(19), Table(19), draft_length=4, eos_token_id=[2], pad_token_id=7)
    out = decoder.decode([[0]] * 50, max_new_tokens=12, generator=generator)
    for row, length, stopped in zip(out.tokens.tolist(), out.lengths.tolist(), out.stopped.tolist(), strict=True):
        assert 2 not in row[: length - 1]
        assert stopped == (row[length - 1] == 2)
        assert stopped or length == 12
        assert set(row[length:]) <= {7}
    assert out.stopped.any()
    assert len(set(out.lengths.tolist())) > 3


def test_law_with_end_of_sequence_is_exactly_the_targets():
    target = Table(20)
    decoder = SpeculativeDecoder(target, Table(21), draft_length=2, eos_token_id=0)
    full = target.law([1], 3).view(V, V, V)
    expected = full.clone()  # a row is padded with 0 after its end
    expected[0] = 0.0
    expected[:, 0] = 0.0
    expected[0, 0, 0] = full[0].sum()
    expected[1:, 0, 0] = full[1:, 0].sum(-1)
    torch.testing.assert_close(exact_law(decoder, [1], 3), expected.flatten(), rtol=0, atol=1e-12)


def test_stop_condition_and_stream(generator):
    seen: dict[int, list[int]] = {0: [], 1: []}
    decoder = SpeculativeDecoder(Table(22), Table(23), draft_length=3)
    out = decoder.decode(
        [[0, 1], [2]],
        max_new_tokens=40,
        generator=generator,
        on_tokens=lambda row, tokens: seen[row].extend(tokens.tolist()),
        stop=lambda ids: ids[0, -2:].tolist() == [2, 2],
    )
    for row in range(2):
        new = out.tokens[row, : out.lengths[row]].tolist()
        assert new == seen[row]
        assert all(new[i : i + 2] != [2, 2] for i in range(len(new) - 2))
    assert out.stopped.any()


def test_statistics_of_a_perfect_draft(generator):
    target = Table(24)
    decoder = SpeculativeDecoder(target, Table(24), draft_length=3)
    out = decoder.decode([[0], [1]], max_new_tokens=9, generator=generator)
    assert out.statistics.block_efficiency == 4.0
    assert out.statistics.acceptance_by_position.tolist() == [1.0, 1.0, 1.0]
    assert out.statistics.target_calls.tolist() == [2, 2]
    assert target.num_calls == 3  # and one that reads the prompts


def test_statistics_add_up(generator):
    decoder = SpeculativeDecoder(Table(25), Table(26), SamplerMatch(), num_drafts=2, draft_length=3)
    statistics = decoder.decode([[0]] * 8, max_new_tokens=50, generator=generator).statistics
    assert torch.equal(statistics.emitted, statistics.accepted.sum(-1) + statistics.target_calls)
    assert (statistics.accepted <= statistics.offered).all()
    assert torch.equal(statistics.offered[:, 1:].clamp(max=0), statistics.offered[:, 1:] * 0)
    assert (statistics.offered[:, 1:] <= statistics.accepted[:, :-1]).all()
    assert 1 < statistics.block_efficiency < 4


def test_drafts_never_outrun_the_length_limit(generator):
    """A model of a bounded context is never shown more tokens than the prompt and the new ones, but the last."""
    widths = []

    def target(ids):
        widths.append(ids.shape[1])
        return Table(27)(ids)

    decoder = SpeculativeDecoder(target, lambda ids: target(ids), draft_length=5)
    decoder.decode([[0, 1, 2], [0]], max_new_tokens=7, generator=generator)
    assert max(widths) == 9


class Recorder:
    """A foreign processor that records the histories it is shown."""

    def __init__(self):
        self.shown: list[list[int]] = []

    def __call__(self, input_ids, scores):
        assert len(input_ids) == len(scores)
        self.shown += input_ids.tolist()
        return scores


def test_foreign_processors_see_each_history_left_padded(generator):
    recorder = Recorder()
    decoder = SpeculativeDecoder(
        Table(28),
        Table(28),
        draft_length=2,
        processors=Chain(recorder),
        draft_processors=Temperature(1),
        pad_token_id=9,
    )
    out = decoder.decode([[0, 1, 2], [1]], max_new_tokens=4, generator=generator)
    first = [0, 1, 2, *out.tokens[0].tolist()]
    second = [9, 9, 1, *out.tokens[1].tolist()]
    for row in (first, second):
        for end in range(3, 7):
            assert row[:end] in recorder.shown
    assert {len(row) for row in recorder.shown} == {3, 4, 5, 6}


def test_law_with_a_processor_that_reads_the_history():
    target = Table(29, dtype=torch.float32)
    penalty = hf.RepetitionPenaltyLogitsProcessor(3.0)
    decoder = SpeculativeDecoder(target, Table(30, dtype=torch.float32), draft_length=2, processors=penalty)
    law, prefixes = torch.ones(1, dtype=torch.float64), torch.tensor([[1]])
    for _ in range(3):
        probs = penalty(prefixes, target(prefixes)[:, -1].clone()).double().softmax(-1)
        law = (law[:, None] * probs).flatten()
        prefixes = torch.cat((prefixes.repeat_interleave(V, 0), torch.arange(V).repeat(len(prefixes))[:, None]), dim=1)
    torch.testing.assert_close(exact_law(decoder, [1], 3), law, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits(dtype):
    target = Table(31, dtype=dtype)
    decoder = SpeculativeDecoder(target, Table(32, dtype=dtype), draft_length=2)
    expected = target.law([1], 3, lambda logits: logits.double())
    torch.testing.assert_close(exact_law(decoder, [1], 3), expected, rtol=0, atol=1e-6)


def test_drafts_without_replacement_that_run_out():
    """Three drafts of a law of one or two tokens."""
    verifier = RecursiveRejection(with_replacement=False)
    target = Table(33)
    decoder = SpeculativeDecoder(target, Table(34), verifier, num_drafts=3, draft_length=2, draft_processors=TopK(2))
    torch.testing.assert_close(exact_law(decoder, [1], 2), target.law([1], 2), rtol=0, atol=1e-12)


def test_masked_and_listed_prompts_agree():
    decoder = SpeculativeDecoder(Table(35), Table(36))
    left = torch.tensor([[0, 0, 1], [2, 1, 0]]), torch.tensor([[0, 0, 1], [1, 1, 1]])
    right = torch.tensor([[1, 0, 0], [2, 1, 0]]), torch.tensor([[1, 0, 0], [1, 1, 1]])
    listed = decoder.decode([[1], [2, 1, 0]], max_new_tokens=9, generator=torch.Generator().manual_seed(0))
    for ids, mask in (left, right):
        masked = decoder.decode(ids, attention_mask=mask, max_new_tokens=9, generator=torch.Generator().manual_seed(0))
        assert torch.equal(masked.tokens, listed.tokens)
    assert listed.sequences[1][:3].tolist() == [2, 1, 0]


def test_a_scorer_is_reset_for_every_batch(generator):
    class Counting(CallableScorer):
        resets = 0

        def reset(self):
            self.resets += 1

    scorer: Scorer = Counting(Table(37))
    decoder = SpeculativeDecoder(scorer, Table(38))
    for _ in range(2):
        decoder.decode([[0]], max_new_tokens=3, generator=generator)
    assert scorer.resets == 2


def test_law_with_n_gram_drafts():
    model = NGramModel(torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]), vocab_size=V, order=3)
    decoder = SpeculativeDecoder(Table(39), model, draft_length=2)
    torch.testing.assert_close(exact_law(decoder, [1], 3), Table(39).law([1], 3), rtol=0, atol=1e-6)
