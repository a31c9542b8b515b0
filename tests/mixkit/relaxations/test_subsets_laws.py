"""The two laws over subsets: enumeration, marginals, draws, gradients, extremes."""

import math
import pickle
from itertools import permutations

import pytest
import torch
from scipy import integrate, stats

from mixkit.relaxations import (
    ExponentialFamilySubset,
    PlackettLuceSubset,
    all_subsets,
    ordered_log_prob,
    subset_log_marginals,
    subset_log_partition,
    subset_log_prob,
)

LAWS = [PlackettLuceSubset, ExponentialFamilySubset]
FLOAT64 = torch.float64


def random_logits(*shape, scale=1.0, seed=0, absent=None):
    logits = scale * torch.randn(*shape, dtype=FLOAT64, generator=torch.Generator().manual_seed(seed))
    if absent is not None:
        logits[..., absent] = -torch.inf
    return logits


def over_orders(logits, mask):
    """Plackett-Luce by the sum over all orders: the independent reference."""
    items = mask.nonzero().squeeze(-1).tolist()
    return torch.stack([ordered_log_prob(logits, torch.tensor(order)) for order in permutations(items)]).logsumexp(0)


def brute_partition(logits, num_selected):
    return (all_subsets(len(logits), num_selected, like=logits) @ logits).logsumexp(0)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("k", "num_selected"), [(1, 1), (5, 1), (5, 3), (5, 5), (9, 4)])
def test_probabilities_sum_to_one(law, k, num_selected):
    subset = law(num_selected, random_logits(3, k))
    support = subset.enumerate_support()
    assert support.shape == (math.comb(k, num_selected), 3, k)
    assert torch.allclose(subset.log_prob(support).exp().sum(0), torch.ones(3, dtype=FLOAT64), rtol=1e-13)


@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("num_selected", [1, 3, 5])
def test_plackett_luce_sets_against_the_sum_over_orders(scale, num_selected):
    logits = random_logits(7, scale=scale, absent=2)
    subset = PlackettLuceSubset(num_selected, logits)
    support = subset.enumerate_support()
    support = support[support[:, 2] == 0]
    expected = torch.stack([over_orders(logits, mask) for mask in support])
    assert torch.allclose(subset.log_prob(support), expected, rtol=1e-13, atol=1e-12)


@pytest.mark.parametrize("num_selected", [60, 300])
def test_plackett_luce_sets_of_many_items_against_adaptive_quadrature(num_selected, generator):
    logits = random_logits(2 * num_selected)
    mask = PlackettLuceSubset(num_selected, logits).sample(generator=generator)
    rates = (logits.exp() / logits.exp()[mask == 0].sum())[mask == 1].numpy()
    ours = subset_log_prob(logits, mask, num_selected).item()

    def integrand(s):
        import numpy as np

        return math.exp(s - math.exp(s) + float(np.log(-np.expm1(-rates * math.exp(s))).sum()) - ours)

    total, _ = integrate.quad(integrand, -3.0, 8.0, epsabs=1e-13, epsrel=1e-13, limit=500)
    assert abs(total - 1.0) < 1e-10


def test_plackett_luce_in_float32_is_close_to_float64(generator):
    logits = 5 * torch.randn(9, generator=generator)
    support = PlackettLuceSubset(4, logits).enumerate_support()
    low, high = (PlackettLuceSubset(4, q).log_prob(support.to(q.dtype)) for q in (logits, logits.double()))
    assert torch.allclose(low.double(), high, rtol=1e-5, atol=1e-5)


def test_ordered_probabilities_sum_to_one_over_orders_of_any_length():
    logits = random_logits(5, absent=1)
    for length in (1, 2, 3):
        orders = torch.tensor(list(permutations(range(5), length)))
        log_prob = ordered_log_prob(logits, orders)
        assert torch.allclose(log_prob.exp().sum(), torch.ones((), dtype=FLOAT64))
        assert (log_prob[(orders == 1).any(-1)] == -torch.inf).all()


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("num_selected", [1, 3, 6, 7])
def test_partition_and_marginals_against_enumeration(scale, num_selected):
    logits = random_logits(7, scale=scale)
    masks = all_subsets(7, num_selected, like=logits)
    scores = masks @ logits
    weights = (scores - scores.logsumexp(0)).unsqueeze(-1)
    expected = weights.masked_fill(masks == 0, -torch.inf).logsumexp(0)
    assert torch.allclose(subset_log_partition(logits, num_selected), brute_partition(logits, num_selected), rtol=1e-13)
    assert torch.allclose(subset_log_marginals(logits, num_selected), expected, rtol=1e-12, atol=1e-12)


def test_marginals_are_the_gradient_of_the_log_partition():
    logits = random_logits(4, 13, absent=3).requires_grad_()
    for num_selected in (1, 5, 12):
        (gradient,) = torch.autograd.grad(subset_log_partition(logits, num_selected).sum(), logits)
        marginals = subset_log_marginals(logits, num_selected).exp()
        assert torch.allclose(gradient, marginals, rtol=1e-11, atol=1e-14)
        assert torch.allclose(marginals.sum(-1), torch.full((4,), float(num_selected), dtype=FLOAT64))


def test_tiny_marginals_keep_their_digits():
    logits = torch.tensor([0.0, 0.0, 0.0, -600.0], dtype=FLOAT64)
    log_marginals = subset_log_marginals(logits, 2)
    assert torch.allclose(log_marginals[3], torch.tensor(-600.0, dtype=FLOAT64), atol=1e-9)  # 3 sets of 3


