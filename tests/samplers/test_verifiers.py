"""Checks that run over every verifier. A new verifier is one line of the table."""

import copy
import os
import pickle
from dataclasses import dataclass, replace

import pytest
import torch

from samplers import (
    BlockVerification,
    GumbelListCoupling,
    ImportanceWeighted,
    KSequential,
    MultiBlockVerifier,
    OptimalVerifier,
    RecursiveRejection,
    SamplerMatch,
    SpeculativeSampling,
    TraversalVerification,
    Verifier,
    WeightedVerifier,
)
from samplers.exactness import Laws, chi_square_test, joint_law, random_laws, target_law
from samplers.exactness.small_models import block_logits, sample_drafts

FULL = "MIXKIT_FULL" in os.environ  # 1000 pairs of laws for the slow verifiers too, in some three minutes
SINGLE = [(2, 1, 3), (3, 1, 2), (5, 1, 3), (6, 1, 2)]
MANY = [(2, 2, 2), (3, 2, 1), (6, 2, 1), (3, 3, 1), (2, 4, 1), (3, 2, 2), (4, 3, 1), (2, 2, 3)]


@dataclass(frozen=True)
class Row:
    """A verifier, what it takes (many drafts, drafts that differ), whether its law can be enumerated, and the cost."""

    verifier: Verifier
    many: bool = True
    different: bool = True
    enumerable: bool = True
    cost: int = 1

    @property
    def sizes(self):
        return [*SINGLE, *MANY] if self.many else SINGLE

    def laws(self, num_pairs, generator):
        """Cases of every size, half of them with identical drafts."""
        count = -(-num_pairs // len(self.sizes))
        for place, (v, m, t) in enumerate(self.sizes):
            identical = not self.different or place % 2 == 0
            laws = random_laws(count, v, m, t, identical=identical, generator=generator)
            if not self.verifier.with_replacement:
                laws = _never_short(laws, m)
            yield laws


def _never_short(laws, num_drafts):
    """Give every token some draft probability: without replacement, drafts need enough tokens."""
    _, v, _, _ = laws.sizes
    if v < num_drafts:
        return random_laws(laws.sizes[0], 4, 1, 1, identical=True, generator=torch.Generator().manual_seed(0))
    drafts = tuple(0.9 * level + 0.1 / v for level in laws.drafts)
    return Laws(laws.target, drafts)


ROWS = {
    "speculative": Row(SpeculativeSampling(), many=False),
    "block": Row(BlockVerification(), many=False),
    "match": Row(SamplerMatch()),
    "recursive": Row(RecursiveRejection()),
    "recursive-without-replacement": Row(RecursiveRejection(with_replacement=False)),
    "k-sequential": Row(KSequential(), different=False, cost=2),
    "optimal": Row(OptimalVerifier(), different=False, cost=2),
    "optimal-binned": Row(OptimalVerifier(bins=6), different=False, cost=2),
    "multi-block": Row(MultiBlockVerifier(), different=False),
    "multi-block-k-seq": Row(MultiBlockVerifier(budgets="k-seq"), different=False),
    "multi-block-priority": Row(MultiBlockVerifier(budgets="priority"), cost=4),
    "multi-block-without-replacement": Row(
        MultiBlockVerifier(budgets="priority", with_replacement=False), different=False, cost=40
    ),
    "traversal": Row(TraversalVerification(), different=False, cost=8),
    "traversal-without-replacement": Row(TraversalVerification(with_replacement=False), different=False, cost=8),
    "weighted": Row(WeightedVerifier(steps=3, levels=12, span=3.0), cost=4),
    "importance": Row(ImportanceWeighted(solved=2), cost=8),
    "importance-truncated": Row(ImportanceWeighted(solved=2, alphabet=3, guard=False), cost=8),
    "gumbel": Row(GumbelListCoupling(), enumerable=False),
}
ENUMERABLE = {name: row for name, row in ROWS.items() if row.enumerable}


def over(rows):
    return pytest.mark.parametrize("row", rows.values(), ids=rows.keys())


def worst_error(verifier, laws, **options):
    return float((joint_law(verifier, laws, **options).law - target_law(laws)).abs().max())


def a_block(row, *, batch=4, v=9, t=3, seed=0, dtype=torch.float64):
    """A block of drafts drawn from their laws (identical ones)."""
    generator = torch.Generator().manual_seed(seed)
    m = 3 if row.many else 1
    target = torch.randn(batch, 1, t + 1, v, generator=generator, dtype=torch.float64).expand(-1, m, -1, -1)
    draft = torch.randn(batch, 1, t, v, generator=generator, dtype=torch.float64).expand(-1, m, -1, -1)
    probs = draft.softmax(-1).reshape(-1, v)
    if row.verifier.with_replacement:
        tokens = torch.multinomial(probs, 1, generator=generator).view(batch, m, t)
    else:
        tokens = torch.stack([torch.randperm(v, generator=generator)[: m * t].view(m, t) for _ in range(batch)])
    return target.to(dtype), draft.to(dtype), tokens


# Exactness


@over(ENUMERABLE)
def test_output_law_is_the_targets(row):
    generator = torch.Generator().manual_seed(1)
    for laws in row.laws(1000 if FULL or row.cost <= 2 else 240 // row.cost, generator):
        found = joint_law(row.verifier, laws)
        torch.testing.assert_close(found.mass, torch.ones_like(found.mass), rtol=0, atol=1e-12)
        assert float((found.law - target_law(laws)).abs().max()) < 1e-12


@over(ENUMERABLE)
def test_output_law_is_the_targets_for_ragged_drafts(row):
    generator = torch.Generator().manual_seed(2)
    for laws in row.laws(24, generator):
        if row.verifier.with_replacement or laws.sizes[2] == 1:
            _, _, m, t = laws.sizes
            assert worst_error(row.verifier, laws, lengths=torch.randint(0, t + 1, (m,), generator=generator)) < 1e-12


@over(ENUMERABLE)
def test_output_law_is_the_targets_for_drafts_without_a_law(row):
    generator = torch.Generator().manual_seed(3)
    m = 3 if row.many else 1
    laws = random_laws(30, 4, m, 2, identical=True, generator=generator)
    fixed = Laws(laws.target, None, torch.randint(0, 4, (30, m, 2), generator=generator))
    assert worst_error(row.verifier, fixed) < 1e-12


@over(ROWS)
def test_chi_square_of_the_joint_law(row):
    """False alarm 1e-6 a verifier: what the generators really draw, beside what enumeration says."""
    generator = torch.Generator().manual_seed(4)
    m = 3 if row.many and row.verifier.with_replacement else 1
    laws = random_laws(4, 3, m, 2, identical=not row.different, generator=generator)
    assert chi_square_test(row.verifier, laws, num_samples=2500, generator=generator).passed


# Refusals


def _with(place, value):
    def change(target, draft, tokens):
        parts = [target.clone(), draft.clone(), tokens.clone()]
        parts[place][(0,) * parts[place].ndim] = value
        return parts

    return change


WRONG = {
    "target NaN": (_with(0, torch.nan), ValueError, "target_logits must hold no NaN"),
    "target +inf": (_with(0, torch.inf), ValueError, "target_logits must hold no NaN, no \\+inf"),
    "draft NaN": (_with(1, torch.nan), ValueError, "draft_logits must hold no NaN"),
    "token range": (_with(2, 99), ValueError, "draft_tokens must lie in 0..8, got 99"),
    "token negative": (_with(2, -1), ValueError, "draft_tokens must lie in 0..8, got -1"),
    "vocabulary": (lambda q, p, x: (q, p[..., :-1], x), ValueError, "share one vocabulary, got 9 and 8"),
    "length": (lambda q, p, x: (q[..., 1:, :], p, x), ValueError, "target_logits must have shape"),
    "draft length": (lambda q, p, x: (q, p[..., 1:, :], x), ValueError, "draft_logits must have shape"),
    "token dtype": (lambda q, p, x: (q, p, x.double()), TypeError, "draft_tokens must have an integer dtype"),
    "target type": (lambda q, p, x: (q.tolist(), p, x), TypeError, "target_logits must be a torch.Tensor, got list"),
}


@over(ROWS)
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_wrong_use_is_refused(row, wrong, generator):
    change, error, message = wrong
    with pytest.raises(error, match=message):
        row.verifier.verify(*change(*a_block(row)), generator=generator)


@over(ROWS)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8, torch.uint8], ids=str)
def test_tokens_have_any_integer_dtype(row, dtype):
    target, draft, tokens = a_block(row)
    lengths = torch.full((4,), 2)
    wide = row.verifier.verify(target, draft, tokens, lengths=lengths, generator=0)
    narrow = row.verifier.verify(target, draft, tokens.to(dtype), lengths=lengths.to(dtype), generator=0)
    assert narrow.tokens.dtype == torch.long
    assert same(wide, narrow)


