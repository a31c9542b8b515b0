"""Blocks verified one row at a time, node by node: the same rule as that of whole batches, and as exact."""

import pytest
import torch

from samplers import MultiBlockVerifier, TreeVerifier
from samplers.exactness import joint_law, random_laws, target_law
from samplers.verification.multiblock.by_row import descend_block
from samplers.verification.multiblock.one_node import AlonePlan
from samplers.verification.multiblock.verifier import BUDGETS
from samplers.verification.verifier import Verifier

RULES = pytest.mark.parametrize("budgets", sorted(BUDGETS))


class ByRow(Verifier):
    """Goes row by row whatever the source is, so that it can be enumerated."""

    def __init__(self, budgets):
        self.plans = BUDGETS[budgets]

    def rule(self, block, source):
        return descend_block(block, self.plans, source)


@RULES
@pytest.mark.parametrize(("v", "m", "t"), [(2, 3, 2), (2, 2, 3), (3, 2, 1), (3, 1, 2)])
def test_the_joint_distribution_is_the_targets(budgets, v, m, t):
    laws = random_laws(3, v, m, t, identical=BUDGETS[budgets].identical_drafts, generator=v + m + t)
    found = joint_law(ByRow(budgets), laws)
    torch.testing.assert_close(found.law, target_law(laws), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        found.mean_accepted, joint_law(MultiBlockVerifier(budgets=budgets), laws).mean_accepted, rtol=0, atol=1e-12
    )


class Greedy(AlonePlan):
    """Accepts a hundredth more than it says."""

    def budgets(self, weight):
        return [min(1.0, 1.01 * b) for b in super().budgets(weight)]


class TooLittle(AlonePlan):
    """Says that a hundredth less is accepted than is."""

    def accepted(self, weight):
        return super().accepted(weight) * 0.99


@pytest.mark.parametrize("wrong", [Greedy, TooLittle])
def test_wrong_plans_of_a_node_are_found_out(wrong, monkeypatch):
    monkeypatch.setattr("samplers.verification.multiblock.plans.AlonePlan", wrong)
    laws = random_laws(3, 2, 2, 2, identical=True, generator=1)
    assert (joint_law(ByRow("k-seq"), laws).law - target_law(laws)).abs().max() > 1e-5


def block(v, m, t, seed):
    g = torch.Generator().manual_seed(seed)
    target = 2 * torch.randn(4, 1, t + 1, v, generator=g, dtype=torch.float64).expand(4, m, t + 1, v)
    draft = target[:, :, :t] + torch.randn(4, 1, t, v, generator=g, dtype=torch.float64)
    tokens = torch.multinomial(draft.softmax(-1).reshape(-1, v), 1, generator=g).view(4, m, t)
    return target, draft, tokens, torch.randint(0, t + 1, (4, m), generator=g)


@RULES
@pytest.mark.parametrize(("v", "m", "t"), [(3, 3, 3), (5, 4, 4), (4, 2, 3), (2, 4, 3), (40, 4, 2), (4, 3, 0)])
def test_a_row_gets_the_tokens_of_its_batch(budgets, v, m, t):
    target, draft, tokens, lengths = block(v, m, t, seed=v * m + t)
    rule = MultiBlockVerifier(budgets=budgets)
    for given in (None, lengths):
        both = rule.verify(target, draft, tokens, lengths=given, generator=[0, 1, 2, 3])
        for i in range(4):
            one = slice(i, i + 1)
            alone = rule.verify(
                target[one], draft[one], tokens[one], lengths=None if given is None else given[one], generator=[i]
            )
            assert torch.equal(alone.tokens[0], both.tokens[i])
            assert torch.equal(alone.winner[0], both.winner[i])
            assert torch.equal(alone.info.num_active[0], both.info.num_active[i])
            torch.testing.assert_close(alone.info.accept_probability[0], both.info.accept_probability[i])


@pytest.mark.parametrize(("v", "m", "t"), [(6, 2, 3), (12, 4, 3), (4, 3, 1)])
def test_a_row_of_distinct_siblings_gets_the_tokens_of_its_batch(v, m, t):
    target, draft, _, lengths = block(v, m, t, seed=v + m + t)
    g = torch.Generator().manual_seed(v)
    tokens = torch.stack([torch.randperm(v, generator=g)[: m * t].view(m, t) for _ in range(4)])
    rule = MultiBlockVerifier(budgets="priority", with_replacement=False)
    both = rule.verify(target, draft, tokens, lengths=lengths, generator=[0, 1, 2, 3])
    for i in range(4):
        part = (target[i : i + 1], draft[i : i + 1], tokens[i : i + 1])
        alone = rule.verify(*part, lengths=lengths[i : i + 1], generator=[i])
        assert torch.equal(alone.tokens[0], both.tokens[i])
        assert torch.equal(alone.winner[0], both.winner[i])
        torch.testing.assert_close(alone.info.accept_probability[0], both.info.accept_probability[i])


@pytest.mark.parametrize("budgets", ["optimal", "k-seq"])
def test_a_tree_gets_the_tokens_of_its_batch(budgets):
    g = torch.Generator().manual_seed(3)
    parents = torch.tensor([-1, -1, -1, 0, 0, 1, 2, 3])
    target = torch.randn(6, 9, 4, generator=g, dtype=torch.float64)
    target[:] = target[:, :1]  # copies of one prefix share their distributions
    draft = target + 0.5
    draft[..., 0] += 1
    tokens = torch.multinomial(draft[:, 0].softmax(-1), 8, replacement=True, generator=g)
    lengths = torch.tensor([8, 8, 8, 5, 3, 0])
    rule = MultiBlockVerifier(budgets=budgets)
    both = TreeVerifier(rule).verify(target, draft, tokens, parents, lengths=lengths, generator=list(range(6)))
    for i in range(6):
        part = (target[i : i + 1], draft[i : i + 1], tokens[i : i + 1], parents)
        alone = TreeVerifier(rule).verify(*part, lengths=lengths[i : i + 1], generator=[i])
        assert torch.equal(alone.tokens[0], both.tokens[i])
        assert torch.equal(alone.path[0], both.path[i])


def test_long_rows_of_a_batch_go_row_by_row():
    g = torch.Generator().manual_seed(0)
    target = torch.randn(2, 1, 4, 20_000, generator=g).expand(2, 3, 4, 20_000)
    draft = target[:, :, :3] + 0.5 * torch.randn(2, 1, 3, 20_000, generator=g)
    tokens = torch.multinomial(draft.softmax(-1).reshape(-1, 20_000), 1, generator=g).view(2, 3, 3)
    for budgets in ("optimal", "k-seq"):
        out = MultiBlockVerifier(budgets=budgets).verify(target, draft, tokens, generator=[5, 6])
        for i in range(2):
            for k in range(int(out.num_accepted[i])):
                assert out.tokens[i, k] == tokens[i, out.winner[i], k]
