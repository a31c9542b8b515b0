"""Contracts of every selection: exactly K survive, ties go to the lower index, scores are left as they are."""

import copy
import itertools
import pickle
import statistics

import pytest
import torch

from mixkit.gates.selections import BiasedTopK, NoisyTopK, TopKByScore, TopKBySlope, top_k_mask
from tests.mixkit.gate_table import SELECTED, SELECTIONS, D, K, build, normal, one_of_batch, seeded, select

every_selection = pytest.mark.parametrize("make", SELECTIONS.values(), ids=SELECTIONS.keys())
SPARSE = {name: make for name, make in SELECTIONS.items() if name != "dense"}
every_sparse_selection = pytest.mark.parametrize("make", SPARSE.values(), ids=SPARSE.keys())
INF = torch.inf


def survivors(kept):
    return (kept > -INF).nonzero()[:, -1].reshape(len(kept), -1).tolist()


@every_selection
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.01, 1.0, 1e4])
def test_exactly_k_survive_and_keep_their_scores(make, dtype, scale):
    selection = build(make, dtype=dtype).eval()
    scores = normal(2, 500, K, scale=scale, dtype=torch.float32).to(dtype).clamp(-6e4, 6e4)
    kept = select(selection, scores)
    assert kept.dtype == dtype
    expected = K if selection.num_selected is None else SELECTED
    assert ((kept > -INF).sum(-1) == expected).all()
    assert torch.equal(kept[kept > -INF], scores[kept > -INF])


def test_ties_in_bfloat16_do_not_select_more():
    scores = normal(8192, 64, dtype=torch.bfloat16)
    kth = scores.topk(8, dim=-1).values[:, -1:]
    tied = ((scores >= kth).sum(-1) > 8).float().mean()
    assert tied > 0.02  # the case is not a corner
    order = torch.sort(scores, dim=-1, descending=True, stable=True).indices[:, :8]
    assert torch.equal(top_k_mask(scores, 8), torch.zeros_like(scores, dtype=torch.bool).scatter(-1, order, True))


@pytest.mark.parametrize("num_selected", range(1, K + 1))
def test_ties_go_to_the_lower_index(num_selected):
    """Against a stable sort, over all rows of four entries from {-inf, 0, 1} with enough to choose from."""
    rows = torch.tensor(list(itertools.product([-INF, 0.0, 1.0], repeat=K)))
    rows = rows[(rows > -INF).sum(-1) >= num_selected]
    order = torch.sort(rows, dim=-1, descending=True, stable=True).indices[:, :num_selected]
    expected = torch.zeros_like(rows, dtype=torch.bool).scatter(-1, order, True)
    assert torch.equal(top_k_mask(rows, num_selected), expected)
    assert torch.equal(torch.vmap(lambda row: top_k_mask(row, num_selected))(rows), expected)


@every_sparse_selection
def test_equal_scores_select_the_first(make):
    selection = copy.deepcopy(make(batch_shape=(), dtype=torch.float64)).eval()
    assert survivors(select(selection, torch.zeros(2, K, dtype=torch.float64))) == [[0, 1], [0, 1]]


@every_selection
def test_minus_infinity_is_never_selected(make):
    selection = build(make).eval()
    scores = normal(20, K)
    scores[:, :2] = -INF
    kept = select(selection, scores, slope_scores=normal(20, K, seed=7))
    assert survivors(kept) == [[2, 3]] * 20


@every_sparse_selection
@pytest.mark.parametrize("bad", [-INF, torch.nan])
def test_too_few_scores_are_named(make, bad):
    scores = normal(5, K)
    scores[1, 1:] = bad
    with pytest.raises(
        ValueError, match=r"at least num_selected=[12] entries above -inf \(and no NaN\) in every row, got"
    ):
        select(build(make).eval(), scores)


@every_selection
def test_a_batch_equals_a_loop(make):
    selection, scores, x = build(make, batch_shape=(2, 3)).eval(), normal(2, 3, 5, K), normal(2, 3, 5, D, seed=8)
    kept = select(selection, scores, x=x)
    for index in itertools.product(range(2), range(3)):
        assert torch.equal(kept[index], select(one_of_batch(make, selection, index), scores[index], x=x[index]))


