"""Requests that join and leave between rounds get the tokens that they would get alone."""

import pytest
import torch
from transformers.generation import logits_process as hf

from samplers import (
    DecodingSession,
    ExpectedGain,
    OptimalVerifier,
    RecursiveRejection,
    SampledTree,
    SpeculativeDecoder,
    TreeVerifier,
)
from samplers.adapters.huggingface import KeyValueScorer
from samplers.decoding.prompt_lookup import PromptLookup
from samplers.exactness import chi_square
from samplers.processors import Chain, Temperature, TopK

from .test_decoding import Table, V
from .test_huggingface import gpt2

REQUESTS = [  # prompt, new tokens, processors, the step at which it joins
    ([0], 9, None, 0),
    ([1, 2, 0, 1, 2, 0], 4, Temperature(0.5), 0),
    ([2, 2], 12, Chain(hf.RepetitionPenaltyLogitsProcessor(1.5), TopK(2)), 1),
    ([1], 1, None, 2),
    ([0, 1] * 20, 7, Temperature(0), 2),
    ([2], 9, None, 5),
]
TABLES = {"target": Table(0, dtype=torch.float32), "draft": Table(1, dtype=torch.float32)}


def make(kind, target, draft, **settings):
    if kind == "tree":
        return SpeculativeDecoder(target, SampledTree(draft, (2, 2)), TreeVerifier(RecursiveRejection()), **settings)
    if kind == "three":
        return SpeculativeDecoder(target, draft, OptimalVerifier(), num_drafts=3, draft_length=2, **settings)
    if kind == "lookup":
        return SpeculativeDecoder(target, PromptLookup(3), **settings)
    return SpeculativeDecoder(target, draft, draft_length=3, **settings)


def served(decoder, requests=REQUESTS, remove=()):
    session, found, numbers = DecodingSession(decoder), {}, []
    for step in range(100):
        for index, (prompt, count, processors, joins) in enumerate(requests):
            if joins == step:
                numbers.append(session.add(prompt, max_new_tokens=count, generator=index, processors=processors))
                found[index] = []
        for number in remove:
            if step == 3 and number in session.requests:
                session.remove(number)
        for emission in session.step():
            assert len(emission.tokens) > 0
            found[emission.request] += emission.tokens.tolist()
            assert emission.is_done == (emission.request not in session.requests)
        if not session.requests and step > 5:
            return found
    raise AssertionError("the session did not end")


@pytest.mark.parametrize("kind", ["one", "three", "tree", "lookup"])
@pytest.mark.parametrize("settings", [{}, {"eos_token_id": 2}, {"processors": Temperature(0.8)}], ids=repr)
def test_requests_get_the_tokens_that_they_get_alone(kind, settings):
    found = served(make(kind, **TABLES, **settings))
    for index, (prompt, count, processors, _) in enumerate(REQUESTS):
        own = dict(settings) if processors is None else {**settings, "processors": processors}
        alone = make(kind, **TABLES, **own).decode([prompt], max_new_tokens=count, generator=[index])
        assert found[index] == alone.tokens[0, : int(alone.lengths[0])].tolist()


@pytest.mark.parametrize("kind", ["one", "three", "tree"])
def test_requests_of_models_with_a_cache(kind):
    models = [KeyValueScorer(gpt2(seed)) for seed in (41, 42)]
    found = served(make(kind, *models))
    for index, (prompt, count, processors, _) in enumerate(REQUESTS):
        alone = make(kind, *models, **({} if processors is None else {"processors": processors})).decode(
            [prompt], max_new_tokens=count, generator=[index]
        )
        assert found[index] == alone.tokens[0].tolist()


def test_a_new_prompt_is_read_alone():
    """The rows that go on are not read again over the length of a prompt that joins them."""
    model = gpt2(43)
    shapes = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    session = DecodingSession(SpeculativeDecoder(KeyValueScorer(model), PromptLookup(2)))
    for row in range(3):
        session.add([row, 5], max_new_tokens=30, generator=row)
    for _ in range(3):
        session.step()
    shapes.clear()
    session.add([7] * 40, max_new_tokens=5, generator=9)
    session.step()
    assert (1, 40) in shapes
    assert all(rows * width <= 40 for rows, width in shapes)


def test_a_request_that_leaves_does_not_disturb_the_others():
    decoder = make("one", **TABLES)
    whole, part = served(decoder), served(decoder, remove=(0, 2))
    for index in (1, 3, 4, 5):
        assert part[index] == whole[index]
    for index in (0, 2):
        assert part[index] == whole[index][: len(part[index])]


def test_lengths_are_chosen_from_the_requests_own_past():
    settings = {"draft_lengths": ExpectedGain(0.2, longest=3)}
    found = served(make("one", **TABLES, **settings))
    for index, (prompt, count, processors, _) in enumerate(REQUESTS):
        own = {} if processors is None else {"processors": processors}
        alone = make("one", **TABLES, **settings, **own).decode([prompt], max_new_tokens=count, generator=[index])
        assert found[index] == alone.tokens[0].tolist()


def test_stop_conditions_of_each_request():
    session = DecodingSession(make("one", **TABLES))
    session.add([0], max_new_tokens=30, generator=0, stop=lambda ids: int(ids[0, -1]) == 2)
    session.add([0], max_new_tokens=30, generator=0)
    found, stopped = {0: [], 1: []}, {}
    while session.requests:
        for emission in session.step():
            found[emission.request] += emission.tokens.tolist()
            stopped[emission.request] = emission.stopped
    assert found[0] == found[1][: found[1].index(2) + 1]
    assert stopped == {0: True, 1: False}


def test_law_of_requests_that_join_one_after_another():
    """2,000 requests of one token stream each, 100 joining at every step. False-alarm rate 1e-6."""
    decoder, generator = make("one", **TABLES), torch.Generator().manual_seed(0)
    session, counts, found = DecodingSession(decoder), torch.zeros(V**3, dtype=torch.long), {}
    for step in range(40):
        for _ in range(100 if step < 20 else 0):
            found[session.add([1], max_new_tokens=3, generator=generator)] = []
        for emission in session.step():
            found[emission.request] += emission.tokens.tolist()
    assert not session.requests
    for tokens in found.values():
        counts[tokens[0] * V * V + tokens[1] * V + tokens[2]] += 1
    assert chi_square(counts[None], Table(0).law([1], 3)[None]).passed


def test_bad_requests_are_refused():
    session = DecodingSession(make("one", **TABLES))
    assert session.step() == []
    for prompt, settings, error, match in (
        ([], {}, ValueError, "each prompt at least one token"),
        ("ab", {}, TypeError, "input_ids must be"),
        ([0], {"max_new_tokens": 0}, ValueError, "max_new_tokens"),
        ([0], {"generator": "a"}, TypeError, "generator must be"),
        ([0], {"processors": 3}, TypeError, "processors must be"),
        ([0], {"stop": 3}, TypeError, "stop must be"),
    ):
        with pytest.raises(error, match=match):
            session.add(prompt, **{"max_new_tokens": 3, **settings})
    with pytest.raises(ValueError, match="request must be one that goes on"):
        session.remove(3)
    with pytest.raises(TypeError, match="decoder must be a SpeculativeDecoder"):
        DecodingSession(Table(0))
    session.add([99], max_new_tokens=2)
    with pytest.raises(ValueError, match=r"input_ids must lie in 0..2"):
        session.step()
