"""The cache of Hugging Face models against no cache, and generation through ``model.generate``."""

import pytest
import torch

transformers = pytest.importorskip("transformers")

from transformers.generation import logits_process as hf  # noqa: E402

from samplers import OptimalVerifier, RecursiveRejection, SampledTree, TreeVerifier  # noqa: E402
from samplers.adapters.huggingface import KeyValueScorer, speculative_generate, translate  # noqa: E402
from samplers.decoding import CallableScorer, SpeculativeDecoder  # noqa: E402
from samplers.decoding.ngrams import NGramModel  # noqa: E402
from samplers.decoding.prompt_lookup import PromptLookup  # noqa: E402
from samplers.processors import Processor, Temperature, TopK  # noqa: E402

V = 23
SETTINGS = {"vocab_size": V, "bos_token_id": 0, "eos_token_id": None, "pad_token_id": 0}


def seeded(make, seed: int):
    """Build a model from a seed, without a trace in the global random state."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make().eval()
        for parameter in model.parameters():  # sharp laws, so that errors show
            parameter.data.mul_(3.0)
    return model


def gpt2(seed: int, vocab_size: int = V):
    config = transformers.GPT2Config(
        **{**SETTINGS, "vocab_size": vocab_size}, n_positions=64, n_embd=16, n_layer=2, n_head=2
    )
    return seeded(lambda: transformers.GPT2LMHeadModel(config), seed)


def llama(seed: int, **kwargs):
    config = transformers.LlamaConfig(
        **SETTINGS,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
    )
    return seeded(lambda: transformers.LlamaForCausalLM(config), seed)


def mistral(seed: int):
    config = transformers.MistralConfig(
        **SETTINGS,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        sliding_window=6,
    )
    return seeded(lambda: transformers.MistralForCausalLM(config), seed)


MODELS = [pytest.param(make, id=make.__name__) for make in (gpt2, llama, mistral)]


class Watched:
    """A model that counts the tokens it is run on."""

    def __init__(self, model):
        self.model, self.config, self.training, self.dtype = model, model.config, False, model.dtype
        self.forward, self.get_input_embeddings = model.forward, model.get_input_embeddings
        self.widths: list[int] = []
        self.rows: list[int] = []

    def __call__(self, **arguments):
        self.widths.append(arguments["input_ids"].shape[1])
        self.rows.append(arguments["input_ids"].shape[0])
        return self.model(**arguments)


@pytest.mark.parametrize("make", MODELS)
def test_cached_logits_are_those_without_a_cache(make, generator):
    """Random walks of growing, cropped, reordered, dropped and repeated rows of different lengths."""
    model = make(0)
    cached, plain = KeyValueScorer(model), CallableScorer(model)
    ids = torch.randint(V, (4, 8), generator=generator)
    lengths = torch.tensor([8, 3, 5, 1])
    for step in range(12):
        with torch.no_grad():
            expected = plain.scores(ids, lengths, 1 + step % 3)
        actual = cached.scores(ids, lengths, 1 + step % 3)
        first = (1 + step % 3 - lengths).clamp(min=0)  # entries of empty prefixes may hold anything
        for row in range(len(ids)):
            torch.testing.assert_close(actual[row, first[row] :], expected[row, first[row] :], rtol=1e-4, atol=1e-4)
        rows = torch.randint(len(ids), (int(torch.randint(1, 6, (), generator=generator)),), generator=generator)
        cut = torch.randint(0, 3, (len(rows),), generator=generator)
        lengths = (lengths[rows] - cut).clamp(min=1)
        grown = torch.randint(V, (len(rows), 4), generator=generator)
        ids = torch.nn.functional.pad(ids[rows], (0, 4))
        ids.scatter_(1, lengths[:, None] + torch.arange(4), grown)
        lengths = lengths + torch.randint(0, 5, (len(rows),), generator=generator)
        ids = ids[:, : int(lengths.max())]


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("make", MODELS)
def test_the_logits_of_a_tree_are_those_of_its_prefixes(make, implementation, generator):
    """Random walks of rows and trees, at first without a cache."""
    model = make(0)
    model.set_attn_implementation(implementation)
    cached, plain = KeyValueScorer(model), CallableScorer(model)
    ids, lengths = torch.randint(V, (3, 9), generator=generator), torch.tensor([9, 2, 5])
    for parents in ([-1], [-1, -1, 0], [-1, -1, 0, 0, 1, 1], [], [-1, 0, 1]):
        size = len(parents)
        tree = torch.randint(V, (3, size), generator=generator), torch.tensor(parents, dtype=torch.long)
        sizes = torch.tensor([size, min(size, 2), 0])
        with torch.no_grad():
            expected = plain.tree_scores(ids, lengths, *tree, sizes, size + 1)
        for count in (size + 1, 1):
            actual = cached.tree_scores(ids, lengths, *tree, sizes, count)
            for row, real in enumerate(sizes.tolist()):
                for entry in range(max(size + 1 - count, 0), real + 1):
                    found = actual[row, entry - (size + 1 - count)]
                    torch.testing.assert_close(found, expected[row, entry], rtol=1e-4, atol=1e-4)
        ids = torch.cat((ids, torch.randint(V, (3, 2), generator=generator)), dim=1)
        lengths = lengths + torch.tensor([2, 1, 0])


def test_a_tree_is_scored_in_one_pass(generator):
    target, draft = Watched(gpt2(1)), Watched(gpt2(2))
    tree = SampledTree(KeyValueScorer(draft), (3, 2))
    decoder = SpeculativeDecoder(KeyValueScorer(target), tree, TreeVerifier(OptimalVerifier()))
    prompts = torch.randint(V, (2, 20), generator=generator)
    decoder.decode(prompts, max_new_tokens=12, generator=generator)
    assert set(target.rows + draft.rows) <= {1, 2}  # one row for each sequence
    assert target.widths[0] == 20
    assert max(target.widths[1:]) <= 9 + 3  # the tree, and what the row furthest ahead has accepted


@pytest.mark.parametrize("make", MODELS)
def test_trees_with_and_without_a_cache_agree(make):
    target, draft = make(4), make(5)

    def run(wrap):
        tree = SampledTree(wrap(draft), (3, 2, 1), Temperature(1.5))
        decoder = SpeculativeDecoder(wrap(target), tree, TreeVerifier(RecursiveRejection()), processors=TopK(8))
        return decoder.decode([[3, 1, 4], [1, 5, 9, 2, 6], [5]], max_new_tokens=25, generator=[0, 1, 2])

    cached, plain = run(KeyValueScorer), run(CallableScorer)
    assert torch.equal(cached.tokens, plain.tokens)
    assert torch.equal(cached.statistics.accepted, plain.statistics.accepted)


def test_only_new_tokens_are_computed(generator):
    model = Watched(gpt2(1))
    scorer = KeyValueScorer(model)
    ids = torch.randint(V, (1, 30), generator=generator)
    scorer.scores(ids[:, :20], torch.tensor([20]), 1)
    scorer.scores(ids[:, :24], torch.tensor([24]), 5)  # a round of four drafted tokens, and the last one before
    changed = ids.clone()
    changed[0, 22] = (changed[0, 22] + 1) % V  # the third was rejected
    scorer.scores(changed[:, :27], torch.tensor([27]), 5)
    assert model.widths == [20, 5, 5]


def test_drafts_share_the_prompt_and_the_winner(generator):
    model = Watched(gpt2(2))
    decoder = SpeculativeDecoder(
        KeyValueScorer(model), gpt2(3), RecursiveRejection(), num_drafts=3, draft_length=4, processors=Temperature(2)
    )
    prompt = torch.randint(V, (2, 20), generator=generator)
    decoder.decode(prompt, max_new_tokens=20, generator=generator)
    assert model.widths[0] == 20
    assert max(model.widths[1:]) <= 9  # at most what the row furthest ahead accepted, and the new drafts


@pytest.mark.parametrize("make", MODELS)
def test_decoding_with_and_without_a_cache_agree(make):
    target, draft = make(4), make(5)
    prompts = [[3, 1, 4], [1, 5, 9, 2, 6], [5]]

    def run(wrap):
        decoder = SpeculativeDecoder(
            wrap(target), wrap(draft), OptimalVerifier(), num_drafts=2, draft_length=3, processors=TopK(8)
        )
        return decoder.decode(
            prompts, max_new_tokens=25, generator=[torch.Generator().manual_seed(row) for row in range(3)]
        )

    cached, plain = run(KeyValueScorer), run(CallableScorer)
    assert torch.equal(cached.tokens, plain.tokens)
    assert torch.equal(cached.statistics.accepted, plain.statistics.accepted)


@pytest.mark.parametrize("make", MODELS)
def test_greedy_generation_is_that_of_transformers(make, generator):
    target = make(6)
    ids = torch.tensor([[0, 0, 3, 1], [2, 7, 1, 8]])
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    settings = {"attention_mask": mask, "max_new_tokens": 30, "do_sample": False}
    plain = target.generate(ids, **settings)
    for draft, verifier, num_drafts in (
        (make(7), None, 1),
        (make(6), None, 1),
        ([make(7), make(8)], RecursiveRejection(), 2),
        (PromptLookup(4), None, 1),
        (NGramModel(torch.arange(V).repeat(3), V), OptimalVerifier(), 2),
    ):
        ours = target.generate(
            ids,
            custom_generate=speculative_generate,
            draft=draft,
            verifier=verifier,
            num_drafts=num_drafts,
            draft_length=4,
            generator=generator,
            **settings,
        )
        assert torch.equal(ours, plain)


def test_greedy_generation_with_processors_and_criteria_of_transformers(generator):
    target = gpt2(9)
    ids = torch.tensor([[0, 0, 3, 1], [2, 7, 1, 8]])
    settings = {
        "attention_mask": torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]]),
        "max_new_tokens": 30,
        "do_sample": False,
        "min_new_tokens": 6,
        "repetition_penalty": 1.7,
        "no_repeat_ngram_size": 3,
        "eos_token_id": [5, 11],
        "pad_token_id": 0,
    }
    plain = target.generate(ids, **settings)
    ours = target.generate(ids, custom_generate=speculative_generate, draft=gpt2(10), generator=generator, **settings)
    assert torch.equal(ours, plain)


def test_sampled_generation():
    target, draft = gpt2(11), gpt2(12)
    ids = torch.tensor([[2, 7, 1, 8]])
    statistics, streamed = [], []

    def run(seed):
        return target.generate(
            ids,
            custom_generate=speculative_generate,
            draft=draft,
            do_sample=True,
            temperature=0.8,
            top_k=4,
            max_new_tokens=20,
            generator=torch.Generator().manual_seed(seed),
            on_statistics=statistics.append,
            on_tokens=lambda row, tokens: streamed.extend(tokens.tolist()),
        )

    first, again, other = run(0), run(0), run(1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert streamed[:20] == first[0, 4:].tolist()
    assert statistics[0].emitted.item() >= 19
    for end in range(4, 24):  # every token is among the four most likely
        with torch.no_grad():
            top = target(first[:, :end]).logits[0, -1].topk(4).indices
        assert first[0, end] in top


def test_a_context_of_bounded_length_is_filled_to_the_end(generator):
    target = gpt2(13)
    ids = torch.tensor([[2, 7, 1, 8], [0, 0, 1, 8]])
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    settings = {"attention_mask": mask, "max_length": 64, "do_sample": False}
    plain = target.generate(ids, **settings)
    ours = target.generate(
        ids, custom_generate=speculative_generate, draft=gpt2(14), draft_length=7, generator=generator, **settings
    )
    assert torch.equal(ours, plain)


@pytest.mark.parametrize(
    "warper",
    [
        hf.TemperatureLogitsWarper(0.7),
        hf.TopKLogitsWarper(3, min_tokens_to_keep=5),
        hf.TopPLogitsWarper(0.6, min_tokens_to_keep=2),
        hf.MinPLogitsWarper(0.3, min_tokens_to_keep=2),
        hf.TypicalLogitsWarper(0.6, min_tokens_to_keep=2),
        hf.EpsilonLogitsWarper(0.05, min_tokens_to_keep=2),
        hf.EtaLogitsWarper(0.05, min_tokens_to_keep=2),
    ],
)
def test_warpers_are_translated(warper, generator):
    ours, scores = translate(warper), 2 * torch.randn(20, 50, generator=generator)
    assert isinstance(ours, Processor)
    assert torch.equal(ours.process(scores), warper(None, scores.clone()))


def test_other_processors_are_not_translated():
    for processor in (hf.TopKLogitsWarper(3, filter_value=-100.0), hf.RepetitionPenaltyLogitsProcessor(2.0)):
        assert translate(processor) is processor


def test_processors_that_cannot_go_ahead_are_refused():
    model, ids = gpt2(18), torch.tensor([[2, 7]])
    settings = {"custom_generate": speculative_generate, "draft": gpt2(19), "max_new_tokens": 5}
    with pytest.raises(ValueError, match="UnbatchedClassifierFreeGuidanceLogitsProcessor, which keeps a state"):
        model.generate(ids, guidance_scale=3.0, **settings)
    with pytest.raises(ValueError, match="output_logits must be False"):
        model.generate(ids, output_logits=True, return_dict_in_generate=True, **settings)


def test_constraints_need_not_know_what_follows_an_end(generator):
    model, ids = gpt2(20), torch.tensor([[2, 7]])
    settings = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": 5, "pad_token_id": 0}

    def allowed(row, history):
        return [] if 5 in history.tolist() else [1, 2, 3, 5]

    plain = model.generate(ids, prefix_allowed_tokens_fn=allowed, **settings)
    for draft in (gpt2(21), gpt2(20)):
        ours = model.generate(
            ids,
            prefix_allowed_tokens_fn=allowed,
            custom_generate=speculative_generate,
            draft=draft,
            num_drafts=3,
            verifier=OptimalVerifier(),
            generator=generator,
            **settings,
        )
        assert torch.equal(ours, plain)


def test_drafts_of_a_smaller_vocabulary_than_the_targets(generator):
    target, draft = gpt2(22, vocab_size=V + 40), gpt2(23)
    out = target.generate(
        torch.tensor([[1, 2]]),
        custom_generate=speculative_generate,
        draft=draft,
        max_new_tokens=20,
        do_sample=True,
        generator=generator,
    )
    assert out.shape == (1, 22)
    assert out.max() >= V  # tokens that the draft model cannot read


def test_output_as_a_dictionary(generator):
    settings = {"max_new_tokens": 5, "return_dict_in_generate": True, "do_sample": False}
    model, ids = gpt2(18), torch.tensor([[2, 7]])
    ours = model.generate(
        ids, custom_generate=speculative_generate, draft=PromptLookup(), generator=generator, **settings
    )
    assert torch.equal(ours.sequences, model.generate(ids, **settings).sequences)


def test_padded_vocabularies(generator):
    target, draft = gpt2(15, vocab_size=V + 9), gpt2(16)
    decoder = SpeculativeDecoder(KeyValueScorer(target), KeyValueScorer(draft), vocab_size=V)
    out = decoder.decode([[1, 2]], max_new_tokens=40, generator=generator)
    assert out.tokens.max() < V
    decoder = SpeculativeDecoder(KeyValueScorer(draft), KeyValueScorer(target))
    assert decoder.decode([[1, 2]], max_new_tokens=40, generator=generator).tokens.max() < V


def test_wrong_models_are_refused():
    model = gpt2(17)
    with pytest.raises(ValueError, match="evaluation mode"):
        KeyValueScorer(model.train())
    with pytest.raises(ValueError, match="draft must be a model"):
        model.eval().generate(torch.tensor([[1]]), custom_generate=speculative_generate, max_new_tokens=2)
    with pytest.raises(ValueError, match="num_beams must be 1"):
        model.generate(
            torch.tensor([[1]]), custom_generate=speculative_generate, draft=model, max_new_tokens=2, num_beams=2
        )
