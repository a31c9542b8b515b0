"""Acceptance of the multi-draft rules: the optimum is reached, and every rule's own formula is right."""

import pytest
import torch
from scipy.optimize import linprog

from samplers import (
    ImportanceWeighted,
    KSequential,
    OptimalVerifier,
    RecursiveRejection,
    SamplerMatch,
    SpeculativeSampling,
    WeightedVerifier,
    acceptance_bound,
    linear_program_acceptance,
    list_matching_bound,
    optimal_acceptance,
    optimal_acceptance_different,
)
from samplers.exactness import joint_law, random_laws
from samplers.exactness.small_models import block_logits, sample_drafts
from samplers.verification.multidraft import GumbelListCoupling
from samplers.verification.multidraft.base import node_of
from samplers.verification.multidraft.clipped import clipped_ratio, power
from samplers.verification.multidraft.kseq import division
from samplers.verification.multidraft.pairs import solve_pairs
from samplers.verification.multidraft.pools import pair_runs
from samplers.verification.multidraft.sorting import sort_with_order
from samplers.verification.multidraft.weights import Laws, WeightGrid, weigh


def one_node(num_cases, v, m, generator, identical=True):
    """Laws of one node, hard cases included: probabilities ``(c, v)`` and ``(c, m, v)``."""
    laws = random_laws(num_cases, v, m, 1, identical=identical, generator=generator)
    return laws, laws.target[0][:, 0], laws.drafts[0][:, :, 0]


def large(v, generator, rows=1):
    """Laws like those of language models."""
    target = torch.randn(rows, v, generator=generator, dtype=torch.float64) * 3
    draft = (target + 1.2 * torch.randn(rows, v, generator=generator, dtype=torch.float64)) / 1.2
    return target.softmax(-1), draft.softmax(-1)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("v", [2, 3, 5, 8])
def test_optimal_verifier_reaches_the_linear_program(v, m, generator):
    _, target, drafts = one_node(15, v, m, generator)
    best = [linear_program_acceptance(q, p) for q, p in zip(target, drafts, strict=True)]
    best = torch.tensor(best, dtype=torch.float64)
    torch.testing.assert_close(OptimalVerifier().acceptance(target, drafts), best, rtol=0, atol=1e-9)
    torch.testing.assert_close(optimal_acceptance(target, drafts[:, 0], m), best, rtol=0, atol=1e-9)


@pytest.mark.parametrize("m", [2, 4, 8])
@pytest.mark.parametrize("v", [32_000, 128_256])
def test_optimal_verifier_reaches_the_optimum_at_full_vocabulary(v, m, generator):
    target, draft = large(v, generator)
    found = OptimalVerifier().acceptance(target, draft[:, None].expand(-1, m, -1))
    torch.testing.assert_close(found, optimal_acceptance(target, draft, m), rtol=0, atol=1e-9)


@pytest.mark.parametrize("m", [2, 4, 8])
@pytest.mark.parametrize("v", [3, 40, 32_000])
def test_pools_realize_the_marginal(v, m, generator):
    """Each pool moves ``w (c p - h)`` from the law of the highest draft; in all, exactly to the clipped ratio."""
    target, draft = large(v, generator, rows=2)
    plan = clipped_ratio(target, draft, torch.full((2,), m))
    pools = pair_runs(plan)
    row, cell = torch.arange(2)[:, None], torch.arange(v)
    law, used = plan.highest.clone(), torch.zeros_like(plan.highest)
    for k in range(pools.level.shape[1]):
        weight = pools.weights(row, cell, torch.tensor(k))
        law += weight * (pools.level[:, k, None] * plan.draft - plan.highest)
        used += weight
    assert float((law - plan.marginal).abs().max()) < 1e-13
    assert float(used.max()) < 1 + 1e-9
    assert ((plan.marginal.cumsum(-1) - plan.highest.cumsum(-1)) > -1e-13).all()