def test_a_large_problem_matches_the_sequential_recursion():
    logits, num_selected = random_logits(1000, scale=3.0), 70
    table = torch.full((num_selected + 1,), -torch.inf, dtype=FLOAT64)
    table[0] = 0.0
    for item in logits:
        table[1:] = torch.logaddexp(table[1:], table[:-1] + item)
    assert torch.allclose(subset_log_partition(logits, num_selected), table[-1], rtol=1e-13)


@pytest.mark.parametrize("num_selected", [1, 3, 5])
def test_gradients_of_the_exponential_family(num_selected):
    logits = random_logits(2, 6, absent=2).requires_grad_()
    functions = [
        lambda q: subset_log_partition(q, num_selected),
        lambda q: subset_log_marginals(q, num_selected).exp(),
        lambda q: ExponentialFamilySubset(num_selected, q).entropy(),
    ]
    for function in functions:
        assert torch.autograd.gradcheck(function, logits)
        with torch.random.fork_rng():
            assert torch.autograd.gradgradcheck(function, logits)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("num_selected", [1, 3, 5])
def test_gradients_of_log_probabilities(law, num_selected, generator):
    logits = random_logits(3, 6, absent=4).requires_grad_()
    mask = law(num_selected, logits.detach()).sample(generator=generator)

    def log_prob(q):
        return law(num_selected, q, validate_args=False).log_prob(mask)

    assert torch.autograd.gradcheck(log_prob, logits)
    with torch.random.fork_rng():
        assert torch.autograd.gradgradcheck(log_prob, logits)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("dtype", [torch.float32, FLOAT64])
def test_draws_follow_the_law(law, dtype, generator):
    """Chi-square over all sets, false-alarm rate 1e-5 a row."""
    logits = random_logits(6, scale=1.5, seed=2, absent=1).to(dtype)
    subset = law(3, logits)
    support = subset.enumerate_support()
    possible = support[:, 1] == 0
    draws = subset.sample((40_000,), generator)
    counts = torch.stack([(draws == mask).all(-1).sum() for mask in support])
    assert counts[~possible].sum() == 0
    assert counts.sum() == 40_000
    expected = 40_000 * subset.log_prob(support[possible]).double().softmax(-1)
    assert stats.chisquare(counts[possible].double(), expected).pvalue > 1e-5


def test_the_two_laws_differ():
    logits = random_logits(10, seed=1)
    support = PlackettLuceSubset(5, logits).enumerate_support()
    first, second = (law(5, logits).log_prob(support).exp() for law in LAWS)
    assert (first - second).abs().sum() / 2 > 0.05


def test_both_laws_are_the_categorical_law_for_one_item():
    logits = random_logits(6)
    for law in LAWS:
        log_prob = law(1, logits).log_prob(torch.eye(6, dtype=FLOAT64))
        assert torch.allclose(log_prob, logits.log_softmax(-1), rtol=1e-12)


def test_mean_variance_and_entropy_by_enumeration():
    subset = ExponentialFamilySubset(3, random_logits(2, 6, absent=0))
    support = subset.enumerate_support()
    log_prob = subset.log_prob(support)
    probs = log_prob.exp().unsqueeze(-1)
    mean = (probs * support).sum(0)
    assert torch.allclose(subset.mean, mean)
    assert torch.allclose(subset.variance, (probs * (support - mean) ** 2).sum(0), atol=1e-12)
    entropy = -(log_prob.exp() * log_prob.masked_fill(log_prob.isneginf(), 0.0)).sum(0)
    assert torch.allclose(subset.entropy(), entropy)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("dtype", [FLOAT64, torch.float32, torch.bfloat16, torch.float16])
def test_extreme_logits(law, dtype, generator):
    logits = torch.tensor([1e4, 0.0, -1e4, 5.0, 3.0, -torch.inf]).to(dtype).requires_grad_()
    for num_selected in (1, 3, 5):
        subset = law(num_selected, logits)
        draws = subset.sample((20,), generator)
        assert draws.dtype == dtype
        assert (draws.sum(-1) == num_selected).all()
        support = subset.enumerate_support()
        log_prob = subset.log_prob(support)
        assert (log_prob.isfinite() == (support[:, 5] == 0)).all()
        (gradient,) = torch.autograd.grad(log_prob[log_prob.isfinite()].sum(), logits)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("law", LAWS)
def test_shapes_expand_pickle_and_repr(law, generator):
    subset = law(2, torch.zeros(3, 4))
    assert (subset.batch_shape, subset.event_shape) == ((3,), (4,))
    wide = subset.expand((5, 3))
    assert type(wide) is law
    assert wide.sample((7,), generator).shape == (7, 5, 3, 4)
    assert wide.log_prob(wide.sample(generator=generator)).shape == (5, 3)
    assert subset.enumerate_support(expand=False).shape == (6, 1, 4)
    assert pickle.loads(pickle.dumps(subset)).num_selected == 2
    assert law.__name__ in repr(subset)


@pytest.mark.parametrize("law", LAWS)
def test_bad_input_is_refused(law):
    with pytest.raises(ValueError, match="num_selected must be at most 3, got 4"):
        law(4, torch.zeros(3))
    with pytest.raises(ValueError, match="num_selected must be at least 1, got 0"):
        law(0, torch.zeros(3))
    with pytest.raises(ValueError, match="at least num_selected=2 finite entries"):
        law(2, torch.tensor([0.0, -torch.inf, -torch.inf]))
    with pytest.raises(ValueError, match="finite entry in every row"):
        law(1, torch.full((3,), -torch.inf))
    with pytest.raises(ValueError, match="no NaN"):
        law(1, torch.tensor([0.0, torch.nan]))
    with pytest.raises(ValueError, match="support"):
        law(2, torch.zeros(3), validate_args=True).log_prob(torch.tensor([1.0, 0.0, 0.0]))
    with pytest.raises(ValueError, match="at most 1000000"):
        law(20, torch.zeros(40)).enumerate_support()
