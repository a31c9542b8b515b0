"""What the decoding loop refuses, and what it says of itself."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from samplers import (
    KSequential,
    OptimalVerifier,
    RecursiveRejection,
    SamplerMatch,
    SpeculativeSampling,
    WeightedVerifier,
)
from samplers.decoding import SampledTree, SpeculativeDecoder
from samplers.decoding.histories import split_by_origin
from samplers.decoding.ngrams import NGramModel
from samplers.processors import Chain, Processor, TopK, TopP

from .test_decoding import Table, V, exact_law


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: SpeculativeDecoder(3, Table(0)), TypeError, "model must be a callable"),
        (
            lambda: SpeculativeDecoder(Table(0), Table(0), SpeculativeSampling(), num_drafts=2),
            ValueError,
            "num_drafts must be at most 1",
        ),
        (lambda: SpeculativeDecoder(Table(0), Table(0), draft_length=0), ValueError, "draft_length must be at least 1"),
        (lambda: SpeculativeDecoder(Table(0), Table(0), vocab_size=0), ValueError, "vocab_size must be at least 1"),
        (lambda: SpeculativeDecoder(Table(0), [Table(0)], SamplerMatch(), num_drafts=2), ValueError, "one entry"),
        (
            lambda: SpeculativeDecoder(Table(0), Table(0), processors=(TopK(1), TopK(2))),
            TypeError,
            "processors must be one callable",
        ),
        (lambda: SpeculativeDecoder(Table(0), Table(0), eos_token_id="a"), TypeError, "eos_token_id"),
        (
            lambda: SpeculativeDecoder(
                Table(0), [Table(0), Table(1)], RecursiveRejection(with_replacement=False), num_drafts=2
            ),
            ValueError,
            "with_replacement must be True",
        ),
        (lambda: SpeculativeDecoder(Table(0), Table(0), OptimalVerifier), TypeError, "the class OptimalVerifier"),
        (lambda: SpeculativeDecoder(Table(0), Table(0), "optimal"), TypeError, "verifier must be .* got str"),
        (lambda: SpeculativeDecoder(Table, Table(0)), TypeError, "model must be an instance, got the class Table"),
        (lambda: SpeculativeDecoder(Table(0), Table(0), processors=TopP), TypeError, "processors must .* class TopP"),
        (lambda: SpeculativeDecoder(Table(0), Table(0), draft_processors=TopP), TypeError, "processors .* class TopP"),
        (lambda: Chain(TopP), TypeError, "processors must be callables"),
        (lambda: SpeculativeDecoder(Table(0), Table(0), eos_token_id=-3), ValueError, "eos_token_id must be at least"),
    ],
)
def test_bad_settings_are_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize("verifier", [KSequential(), OptimalVerifier()])
def test_verifiers_of_identical_drafts_refuse_different_ones(verifier):
    one, other = Table(1), Table(2)
    settings = {"num_drafts": 2, "draft_length": 2}
    with pytest.raises(ValueError, match="drafts must have one model and one processor"):
        SpeculativeDecoder(Table(0), [one, other], verifier, **settings)
    with pytest.raises(ValueError, match="drafts must have one model and one processor"):
        SpeculativeDecoder(Table(0), one, verifier, draft_processors=[TopK(1), TopK(2)], **settings)
    decoder = SpeculativeDecoder(
        Table(0), [one, one], verifier, processors=TopK(2), draft_processors=[TopK(2), TopK(2)], **settings
    )
    law = Table(0).law([0], 2, TopK(2).process)
    torch.testing.assert_close(exact_law(decoder, [0], 2), law, rtol=0, atol=1e-12)
    SpeculativeDecoder(Table(0), [one, other], WeightedVerifier(), **settings)


def test_a_decoder_shows_what_it_is_made_of():
    decoder = SpeculativeDecoder(
        NGramModel(torch.arange(3), 3), Table(0), KSequential(), num_drafts=2, processors=TopK(2), eos_token_id=[2, 1]
    )
    assert repr(decoder) == (
        "SpeculativeDecoder(NGramModel, SampledDrafts([Table], num_drafts=2, draft_length=5), KSequential(), "
        f"processors={TopK(2)!r}, eos_token_id=[1, 2], vocab_size=None)"
    )
    assert repr(SampledTree(Table(0), (2, 1))) == "SampledTree(Table, branching=(2, 1))"


@pytest.mark.parametrize("target", [Table(0), NGramModel(torch.arange(3), V)])
def test_tokens_outside_the_vocabulary_are_refused(target):
    def seen(row, tokens):
        raise RuntimeError("a token came out before the check")

    settings = {"max_new_tokens": 3, "on_tokens": seen}
    decoder = SpeculativeDecoder(target, Table(1))
    with pytest.raises(ValueError, match=r"input_ids must lie in 0..2, the target's vocabulary, got 999"):
        decoder.decode([[1], [0, 999]], **settings)
    with pytest.raises(ValueError, match="input_ids must hold token ids of at least 0, got -1"):
        decoder.decode([[-1]], **settings)
    with pytest.raises(ValueError, match=r"eos_token_id must lie in 0..2, the target's vocabulary, got 3"):
        SpeculativeDecoder(target, Table(1), eos_token_id=[2, 3]).decode([[1]], **settings)


def test_masked_ids_may_be_anything(generator):
    ids, mask = torch.tensor([[-100, 999, 1]]), torch.tensor([[0, 0, 1]])
    decoder = SpeculativeDecoder(Table(0), Table(1), pad_token_id=-100)
    out = decoder.decode(ids, attention_mask=mask, max_new_tokens=2, generator=generator)
    assert out.sequences[0][0] == 1


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"input_ids": [b"the "]}, TypeError, "input_ids must be .* got a prompt of type bytes"),
        ({"input_ids": "the "}, TypeError, "input_ids must be .* got str"),
        ({"input_ids": 3}, TypeError, "input_ids must be .* got int"),
        ({"input_ids": [["a"]]}, TypeError, r"input_ids must be .* got a prompt \['a'\]"),
        ({"input_ids": [[]]}, ValueError, "each prompt at least one token"),
        ({"input_ids": []}, ValueError, "at least one prompt"),
        ({"input_ids": torch.zeros(3)}, ValueError, r"shape \(B, L\)"),
        ({"input_ids": torch.zeros(1, 3)}, TypeError, "integers"),
        ({"input_ids": [[1]], "max_new_tokens": 0}, ValueError, "max_new_tokens"),
        ({"input_ids": torch.ones(1, 2).long(), "attention_mask": torch.ones(1, 3)}, ValueError, "attention_mask"),
        ({"input_ids": [[1]], "attention_mask": torch.ones(1, 1)}, ValueError, "attention_mask must be None"),
        ({"input_ids": [[1]], "generator": [torch.Generator()] * 2}, ValueError, "one generator per row"),
    ],
)
def test_bad_requests_are_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        SpeculativeDecoder(Table(0), Table(0)).decode(**{"max_new_tokens": 3, **arguments})


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_bad_logits_are_refused(bad, generator):
    def model(ids):
        return torch.full((*ids.shape, V), bad)

    with pytest.raises(ValueError, match="no NaN"):
        SpeculativeDecoder(model, Table(0)).decode([[0]], max_new_tokens=3, generator=generator)
    with pytest.raises(ValueError, match="no NaN"):
        SpeculativeDecoder(Table(0), model).decode([[0]], max_new_tokens=3, generator=generator)


def test_some_rows_with_a_seed_and_some_without():
    """Rows without one draw from torch's default generator, as partly seeded batches of servers do."""
    decoder = SpeculativeDecoder(Table(0), Table(1))
    prompts = [[0], [1, 2], [2]]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = decoder.decode(prompts, max_new_tokens=12, generator=[7, None, torch.Generator().manual_seed(8)])
        second = decoder.decode(prompts, max_new_tokens=12, generator=[7, None, torch.Generator().manual_seed(8)])
        torch.manual_seed(0)
        third = decoder.decode(prompts, max_new_tokens=12, generator=[7, None, torch.Generator().manual_seed(8)])
    assert torch.equal(first.tokens[[0, 2]], second.tokens[[0, 2]])
    assert not torch.equal(first.tokens[1], second.tokens[1])
    assert torch.equal(first.tokens, third.tokens)


