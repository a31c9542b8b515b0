"""Recurrent and hybrid models in the loop: their states are copied, and tokens are read again."""

import pytest
import torch

transformers = pytest.importorskip("transformers")

from samplers import RecursiveRejection as Rejection  # noqa: E402
from samplers import SampledTree, SpeculativeDecoder, Temperature, TreeVerifier  # noqa: E402
from samplers.adapters.huggingface import (  # noqa: E402
    KeyValueScorer,
    ReplayScorer,
    as_cached_scorer,
    speculative_generate,
)
from samplers.decoding import CallableScorer  # noqa: E402

from .test_huggingface import V, gpt2, seeded  # noqa: E402

BASE = {"vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2, "eos_token_id": None, "pad_token_id": 0}
HYBRID = {
    **BASE,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "bos_token_id": 0,
    "max_position_embeddings": 128,
}
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}


def mamba(seed):
    return seeded(lambda: transformers.MambaForCausalLM(transformers.MambaConfig(**BASE, state_size=8)), seed)


def rwkv(seed):
    config = transformers.RwkvConfig(**BASE, attention_hidden_size=32, context_length=128)
    return seeded(lambda: transformers.RwkvForCausalLM(config), seed)


def lfm2(seed):
    config = transformers.Lfm2Config(**HYBRID, layer_types=["conv", "full_attention"])
    return seeded(lambda: transformers.Lfm2ForCausalLM(config), seed)


def qwen3_next(seed):
    config = transformers.Qwen3NextConfig(
        **HYBRID,
        **EXPERTS,
        layer_types=["linear_attention", "full_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        head_dim=16,
        shared_expert_intermediate_size=16,
    )
    return seeded(lambda: transformers.Qwen3NextForCausalLM(config), seed)


MODELS = [mamba, rwkv, lfm2, qwen3_next]


@pytest.mark.parametrize("make", MODELS)
def test_logits_are_those_of_reading_all_at_once(make, generator):
    """Random walks of growing, cropped, reordered and repeated rows, across the distance at which checkpoints move."""
    model = make(0)
    scorer = as_cached_scorer(model)
    assert isinstance(scorer, ReplayScorer)
    ids, lengths = torch.randint(V, (2, 7), generator=generator), torch.tensor([7, 3])
    for step in range(8):
        count = min(1 + step % 3, int(lengths.min()))
        found = scorer.scores(ids, lengths, count)
        for row, length in enumerate(lengths.tolist()):
            with torch.no_grad():
                expected = model(input_ids=ids[row, None, :length]).logits[0, -count:]
            torch.testing.assert_close(found[row], expected, rtol=1e-3, atol=1e-3)
        rows = torch.randint(len(ids), (1 + step % 3,), generator=generator)
        lengths = (lengths[rows] - step % 2).clamp(min=1)
        grown = torch.randint(V, (len(rows), 20), generator=generator)
        ids = torch.nn.functional.pad(ids[rows], (0, 20))
        ids.scatter_(1, lengths[:, None] + torch.arange(20), grown)
        lengths = lengths + torch.randint(0, 21 if step == 4 else 5, (len(rows),), generator=generator)
        ids = ids[:, : int(lengths.max())]


@pytest.mark.parametrize("make", MODELS)
def test_greedy_generation_is_that_of_transformers(make):
    model = make(6)
    settings = {"max_new_tokens": 24, "do_sample": False}
    ids = torch.tensor([[2, 7, 1, 8]])
    plain = model.generate(ids, **settings)
    for draft in (make(7), make(6), gpt2(7)):
        ours = model.generate(ids, custom_generate=speculative_generate, draft=draft, generator=0, **settings)
        assert torch.equal(ours, plain)


@pytest.mark.parametrize("make", [mamba, lfm2])
def test_rows_of_different_lengths_and_trees(make):
    target, draft = make(6), make(7)
    prompts = [[2, 7, 1, 8], [3], [1, 2]]
    alone = [
        target.generate(torch.tensor([prompt]), max_new_tokens=9, do_sample=False)[0].tolist() for prompt in prompts
    ]
    chain = SpeculativeDecoder(as_cached_scorer(target), as_cached_scorer(draft), processors=Temperature(0))
    tree = SpeculativeDecoder(
        as_cached_scorer(target),
        SampledTree(as_cached_scorer(draft), (2, 1), Temperature(1.0)),
        TreeVerifier(Rejection()),
        processors=Temperature(0),
    )
    for decoder in (chain, tree):
        out = decoder.decode(prompts, max_new_tokens=9, generator=0)
        assert [row.tolist() for row in out.sequences] == alone


@pytest.mark.parametrize("make", [mamba, qwen3_next])
def test_sampled_tokens_with_and_without_a_state_agree(make):
    target, draft = make(4), make(5)

    def run(wrap):
        decoder = SpeculativeDecoder(wrap(target), wrap(draft), Rejection(), num_drafts=2, draft_length=3)
        return decoder.decode([[3, 1, 4], [5]], max_new_tokens=15, generator=[0, 1])

    with_state, without = run(as_cached_scorer), run(lambda model: CallableScorer(lambda ids: model(input_ids=ids)))
    assert torch.equal(with_state.tokens, without.tokens)
    assert torch.equal(with_state.statistics.accepted, without.statistics.accepted)


def test_models_that_keep_nothing_are_read_anew():
    config = transformers.OpenAIGPTConfig(vocab_size=V, n_positions=64, n_embd=16, n_layer=2, n_head=2)
    model = seeded(lambda: transformers.OpenAIGPTLMHeadModel(config), 0)
    ids = torch.tensor([[0, 0, 3, 1], [2, 7, 1, 8]])
    scorer = as_cached_scorer(model)
    assert isinstance(scorer, CallableScorer)
    out = SpeculativeDecoder(scorer, gpt2(7), processors=Temperature(0)).decode(ids, max_new_tokens=9, generator=0)
    assert torch.equal(torch.cat((ids, out.tokens), 1), model.generate(ids, max_new_tokens=9, do_sample=False))


def test_models_that_are_not_causal_are_refused():
    config = transformers.XLNetConfig(vocab_size=V, d_model=32, n_layer=2, n_head=4, d_inner=48)
    model = seeded(lambda: transformers.XLNetLMHeadModel(config), 0)
    with pytest.raises(ValueError, match=r"model must take its state as one of .* got XLNetLMHeadModel"):
        as_cached_scorer(model)


def test_a_recurrent_model_has_no_cache_of_keys_and_values():
    with pytest.raises(ValueError, match=r"model must take past_key_values, .* got MambaForCausalLM"):
        KeyValueScorer(mamba(0))
    with pytest.raises(ValueError, match="keys and values"):
        KeyValueScorer(lfm2(0)).scores(torch.tensor([[1, 2]]), torch.tensor([2]), 1)


def test_a_state_that_is_not_gone_on_from_is_found_out():
    """Mamba reads several tokens at once as if there were no state: they are read one by one."""
    assert as_cached_scorer(mamba(0))._step_size == 1
    assert as_cached_scorer(lfm2(0))._step_size > 1

    class Forgetful(torch.nn.Module):
        """A model that gives a state and does not read it."""

        def __init__(self):
            super().__init__()
            self.model = rwkv(0)
            self.config, self.get_input_embeddings = self.model.config, self.model.get_input_embeddings

        def forward(self, input_ids, state=None, use_cache=True):
            return self.model(input_ids=input_ids, use_cache=use_cache)

    with pytest.raises(ValueError, match="model must go on from its state as if it had read all tokens at once"):
        ReplayScorer(Forgetful().eval())