@pytest.mark.parametrize("bins", [64, 1024])
def test_binned_optimal_loses_at_most_a_bin(bins, generator):
    target, draft = large(32_000, generator, rows=3)
    drafts = draft[:, None].expand(-1, 4, -1)
    loss = optimal_acceptance(target, draft, 4) - OptimalVerifier(bins=bins).acceptance(target, drafts)
    assert (loss > -1e-12).all()
    assert (loss < 2 * 8.0 / bins).all()


@pytest.mark.parametrize("m", [2, 3, 4])
def test_weighted_verifier_is_near_the_optimum_for_different_drafts(m, generator):
    _, target, drafts = one_node(100, 8, m, generator, identical=False)
    loss = optimal_acceptance_different(target, drafts) - WeightedVerifier().acceptance(target, drafts)
    assert float(loss.min()) > -1e-12
    assert float(loss.max()) < 0.005


def test_weighted_verifier_is_near_the_bound_at_full_vocabulary(generator):
    target, draft = large(32_000, generator, rows=2)
    drafts = torch.stack([draft[0], target[0].sqrt() / target[0].sqrt().sum(), draft[1]])[None]
    found = WeightedVerifier(steps=10).acceptance(target[:1], drafts)
    assert 0 <= float(acceptance_bound(target[:1], drafts) - found) < 0.005


@pytest.mark.parametrize("m", [2, 4])
def test_weights_found_on_a_sample_serve_all_tokens(m, generator):
    """Drafts of one model at several temperatures, and with noise of their own, over 20,000 tokens."""
    target, draft = large(20_000, generator)
    heat = draft[:, None].log() / torch.linspace(1, 2, m, dtype=torch.float64)[:, None]
    noise = draft[:, None].log() + torch.randn(1, m, 20_000, generator=generator, dtype=torch.float64)
    for drafts in (heat.softmax(-1), noise.softmax(-1)):
        found = WeightedVerifier().selection(node_of(target, drafts)).marginal
        torch.testing.assert_close(found.sum(-1), torch.ones(1, dtype=torch.float64), rtol=0, atol=1e-13)
        accepted = torch.minimum(found, target).sum(-1)
        assert 0 <= float(acceptance_bound(target, drafts) - accepted) < 0.005


