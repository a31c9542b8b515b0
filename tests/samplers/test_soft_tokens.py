"""Soft tokens: laws against numerical integration, enumeration and torch's distributions; the decoding loop."""

import itertools
import math
import pickle

import mpmath
import pytest
import torch
from scipy import integrate, stats

from samplers.processors import TopK
from samplers.soft_tokens import (
    ComposedTokens,
    DirichletTokens,
    GumbelSoftmaxTokens,
    decode_soft_tokens,
    mixture_embedding,
)

LAWS = [
    GumbelSoftmaxTokens(0.7),
    GumbelSoftmaxTokens(2.0),
    DirichletTokens(0.8),
    DirichletTokens(6.0),
    ComposedTokens(3),
]
CONTINUOUS = LAWS[:4]
every_law = pytest.mark.parametrize("law", LAWS, ids=repr)
every_density = pytest.mark.parametrize("law", CONTINUOUS, ids=repr)


def logits_of(*probabilities):
    return torch.tensor(probabilities, dtype=torch.float64).log()


def weights_at(log_ratios):
    """``(*batch, n)`` log-weights from ``(*batch, n - 1)`` log-ratios to the last."""
    return torch.log_softmax(torch.nn.functional.pad(log_ratios, (0, 1)), dim=-1)


def grid_integral(law, logits, function, *, reach, points):
    """Integral of ``function(log_weights) density`` over the log-ratios of three tokens, by the trapezoid rule."""
    axis = torch.linspace(-reach, reach, points, dtype=torch.float64)
    log_weights = weights_at(torch.cartesian_prod(axis, axis))
    return (law.log_prob(log_weights, logits).exp() * function(log_weights)).sum() * (axis[1] - axis[0]) ** 2


@every_density
def test_density_integrates_to_one_over_two_tokens(law):
    def density(ratio):
        log_weights = weights_at(torch.tensor([ratio], dtype=torch.float64))
        return float(law.log_prob(log_weights, logits_of(0.8, 0.2)).exp())

    assert integrate.quad(density, -300, 300, limit=500, points=[0])[0] == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("law", [GumbelSoftmaxTokens(0.7), DirichletTokens(6.0)], ids=repr)
def test_density_integrates_to_one_over_three_tokens_and_a_truncated_one(law):
    logits = logits_of(0.5, 0.3, 0.2)
    total = grid_integral(law, logits, lambda log_weights: 1.0, reach=30, points=501)
    assert float(total) == pytest.approx(1, abs=1e-4)
    cut = torch.nn.functional.pad(logits, (0, 1), value=-torch.inf)
    log_weights = weights_at(torch.tensor([0.3, -0.2], dtype=torch.float64))
    torch.testing.assert_close(
        law.log_prob(torch.nn.functional.pad(log_weights, (0, 1), value=-torch.inf), cut),
        law.log_prob(log_weights, logits),
    )


@pytest.mark.parametrize("law", [GumbelSoftmaxTokens(0.7), DirichletTokens(6.0)], ids=repr)
def test_policy_gradient_is_the_gradient_of_the_expected_reward(law):
    logits = torch.tensor([0.4, -0.3, 0.1], dtype=torch.float64, requires_grad=True)

    def reward(log_weights):
        return log_weights[..., 0].exp() + log_weights[..., 1].exp().square()

    setting = {"reach": 30, "points": 501}
    expected = grid_integral(law, logits, reward, **setting)
    (exact,) = torch.autograd.grad(expected, logits)
    step = 1e-4
    differences = []
    for i in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[i] = step
        up = grid_integral(law, logits.detach() + shift, reward, **setting)
        down = grid_integral(law, logits.detach() - shift, reward, **setting)
        differences.append((up - down) / (2 * step))
    torch.testing.assert_close(exact, torch.stack(differences), atol=1e-6, rtol=1e-4)


def test_gumbel_density_is_torchs_in_log_ratios():
    logits = logits_of(0.5, 0.3, 0.15, 0.05)
    law = GumbelSoftmaxTokens(0.6)
    log_weights = law.sample(logits.expand(20, 4), generator=torch.Generator().manual_seed(1))
    oracle = torch.distributions.RelaxedOneHotCategorical(
        torch.tensor(0.6).double(), logits=logits, validate_args=False
    )
    expected = oracle.log_prob(log_weights.exp()) + log_weights.sum(-1)
    torch.testing.assert_close(law.log_prob(log_weights, logits), expected)