@every_selection
def test_gradients_reach_survivors_only(make):
    selection, scores = build(make).eval(), normal(5, K).requires_grad_()
    kept = select(selection, scores)
    torch.where(kept > -INF, kept, 0.0).sum().backward()
    assert torch.equal(scores.grad, (kept > -INF).to(scores))


@every_selection
def test_state_dict_pickle_and_copy_keep_the_selection(make):
    selection, scores = build(make), normal(50, K)
    other = build(make, seed=9)
    other.load_state_dict(selection.state_dict())
    for twin in (other, pickle.loads(pickle.dumps(selection)), copy.deepcopy(selection)):
        assert torch.equal(select(twin, scores), select(selection, scores))
        assert repr(twin) == repr(selection)


@every_sparse_selection
def test_repr_names_k(make):
    assert "num_selected=2" in repr(build(make))


def test_the_two_rankings_differ_by_the_bias():
    slope, bias = normal(200, K), torch.tensor([5.0, 0.0, 0.0, 0.0])
    by_score = select(TopKByScore(2), slope + bias, slope)
    by_slope = select(TopKBySlope(2), slope + bias, slope)
    assert (by_score[:, 0] > -INF).all()
    rank = (slope.unsqueeze(-2) > slope.unsqueeze(-1)).sum(-1)
    assert torch.equal(by_slope > -INF, rank < 2)
    assert not torch.equal(by_score, by_slope)


def test_slopes_may_lack_the_batch_of_the_scores():
    slope, bias = torch.zeros(5, K), normal(2, 1, K)
    found = select(TopKBySlope(2), slope + bias, slope)
    assert torch.equal(found, select(TopKBySlope(2), slope + bias, slope.expand(2, 5, K)))
    assert torch.equal(found > -INF, torch.tensor([True, True, *[False] * (K - 2)]).expand(2, 5, K))  # ties: the first


def test_noise_is_for_training_and_follows_the_generator():
    selection, scores = build(SELECTIONS["noisy"]), normal(50, K)
    assert torch.equal(select(selection, scores, seed=5), select(selection, scores, seed=5))
    assert not torch.equal(select(selection, scores, seed=5), select(selection, scores, seed=6))
    assert torch.equal(select(selection.eval(), scores), select(TopKByScore(SELECTED), scores))


def test_the_noise_has_the_law_of_the_paper():
    """P(expert 1 beats expert 0) = Phi((s_1 - s_0) / sqrt(std_0^2 + std_1^2)); 5 standard errors, false alarm 6e-7."""
    selection, n = NoisyTopK(1, 1, 2, dtype=torch.float64), 40_000
    with torch.no_grad():
        selection.noise_weight.copy_(torch.tensor([[0.3], [1.0]]))
    std = torch.nn.functional.softplus(selection.noise_weight[:, 0])
    scores, x = torch.tensor([0.0, 0.5], dtype=torch.float64).expand(n, 2), torch.ones(n, 1, dtype=torch.float64)
    frequency = (select(selection, scores, x=x)[:, 1] > -INF).double().mean().item()
    expected = statistics.NormalDist().cdf(0.5 / std.square().sum().sqrt().item())
    assert abs(frequency - expected) < 5 * (expected * (1 - expected) / n) ** 0.5


def test_gradients_reach_the_size_of_the_noise():
    selection = build(SELECTIONS["noisy"])
    kept = select(selection, normal(20, K))
    torch.where(kept > -INF, kept, 0.0).sum().backward()
    assert (selection.noise_weight.grad != 0).any()


def test_the_bias_moves_the_choice_and_not_the_weights():
    selection, scores = BiasedTopK(1, 3), torch.tensor([[2.0, 1.0, 0.0]])
    selection.selection_bias.copy_(torch.tensor([0.0, 0.0, 0.6]))
    assert select(selection, scores).tolist() == [[-INF, -INF, 0.0]]


def test_updates_of_the_bias_balance_the_load():
    selection, scores = BiasedTopK(1, K, update_rate=0.01), normal(2000, K) + torch.arange(K)
    for step in range(400):
        selection.update_rate = 0.01 if step < 300 else 0.001
        selection.update_bias((select(selection, scores) > -INF).double().mean(0))
    load = (select(selection, scores) > -INF).double().mean(0)
    assert (load - 1 / K).abs().max() < 0.03
    assert (select(TopKByScore(1), scores) > -INF).double().mean(0).max() > 0.6  # as it was


