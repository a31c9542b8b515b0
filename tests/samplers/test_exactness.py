"""The harness itself: it must pass what is right and fail what is subtly wrong, both ways."""

from dataclasses import replace

import pytest
import torch

from samplers import (
    BlockVerification,
    GumbelListCoupling,
    ImportanceWeighted,
    KSequential,
    Node,
    OptimalVerifier,
    RecursiveRejection,
    SamplerMatch,
    SpeculativeSampling,
    WeightedVerifier,
)
from samplers.exactness import Laws, chi_square, chi_square_test, joint_law, random_laws, target_law
from samplers.exactness.branches import Branches
from samplers.exactness.small_models import draft_tuples, sample_drafts
from samplers.verification.multidraft import cells, kseq, pools, recursive
from samplers.verification.multidraft.cells import winning_law
from samplers.verification.multidraft.optimal import ScoreSelection
from samplers.verification.multidraft.weighted import WeightedSelection
from samplers.verification.node import Decision
from samplers.verification.sources import CellLaws, GeneratorSource, invert_cdf
from samplers.verification.speculative import offer


def smooth_laws(num_cases, v, m, t, generator, identical=True):
    """Laws without zeros, far from each other, on which a wrong rule shows."""
    target = tuple(
        torch.randn(num_cases, v**j, v, generator=generator, dtype=torch.float64).mul(1.5).softmax(-1)
        for j in range(t + 1)
    )
    drafts = tuple(
        torch.randn(num_cases, 1 if identical else m, v**j, v, generator=generator, dtype=torch.float64)
        .mul(1.5)
        .softmax(-1)
        .expand(-1, m, -1, -1)
        for j in range(t)
    )
    return Laws(target, drafts)


# Deliberately wrong rules


def tempered(node):
    """The node with a draft law that is not the one drafts came from."""
    return Node(node.target_logits, node.draft_logits / 1.5, node.tokens, node.active)


class WrongLaw(SpeculativeSampling):
    def node(self, node, source):
        return super().node(tempered(node), source)


class WrongResidual(SpeculativeSampling):
    def node(self, node, source):
        chosen = node.tokens[:, :1]
        ratio = (node.target / node.draft).gather(-1, chosen)[:, 0].clamp_max(1.0)
        kept = source.accept(ratio)
        return Decision(torch.where(kept, chosen[:, 0], source.choose(node.target)), ratio)


class WrongMatch(SamplerMatch):
    def node(self, node, source):
        return Decision(source.choose((node.target + node.draft) / 2), node.target[:, 0])


class BlockWrongLaw(BlockVerification):
    def rule(self, block, source):
        return super().rule(replace(block, draft=block.draft / 1.5), source)


class BlockWrongTest(BlockVerification):
    """Keeps prefixes by their weights alone."""

    def rule(self, block, source):
        import samplers.verification.block as module

        true = module.keep_probability
        module.keep_probability = lambda target, draft, weight, length: weight
        try:
            return super().rule(block, source)
        finally:
            module.keep_probability = true


class RecursiveWrongLaw(RecursiveRejection):
    def node(self, node, source):
        return super().node(tempered(node), source)


class RecursiveWrongResidual(RecursiveRejection):
    """Forgets to renormalize after a rejection."""

    def node(self, node, source):
        true = recursive.normalized_residual
        recursive.normalized_residual = lambda target, draft: (target - draft).clamp_min(1e-9)
        try:
            return super().node(node, source)
        finally:
            recursive.normalized_residual = true


class KSequentialWrongDivision(KSequential):
    """Divides by the number of drafts where the residual stays lawful only at the root."""

    def node(self, node, source):
        true = kseq.division
        kseq.division = lambda target, draft, count: true(target, draft, count + 1)
        try:
            return super().node(node, source)
        finally:
            kseq.division = true


class OptimalWrongMarginal(OptimalVerifier):
    """Takes the law of the selected token to be the draft's."""

    def selection(self, node):
        plan = super().selection(node)

        class Wrong(ScoreSelection):
            marginal = node.draft

        return Wrong(plan.plan, plan.group_of, plan.draft)


class OptimalWithoutPools(OptimalVerifier):
    """Lets every draft keep its own cell."""

    def node(self, node, source):
        true = pools.Pools.weights
        pools.Pools.weights = lambda self, *index: 0 * true(self, *index)
        try:
            return super().node(node, source)
        finally:
            pools.Pools.weights = true


