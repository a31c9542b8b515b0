"""Every sampler against enumeration in float64, every density against mpmath, in every dtype, beside any offset.

Draws: a chi-square test of 4,000 draws in each case, at a level of 1e-8; the false-alarm rate over the whole grid, of
some 3,000 cases, is below 4e-5. The seed of a case is its place in the grid. A fixed sample of the grid is run;
``MIXKIT_FULL=1`` runs it whole.
"""

import itertools
import math
import os

import mpmath
import pytest
import torch
from scipy import stats

from mixkit.relaxations import (
    ExponentialFamilySubset,
    GumbelRao,
    GumbelSoftmax,
    ImplicitMLE,
    LogRelaxedOneHot,
    PlackettLuceSubset,
    ReinMax,
    RelaxedSubset,
    Simple,
    StraightThrough,
    StraightThroughGumbelSoftmax,
    all_subsets,
    choice_log_prob,
    ordered_log_prob,
    sample_one_hot,
)

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
OFFSETS = [0.0, 1e3, 1e7, -1e7]
SPREADS = [0.1, 1.0, 5.0, 1e4]
TEMPERATURES = [1e-6, 1e-2, 1.0, 1e3]
BASE = torch.tensor([0.3, -0.5, 1.0, 0.0, -1.2], dtype=torch.float64)
N, LEVEL, K = 4000, 1e-8, 2
EVERY = 1 if os.environ.get("MIXKIT_FULL") == "1" else 11  # coprime to the sizes of the grid: every value is met

ONE = {
    "sample_one_hot": lambda q, t, g: sample_one_hot(q, generator=g),
    "straight_through": lambda q, t, g: StraightThrough(t)(q, g),
    "straight_through_gumbel_softmax": lambda q, t, g: StraightThroughGumbelSoftmax(t)(q, g),
    "gumbel_rao": lambda q, t, g: GumbelRao(t, 1)(q, g),
    "reinmax": lambda q, t, g: ReinMax(t)(q, g),
}
RELAXED = {
    "gumbel_softmax": lambda q, t, g: GumbelSoftmax(t)(q, g),
    "log_relaxed": lambda q, t, g: LogRelaxedOneHot(t, logits=q).sample(generator=g),
}
PLACKETT_LUCE = {
    "plackett_luce": lambda q, t, g: PlackettLuceSubset(K, q).sample(generator=g),
    "relaxed_subset": lambda q, t, g: RelaxedSubset(t, hard=True)(q, K, g),
    "implicit_mle": lambda q, t, g: ImplicitMLE()(q, K, g),
}
EXPONENTIAL = {
    "exponential_family": lambda q, t, g: ExponentialFamilySubset(K, q).sample(generator=g),
    "simple": lambda q, t, g: Simple()(q, K, g),
}
SAMPLERS = {**ONE, **RELAXED, **PLACKETT_LUCE, **EXPONENTIAL}


def some(*axes):
    """A fixed sample of the product of the axes, with the place of each case."""
    return [(place, *case) for place, case in enumerate(itertools.product(*axes)) if place % EVERY == 0]


def logits_of(dtype, offset, spread):
    """What the dtype makes of the logits; None where it does not reach so far."""
    logits = (spread * BASE + offset).to(dtype)
    return logits if logits.isfinite().all() else None


def support_of(name):
    return torch.eye(len(BASE)) if name in {*ONE, *RELAXED} else all_subsets(len(BASE), K, like=torch.empty(()))


def probabilities(name, logits):
    """Of each point of the support, in float64, of the logits as they are."""
    log_probs = logits.double().log_softmax(-1)
    if name in {*ONE, *RELAXED}:
        return log_probs.exp()
    masks = support_of(name)
    if name in EXPONENTIAL:
        return (masks.double() @ log_probs).softmax(-1)
    pairs = [mask.nonzero().squeeze(-1).tolist() for mask in masks]
    in_order = {(i, j): log_probs[i] + _without(log_probs, i)[j] for i, j in itertools.permutations(range(5), 2)}
    return torch.stack([(in_order[i, j].exp() + in_order[j, i].exp()) for i, j in pairs])


def _without(log_probs, item):
    return log_probs.masked_fill(torch.arange(len(log_probs)) == item, -torch.inf).log_softmax(-1)


def pvalue(counts, probs):
    """Chi-square, categories of fewer than five expected draws pooled; a draw of probability zero fails."""
    if counts[probs < 1e-15].sum() > 0:
        return 0.0
    expected = counts.sum() * probs
    rare = expected < 5.0
    observed, wanted = counts[~rare].double(), expected[~rare]
    if expected[rare].sum() >= 5.0:
        observed, wanted = (torch.cat([a, b[rare].sum()[None]]) for a, b in ((observed, counts), (wanted, expected)))
    elif rare.any():  # too few to test by themselves: an upper bound
        extra = stats.poisson.sf(int(counts[rare].sum()) - 1, float(expected[rare].sum()))
        if extra < LEVEL:
            return extra
    if len(wanted) < 2:
        return 1.0
    statistic = float(((observed - wanted).square() / wanted).sum())
    return float(stats.chi2.sf(statistic, len(wanted) - 1))


