"""Blocks of many drafts verified as a whole. Exactness over all kinds of rows is in ``test_verifiers.py``."""

import pytest
import torch

from samplers import BlockVerification, KSequential, MultiBlockVerifier, OptimalVerifier, WeightedVerifier
from samplers.acceptance import joint_optimum
from samplers.exactness import Laws, chi_square_test, joint_law, random_laws, target_law
from samplers.verification.multiblock import two_phase, verifier
from samplers.verification.multiblock.kseq_plans import SequentialPlans
from samplers.verification.multiblock.plans import NodePlan
from samplers.verification.multiblock.score_plans import ScorePlans

BUDGETS = pytest.mark.parametrize("budgets", ["optimal", "k-seq"])
SIZES = [(2, 2, 2), (3, 2, 2), (2, 3, 2), (2, 2, 3), (4, 2, 2)]


def cases(v, m, t, count, seed):
    return random_laws(count, v, m, t, identical=True, generator=torch.Generator().manual_seed(seed))


def error(laws, budgets="optimal", **options):
    found = joint_law(MultiBlockVerifier(budgets=budgets), laws, **options)
    return float((found.law - target_law(laws)).abs().max())


@BUDGETS
@pytest.mark.parametrize(("v", "t"), [(2, 3), (3, 2), (4, 2)])
def test_with_one_draft_it_is_block_verification(budgets, v, t):
    laws = cases(v, 1, t, 60, seed=v)
    many, one = joint_law(MultiBlockVerifier(budgets=budgets), laws), joint_law(BlockVerification(), laws)
    torch.testing.assert_close(many.mean_accepted, one.mean_accepted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("v", "m"), [(2, 4), (3, 3), (4, 2), (4, 3)])
def test_with_drafts_of_one_token_it_is_the_rule_of_its_budgets(v, m):
    laws = cases(v, m, 1, 60, seed=m)
    rules = {"optimal": OptimalVerifier(), "k-seq": KSequential()}
    for budgets, rule in rules.items():
        block, node = joint_law(MultiBlockVerifier(budgets=budgets), laws), joint_law(rule, laws)
        if budgets == "optimal":
            torch.testing.assert_close(block.mean_accepted, node.mean_accepted, rtol=0, atol=1e-12)
        else:  # a token of the residual that a draft holds is accepted by the rule of a node alone
            assert (block.mean_accepted <= node.mean_accepted + 1e-12).all()


def test_never_below_the_optimum_of_each_node():
    for v, m, t in SIZES:
        laws = cases(v, m, t, 200, seed=10 * v + m)
        block, node = joint_law(MultiBlockVerifier(), laws), joint_law(OptimalVerifier(), laws)
        assert (block.mean_accepted >= node.mean_accepted - 1e-12).all()
        assert block.mean_accepted.mean() > node.mean_accepted.mean() + 0.005


@BUDGETS
def test_rows_truncated_alike_stay_exact(budgets, generator):
    laws = cases(4, 2, 2, 40, seed=5)
    drafts = tuple(level.expand_as(level).clone() for level in laws.drafts)
    target = []
    for level, draft in zip(laws.target, (*drafts, None), strict=True):
        keep = level >= level.topk(2, -1).values[..., -1:]
        cut = level * keep
        target.append(cut / cut.sum(-1, keepdim=True))
        if draft is not None:
            held = draft * keep[:, None]
            total = held.sum(-1, keepdim=True)
            draft.copy_(torch.where(total > 0, held / total.clamp_min(1e-300), draft))
    assert error(Laws(tuple(target), drafts), budgets) < 1e-12


def test_different_drafts_keep_more_than_node_by_node():
    laws = random_laws(12, 2, 2, 2, identical=False, generator=3)
    node, block = (joint_law(rule, laws) for rule in (WeightedVerifier(), MultiBlockVerifier(budgets="priority")))
    best = joint_optimum(laws)
    assert (block.mean_accepted <= best + 1e-7).all()
    assert (block.mean_accepted - node.mean_accepted).sum() > 0.3 * (best - node.mean_accepted).sum() > 0


@BUDGETS
@pytest.mark.parametrize(("v", "t"), [(50, 1), (12, 2)])
def test_samples_over_larger_alphabets_follow_the_target(budgets, v, t):
    """Tables of 2,500 and 1,728 outputs; a lossless rule fails once in a million."""
    laws = cases(v, 3, t, 1, seed=v)
    assert chi_square_test(MultiBlockVerifier(budgets=budgets), laws, num_samples=12_000, generator=1).passed


# What would not be lossless


class TooLittle(ScorePlans):
    """Says that a thousandth less is accepted than is."""

    def solve(self, nodes, weight):
        accepted, solution = super().solve(nodes, weight)
        return accepted * (1 - 1e-3), solution


class FirstDraft(ScorePlans):
    """Gives the whole budget to the first draft's token, whatever the selection's distribution."""

    def at(self, weight, solution):
        plan = super().at(weight, solution)
        total = plan.budgets.sum(-1, keepdim=True)
        return NodePlan(torch.cat([total, 0 * plan.budgets[:, 1:]], -1), plan.weight, plan.accepted)


class WrongCount(SequentialPlans):
    """Solves as if one draft fewer competed than do."""

    def solve(self, nodes, weight):
        accepted, solution = super().solve(nodes, weight)
        return accepted, solution * torch.tensor([1.0, 0.99])


@pytest.mark.parametrize("plans", [TooLittle, FirstDraft, WrongCount])
def test_wrong_plans_are_found_out(plans, monkeypatch):
    monkeypatch.setitem(verifier.BUDGETS, "optimal", plans)
    assert error(cases(3, 2, 2, 20, seed=1)) > 1e-5


def test_an_order_that_reads_deeper_tokens_is_found_out(monkeypatch):
    def by_deeper_tokens(budgets, place, below):
        if below is None:
            return torch.arange(budgets.shape[1]).expand_as(budgets)
        deeper = below.rows.tokens[place.clamp_min(0), 0].double()
        return torch.where(place >= 0, deeper, torch.inf).argsort(dim=-1, stable=True)

    monkeypatch.setattr(two_phase, "sibling_order", by_deeper_tokens)
    assert error(cases(3, 2, 2, 20, seed=1)) > 1e-5


def test_budgets_are_refused_by_name():
    with pytest.raises(ValueError, match=r"budgets must be one of \['k-seq', 'optimal', 'priority'\], got 'best'"):
        MultiBlockVerifier(budgets="best")


def test_an_ended_leader_does_not_hide_a_wrong_row():
    """Drafts 0 and 1 share their first token; draft 0 has ended, so the rows after it are drafts 1's and 2's."""
    target = torch.zeros(1, 3, 3, 4)
    draft = torch.zeros(1, 3, 2, 4)
    draft[0, 2, 1, 0] = 1.0
    tokens = torch.tensor([[[1, 0], [1, 2], [1, 3]]])
    with pytest.raises(ValueError, match=r"draft_logits must be the same law .* in drafts 1 and 2"):
        MultiBlockVerifier().verify(target, draft, tokens, lengths=torch.tensor([[1, 2, 2]]))