class WeightedWrongMarginal(WeightedVerifier):
    def selection(self, node):
        plan = super().selection(node)
        return WeightedSelection(-plan.log_weight, plan.marginal)


class ImportanceWrongLaw(ImportanceWeighted):
    def node(self, node, source):
        return super().node(tempered(node), source)


class ImportanceWrongOffer(ImportanceWeighted):
    """Offers the selected token as if it came from the draft."""

    def node(self, node, source):
        plan = self.selection(node)
        chosen = plan.select(node.tokens, node.active, source)
        return offer(node.target, node.draft, node.tokens.gather(-1, chosen[:, None])[:, 0], source)


class GumbelWrongLaw(GumbelListCoupling):
    def node(self, node, source):
        return super().node(tempered(node), source)


SINGLE = [WrongLaw(), WrongResidual(), BlockWrongLaw(), BlockWrongTest()]
MANY = [
    WrongMatch(),
    RecursiveWrongLaw(),
    RecursiveWrongResidual(),
    KSequentialWrongDivision(),
    OptimalWrongMarginal(),
    OptimalWithoutPools(),
    WeightedWrongMarginal(levels=8, span=3.0, steps=2),
    ImportanceWrongLaw(guard=False),
    ImportanceWrongOffer(guard=False),
]


@pytest.mark.parametrize("verifier", [*SINGLE, *MANY], ids=lambda verifier: type(verifier).__name__)
def test_enumeration_fails_a_wrong_rule(verifier, generator):
    laws = smooth_laws(20, 3, 1 if verifier in SINGLE else 2, 2, generator)
    error = (joint_law(verifier, laws).law - target_law(laws)).abs().amax(-1)
    assert float(error.max()) > 1e-2


@pytest.mark.parametrize("verifier", [*SINGLE, *MANY, GumbelWrongLaw()], ids=lambda verifier: type(verifier).__name__)
def test_chi_square_fails_a_wrong_rule(verifier, generator):
    laws = smooth_laws(4, 3, 1 if verifier in SINGLE else 2, 2, generator)
    found = chi_square_test(verifier, laws, num_samples=6000, generator=generator)
    assert not found.passed
    assert found.p_value < 1e-9


def test_enumeration_refuses_a_rule_that_draws_uniforms(generator):
    with pytest.raises(TypeError, match="cannot be enumerated"):
        joint_law(GumbelListCoupling(), smooth_laws(2, 3, 2, 1, generator))


# The pieces of the harness


def test_draft_tuples_have_the_right_probability(generator):
    laws = random_laws(10, 3, 2, 2, identical=False, generator=generator)
    case, _, weight = draft_tuples(laws)
    total = torch.zeros(10, dtype=torch.float64).index_add(0, case, weight)
    torch.testing.assert_close(total, torch.ones(10, dtype=torch.float64), rtol=0, atol=1e-13)


def test_draft_tuples_without_replacement_follow_the_urn():
    law = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    laws = Laws((law.view(1, 1, 3), law.expand(1, 3, 3)), (law.expand(1, 2, 1, 3),))
    _, tokens, weight = draft_tuples(laws, with_replacement=False)
    assert weight.sum() == pytest.approx(1.0, abs=1e-15)
    for (first, second), mass in zip(tokens[..., 0].tolist(), weight.tolist(), strict=True):
        assert mass == pytest.approx(float(law[first] * law[second] / (1 - law[first])), abs=1e-15)


def test_branches_visit_every_leaf_once():
    source = Branches(torch.zeros(1, 0, dtype=torch.long), torch.ones(1, dtype=torch.float64))
    weights = torch.tensor([[1.0, 0.0, 3.0]])
    first = source.choose(weights)
    assert first.tolist() == [0]
    assert source.accept(torch.tensor([0.25])).tolist() == [True]
    row, decisions = source.unexplored()
    assert row.tolist() == [0, 0]
    assert decisions.tolist() == [[2, -1], [0, 1]]
    assert source.weight.tolist() == [0.25 * 0.25]


def test_winning_law_agrees_with_counting(generator):
    weights = torch.rand(1, 3, 4, generator=generator, dtype=torch.float64)
    law = weights / weights.sum(-1, keepdim=True)
    wins = torch.zeros(3, dtype=torch.float64)
    for held in torch.cartesian_prod(*[torch.arange(4)] * 3):
        tied = held == held.max()
        mass = law[0, torch.arange(3), held].prod()
        wins += mass * tied / tied.sum()
    torch.testing.assert_close(winning_law(weights, torch.ones(1, 3, dtype=torch.bool))[0], wins, rtol=0, atol=1e-14)


