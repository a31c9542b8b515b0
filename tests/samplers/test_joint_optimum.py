"""The most that any lossless rule can accept over whole drafts."""

import pytest
import torch

from samplers import BlockVerification, MultiBlockVerifier, OptimalVerifier, optimal_acceptance_different
from samplers.acceptance import antichain_optimum, joint_optimum
from samplers.exactness import Laws, joint_law, random_laws


def cases(v, m, t, count, seed=0, identical=True):
    return random_laws(count, v, m, t, identical=identical, generator=seed)


def smooth_cases(v, m, t, count):
    """Rows of normal logits of scale 1.5, the draft's with noise of scale 1: no zeros."""
    generator = torch.Generator().manual_seed(v + 10 * m + 100 * t)

    def normal(*shape):
        return torch.randn(*shape, v, generator=generator, dtype=torch.float64)

    logits = [1.5 * normal(count, v**j) for j in range(t + 1)]
    drafts = [(logits[j] + normal(count, v**j))[:, None].expand(-1, m, -1, -1).softmax(-1) for j in range(t)]
    return Laws(tuple(level.softmax(-1) for level in logits), tuple(drafts))


@pytest.mark.parametrize(("v", "t"), [(2, 3), (3, 2)])
def test_block_verification_is_optimal_for_one_draft(v, t):
    laws = cases(v, 1, t, 12)
    found = joint_law(BlockVerification(), laws).mean_accepted
    torch.testing.assert_close(joint_optimum(laws), found, rtol=0, atol=1e-8)


def test_one_token_of_different_drafts_is_the_optimum_of_a_node():
    laws = cases(3, 3, 1, 12, identical=False)
    found = optimal_acceptance_different(laws.target[0][:, 0], laws.drafts[0][:, :, 0])
    torch.testing.assert_close(joint_optimum(laws), found, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("v", "m", "t"), [(2, 2, 2), (3, 2, 2), (3, 3, 1), (2, 3, 2), (2, 2, 3)])
def test_antichains_say_exactly_what_can_be_reached(v, m, t):
    laws = cases(v, m, t, 10, seed=v + m + t)
    torch.testing.assert_close(antichain_optimum(laws), joint_optimum(laws), rtol=0, atol=1e-7)


def test_most_of_the_gap_is_closed():
    """At least .7 of the gap from the optimum of each node to the joint one, on average over sizes."""
    shares = []
    for v, m, t, count in [(3, 2, 2, 20), (3, 3, 2, 6), (2, 4, 2, 20), (2, 2, 3, 20), (2, 3, 3, 6)]:
        laws = smooth_cases(v, m, t, count)
        node, block = (joint_law(rule, laws).mean_accepted for rule in (OptimalVerifier(), MultiBlockVerifier()))
        best = antichain_optimum(laws)
        assert (block <= best + 1e-7).all()
        shares.append(float((block - node).sum() / (best - node).sum()))
    assert min(shares) > 0.6
    assert sum(shares) / len(shares) > 0.7


def test_what_is_too_large_or_differs_is_refused():
    with pytest.raises(ValueError, match="laws must hold identical drafts"):
        antichain_optimum(cases(2, 2, 1, 1, identical=False))
    with pytest.raises(ValueError, match="laws must have at most 20000 prefixes, got 6 tokens and drafts of 6"):
        antichain_optimum(cases(6, 2, 6, 1))
