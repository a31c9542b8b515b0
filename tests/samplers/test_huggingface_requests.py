"""What ``model.generate`` is asked for reaches the loop, or is refused where it can be seen."""

import functools
import gc

import pytest
import torch

transformers = pytest.importorskip("transformers")

from transformers import DynamicCache, StaticCache, StoppingCriteria, StoppingCriteriaList  # noqa: E402

from samplers import RecursiveRejection, SampledTree, TreeVerifier  # noqa: E402
from samplers.adapters.huggingface import KeyValueScorer, speculative_generate  # noqa: E402
from samplers.decoding import SpeculativeDecoder  # noqa: E402
from samplers.decoding.prompt_lookup import PromptLookup  # noqa: E402

from .test_huggingface import gpt2, llama, mistral, seeded  # noqa: E402

IDS = torch.tensor([[0, 0, 3, 1], [2, 7, 1, 8]])
MASK = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
GREEDY = {"max_new_tokens": 20, "do_sample": False, "attention_mask": MASK}


def speculative(model, ids, **settings):
    return model.generate(ids, custom_generate=speculative_generate, **{"draft": gpt2(31), "generator": 0, **settings})


class Once(StoppingCriteria):
    """Ends a row when the token stands among the new ones; records what it was shown."""

    def __init__(self, token: int, prompt_width: int):
        self.token, self.prompt_width, self.shown = token, prompt_width, set()

    def __call__(self, input_ids, scores, **kwargs):
        self.shown |= {tuple(row) for row in input_ids.tolist()}
        return (input_ids[:, self.prompt_width :] == self.token).any(-1)


@pytest.mark.parametrize("draft_seed", [30, 31])
def test_stopping_criteria_see_the_padding(draft_seed):
    model = gpt2(30)
    plain = model.generate(IDS, **GREEDY)
    for token in plain[:, 4:].unique().tolist():
        theirs, ours, ends = Once(token, 4), Once(token, 4), {"pad_token_id": 0, "eos_token_id": 20, **GREEDY}
        expected = model.generate(IDS, stopping_criteria=StoppingCriteriaList([theirs]), **ends)
        found = speculative(model, IDS, stopping_criteria=StoppingCriteriaList([ours]), draft=gpt2(draft_seed), **ends)
        assert torch.equal(found, expected)
        for row in ours.shown:
            assert row[:4] in ((0, 0, 3, 1), (2, 7, 1, 8))


def test_stopping_criteria_with_a_setting_for_each_row():
    class Lengths(StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            return torch.tensor([input_ids.shape[1] >= 9, input_ids.shape[1] >= 14])

    model = gpt2(30)
    settings = {"stopping_criteria": StoppingCriteriaList([Lengths()]), **GREEDY, "pad_token_id": 0, "eos_token_id": 20}
    assert torch.equal(speculative(model, IDS, **settings), model.generate(IDS, **settings))


def test_a_name_is_no_draft():
    with pytest.raises(TypeError, match=r"draft must be a model .* got 'some/model'"):
        speculative(gpt2(30), IDS, draft="some/model", **GREEDY)
    with pytest.raises(TypeError, match="not the name of one, got 'b'"):
        speculative(gpt2(30), IDS, draft=[gpt2(31), "b"], **GREEDY)
    with pytest.raises(TypeError, match=r"model must be a causal model of transformers .* got 'some/model'"):
        KeyValueScorer("some/model")


@pytest.mark.parametrize("start", [0, 7], ids=["all", "of the new tokens"])
def test_positions_are_those_of_the_tokens_or_refused(start):
    model, ids = gpt2(30), torch.cat((IDS, IDS), dim=1)
    settings = {**GREEDY, "attention_mask": torch.cat((MASK, torch.ones_like(MASK)), dim=1)}
    positions = (settings["attention_mask"].cumsum(-1) - 1).clamp(min=0)[:, start:]
    found = speculative(model, ids, position_ids=positions, **settings)
    assert torch.equal(found, model.generate(ids, **settings))
    with pytest.raises(ValueError, match="position_ids must count the tokens of each prompt from 0"):
        speculative(model, ids, position_ids=positions + 1, **settings)


class Streamer:
    def __init__(self):
        self.seen, self.ended = [], 0

    def put(self, value):
        self.seen += value.flatten().tolist()

    def end(self):
        self.ended += 1


def test_a_streamer_gets_the_prompt_the_tokens_and_the_end():
    model, ids = gpt2(30), IDS[1:]
    theirs, ours = Streamer(), Streamer()
    settings = {"max_new_tokens": 12, "do_sample": False}
    plain = model.generate(ids, streamer=theirs, **settings)
    with_streamer = functools.partial(speculative_generate, streamer=ours)
    found = model.generate(ids, custom_generate=with_streamer, draft=gpt2(31), generator=0, **settings)
    assert torch.equal(found, plain)
    assert ours.seen == theirs.seen
    assert ours.ended == theirs.ended == 1
    with pytest.raises(ValueError, match="streamer must be None for 2 rows"):
        model.generate(IDS, custom_generate=with_streamer, draft=gpt2(31), **GREEDY)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"cache_implementation": "static"}, "cache_implementation must be None or 'dynamic'"),
        ({"output_hidden_states": True, "return_dict_in_generate": True}, "output_hidden_states must be False"),
        ({"output_attentions": True, "return_dict_in_generate": True}, "output_attentions must be False"),
        ({"prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens must be None"),
    ],
)
def test_what_would_be_ignored_is_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        speculative(gpt2(30), IDS, **GREEDY, **settings)