def test_dirichlet_density_is_torchs_in_log_ratios():
    logits = logits_of(0.5, 0.3, 0.15, 0.05)
    law = DirichletTokens(4.0)
    log_weights = law.sample(logits.expand(20, 4), generator=torch.Generator().manual_seed(1))
    oracle = torch.distributions.Dirichlet(4.0 * logits.exp(), validate_args=False)
    expected = oracle.log_prob(log_weights.exp()) + log_weights.sum(-1)
    torch.testing.assert_close(law.log_prob(log_weights, logits), expected)


def compositions(num_tokens, v):
    """Every ordered draw of ``num_tokens`` tokens."""
    return torch.tensor(list(itertools.product(range(v), repeat=num_tokens)))


def test_composition_is_the_exact_law_of_the_multiset():
    logits, law = logits_of(0.6, 0.3, 0.1), ComposedTokens(3)
    tokens = compositions(3, 3)
    rows = logits.expand(len(tokens), 3)
    sequence = law.sequence_log_prob(tokens, rows)
    assert float(sequence.exp().sum()) == pytest.approx(1)
    log_weights = law.compose(tokens, rows)
    for weights in log_weights.unique(dim=0):
        members = (log_weights == weights).all(-1)
        torch.testing.assert_close(law.log_prob(weights, logits), sequence[members].logsumexp(0))


def test_composition_policy_gradient_is_exact():
    law, tokens = ComposedTokens(3), compositions(3, 3)
    logits = torch.tensor([0.4, -0.3, 0.1], dtype=torch.float64, requires_grad=True)
    rows = logits.expand(len(tokens), 3)
    log_weights = law.compose(tokens, rows.detach())
    reward = log_weights.exp().square() @ torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    sequence = law.sequence_log_prob(tokens, rows)
    (exact,) = torch.autograd.grad((sequence.exp() * reward).sum(), logits, retain_graph=True)
    multiset = law.log_prob(log_weights, rows)
    (policy,) = torch.autograd.grad((sequence.exp().detach() * reward * multiset).sum(), logits)
    torch.testing.assert_close(policy, exact)


def test_gumbel_draws_follow_the_law(generator):
    logits = logits_of(0.7, 0.3)
    log_weights = GumbelSoftmaxTokens(0.5).sample(logits.expand(20000, 2), generator=generator)
    ratio = log_weights[:, 0] - log_weights[:, 1]
    law = stats.logistic(loc=float(logits[0] - logits[1]) / 0.5, scale=1 / 0.5)
    assert stats.kstest(ratio.numpy(), law.cdf).pvalue > 1e-5


@pytest.mark.parametrize("concentration", [0.3, 5.0])
def test_dirichlet_draws_follow_the_law(concentration, generator):
    log_weights = DirichletTokens(concentration).sample(logits_of(0.7, 0.2, 0.1).expand(20000, 3), generator=generator)
    for tokens, share in (((1, 2), 0.3), ((1,), 0.2), ((2,), 0.1)):  # the small shares, which do not round to 1
        weight = log_weights[:, list(tokens)].logsumexp(-1).exp()
        law = stats.beta(concentration * share, concentration * (1 - share))
        assert stats.kstest(weight.numpy(), law.cdf).pvalue > 1e-5


def test_composed_draws_follow_the_law(generator):
    law, logits, n = ComposedTokens(3), logits_of(0.6, 0.3, 0.1), 20000
    drawn, counts = law.sample(logits.expand(n, 3), generator=generator).unique(dim=0, return_counts=True)
    expected = law.log_prob(drawn, logits).exp()
    assert float(expected.sum()) == pytest.approx(1)  # all ten multisets were seen
    assert stats.chisquare(counts.numpy(), (n * expected / expected.sum()).numpy()).pvalue > 1e-5


