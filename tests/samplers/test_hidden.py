"""Heads that draft from the target's hidden states: which states they see, and the exact law of the output."""

import pytest
import torch

from samplers import (
    BlockVerification,
    DecodingSession,
    HeadDrafts,
    SpeculativeDecoder,
    SpeculativeSampling,
    Temperature,
)
from samplers.adapters.huggingface import KeyValueScorer
from samplers.decoding import CallableScorer

from .test_decoding import Table, exact_law
from .test_huggingface import gpt2, llama


class Watched(CallableScorer):
    """A table whose hidden state at a token is that token and the one before it, as numbers."""

    def watch(self, layers):
        self.layers = layers

    def scores(self, ids, lengths, count):
        position = lengths[:, None] + torch.arange(-int(lengths.max()), 0)
        before = ids.gather(1, (position - 1).clamp(min=0)).where(position > 0, 0)
        self.hidden = torch.stack((before, ids.gather(1, position.clamp(min=0))), -1).double()
        return super().scores(ids, lengths, count)


class TableHead(HeadDrafts):
    """Goes on by a table of another seed, from the two tokens that the hidden state stands for and the last one."""

    def __init__(self, seed, **settings):
        super().__init__(**settings)
        self.table, self.seen = Table(seed).table, []

    def step(self, hidden, tokens, position):
        self.seen.append((position, hidden.long().tolist(), tokens.tolist()))
        after = torch.stack((hidden[:, 1], tokens.double()), -1)
        return self.table[after[:, 0].long(), tokens], after


@pytest.mark.parametrize("verifier", [SpeculativeSampling(), BlockVerification()], ids=repr)
@pytest.mark.parametrize("settings", [{}, {"processors": Temperature(0.7)}], ids=repr)
def test_law_is_exactly_the_target(verifier, settings):
    decoder = SpeculativeDecoder(Watched(Table(0)), TableHead(1, draft_length=2), verifier, **settings)
    process = settings["processors"].process if settings else (lambda logits: logits)
    torch.testing.assert_close(exact_law(decoder, [0, 2], 4), Table(0).law([0, 2], 4, process), rtol=0, atol=1e-12)


def test_a_head_sees_the_state_before_the_last_token():
    head = TableHead(1, draft_length=3)
    decoder = SpeculativeDecoder(Watched(Table(0)), head, eos_token_id=2)
    out = decoder.decode([[0, 1], [1, 0, 0, 1], [1]], max_new_tokens=12, generator=[0, 1, 2])
    histories = {
        tuple(row[:end]) for row in (part.tolist() for part in out.sequences) for end in range(2, len(row) + 1)
    }
    known = {(row[-3] if len(row) > 2 else 0, row[-2], row[-1]) for row in histories}
    for position, hidden, tokens in head.seen:
        if position == 0:
            assert {(*state, token) for state, token in zip(hidden, tokens, strict=True)} <= known


def test_a_head_that_knows_the_target_is_always_accepted():
    out = SpeculativeDecoder(Watched(Table(0)), TableHead(0, draft_length=3)).decode(
        [[0, 1], [1]], max_new_tokens=9, generator=0
    )
    assert out.statistics.block_efficiency == 4.0


class Recording(HeadDrafts):
    """Records the rows and states that it is given."""

    def __init__(self, **settings):
        super().__init__(draft_length=3, **settings)
        self.seen = []

    def propose(self, histories, limits, vocab_size, source):
        for row, length in enumerate(histories.lengths.tolist()):
            self.seen.append((histories.ids[row, :length].clone(), histories.hidden[row, : length - 1].clone()))
        return super().propose(histories, limits, vocab_size, source)

    def step(self, hidden, tokens, position):
        return torch.zeros(len(tokens), 23), hidden


@pytest.mark.parametrize("make", [gpt2, llama], ids=["gpt2", "llama"])
def test_hidden_states_are_those_of_the_model(make):
    model, head = make(50), Recording(layers=(0, -1))
    decoder = SpeculativeDecoder(KeyValueScorer(model), head)
    out = decoder.decode([[1, 2, 3, 4, 5], [7], [8, 9]], max_new_tokens=14, generator=[0, 1, 2])
    assert int(out.statistics.accepted.sum()) > 0
    for ids, hidden in head.seen:
        with torch.no_grad():
            states = model(input_ids=ids[None], output_hidden_states=True).hidden_states
        expected = torch.cat((states[0], states[-1]), -1)[0, :-1]
        torch.testing.assert_close(hidden, expected, rtol=1e-3, atol=1e-3)


def test_greedy_decoding_with_a_head():
    model = llama(51)
    ids = torch.tensor([[1, 2, 3]])
    plain = model.generate(ids, max_new_tokens=15, do_sample=False)
    decoder = SpeculativeDecoder(KeyValueScorer(model), Recording(), processors=Temperature(0))
    assert torch.equal(decoder.decode(ids, max_new_tokens=15, generator=0).sequences[0], plain[0])


def test_targets_without_hidden_states_are_refused():
    decoder = SpeculativeDecoder(Table(0), TableHead(1))
    with pytest.raises(ValueError, match=r"target must be a scorer that gives hidden states, .* got CallableScorer"):
        decoder.decode([[0]], max_new_tokens=2, generator=0)
    with pytest.raises(ValueError, match="without hidden states in a session"):
        DecodingSession(decoder)
    with pytest.raises(ValueError, match="layers must name at least one"):
        TableHead(1, layers=())