@over(ROWS)
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.complex64], ids=str)
def test_tokens_of_no_integer_dtype_are_refused(row, dtype):
    target, draft, tokens = a_block(row)
    with pytest.raises(TypeError, match="draft_tokens must have an integer dtype, got torch"):
        row.verifier.verify(target, draft, tokens.to(dtype), generator=0)


@over(ROWS)
def test_a_row_without_mass_is_refused(row, generator):
    target, draft, tokens = a_block(row)
    target = target.clone()
    target[1, 0, 2] = -torch.inf
    with pytest.raises(ValueError, match=r"all -inf.*at index \(1, 0, 2\)"):
        row.verifier.verify(target, draft, tokens, generator=generator)


@over(ROWS)
def test_an_impossible_draft_token_is_refused(row, generator):
    target, draft, tokens = a_block(row)
    draft = draft.clone()
    draft[2, 0, 1, tokens[2, 0, 1]] = -torch.inf
    with pytest.raises(ValueError, match="positive draft probability"):
        row.verifier.verify(target, draft, tokens, generator=generator)


@over(ROWS)
@pytest.mark.parametrize(
    ("lengths", "error"),
    [
        (torch.tensor([4, 1, 1, 1]), ValueError),
        (torch.ones(3, dtype=torch.long), ValueError),
        (torch.ones(4), TypeError),
    ],
)
def test_wrong_lengths_are_refused(row, lengths, error, generator):
    with pytest.raises(error, match="lengths must"):
        row.verifier.verify(*a_block(row), lengths=lengths, generator=generator)