@every_law
def test_batches_truncation_and_seeds(law):
    logits = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    logits[..., 3] = -torch.inf
    draws = [law.sample(logits, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*draws)
    assert draws[0].shape == (2, 5, 7)
    torch.testing.assert_close(draws[0].exp().sum(-1), torch.ones(2, 5))
    assert (draws[0][..., 3] == -torch.inf).all()
    log_prob = law.log_prob(draws[0], logits)
    assert log_prob.shape == (2, 5)
    assert torch.isfinite(log_prob).all()
    one_by_one = [law.log_prob(draws[0][i, j], logits[i, j]) for i in range(2) for j in range(5)]
    torch.testing.assert_close(log_prob.flatten(), torch.stack(one_by_one))


@every_law
def test_a_request_with_its_own_seed_does_not_depend_on_the_batch(law):
    logits = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    together = law.sample(logits, generator=[torch.Generator().manual_seed(seed) for seed in (5, 6, 7)])
    alone = law.sample(logits[1], generator=torch.Generator().manual_seed(6))
    assert torch.equal(together[1], alone)
    with pytest.raises(ValueError, match="generator must be one, or one for each entry"):
        law.sample(logits, generator=[torch.Generator()])


@every_law
def test_one_law_evaluates_many_draws(law, generator):
    logits = torch.randn(6, generator=generator, dtype=torch.float64)
    log_weights = law.sample(logits.expand(4, 6), generator=generator)
    torch.testing.assert_close(law.log_prob(log_weights, logits), law.log_prob(log_weights, logits.expand(4, 6)))


@every_law
def test_draw_outside_the_support_is_impossible(law):
    inside = law.sample(torch.zeros(3), generator=torch.Generator().manual_seed(3))
    assert float(law.log_prob(inside, torch.tensor([0.0, 0.0, 0.0]))) > -torch.inf
    drawn = int(inside.argmax())
    assert float(law.log_prob(inside, torch.zeros(3).index_fill(0, torch.tensor(drawn), -torch.inf))) == -torch.inf


@every_law
def test_gradcheck_with_truncated_tokens(law):
    free = torch.tensor([[0.3, -1.0, 0.4], [1.0, 0.0, 2.0]], dtype=torch.float64, requires_grad=True)
    log_weights = law.sample(
        torch.nn.functional.pad(free, (0, 2), value=-torch.inf), generator=torch.Generator().manual_seed(0)
    )
    assert torch.autograd.gradcheck(
        lambda logits: law.log_prob(log_weights, torch.nn.functional.pad(logits, (0, 2), value=-torch.inf)), (free,)
    )


@every_law
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_extremes_are_finite_in_every_dtype(law, dtype, generator):
    logits = torch.tensor([[1e4, 0.0, -1e4, -torch.inf], [0.0, 0.0, 0.0, -torch.inf]]).to(dtype).requires_grad_(True)
    log_weights = law.sample(logits, generator=generator)
    assert log_weights.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(log_weights.exp().sum(-1), torch.ones(2).to(log_weights.dtype), rtol=1e-5, atol=1e-5)
    assert (log_weights[:, 3] == -torch.inf).all()
    log_prob = law.log_prob(log_weights, logits)
    assert torch.isfinite(log_prob).all()
    (gradient,) = torch.autograd.grad(log_prob.sum(), logits)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("law", [GumbelSoftmaxTokens(0.01), GumbelSoftmaxTokens(0.5), DirichletTokens(1.0)], ids=repr)
def test_whole_vocabulary_keeps_its_digits_in_float32(law, generator):
    logits = 3 * torch.randn(32000, generator=generator)
    log_weights = law.sample(logits, generator=generator)
    exact = law.log_prob(log_weights.double(), logits.double())
    assert abs(float(law.log_prob(log_weights, logits)) - float(exact)) < 1e-3 * (1 + abs(float(exact)))
    assert math.isfinite(float(exact))


def test_a_single_token_left_has_probability_one():
    logits = torch.tensor([-torch.inf, 2.0])
    for law in LAWS:
        log_weights = law.sample(logits, generator=torch.Generator().manual_seed(0))
        assert torch.equal(log_weights, torch.tensor([-torch.inf, 0.0]))
        assert float(law.log_prob(log_weights, logits)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("v", [6, 400])
def test_mixture_embedding_is_the_weighted_sum(v, generator):
    embedding = torch.randn(v, 3, dtype=torch.float64, generator=generator)
    logits = torch.randn(2, 4, v, dtype=torch.float64, generator=generator)
    logits[..., 5:] = -torch.inf
    log_weights = torch.log_softmax(logits, -1)
    torch.testing.assert_close(mixture_embedding(log_weights, embedding), log_weights.exp() @ embedding)


@pytest.mark.parametrize("v", [4, 40])
def test_mixture_embedding_gradcheck(v, generator):
    embedding = torch.randn(v, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    free = torch.randn(3, 4, dtype=torch.float64, generator=generator, requires_grad=True)

    def mix(logits, matrix):
        padded = torch.nn.functional.pad(logits, (0, v - 4), value=-torch.inf)
        return mixture_embedding(torch.log_softmax(padded, -1), matrix)

    assert torch.autograd.gradcheck(mix, (free, embedding))


def toy_step(embedding):
    """A model whose logits are a fixed map of the last embedding it saw."""
    return lambda new: new[..., -1, :] @ embedding.T


def test_decoding_matches_a_hand_written_loop():
    embedding = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    law, prompt = GumbelSoftmaxTokens(0.5), embedding[:6].reshape(2, 3, 4)

    def top_3(logits):
        return logits.masked_fill(logits < logits.topk(3).values[..., -1:], -torch.inf)

    trace = decode_soft_tokens(
        toy_step(embedding),
        prompt,
        embedding,
        law,
        num_steps=4,
        truncate=TopK(3).process,
        generator=torch.Generator().manual_seed(5),
    )
    generator, last = torch.Generator().manual_seed(5), prompt[:, -1]
    for i in range(4):
        logits = top_3(last @ embedding.T)
        log_weights = law.sample(logits, generator=generator)
        last = log_weights.exp() @ embedding
        torch.testing.assert_close(trace.log_weights[:, i], log_weights)
        torch.testing.assert_close(trace.embeddings[:, i], last)
        torch.testing.assert_close(trace.log_prob[:, i], law.log_prob(log_weights, logits))
    assert ((trace.log_weights > -torch.inf).sum(-1) == 3).all()


class CachedModel:
    """A transformers model as the ``step`` of a decoding loop: it sees each embedding once."""

    def __init__(self, model):
        self.model, self.cache = model, None

    def __call__(self, new):
        with torch.no_grad():
            output = self.model(inputs_embeds=new, past_key_values=self.cache, use_cache=True)
        self.cache = output.past_key_values
        return output.logits[:, -1]


def test_decoding_drives_a_transformers_model_with_its_cache(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=20, n_positions=16, n_embd=8, n_layer=2, n_head=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.GPT2LMHeadModel(config).eval()
    embedding = model.get_input_embeddings().weight.detach()
    prompt = embedding[torch.tensor([[1, 2, 3], [4, 5, 6]])]
    trace = decode_soft_tokens(
        CachedModel(model),
        prompt,
        embedding,
        DirichletTokens(2.0),
        num_steps=4,
        generator=torch.Generator().manual_seed(0),
    )
    with torch.no_grad():
        logits = model(inputs_embeds=torch.cat((prompt, trace.embeddings), 1)).logits[:, 2:-1]
    torch.testing.assert_close(
        DirichletTokens(2.0).log_prob(trace.log_weights, logits), trace.log_prob, atol=1e-3, rtol=1e-4
    )


@every_law
def test_vmap_gives_the_gradient_of_every_draw(law, generator):
    logits = torch.randn(6, 4, dtype=torch.float64, generator=generator)
    log_weights = law.sample(logits, generator=generator)
    per_draw = torch.func.vmap(torch.func.grad(lambda free, drawn: law.log_prob(drawn, free)))(logits, log_weights)
    free = logits.requires_grad_(True)
    (expected,) = torch.autograd.grad(law.log_prob(log_weights, free).sum(), free)
    torch.testing.assert_close(per_draw, expected)


@every_law
def test_compiled_log_prob(law, generator):
    logits = torch.randn(6, 4, dtype=torch.float64, generator=generator)
    log_weights = law.sample(logits, generator=generator)
    compiled = torch.compile(law.log_prob, backend="aot_eager")
    torch.testing.assert_close(compiled(log_weights, logits), law.log_prob(log_weights, logits))


@every_law
def test_repr_and_pickle(law):
    assert pickle.loads(pickle.dumps(law)) == law
    assert type(law).__name__ in repr(law)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: GumbelSoftmaxTokens(0.0), ValueError, "temperature must be positive"),
        (lambda: DirichletTokens(-1.0), ValueError, "concentration must be positive"),
        (lambda: ComposedTokens(0), ValueError, "num_tokens must be at least 1"),
        (lambda: ComposedTokens(1.5), TypeError, "num_tokens must be an integer"),
        (lambda: LAWS[0].sample(torch.full((2, 3), -torch.inf)), ValueError, "logits must have a finite entry"),
        (lambda: LAWS[0].sample(torch.tensor([0.0, torch.nan])), ValueError, "logits must hold no NaN"),
        (lambda: LAWS[0].sample(torch.tensor([0, 1])), TypeError, "logits must have a floating dtype"),
        (lambda: LAWS[0].sample(torch.zeros(2, 0)), ValueError, "at least one category"),
        (lambda: LAWS[0].log_prob(torch.zeros(3), torch.zeros(2)), ValueError, "log_weights must have 2 tokens"),
        (
            lambda: ComposedTokens(3).log_prob(torch.tensor([0.5, 0.5]).log(), torch.zeros(2)),
            ValueError,
            "log_weights must be shares of num_tokens=3 draws",
        ),
        (
            lambda: mixture_embedding(torch.zeros(3), torch.zeros(3)),
            ValueError,
            r"embedding must have shape \(v, width\)",
        ),
        (lambda: mixture_embedding(torch.zeros(3), torch.zeros(4, 2)), ValueError, "log_weights must have 4 tokens"),
        (
            lambda: decode_soft_tokens(torch.sum, torch.zeros(1, 1, 2), torch.zeros(3, 2), LAWS[0], num_steps=0),
            ValueError,
            "num_steps must be at least 1",
        ),
    ],
)
def test_bad_input_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_seeds_are_as_good_as_generators():
    embedding = torch.eye(4)
    traces = [
        decode_soft_tokens(lambda new: new.mean(-2), embedding[:, None], embedding, LAWS[0], num_steps=3, generator=g)
        for g in (7, torch.Generator().manual_seed(7))
    ]
    assert torch.equal(traces[0].log_weights, traces[1].log_weights)
    assert not torch.equal(traces[0].log_weights[:, 0], traces[0].log_weights[:, 1])  # one seed, but not one draw
    logits = torch.zeros(2, 4)
    rows = LAWS[0].sample(logits, generator=[1, 2])
    assert torch.equal(rows[1], LAWS[0].sample(logits[1:], generator=2)[0])
    with pytest.raises(TypeError, match=r"generator must be a torch.Generator or a seed, got str"):
        LAWS[0].sample(logits, generator="1")


def test_composed_tokens_reach_the_tail_of_a_large_vocabulary():
    """Cumulative sums in float32 stopped at the first token: none of the tail in a million draws."""
    probs = torch.full((100_001,), 2e-8)
    probs[0] = 0.998
    tokens = ComposedTokens(50_000).sample_tokens(probs.log().expand(4, -1), generator=torch.Generator().manual_seed(0))
    count = int((tokens > 0).sum())
    assert stats.binomtest(count, tokens.numel(), 0.002 / float(probs.double().sum())).pvalue > 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tokens_cut_off_are_never_composed(dtype):
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf], dtype=dtype)
    tokens = ComposedTokens(20_000).sample_tokens(logits, generator=torch.Generator().manual_seed(0))
    assert set(tokens.tolist()) == {1, 3}


