"""Whole trees of siblings drawn without replacement."""

from itertools import permutations

import pytest
import torch

from samplers import MultiBlockVerifier, RecursiveRejection, TreeVerifier
from samplers.exactness import Laws, joint_law, random_laws, target_law
from samplers.verification.multiblock.distinct_plans import DistinctPlans, all_inside

RULE = MultiBlockVerifier(budgets="priority", with_replacement=False)


def laws_with_support(cases, v, m, t, seed):
    """Drafts that never run out of tokens."""
    laws = random_laws(cases, v, m, t, identical=True, generator=seed)
    return Laws(laws.target, tuple(0.95 * level + 0.05 / v for level in laws.drafts))


@pytest.mark.parametrize(("v", "count"), [(4, 2), (4, 3), (5, 4), (5, 5)])
def test_all_siblings_in_a_prefix(v, count):
    draft = (2 * torch.randn(3, v, generator=torch.Generator().manual_seed(v), dtype=torch.float64)).softmax(-1)
    draft[2] = torch.tensor([1 - (v - 1) * 1e-7] + [1e-7] * (v - 1), dtype=torch.float64)
    exact = torch.zeros_like(draft)
    for drawn in permutations(range(v), count):
        left, probability = torch.ones(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
        for place, token in enumerate(drawn):
            rest = [other for other in range(v) if other not in drawn[:place]]
            left = draft[:, rest].sum(-1)  # a sum of what is left, where a difference would cancel
            probability = probability * draft[:, token] / left
        exact[:, max(drawn) :] += probability[:, None]
    torch.testing.assert_close(all_inside(draft, count), exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("v", "m", "t"), [(3, 2, 2), (4, 3, 1), (4, 2, 1)])
def test_the_joint_distribution_is_the_targets(v, m, t):
    laws = laws_with_support(6, v, m, t, seed=v + m)
    found = joint_law(RULE, laws)
    torch.testing.assert_close(found.law, target_law(laws), rtol=0, atol=1e-12)


def test_more_is_accepted_than_by_recursive_rejection():
    laws = laws_with_support(12, 4, 2, 1, seed=5)
    priority, recursive = (
        joint_law(rule, laws).mean_accepted for rule in (RULE, RecursiveRejection(with_replacement=False))
    )
    assert (priority - recursive).mean() > 0.005
    assert (priority >= recursive - 1e-3).all()


class Independent(DistinctPlans):
    """Takes siblings for independent draws."""

    def first_drafted(self, nodes, order):
        inside = self.rows.draft[nodes].gather(-1, order)
        later = inside.flip(-1).cumsum(-1).flip(-1).clamp_max(1.0) ** self.rows.count[nodes, None]
        later = torch.nn.functional.pad(later, (0, 1))
        return torch.empty_like(inside).scatter_(1, order, later[:, :-1] - later[:, 1:])


def test_siblings_taken_for_independent_are_found_out(monkeypatch):
    monkeypatch.setattr("samplers.verification.multiblock.verifier.DistinctPlans", Independent)
    laws = laws_with_support(6, 3, 2, 1, seed=1)
    assert (joint_law(RULE, laws).law - target_law(laws)).abs().max() > 1e-4


def test_trees_of_distinct_siblings():
    g = torch.Generator().manual_seed(0)
    target, draft = torch.randn(1, 7, 30, generator=g), torch.randn(1, 7, 30, generator=g)
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6]])
    found = TreeVerifier(RULE).verify(target, draft, tokens, torch.tensor([-1, -1, -1, 0, 0, 1]), generator=0)
    assert found.tokens.shape == (1, 7)


def test_other_budgets_are_refused():
    with pytest.raises(ValueError, match="budgets must be 'priority' for siblings without replacement, got 'optimal'"):
        MultiBlockVerifier(with_replacement=False)