def test_twenty_thousand_positions_are_lined_up_in_linear_memory():
    """A table of all pairs would take 3.2 GB; the groups are those of the docstring."""
    origin = torch.arange(40_000) % 7
    groups = split_by_origin(origin)
    assert torch.equal(torch.cat(groups), torch.arange(40_000))
    assert all(len(origin[group].unique()) == len(group) for group in groups)


def test_transformers_is_not_imported():
    code = "import sys, samplers, samplers.decoding.ngrams; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("output", "got"), [(None, "NoneType"), (np.zeros((1, 1, 3)), "ndarray")])
def test_a_model_must_return_a_tensor(output, got):
    with pytest.raises(TypeError, match=rf"model must return a torch\.Tensor of logits.*got {got}"):
        SpeculativeDecoder(lambda ids: output, Table(0)).decode([[0]], max_new_tokens=2, generator=0)


class DropsOne(Processor):
    def transform(self, scores):
        return scores[..., :-1]


@pytest.mark.parametrize("processor", [lambda ids, scores: scores[..., :-1], DropsOne()])
def test_a_processor_must_keep_the_vocabulary(processor):
    decoder = SpeculativeDecoder(Table(0), Table(0), processors=processor)
    with pytest.raises(ValueError, match=r"processors must keep the vocabulary of \d+ tokens"):
        decoder.decode([[0]], max_new_tokens=2, generator=0)


def test_a_processor_must_return_a_tensor():
    decoder = SpeculativeDecoder(Table(0), Table(0), processors=lambda ids, scores: None)
    with pytest.raises(TypeError, match=r"processors must return a torch\.Tensor of scores, got NoneType"):
        decoder.decode([[0]], max_new_tokens=2, generator=0)


def test_models_and_num_drafts_must_agree():
    for count in (1, 3):
        with pytest.raises(ValueError, match=f"num_drafts={count} drafts, got 2"):
            SpeculativeDecoder(Table(0), [Table(1), Table(2)], WeightedVerifier(), num_drafts=count)
    assert SpeculativeDecoder(Table(0), [Table(1), Table(2)], WeightedVerifier()).drafter.num_drafts == 2