def test_dirichlet_at_concentrations_that_float32_does_not_hold():
    """Weights below the smallest number were all equal: the uniform mixture in 92% of the draws."""
    logits = torch.tensor([0.5, 0.3, 0.2]).log()
    weights = DirichletTokens(1e-39).sample(logits.expand(2000, -1), generator=torch.Generator().manual_seed(0)).exp()
    assert torch.equal(weights.amax(-1), torch.ones(2000))
    assert stats.chisquare(weights.sum(0).double(), [1000, 600, 400]).pvalue > 1e-5


@pytest.mark.parametrize("concentration", [1e-6, 0.1, 1.0, 31.0, 1e3, 1e8, 1e12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dirichlet_density_against_mpmath(concentration, dtype):
    logits = torch.tensor([0.5, 0.3, 0.2], dtype=dtype).log()
    law = DirichletTokens(concentration)
    draw = law.sample(logits, generator=torch.Generator().manual_seed(0))
    with mpmath.workdps(60):
        weights = [mpmath.e ** mpmath.mpf(v) for v in logits.double().tolist()]
        alpha = [mpmath.mpf(concentration) * w / sum(weights) for w in weights]
        point = [mpmath.mpf(v) for v in draw.double().tolist()]
        total = mpmath.log(sum(mpmath.e**v for v in point))
        terms = [a * (v - total) - mpmath.loggamma(a) for a, v in zip(alpha, point, strict=True)]
        expected = float(mpmath.loggamma(concentration) + sum(terms))
    assert law.log_prob(draw, logits).item() == pytest.approx(expected, rel=2e-6 if dtype == torch.float32 else 1e-11)
