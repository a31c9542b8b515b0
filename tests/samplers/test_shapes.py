"""Expected tokens of a rule from rows of data, and the choice of a shape."""

import pytest
import torch

from samplers import (
    MultiBlockVerifier,
    OptimalVerifier,
    RecursiveRejection,
    SpeculativeSampling,
    TraversalVerification,
)
from samplers.acceptance import RoundCost, expected_tokens, optimal_acceptance, rank_shapes
from samplers.acceptance.shapes import _draw_trees, _random_numbers, tree_parents
from samplers.exactness import Laws, joint_law

P, Q = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)


def close(found, exact, errors=4.5):
    """A false alarm once in a hundred thousand."""
    return abs(found.mean - exact) < errors * found.error


def test_one_draft_of_one_pair_of_rows_is_a_geometric_sum():
    alpha = float(torch.minimum(P, Q).sum())
    found = expected_tokens(SpeculativeSampling(), P[None], Q[None], (1, 1, 1), num_samples=4000)
    assert close(found, 1 + alpha + alpha**2 + alpha**3)


@pytest.mark.parametrize("rule", [MultiBlockVerifier(), MultiBlockVerifier(budgets="k-seq"), OptimalVerifier()])
def test_it_is_the_mean_of_the_enumeration(rule):
    target = (P[None], P.expand(1, 3, 3), P.expand(1, 9, 3))
    target = tuple(level.reshape(1, -1, 3) for level in target)
    drafts = (Q.expand(1, 2, 1, 3), Q.expand(1, 2, 3, 3))
    exact = 1 + float(joint_law(rule, Laws(target, drafts)).mean_accepted)
    assert close(expected_tokens(rule, P[None], Q[None], (2, 1), num_samples=4000), exact)


@pytest.mark.parametrize(
    "rule",
    [
        MultiBlockVerifier(budgets="priority", with_replacement=False),
        RecursiveRejection(with_replacement=False),
        TraversalVerification(with_replacement=False),
    ],
)
def test_siblings_are_drawn_as_the_rule_takes_them(rule):
    laws = Laws((P[None, None], P.expand(1, 3, 3)), (Q.expand(1, 2, 1, 3),))
    exact = 1 + float(joint_law(rule, laws).mean_accepted)
    assert close(expected_tokens(rule, P[None], Q[None], (2,), num_samples=4000), exact)


def test_first_nodes_of_all_shapes_get_the_same_rows():
    draft = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(-1)
    found = []
    for branching in ((2,), (2, 1), (2, 2, 1)):
        parents = tree_parents(branching)
        numbers = _random_numbers(50, len(parents), 30, torch.Generator().manual_seed(1))
        found.append(_draw_trees(draft, parents, *numbers, with_replacement=True))
    for context, tokens in found[1:]:
        assert torch.equal(context[:, :3], found[0][0])
        assert torch.equal(tokens[:, :2], found[0][1])


def test_rows_are_mixed_over_contexts():
    target, draft = torch.stack([P, Q]), torch.stack([Q, Q])
    alpha = torch.stack([optimal_acceptance(p, q, 3) for p, q in zip(target, draft, strict=True)]).mean()
    found = expected_tokens(OptimalVerifier(), target, draft, (3,), num_samples=4000)
    assert close(found, 1 + float(alpha))


def test_copies_of_a_prefix_share_their_context():
    g = torch.Generator().manual_seed(0)
    target, draft = torch.randn(2, 6, 3, generator=g, dtype=torch.float64).mul(3).softmax(-1)
    for rule in (MultiBlockVerifier(), RecursiveRejection()):  # both refuse rows that differ after one prefix
        assert expected_tokens(rule, target, draft, (3, 2, 1), num_samples=50).mean > 1


def test_no_drafts_are_one_token():
    assert expected_tokens(OptimalVerifier(), P[None], Q[None], ()).mean == 1.0


def test_dear_drafts_do_not_pay():
    shapes = [(), (1,), (4,), (4, 1, 1)]
    cheap = rank_shapes(MultiBlockVerifier(), P[None], P[None], shapes, RoundCost(target=1.0, draft=0.01))
    dear = rank_shapes(MultiBlockVerifier(), P[None], Q[None], shapes, RoundCost(target=1.0, draft=2.0))
    assert cheap[0].branching == (4, 1, 1)
    assert dear[0].branching == ()
    wide = RoundCost(target=1.0, target_token=1.0)
    assert rank_shapes(MultiBlockVerifier(), P[None], P[None], shapes, wide)[-1].branching == (4, 1, 1)


def test_seconds_add_up():
    cost = RoundCost(target=1.0, target_token=0.1, draft=0.2, draft_token=0.01, verify=0.5)
    assert cost.seconds(()) == 1.0
    assert cost.seconds((2, 2)) == pytest.approx(1.0 + 6 * 0.1 + 2 * 0.2 + 0.01 + 0.5)
    assert tree_parents((2, 2)).tolist() == [-1, -1, 0, 0, 1, 1]


def test_bad_input_is_refused_by_name():
    rows = P[None], Q[None]
    with pytest.raises(ValueError, match="branching must be at least 1, got 0"):
        expected_tokens(OptimalVerifier(), *rows, (2, 0))
    with pytest.raises(ValueError, match="target and draft must have one shape"):
        expected_tokens(OptimalVerifier(), P[None].expand(2, 3), Q[None], (2,))
    one_hot = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"draft must hold at least 2 tokens in each row .* got a row of 1"):
        expected_tokens(RecursiveRejection(with_replacement=False), P[None], one_hot, (2,))
    with pytest.raises(ValueError, match="target must be positive"):
        RoundCost(target=0.0)
    with pytest.raises(ValueError, match="draft must be"):
        RoundCost(target=1.0, draft=-1.0)