@pytest.mark.parametrize("make", [gpt2, llama], ids=["gpt2", "llama"])
@pytest.mark.parametrize("ids", [IDS[1:], IDS], ids=["one", "padded"])
def test_a_conversation_goes_on_from_its_cache(make, ids):
    model, mask = make(32), MASK[-len(ids) :]
    settings = {"max_new_tokens": 7, "do_sample": False, "pad_token_id": 0}
    plain = model.generate(ids, attention_mask=mask, **settings)
    cache = DynamicCache()
    first = speculative(model, ids, attention_mask=mask, past_key_values=cache, **settings)
    assert torch.equal(first, plain)
    assert cache.get_seq_length() == plain.shape[1] - 1
    longer = torch.cat((plain, torch.tensor([[5, 6]] * len(ids))), dim=1)
    grown = torch.cat((mask, torch.ones(len(ids), 9, dtype=torch.long)), dim=1)
    expected = model.generate(longer, attention_mask=grown, **settings)
    widths = []
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    second = speculative(model, longer, attention_mask=grown, past_key_values=cache, **settings)
    hook.remove()
    assert torch.equal(second, expected)
    assert 3 in widths  # what the cache does not hold: the last token and two new ones
    assert longer.shape[1] not in widths
    assert cache.get_seq_length() == expected.shape[1] - 1
    third = model.generate(second, attention_mask=torch.nn.functional.pad(grown, (0, 7), value=1), **settings)
    again = model.generate(  # transformers goes on from the cache that we leave
        second, attention_mask=torch.nn.functional.pad(grown, (0, 7), value=1), past_key_values=cache, **settings
    )
    assert torch.equal(again, third)


def test_other_caches_are_refused():
    model = llama(33)
    for cache in (StaticCache(config=model.config, max_cache_len=40), DynamicCache(config=mistral(1).config)):
        with pytest.raises(ValueError, match="past_key_values must be a DynamicCache"):
            speculative(model, IDS[1:], past_key_values=cache, max_new_tokens=3)
    cache = DynamicCache()
    model(input_ids=IDS[1:].repeat(1, 2), past_key_values=cache)
    with pytest.raises(ValueError, match="past_key_values must hold at most the prompts' 4 tokens, got 8"):
        speculative(model, IDS[1:], past_key_values=cache, max_new_tokens=3)


@pytest.mark.parametrize("draft", [gpt2(34), PromptLookup(3)], ids=["model", "lookup"])
def test_scores_are_those_of_transformers(draft):
    model = gpt2(30)
    settings = {"output_scores": True, "return_dict_in_generate": True, "repetition_penalty": 1.3, **GREEDY}
    plain, ours = model.generate(IDS, **settings), speculative(model, IDS, draft=draft, **settings)
    assert torch.equal(ours.sequences, plain.sequences)
    assert len(ours.scores) == len(plain.scores) == 20
    torch.testing.assert_close(torch.stack(ours.scores), torch.stack(plain.scores), rtol=1e-4, atol=1e-4)


def gpt_neo(seed: int, scale: float = 3.0):
    config = transformers.GPTNeoConfig(
        vocab_size=7,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=4,
        bos_token_id=0,
        eos_token_id=None,
    )
    model = seeded(lambda: transformers.GPTNeoForCausalLM(config), seed)
    for parameter in model.parameters():
        parameter.data.mul_(scale / 3.0)
    return model


@pytest.mark.parametrize(("seed", "scale"), [(0, 6.0), (1, 4.0), (4, 4.0), (5, 4.0)])
def test_a_tree_on_a_model_with_local_attention(seed, scale):
    """Its window would be switched off by a mask of queries and keys, and other tokens come out."""
    model, prompt = gpt_neo(seed, scale), torch.tensor([[1, 2, 3, 4, 5, 6, 1, 3, 5, 2]])
    settings = {"max_new_tokens": 8, "do_sample": False}
    ours = model.generate(
        prompt,
        custom_generate=speculative_generate,
        draft=SampledTree(KeyValueScorer(model), (3, 2, 1)),
        verifier=TreeVerifier(RecursiveRejection()),
        generator=0,
        **settings,
    )
    assert torch.equal(ours, model.generate(prompt, **settings))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (gpt2, True),
        (llama, True),
        (mistral, False),
        (gpt_neo, False),
    ],
    ids=["gpt2", "llama", "sliding window", "local attention"],
)
@pytest.mark.parametrize("scale", [1.0, 0.05])
def test_the_mask_is_tested_on_the_model(make, expected, scale):
    model = make(35)
    for parameter in model.parameters():  # weights near zero too, where all logits are close to each other
        parameter.data.mul_(scale)
    scorer = KeyValueScorer(model)
    assert scorer._probe.holds(3) == expected
    assert scorer._probe.holds(60) == expected


def test_decoding_leaves_no_memory_behind():
    """The number of tensors is the same after 3 and after 30 decodings."""
    decoder = SpeculativeDecoder(KeyValueScorer(gpt2(36)), KeyValueScorer(gpt2(37)))

    def count():
        gc.collect()
        return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())

    counts = []
    for repeats in (3, 30):
        for _ in range(repeats):
            decoder.decode([[1, 2, 3]], max_new_tokens=8, generator=0)
        counts.append(count())
    assert counts[0] == counts[1]