@pytest.mark.parametrize("m", [3, 4, 8])
def test_winning_law_of_many_cells_is_as_exact(m, monkeypatch):
    """Long rows with a few large cells take fewer quadrature nodes in the others."""
    generator = torch.Generator().manual_seed(m)
    weights = torch.rand(1, m, 20_000, generator=generator, dtype=torch.float64) * 0.1
    weights[0, torch.arange(m), torch.randint(20_000, (m,), generator=generator)] = 300.0
    active = torch.ones(1, m, dtype=torch.bool)
    fast = winning_law(weights, active)
    monkeypatch.setattr(cells, "_LONG", 10**9)
    torch.testing.assert_close(fast, winning_law(weights, active), rtol=0, atol=1e-13)
    torch.testing.assert_close(fast.sum(-1), torch.ones(1, dtype=torch.float64), rtol=0, atol=1e-12)


def test_highest_draws_from_the_winning_law():
    """Chi-square at a false alarm of 1e-6."""
    n = 40_000
    own = torch.tensor([[0, 2, 1]]).expand(n, -1)
    choice = torch.tensor([[[0.6, 0.4], [0.1, 0.9], [1.0, 0.0]]], dtype=torch.float64).expand(n, -1, -1)
    pool = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    laws = CellLaws(own, choice, lambda row, _: pool.expand(row.numel(), -1))
    active = torch.ones(n, 3, dtype=torch.bool)
    source = GeneratorSource(torch.Generator().manual_seed(0), n, torch.device("cpu"))
    counts = torch.bincount(source.highest(laws, active), minlength=3)[None]
    cells = torch.nn.functional.one_hot(own[:1], 3) * choice[:1, :, :1] + pool * choice[:1, :, 1:]
    assert chi_square(counts, winning_law(cells, active[:1])).passed


@pytest.mark.parametrize("n", [1, 5, 1024, 1025, 5000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_invert_cdf_is_the_inverse(n, dtype, generator):
    weights = torch.rand(3, n, generator=generator, dtype=dtype)
    weights[:, ::3] = 0
    weights[:, -1] += 1
    uniforms = torch.rand(3, generator=generator, dtype=torch.float64)
    index = invert_cdf(weights, uniforms)
    total = weights.double().cumsum(-1)
    expected = torch.searchsorted(total, (uniforms * total[:, -1])[:, None], right=True)[:, 0]
    assert torch.equal(index, expected)


@pytest.mark.parametrize("n", [5, 3000])
def test_invert_cdf_never_picks_an_impossible_entry(n):
    weights = torch.zeros(4, n, dtype=torch.float64)
    weights[:, 2] = 1e-300
    ends = torch.tensor([0.0, 1e-320, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert invert_cdf(weights, ends).tolist() == [2] * 4


def test_sampled_drafts_follow_their_laws(generator):
    laws = smooth_laws(2, 3, 2, 1, generator, identical=False)
    case = torch.arange(2).repeat_interleave(5000)
    tokens = sample_drafts(laws, case, generator)
    joint = tokens[:, 0, 0] * 3 + tokens[:, 1, 0]
    counts = torch.bincount(case * 9 + joint, minlength=18).view(2, 9)
    law = (laws.drafts[0][:, 0, 0, :, None] * laws.drafts[0][:, 1, 0, None]).flatten(1)
    assert chi_square(counts, law).passed


def test_chi_square_fails_impossible_outputs():
    assert not chi_square(torch.tensor([[10, 1]]), torch.tensor([[1.0, 0.0]])).passed


def test_one_row_is_inverted_as_in_a_batch(generator):
    """Rows alone take a path of their own, with the same arithmetic."""
    weights = torch.rand(60, 3001, generator=generator)
    weights[torch.rand(60, 3001, generator=generator) < 0.5] = 0
    weights[:, -1] = 1e-3
    uniforms = torch.rand(60, generator=generator, dtype=torch.float64)
    uniforms[:4] = torch.tensor([0.0, 1 - 2**-53, 1e-300, 1 - 1e-9])
    alone = [invert_cdf(weights[i : i + 1], uniforms[i : i + 1]) for i in range(60)]
    assert torch.equal(torch.cat(alone), invert_cdf(weights, uniforms))