def test_the_bias_stays_in_float32_with_its_values():
    selection = BiasedTopK(1, 2)
    selection.update_bias(torch.tensor([1.0, 0.0]))
    before = selection.selection_bias.clone()
    for module in (selection.half(), selection.double(), selection.bfloat16()):
        assert torch.equal(module.selection_bias, before)
        assert module.selection_bias.dtype == torch.float32


def test_a_bad_load_is_named():
    with pytest.raises(ValueError, match=r"load must have shape \(3,\), got \(2,\)"):
        BiasedTopK(1, 3).update_bias(torch.ones(2))
    with pytest.raises(ValueError, match="load must be finite"):
        BiasedTopK(1, 3).update_bias(torch.tensor([1.0, torch.nan, 0.0]))


@pytest.mark.parametrize("merit_size", [1, 2, 3, 9])
@pytest.mark.parametrize("num_selected_groups", [1, 2, 3])
def test_groups_against_a_search_by_hand(num_selected_groups, merit_size):
    k, num_groups, num_selected = 12, 4, 3
    options = {"num_groups": num_groups, "num_selected_groups": num_selected_groups, "merit_size": merit_size}
    selection = BiasedTopK(num_selected, k, **options)
    selection.selection_bias.copy_(normal(k, scale=0.3))
    scores = normal(100, k)
    kept = survivors(select(selection, scores))
    for row, chosen in zip(scores, kept, strict=True):
        merit = (torch.sigmoid(row.float()) + selection.selection_bias).tolist()
        groups = [range(g * 3, g * 3 + 3) for g in range(num_groups)]
        best = sorted(groups, key=lambda g: -sum(sorted((merit[i] for i in g), reverse=True)[:merit_size]))
        allowed = [i for g in best[:num_selected_groups] for i in g]
        assert chosen == sorted(sorted(allowed, key=lambda i: -merit[i])[:num_selected])


def test_a_group_of_negative_merit_may_win_and_no_masked_group_slips_in():
    """Masking losers by 0 instead of -inf would let them in when the bias makes all winners negative."""
    selection = BiasedTopK(2, 4, num_groups=2, num_selected_groups=1)
    selection.selection_bias.copy_(torch.tensor([-5.0, -5.0, -6.0, -6.0]))
    assert survivors(select(selection, torch.zeros(1, 4))) == [[0, 1]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopKByScore(0), "num_selected must be at least 1, got 0"),
        (lambda: NoisyTopK(3, 1, 2), "num_experts must be at least 3, got 2"),
        (lambda: BiasedTopK(1, 4, merit_size=0), "merit_size must be at least 1, got 0"),
        (lambda: BiasedTopK(1, 4, num_groups=0), "num_groups must be at least 1, got 0"),
        (lambda: BiasedTopK(1, 4, num_groups=5), "num_groups must be at most 4, got 5"),
        (lambda: BiasedTopK(1, 4, num_groups=3), "num_groups must divide num_experts=4, got 3"),
        (lambda: BiasedTopK(1, 4, num_groups=2, num_selected_groups=3), "num_selected_groups must be at most 2, got 3"),
        (
            lambda: BiasedTopK(3, 4, num_groups=2, num_selected_groups=1),
            "num_selected must be at most 2, the experts in 1 of 2 groups, got 3",
        ),
        (lambda: BiasedTopK(5, 4), "num_selected must be at most 4"),
        (lambda: BiasedTopK(1, 4, update_rate=0.0), "update_rate must be positive and finite, got 0.0"),
        (lambda: top_k_mask(torch.zeros(3), 4), "num_selected must be at most 3, got 4"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_compiled_selection_selects_the_same():
    scores = normal(50, K).round()
    compiled = torch.compile(lambda s: top_k_mask(s, SELECTED), backend="aot_eager")
    assert torch.equal(compiled(scores), top_k_mask(scores, SELECTED))


def test_randomness_without_a_generator_is_torchs_own():
    selection, scores = build(SELECTIONS["noisy"]), normal(50, K)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        drawn = selection(scores, slope_scores=scores, x=scores.new_ones(50, D))
    assert torch.equal(drawn, selection(scores, slope_scores=scores, x=scores.new_ones(50, D), generator=seeded(3)))
