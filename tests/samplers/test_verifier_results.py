"""What every verifier returns: reproducible tokens, of any dtype, batch and padding, of a row alone as of a batch."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch

from samplers import SamplerMatch, SpeculativeSampling
from samplers.exactness import joint_law, random_laws
from samplers.exactness.small_models import block_logits, sample_drafts

from .test_verifiers import ROWS, Row, a_block, over, same


@over(ROWS)
def test_same_seed_same_tokens(row):
    block = a_block(row, batch=8)
    runs = [row.verifier.verify(*block, generator=torch.Generator().manual_seed(5)) for _ in range(2)]
    assert same(*runs)


@over(ROWS)
def test_a_rows_tokens_do_not_depend_on_the_batch(row):
    target, draft, tokens = a_block(row, batch=6)
    lengths = torch.tensor([1, 3, 2, 3, 0, 3])
    together = [torch.Generator().manual_seed(i) for i in range(6)]
    for _ in range(3):  # generators go on from call to call
        batch = row.verifier.verify(target, draft, tokens, lengths=lengths, generator=together)
    for i in range(6):
        own, n = torch.Generator().manual_seed(i), int(lengths[i])
        for _ in range(3):
            alone = row.verifier.verify(
                target[i : i + 1, :, : n + 1], draft[i : i + 1, :, :n], tokens[i : i + 1, :, :n], generator=[own]
            )
        assert torch.equal(alone.tokens[0], batch.tokens[i, : n + 1])
        assert (batch.tokens[i, n + 1 :] == -1).all()
        assert torch.equal(own.get_state(), together[i].get_state())


@over(ROWS)
def test_padding_is_never_read(row):
    target, draft, tokens = a_block(row)
    lengths = torch.tensor([1, 2, 0, 3])
    spoilt = [part.clone() for part in (target, draft, tokens)]
    for i, n in enumerate(lengths.tolist()):
        spoilt[0][i, :, n + 1 :], spoilt[1][i, :, n:], spoilt[2][i, :, n:] = torch.nan, torch.nan, -1
    runs = [
        row.verifier.verify(*block, lengths=lengths, generator=torch.Generator().manual_seed(6))
        for block in ((target, draft, tokens), spoilt)
    ]
    assert same(*runs)
    assert torch.isfinite(runs[1].info.accept_probability).all()


@over(ROWS)
def test_probabilities_go_in_as_logarithms(row):
    target, draft, tokens = a_block(row, batch=16)
    shifted = row.verifier.verify(target + 3.0, draft - 7.0, tokens, generator=torch.Generator().manual_seed(7))
    normal = row.verifier.verify(
        target.log_softmax(-1), draft.log_softmax(-1), tokens, generator=torch.Generator().manual_seed(7)
    )
    assert same(shifted, normal)


@over(ROWS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_inputs_are_verified_in_float32_at_least(row, dtype):
    target, draft, tokens = a_block(row, batch=32, dtype=dtype)
    low = row.verifier.verify(target, draft, tokens, generator=torch.Generator().manual_seed(8))
    high = row.verifier.verify(target.float(), draft.float(), tokens, generator=torch.Generator().manual_seed(8))
    assert same(low, high)


@over(ROWS)
def test_greedy_laws_are_exact(row, generator):
    """Temperature 0: the laws are one-hot, and the output is the target's argmax at every position."""
    v, m = 7, 3 if row.many and row.verifier.with_replacement else 1
    path = torch.randint(0, v, (5, 4), generator=generator)
    tokens = path[:, None, :3].repeat(1, m, 1)
    tokens[1, :, 0] = (tokens[1, :, 0] + 1) % v
    tokens[2, :, 2] = (tokens[2, :, 2] + 1) % v
    target = torch.nn.functional.one_hot(path, v)[:, None].repeat(1, m, 1, 1).log()
    draft = torch.nn.functional.one_hot(tokens, v).log()
    for laws in (draft, None):
        out = row.verifier.verify(target, laws, tokens, generator=generator)
        assert out.num_accepted.tolist() == [3, 0, 2, 3, 3]
        for i, n in enumerate(out.num_accepted.tolist()):
            assert torch.equal(out.tokens[i, : n + 1], path[i, : n + 1])


@over(ROWS)
@pytest.mark.parametrize("scale", [1e4, 1e-6])
def test_extreme_logits_give_tokens_of_positive_probability(row, scale, generator):
    target, draft, tokens = a_block(row, batch=16)
    target, draft = target * scale, draft * (scale if scale < 1 else 1.0)
    target[..., 3] = -torch.inf
    out = row.verifier.verify(target, draft, tokens, generator=generator)
    for i, n in enumerate(out.num_accepted.tolist()):
        for j in range(n + 1):
            assert target[i, 0, j].softmax(-1)[out.tokens[i, j]] > 0


@over(ROWS)
def test_verification_hangs_together(row, generator):
    target, draft, tokens = a_block(row, batch=64)
    out = row.verifier.verify(target, draft, tokens, generator=generator)
    assert out.tokens.shape == (64, 4)
    assert out.info.accept_probability.shape == out.info.num_active.shape == (64, 3)
    assert ((out.info.accept_probability >= 0) & (out.info.accept_probability <= 1 + 1e-12)).all()
    for i, n in enumerate(out.num_accepted.tolist()):
        assert (out.tokens[i, : n + 1] >= 0).all()
        assert (out.tokens[i, n + 1 :] == -1).all()
        assert (n == 0) == (out.winner[i] == -1)
        if n:
            assert torch.equal(tokens[i, out.winner[i], :n], out.tokens[i, :n])


