"""Truncated distributions are verified over the tokens they keep."""

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
    TreeVerifier,
    WeightedVerifier,
)
from samplers.exactness import Laws, joint_law, random_laws, target_law
from samplers.verification import kept_tokens
from samplers.verification.multidraft import clipped
from samplers.verification.multidraft.sorting import sort_with_order

RULES = [
    SpeculativeSampling(),
    BlockVerification(),
    SamplerMatch(),
    RecursiveRejection(),
    RecursiveRejection(with_replacement=False),
    KSequential(),
    OptimalVerifier(),
    MultiBlockVerifier(),
    MultiBlockVerifier(budgets="k-seq"),
    WeightedVerifier(levels=12, steps=2, span=3.0),
    ImportanceWeighted(solved=2),
]


def truncated_block(v, m, t, kept, dtype=torch.float64):
    """Target and draft rows that keep ``kept`` tokens each, overlapping, and drafts of the draft's tokens."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(2, 1, t + 1, v, generator=generator, dtype=torch.float64)
    draft = target[:, :, :t] + 0.5 * torch.randn(2, 1, t, v, generator=generator, dtype=torch.float64)
    target, draft = (
        part.masked_fill(part < part.topk(kept, -1).values[..., -1:], -torch.inf).expand(2, m, -1, v)
        for part in (target, draft)
    )
    order = draft[:, :1].topk(m, -1).indices  # distinct, as drafts without replacement must be
    return target.to(dtype), draft.to(dtype), order[:, 0].mT.contiguous()


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_every_rule_is_exact_over_the_kept_tokens(rule, monkeypatch):
    """Rows of seven tokens that keep three at most, with the threshold at two."""
    monkeypatch.setattr(kept_tokens, "_FEWEST", 2)
    monkeypatch.setattr(kept_tokens, "_LARGEST_SHARE", 0.5)
    m = 1 if rule.max_drafts == 1 else 2
    small = random_laws(20, 3, m, 1, identical=True, generator=1)
    if not rule.with_replacement:
        small = Laws(small.target, tuple(0.9 * level + 0.1 / 3 for level in small.drafts))
    place = torch.tensor([1, 4, 6])

    def spread(level, width):
        wide = level.new_zeros(*level.shape[:-1], 7)
        wide[..., place] = level
        if width == 1:
            return wide
        rows = wide.new_zeros(*wide.shape[:-2], 7, 7)
        rows[..., 0] = 1.0  # after a token that is never drawn
        rows[..., place, :] = wide
        return rows

    laws = Laws((spread(small.target[0], 1), spread(small.target[1], 7)), (spread(small.drafts[0], 1),))
    assert float((joint_law(rule, laws).law - target_law(laws)).abs().max()) < 1e-12


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_tokens_come_back_under_their_own_ids(rule):
    target, draft, tokens = truncated_block(5000, 1 if rule.max_drafts == 1 else 3, 2, 20)
    assert kept_tokens.kept_tokens(target, draft).numel() < 250
    out = rule.verify(target, draft, tokens, generator=[0, 1])
    for row in range(2):
        count = int(out.num_accepted[row])
        assert (out.tokens[row, count + 1 :] == -1).all()
        assert target[row, 0, count, out.tokens[row, count]] > -torch.inf or count > 0
        if count:
            assert torch.equal(out.tokens[row, :count], tokens[row, out.winner[row], :count])


def test_work_is_on_the_kept_tokens(monkeypatch):
    widths = []
    plain = clipped.sort_groups
    monkeypatch.setattr(
        "samplers.verification.multiblock.score_plans.sort_groups",
        lambda target, draft: widths.append(target.shape[-1]) or plain(target, draft),
    )
    target, draft, _ = truncated_block(20_000, 3, 2, 50)
    tokens = draft[:, :, 0].argmax(-1)[..., None].expand(-1, -1, 2)
    MultiBlockVerifier().verify(target, draft[:, :, :1].expand_as(draft), tokens, generator=0)
    assert widths
    assert max(widths) < 1000


def test_a_tree_is_verified_over_the_kept_tokens():
    target, draft, _ = truncated_block(3000, 1, 3, 20)
    tokens = draft[:, 0, :2].argmax(-1)
    rows = target[:, 0, :3], draft[:, 0, :3], tokens, torch.tensor([-1, 0])
    out = TreeVerifier(OptimalVerifier()).verify(*rows, generator=[0, 1])
    held = out.tokens.gather(1, out.num_accepted[:, None])
    assert torch.isfinite(rows[0][torch.arange(2), out.num_accepted].gather(1, held)).all()


def test_padding_of_nan_changes_nothing():
    target, draft, tokens = truncated_block(5000, 3, 2, 20)
    lengths = torch.tensor([[2, 1, 0], [1, 2, 2]])
    target, draft = target.contiguous(), draft.contiguous()
    before = OptimalVerifier().verify(target, draft, tokens, lengths=lengths, generator=[0, 1])
    target[0, 1, 2] = draft[0, 1, 1] = torch.nan
    after = OptimalVerifier().verify(target, draft, tokens, lengths=lengths, generator=[0, 1])
    assert torch.equal(after.tokens, before.tokens)


def test_rows_that_keep_much_stay_as_they_are():
    assert kept_tokens.kept_tokens(torch.zeros(1, 2000)) is None
    logits = torch.zeros(2, 2000)
    logits[0, 100:] = -torch.inf
    assert kept_tokens.kept_tokens(logits) is None
    logits = torch.zeros(1, 32_000)
    logits[:, ::31] = -torch.inf  # those that are looked at first
    assert kept_tokens.kept_tokens(logits) is None


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_rows_that_keep_nothing_at_all_are_refused_by_name(rule):
    m = 1 if rule.max_drafts == 1 else 2
    nothing = torch.full((1, m, 3, 2048), -torch.inf)
    with pytest.raises(ValueError, match=r"target_logits must hold .* no row that is all -inf"):
        rule.verify(nothing, nothing[:, :, :2], torch.zeros(1, m, 2, dtype=torch.long), generator=0)


@pytest.mark.parametrize("rule", [*RULES, GumbelListCoupling()], ids=repr)
def test_a_truncated_row_gets_the_same_tokens_beside_one_that_is_whole(rule):
    m = 1 if rule.max_drafts == 1 else 2
    target, draft, tokens = (part[:1] for part in truncated_block(1500, m, 2, 5))
    whole = torch.zeros_like(target), torch.zeros_like(draft)
    both = (torch.cat([one, other]) for one, other in zip((target, draft), whole, strict=True))
    together = rule.verify(*both, torch.cat([tokens, tokens]), generator=[3, 4])
    alone = rule.verify(target, draft, tokens, generator=[3])
    assert torch.equal(together.tokens[:1], alone.tokens)


@pytest.mark.parametrize("n", [300, 3000, 6000])
def test_equal_ratios_stay_in_the_order_of_their_tokens(n):
    values = torch.randint(0, 5, (2, n), generator=torch.Generator().manual_seed(n)).double()
    values[0, ::3] += 1e-12  # the same number in float32
    ordered, order = sort_with_order(values)
    assert torch.equal(ordered, values.gather(1, order))
    assert (ordered.diff() >= 0).all()
    assert (order.diff()[ordered.diff() == 0] > 0).all()