@over(ROWS)
def test_wrong_generators_are_refused(row):
    with pytest.raises(ValueError, match="one generator per row, 4, got 2"):
        row.verifier.verify(*a_block(row), generator=[torch.Generator(), torch.Generator()])
    with pytest.raises(TypeError, match="generator must be"):
        row.verifier.verify(*a_block(row), generator="7")
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator, a seed, a sequence of 4"):
        row.verifier.verify(*a_block(row), generator=[7, 7, 7, 0.5])
    with pytest.raises(ValueError, match="generator must be at least 0, got -1"):
        row.verifier.verify(*a_block(row), generator=-1)


@over(ROWS)
def test_a_seed_stands_for_its_generator(row):
    def tokens(generator):
        return row.verifier.verify(*a_block(row), generator=generator).tokens

    assert torch.equal(tokens(7), tokens(torch.Generator().manual_seed(7)))
    seeds = [3, 1, 4, 1]
    assert torch.equal(tokens(seeds), tokens([torch.Generator().manual_seed(seed) for seed in seeds]))


@pytest.mark.parametrize("verifier", [SpeculativeSampling(), BlockVerification()], ids=repr)
def test_single_draft_rules_refuse_many_drafts(verifier, generator):
    with pytest.raises(ValueError, match="takes at most 1 draft, got 3"):
        verifier.verify(*a_block(ROWS["match"]), generator=generator)


@pytest.mark.parametrize(
    "verifier", [KSequential(), OptimalVerifier(), OptimalVerifier(bins=8), MultiBlockVerifier()], ids=repr
)
def test_rules_of_identical_drafts_refuse_different_ones(verifier, generator):
    target, draft, _ = a_block(ROWS["match"])
    draft = draft.clone()
    draft[:, 1, 0, 4] += 1.0
    tokens = torch.tensor([1, 4, 2])[:, None].expand(4, 3, 3)
    with pytest.raises(ValueError, match="same law for all drafts"):
        verifier.verify(target, draft, tokens, generator=generator)


@pytest.mark.parametrize(
    "name", ["recursive-without-replacement", "multi-block-without-replacement", "traversal-without-replacement"]
)
def test_drafts_without_replacement_must_differ(name, generator):
    row = ROWS["match"]
    target, draft, tokens = a_block(row)
    target, tokens = target.clone(), tokens.clone()
    tokens[:, :, 0] = 5
    target[..., 5] = -torch.inf
    with pytest.raises(ValueError, match="must differ among drafts"):
        ROWS[name].verifier.verify(target, draft, tokens, generator=generator)


# Reproducibility, dtypes, shapes


def same(one, two):
    return torch.equal(one.tokens, two.tokens) and torch.equal(one.num_accepted, two.num_accepted)


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