@over(ROWS)
def test_a_single_draft_may_come_without_the_draft_dimension(row):
    target, draft, tokens = (part[:, 0] for part in a_block(row))
    with_dim = row.verifier.verify(
        target[:, None], draft[:, None], tokens[:, None], generator=torch.Generator().manual_seed(9)
    )
    assert same(with_dim, row.verifier.verify(target, draft, tokens, generator=torch.Generator().manual_seed(9)))


@over(ROWS)
def test_no_drafts_is_plain_sampling(row, generator):
    target = torch.randn(3, 1, 1, 5, generator=generator)
    out = row.verifier.verify(target, target[:, :, :0], torch.zeros(3, 1, 0, dtype=torch.long), generator=generator)
    assert out.tokens.shape == (3, 1)
    assert (out.num_accepted == 0).all()


@pytest.mark.parametrize("v", [9, 20_000])
@over(ROWS)
def test_an_empty_batch_gives_an_empty_result(row, v):
    target, draft, tokens = (part[:0] for part in a_block(row, batch=1, v=v))
    out = row.verifier.verify(target, draft, tokens)
    assert out.tokens.shape == (0, 4)
    assert out.num_accepted.shape == out.winner.shape == (0,)
    assert out.info.accept_probability.shape == out.info.num_active.shape == (0, 3)


@over(ROWS)
def test_verifiers_copy_pickle_and_print(row):
    for twin in (copy.deepcopy(row.verifier), pickle.loads(pickle.dumps(row.verifier))):
        assert vars(twin) == vars(row.verifier)
    assert repr(row.verifier).startswith(type(row.verifier).__name__ + "(")


@over(ROWS)
def test_one_draft_is_speculative_sampling(row):
    """With one draft every canonical rule comes to Leviathan's, whose expected acceptance none can beat."""
    generator = torch.Generator().manual_seed(10)
    laws = random_laws(20, 4, 1, 1, identical=True, generator=generator)
    best = joint_law(SpeculativeSampling(), laws).mean_accepted
    if row.enumerable and not isinstance(row.verifier, SamplerMatch):
        torch.testing.assert_close(joint_law(row.verifier, laws).mean_accepted, best, rtol=0, atol=1e-12)
    else:
        case = torch.arange(20).repeat_interleave(500)
        out = row.verifier.verify(*block_logits(laws, case, sample_drafts(laws, case, generator)), generator=generator)
        assert out.num_accepted.double().mean() <= best.mean() + 0.03


def test_one_row_alone_takes_the_same_draws_as_a_batch():
    """A single row of `SpeculativeSampling` has a path of its own: it must be the walk, draw for draw."""
    row = Row(SpeculativeSampling(), many=False)
    target, draft, tokens = a_block(row, batch=300)
    batch = row.verifier.verify(target, draft, tokens, generator=[torch.Generator().manual_seed(i) for i in range(300)])
    for i in range(300):
        one = slice(i, i + 1)
        alone = row.verifier.verify(target[one], draft[one], tokens[one], generator=torch.Generator().manual_seed(i))
        assert same(alone, replace(batch, tokens=batch.tokens[one], num_accepted=batch.num_accepted[one]))
        assert alone.winner[0] == batch.winner[i]
        torch.testing.assert_close(alone.info.accept_probability[0], batch.info.accept_probability[i])
        assert torch.equal(alone.info.num_active[0], batch.info.num_active[i])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize(
    ("name", "place"),
    [("target_logits", place) for place in range(4)] + [("draft_logits", place) for place in range(3)],
)
def test_one_row_alone_refuses_what_it_would_not_reach(name, value, place):
    """Bad rows are refused whether the walk comes to them or not."""
    for seed in range(5):
        block = [part.clone() for part in a_block(Row(SpeculativeSampling(), many=False), batch=1, seed=seed)]
        block[name == "draft_logits"][0, 0, place, 4] = value
        with pytest.raises(ValueError, match=rf"{name} must hold no NaN.*index \(0, 0, {place}\)"):
            SpeculativeSampling().verify(*block, generator=torch.Generator().manual_seed(seed))


def test_one_row_alone_refuses_tokens_it_would_not_reach(generator):
    target, draft, tokens = a_block(Row(SpeculativeSampling(), many=False), batch=1)
    draft = draft.clone()
    draft[0, 0, 2, tokens[0, 0, 2]] = -torch.inf
    with pytest.raises(ValueError, match="positive draft probability"):
        SpeculativeSampling().verify(target, draft, tokens, generator=generator)
    tokens = tokens.clone()
    tokens[0, 0, 2] = 9
    with pytest.raises(ValueError, match=r"draft_tokens must lie in 0\.\.8, got 9"):
        SpeculativeSampling().verify(target, draft, tokens, generator=generator)


@pytest.mark.parametrize("length", range(4))
def test_one_row_alone_never_reads_padding(length):
    target, draft, tokens = (part.clone() for part in a_block(Row(SpeculativeSampling(), many=False), batch=1))
    target[0, 0, length + 1 :], draft[0, 0, length:], tokens[0, 0, length:] = torch.nan, torch.nan, -7
    for seed in range(10):
        short = SpeculativeSampling().verify(
            target[:, :, : length + 1],
            draft[:, :, :length],
            tokens[:, :, :length],
            generator=torch.Generator().manual_seed(seed),
        )
        padded = SpeculativeSampling().verify(
            target, draft, tokens, lengths=torch.tensor([length]), generator=torch.Generator().manual_seed(seed)
        )
        assert torch.equal(padded.tokens[:, : length + 1], short.tokens)
        assert (padded.tokens[:, length + 1 :] == -1).all()


@over(ROWS)
def test_logits_may_require_a_gradient(row, generator):
    target, draft, tokens = a_block(row)
    out = row.verifier.verify(target.requires_grad_(), draft.requires_grad_(), tokens, generator=generator)
    assert not out.info.accept_probability.requires_grad