@pytest.mark.parametrize("name", SAMPLERS)
def test_draws_follow_their_distribution(name):
    support = support_of(name)
    for place, dtype, offset, spread, temperature in some(DTYPES, OFFSETS, SPREADS, TEMPERATURES):
        logits = logits_of(dtype, offset, spread)
        relaxed_away = name in RELAXED and dtype in DTYPES[2:] and temperature > 1e-2  # no digits left to rank
        if logits is None or relaxed_away:
            continue
        draws = SAMPLERS[name](logits.expand(N, -1), temperature, torch.Generator().manual_seed(place))
        assert draws.dtype == dtype
        hard = torch.nn.functional.one_hot(draws.argmax(-1), len(BASE)) if name in RELAXED else draws
        counts = (hard.float() @ support.T == support.sum(-1)).sum(0)
        assert counts.sum() == N
        found = pvalue(counts, probabilities(name, logits))
        assert found > LEVEL, (dtype, offset, spread, temperature, counts.tolist())


def close(found, expected, dtype):
    """Results of narrower dtypes are float32; what mpmath is given is what the function was given."""
    relative = 1e-10 if dtype == torch.float64 else 4e-6
    assert abs(float(found) - float(expected)) <= relative * (1.0 + abs(float(expected))), (found, expected)


def exact(tensor):
    return [mpmath.mpf(value) for value in tensor.double().tolist()]


def log_sum_exp(values):
    top = max(values)
    return top + mpmath.log(sum(mpmath.e ** (value - top) for value in values))


CASES = some(DTYPES, OFFSETS, SPREADS)


def cases():
    for place, dtype, offset, spread in itertools.chain(
        CASES, [(0, *case) for case in zip(DTYPES, OFFSETS, SPREADS, strict=True)]
    ):
        logits = logits_of(dtype, offset, spread)
        if logits is not None:
            yield place, dtype, logits


@pytest.mark.parametrize("temperature", [1e-6, 0.5, 1e3])
def test_the_relaxed_density_against_mpmath(temperature):
    for place, dtype, logits in cases():
        law = LogRelaxedOneHot(temperature, logits=logits)
        value = law.sample(generator=torch.Generator().manual_seed(place))
        with mpmath.workdps(80):
            tau, k = mpmath.mpf(temperature), len(BASE)
            scores = [q - tau * y for q, y in zip(exact(logits), exact(value), strict=True)]
            terms = sum(scores) - k * log_sum_exp(scores)
            expected = mpmath.loggamma(k) + (k - 1) * mpmath.log(tau) + terms
        close(law.log_prob(value), expected, dtype)


def test_probabilities_of_subsets_against_mpmath():
    masks = all_subsets(len(BASE), K, like=torch.empty(()))
    pairs = [mask.nonzero().squeeze(-1).tolist() for mask in masks]
    for _, dtype, logits in cases():
        family, orders = ExponentialFamilySubset(K, logits), PlackettLuceSubset(K, logits)
        found = family.log_prob(masks.to(dtype)), orders.log_prob(masks.to(dtype))
        with mpmath.workdps(80):
            q = exact(logits)
            sums = [q[i] + q[j] for i, j in pairs]
            total = log_sum_exp(sums)
            probs = [mpmath.e ** (value - total) for value in sums]
            entropy = -sum(p * (value - total) for p, value in zip(probs, sums, strict=True))
            means = [sum(p for p, pair in zip(probs, pairs, strict=True) if i in pair) for i in range(len(BASE))]
            in_order = {(i, j): _ordered(q, i, j) for i, j in itertools.permutations(range(len(BASE)), 2)}
            sets = [log_sum_exp([in_order[i, j], in_order[j, i]]) for i, j in pairs]
        for index, (value, set_value) in enumerate(zip(sums, sets, strict=True)):
            close(found[0][index], value - total, dtype)
            close(found[1][index], set_value, dtype)
        close(family.entropy(), entropy, dtype)
        for mean, wanted in zip(family.mean, means, strict=True):
            close(mean, wanted, dtype)
        for (i, j), value in in_order.items():
            close(ordered_log_prob(logits, torch.tensor([i, j])), value, dtype)


def _ordered(q, i, j):
    left = [value for index, value in enumerate(q) if index != i]
    return q[i] - log_sum_exp(q) + q[j] - log_sum_exp(left)


def test_probabilities_of_choices_against_mpmath():
    for _, dtype, logits in cases():
        with mpmath.workdps(80):
            q = exact(logits)
            expected = [value - log_sum_exp(q) for value in q]
        found = choice_log_prob(logits, torch.eye(len(BASE), dtype=dtype))
        for value, wanted in zip(found, expected, strict=True):
            close(value, wanted, dtype)


def test_the_test_itself_finds_a_wrong_distribution():
    logits = logits_of(torch.float32, 0.0, 1.0)
    probs = probabilities("sample_one_hot", logits)
    shifted = probabilities("sample_one_hot", logits + torch.tensor([0.5, 0.0, 0.0, 0.0, 0.0]))
    assert pvalue((N * shifted).round(), probs) < LEVEL
    assert pvalue((N * probs).round(), probs) > 0.9
    assert math.isclose(float(probabilities("plackett_luce", logits).sum()), 1.0, rel_tol=1e-12)
