"""Traversal verification is exact, is block verification for one draft, and is never above the joint optimum."""

import pytest
import torch

from samplers import BlockVerification, MultiBlockVerifier, TraversalVerification, TreeVerifier
from samplers.acceptance import joint_optimum
from samplers.exactness import joint_law, random_laws, target_law


@pytest.mark.parametrize(("v", "m", "t"), [(2, 3, 2), (3, 2, 1), (2, 2, 3)])
def test_the_joint_distribution_is_the_targets(v, m, t):
    laws = random_laws(4, v, m, t, identical=True, generator=v + m + t)
    found = joint_law(TraversalVerification(), laws)
    torch.testing.assert_close(found.law, target_law(laws), rtol=0, atol=1e-12)
    assert (found.mean_accepted <= joint_optimum(laws) + 1e-7).all()


def test_siblings_without_replacement_are_exact():
    laws = random_laws(6, 3, 2, 2, identical=True, generator=2)
    found = joint_law(TraversalVerification(with_replacement=False), laws)
    whole = (found.mass - 1).abs() < 1e-12  # drafts run out of tokens in the others
    assert whole.any()
    torch.testing.assert_close(found.law[whole], target_law(laws)[whole], rtol=0, atol=1e-12)


def test_with_one_draft_it_is_block_verification():
    laws = random_laws(6, 3, 1, 2, identical=True, generator=3)
    one, other = joint_law(TraversalVerification(), laws), joint_law(BlockVerification(), laws)
    torch.testing.assert_close(one.mean_accepted, other.mean_accepted, rtol=0, atol=1e-12)


def test_the_two_phase_rule_accepts_more_on_average():
    laws = random_laws(6, 2, 3, 2, identical=True, generator=4)
    one, two = (joint_law(rule, laws).mean_accepted.mean() for rule in (TraversalVerification(), MultiBlockVerifier()))
    assert one < two


def test_a_tree_gets_what_its_chains_get():
    g = torch.Generator().manual_seed(0)
    target = torch.randn(1, 1, 3, 4, generator=g).expand(1, 2, 3, 4)
    draft = target[:, :, :2] + 0.5
    tokens = torch.tensor([[[1, 2], [3, 0]]])
    block = TraversalVerification().verify(target, draft, tokens, generator=5)
    rows = torch.cat([target[:, 0, :1], target[:, 0, 1:], target[:, 1, 1:]], 1)
    drafted = torch.cat([draft[:, 0, :2], draft[:, 0, :1], draft[:, 1, 1:], draft[:, 0, :1]], 1)
    tree = TreeVerifier(TraversalVerification()).verify(
        rows, drafted, tokens.flatten(1), torch.tensor([-1, 0, -1, 2]), generator=5
    )
    assert torch.equal(tree.tokens[0, :3], block.tokens[0])
    assert torch.equal(tree.num_accepted, block.num_accepted)


def test_info_holds_the_weight_of_the_last_child_and_all_copies():
    g = torch.Generator().manual_seed(1)
    target = torch.randn(1, 1, 3, 3, generator=g, dtype=torch.float64)
    draft = torch.randn(1, 1, 2, 3, generator=g, dtype=torch.float64)
    one, tokens = BlockVerification(), torch.tensor([[[2, 1]]])
    seen = set()
    for seed in range(30):
        found = TraversalVerification().verify(target, draft, tokens, generator=seed)
        exact = one.verify(target, draft, tokens, generator=seed).info.accept_probability[0]
        reached = int(found.num_accepted[0]) + 1
        seen.add(reached)
        torch.testing.assert_close(found.info.accept_probability[0, :reached], exact[:reached])
    assert len(seen) > 1
    copies = TraversalVerification().verify(
        draft[:, :, [0, 1, 1]].expand(1, 2, 3, 3),
        draft.expand(1, 2, 2, 3),
        torch.tensor([[[2, 1], [2, 0]]]),
        generator=0,
    )
    assert copies.num_accepted.tolist() == [2]
    assert copies.info.num_active.tolist() == [[2, 2]]