def test_weights_of_a_row_do_not_depend_on_the_batch(generator):
    target, draft = large(5000, generator, rows=3)
    drafts = torch.stack([draft, target.sqrt() / target.sqrt().sum(-1, keepdim=True)], 1)
    together = WeightedVerifier().acceptance(target, drafts)
    alone = torch.cat([WeightedVerifier().acceptance(target[i : i + 1], drafts[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)


def test_weighted_marginal_of_two_drafts_is_the_double_sum(generator):
    drafts = torch.rand(1, 2, 5, generator=generator, dtype=torch.float64).softmax(-1)
    level = torch.tensor([[0, 7, 31, 12, 12]])
    w = torch.linspace(-6, 6, 32, dtype=torch.float64)[level[0]].exp()
    joint = drafts[0, 0, :, None] * drafts[0, 1]
    first = joint * w[:, None] / (w[:, None] + w)
    law = first.sum(1) + (joint - first).sum(0)
    grid = WeightGrid(32, 6.0)
    found = weigh(Laws(law[None], drafts, torch.ones(1, 2, dtype=torch.bool)), grid, level)
    torch.testing.assert_close(found.marginal[0], law, rtol=0, atol=1e-14)
    torch.testing.assert_close(found.acceptance, torch.ones(1, dtype=torch.float64), rtol=0, atol=1e-14)


RULES = [
    SamplerMatch(),
    RecursiveRejection(),
    KSequential(),
    OptimalVerifier(),
    OptimalVerifier(bins=5),
    WeightedVerifier(levels=16, steps=2, span=4.0),
    ImportanceWeighted(solved=3),
    ImportanceWeighted(solved=2, alphabet=3, guard=False),
]
SHARP = RULES[:4]


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize(("v", "m"), [(3, 2), (4, 3), (2, 4)])
def test_acceptance_is_what_enumeration_finds(rule, v, m, generator):
    """Draws from the residual that hit a draft come on top for canonical rules, and nothing passes the optimum."""
    laws, target, drafts = one_node(10, v, m, generator)
    found, stated = joint_law(rule, laws).mean_accepted, rule.acceptance(target, drafts).double()
    if rule in SHARP:
        torch.testing.assert_close(found, stated, rtol=0, atol=1e-10)
    assert (found >= stated - 1e-10).all()
    assert (found <= optimal_acceptance(target, drafts[:, 0], m) + 1e-10).all()


@pytest.mark.parametrize("identical", [True, False])
@pytest.mark.parametrize("m", [2, 3, 4])
def test_the_guard_never_accepts_less_than_recursive_rejection(m, identical, generator):
    _, target, drafts = one_node(40, 6, m, generator, identical)
    guarded = ImportanceWeighted(solved=2).acceptance(target, drafts)
    assert (guarded >= RecursiveRejection().acceptance(target, drafts) - 1e-12).all()


def test_pairs_solved_in_full_are_optimal(generator):
    _, target, drafts = one_node(40, 6, 2, generator, identical=False)
    found = ImportanceWeighted(solved=6).acceptance(target, drafts)
    torch.testing.assert_close(found, optimal_acceptance_different(target, drafts), rtol=0, atol=1e-7)


@pytest.mark.parametrize("m", [1, 2, 5])
def test_no_rule_beats_the_optimum(m, generator):
    target, draft = large(500, generator, rows=5)
    drafts = draft[:, None].expand(-1, m, -1)
    best = optimal_acceptance(target, draft, m)
    for rule in RULES:
        assert (rule.acceptance(target, drafts) <= best + 1e-9).all(), rule


@pytest.mark.parametrize("m", [2, 4])
def test_k_sequential_divides_at_the_root(m, generator):
    target, draft = large(50, generator, rows=4)
    rho, beta, passed = division(target, draft, torch.full((4,), m))
    torch.testing.assert_close(passed, rho * beta, rtol=0, atol=1e-9)


@pytest.mark.parametrize("m", [1, 2, 4])
def test_gumbel_lists_match_at_least_as_often_as_their_bound(m, generator):
    """Three standard errors below the bound: a false alarm of about 1e-3 a case, at a fixed seed."""
    laws, target, drafts = one_node(8, 4, m, generator)
    case = torch.arange(8).repeat_interleave(4000)
    block = block_logits(laws, case, sample_drafts(laws, case, generator))
    seen = GumbelListCoupling().verify(*block, generator=generator).num_accepted.double().view(8, -1).mean(-1)
    bound = list_matching_bound(target, drafts[:, 0], m)
    assert (seen >= bound - 3 * (0.25 / 4000) ** 0.5).all()


def test_power_is_integer_power(generator):
    base = torch.rand(6, 5, generator=generator, dtype=torch.float64)
    count = torch.tensor([1, 2, 3, 4, 7, 8])
    torch.testing.assert_close(power(base, count), base ** count[:, None], rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OptimalVerifier(bins=0), "bins must be at least 1"),
        (lambda: OptimalVerifier(span=0.0), "span must be positive"),
        (lambda: WeightedVerifier(steps=-1), "steps must be at least 0"),
        (lambda: WeightedVerifier(levels=1), "levels must be at least 2"),
        (lambda: ImportanceWeighted(solved=-1), "solved must be at least 0"),
        (lambda: ImportanceWeighted(alphabet=0), "alphabet must be at least 1"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_acceptance_without_replacement_has_no_formula():
    with pytest.raises(NotImplementedError, match="no closed form"):
        RecursiveRejection(with_replacement=False).acceptance(torch.ones(1, 1), torch.ones(1, 1, 1))


def rows_to_sort(kind, generator):
    """Rows ``(3, 5000)`` that are hard for a sort by rounded keys."""
    values = torch.rand(3, 5000, generator=generator, dtype=torch.float64)
    if kind == "near ties":
        return 1 + 1e-9 * values
    if kind == "ties":
        return (20 * values).round()
    if kind == "beyond float32":
        return torch.where(values < 0.3, values * 1e-300, torch.where(values < 0.6, values * 1e200, torch.inf))
    return values.log().neg() ** 5


@pytest.mark.parametrize("kind", ["smooth", "near ties", "ties", "beyond float32"])
def test_sort_with_order_sorts(kind, generator):
    values = rows_to_sort(kind, generator)
    ordered, order = sort_with_order(values)
    assert torch.equal(ordered, values.sort(-1).values)
    assert torch.equal(values.gather(-1, order), ordered)
    assert torch.equal(order.sort(-1).values, torch.arange(5000).expand(3, -1))


@pytest.mark.parametrize("m", [2, 8])
def test_cells_of_a_pool_are_its_weights(m, generator):
    """Long rows are computed run by run."""
    target, draft = large(6000, generator, rows=2)
    plan = clipped_ratio(target, draft, torch.full((2,), m))
    pools = pair_runs(plan)
    row, pool = torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 1, 1])
    expected = plan.draft[row] * pools.weights(row[:, None], torch.arange(6000), pool[:, None])
    torch.testing.assert_close(pools.cells(row, pool), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_pairs_are_divided_as_well_as_by_linear_programming(size, generator):
    """Against HiGHS: the value of each row's program."""
    a, b, q = (torch.rand(20, size, generator=generator, dtype=torch.float64).softmax(-1) ** 2 for _ in range(3))
    a[:5, 0] = 0.0
    mass = a[:, :, None] * b[:, None] + b[:, :, None] * a[:, None]
    sure = a * b
    weight = solve_pairs(q, sure, mass)
    assert ((weight >= 0) & (weight <= 1)).all()
    off = ~torch.eye(size, dtype=torch.bool)
    torch.testing.assert_close((weight + weight.mT)[:, off], torch.ones(20, size * (size - 1), dtype=torch.float64))
    found = torch.minimum(q, sure + (mass * weight).sum(-1)).sum(-1)
    i, j = torch.triu_indices(size, size, 1)
    pair = torch.arange(len(i))
    for row in range(20):
        limits = torch.zeros(size, len(i) + size, dtype=torch.float64)
        limits[i, pair], limits[j, pair] = -mass[row, i, j], mass[row, i, j]
        limits[:, len(i) :] = torch.eye(size)
        given = sure[row] + torch.zeros(size, dtype=torch.float64).index_add(0, j, mass[row, i, j])
        cost = [0.0] * len(i) + [-1.0] * size
        bounds = [(0.0, 1.0)] * len(i) + [(0.0, value) for value in q[row].tolist()]
        best = linprog(cost, A_ub=limits.numpy(), b_ub=given.numpy(), bounds=bounds, method="highs")
        assert abs(float(found[row]) + best.fun) < 1e-9


def test_acceptance_of_one_draft_and_of_drafts_that_differ(generator):
    target, drafts = (torch.rand(5, *shape, generator=generator).softmax(-1) for shape in ((7,), (2, 7)))
    one = SpeculativeSampling().acceptance(target, drafts[:, :1])
    torch.testing.assert_close(one, torch.minimum(target, drafts[:, 0]).sum(-1))
    with pytest.raises(ValueError, match=r"drafts must have shape \(r, 1, v\)"):
        SpeculativeSampling().acceptance(target, drafts)
    with pytest.raises(ValueError, match="the same law for all drafts"):
        KSequential().acceptance(target, drafts)
