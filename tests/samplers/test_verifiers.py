"""Every verifier is exact and refuses wrong use. A new verifier is one line of the table, which other tests use too."""

import os
from dataclasses import dataclass

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


def same(one, two):
    return torch.equal(one.tokens, two.tokens) and torch.equal(one.num_accepted, two.num_accepted)


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
