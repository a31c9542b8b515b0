"""The contract of every differentiable subset sampler, and what is special to each."""

import pickle

import pytest
import torch
from torch.func import grad, vmap

from mixkit.gates import Gate
from mixkit.gates.normalizers import Softmax
from mixkit.gates.scores import LinearScore
from mixkit.gates.selections import top_k_mask
from mixkit.gates.temperatures import LearnableTemperature
from mixkit.relaxations import (
    ExponentialFamilySubset,
    ImplicitMLE,
    PerturbedTopK,
    PlackettLuceSubset,
    RelaxedSubset,
    SampledTopK,
    Simple,
    SoftTopK,
    soft_top_k,
    subset_log_marginals,
    successive_softmax,
)

HARD = {
    "simple": lambda: Simple(),
    "relaxed_hard": lambda: RelaxedSubset(0.5, hard=True),
    "implicit": lambda: ImplicitMLE(10.0),
}
SOFT = {
    "relaxed": lambda: RelaxedSubset(0.5),
    "relaxed_learnable": lambda: RelaxedSubset(LearnableTemperature(0.7)),
    "soft_top_k": lambda: SoftTopK(0.7),
    "soft_top_k_learnable": lambda: SoftTopK(LearnableTemperature(0.7)),
    "perturbed": lambda: PerturbedTopK(1.0, num_samples=50),
    "perturbed_plain": lambda: PerturbedTopK(0.5, num_samples=50, control_variate=False),
}
ALL = {**HARD, **SOFT}
FLOAT64 = torch.float64
EXTREME = torch.tensor([[1e4, 0.0, -1e4, 5.0, 3.0, -torch.inf], [2.0, 2.0, 2.0, 2.0, 2.0, -torch.inf]])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_logits(*shape, seed=0, absent=None):
    logits = torch.randn(*shape, dtype=FLOAT64, generator=seeded(seed))
    if absent is not None:
        logits[..., absent] = -torch.inf
    return logits.requires_grad_()


@pytest.mark.parametrize("name", ALL)
def test_one_row_is_a_row_of_a_batch(name):
    logits, factors = random_logits(6), torch.arange(6.0)
    masks = [ALL[name]()(given, 2, seeded(1)) for given in (logits, logits.unsqueeze(0))]
    assert [mask.shape for mask in masks] == [(6,), (1, 6)]
    torch.testing.assert_close(masks[0], masks[1][0])
    gradients = [torch.autograd.grad((mask * factors).sum(), logits)[0] for mask in masks]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("num_selected", [1, 3, 5, 6])
def test_masks_sum_to_the_number_selected(name, num_selected, generator):
    mask = ALL[name]()(random_logits(40, 6), num_selected, generator)
    assert mask.shape == (40, 6)
    assert torch.allclose(mask.sum(-1), torch.full((40,), float(num_selected), dtype=FLOAT64))
    assert (mask >= 0).all()
    if name in HARD:
        assert set(mask.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [FLOAT64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("num_selected", [1, 3, 5])
def test_extremes_ties_and_low_precision(name, dtype, num_selected, generator):
    logits = EXTREME.to(dtype, copy=True).requires_grad_()
    mask = ALL[name]()(logits, num_selected, generator)
    assert mask.dtype == dtype
    assert mask.isfinite().all()
    assert (mask[:, 5] == 0).all()
    (mask * torch.arange(6.0)).sum().backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[:, 5] == 0).all()


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_gives_the_same_bits(name):
    logits = random_logits(3, 6)

    def run():
        mask = ALL[name]()(logits, 2, seeded(1))
        return mask, torch.autograd.grad((mask * torch.arange(6.0)).sum(), logits)[0]

    (mask, gradient), (again, gradient_again) = run(), run()
    assert torch.equal(mask, again)
    assert torch.equal(gradient, gradient_again)


@pytest.mark.parametrize("name", ALL)
def test_vmap_over_gradients(name, generator):
    logits = random_logits(4, 6).detach()

    def loss(row):
        return (ALL[name]()(row, 2, generator) * torch.arange(6.0, dtype=FLOAT64)).sum()

    result = vmap(grad(loss), randomness="different")(logits)
    assert result.shape == logits.shape
    assert result.isfinite().all()


@pytest.mark.filterwarnings("ignore")  # the compiler itself warns
@pytest.mark.parametrize("name", ["simple", "soft_top_k", "relaxed"])
def test_compiles_with_aot_eager(name, generator):
    sampler, logits = ALL[name](), torch.randn(4, 6, generator=generator).requires_grad_()
    mask = torch.compile(lambda scores: sampler(scores, 2, generator), backend="aot_eager")(logits)
    (mask * torch.arange(6.0)).sum().backward()
    assert torch.allclose(mask.sum(-1), torch.full((4,), 2.0))
    assert logits.grad.isfinite().all()
    assert (logits.grad != 0).any()


@pytest.mark.parametrize("name", ALL)
def test_pickle_state_dict_and_repr(name):
    sampler = ALL[name]()
    copy = pickle.loads(pickle.dumps(sampler))
    copy.load_state_dict(sampler.state_dict())
    assert repr(copy) == repr(sampler)


@pytest.mark.parametrize("name", ALL)
def test_bad_input_is_refused(name, generator):
    sampler = ALL[name]()
    with pytest.raises(ValueError, match="num_selected must be at most 3, got 4"):
        sampler(torch.zeros(3), 4, generator)
    with pytest.raises(ValueError, match="at least num_selected=2 finite entries"):
        sampler(torch.tensor([0.0, -torch.inf, -torch.inf]), 2, generator)
    with pytest.raises(ValueError, match="no NaN"):
        sampler(torch.tensor([0.0, torch.nan, 0.0]), 2, generator)
    with pytest.raises(TypeError, match="logits must be a torch.Tensor"):  # noqa: RUF043
        sampler([0.0, 1.0], 1, generator)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="strength must be positive"):
        ImplicitMLE(0.0)
    with pytest.raises(ValueError, match="noise_scale must be positive"):
        ImplicitMLE(1.0, -1.0)
    with pytest.raises(ValueError, match="scale must be positive"):
        PerturbedTopK(0.0)
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        PerturbedTopK(1.0, 0)
    with pytest.raises(ValueError, match="temperature must be positive"):
        RelaxedSubset(-1.0)
    with pytest.raises(ValueError, match="temperature must be positive"):
        soft_top_k(torch.zeros(3), 1, 0.0)


def test_simple_has_the_gradient_of_the_marginals(generator):
    logits, weight = random_logits(5, 7, absent=2), torch.randn(5, 7, dtype=FLOAT64, generator=generator)
    mask = Simple()(logits, 3, generator)
    (ours,) = torch.autograd.grad((mask * weight).sum(), logits)
    (theirs,) = torch.autograd.grad((subset_log_marginals(logits, 3).exp() * weight).sum(), logits)
    assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-15)


def test_simple_is_exact_for_linear_functions(generator):
    logits, weight = random_logits(6), torch.randn(6, dtype=FLOAT64, generator=generator)
    law = ExponentialFamilySubset(3, logits)
    support = law.enumerate_support()
    exact = torch.autograd.grad((law.log_prob(support).exp() * (support @ weight)).sum(), logits)[0]
    (ours,) = torch.autograd.grad((Simple()(logits, 3, generator) * weight).sum(), logits)
    assert torch.allclose(ours, exact, rtol=1e-10)


@pytest.mark.parametrize("name", ["simple", "relaxed_hard", "implicit"])
def test_hard_samplers_follow_their_law(name, generator):
    """The set counts against the exact law by a z-test on every set, false-alarm rate 1e-5."""
    logits = random_logits(5, seed=3).detach()
    law = (ExponentialFamilySubset if name == "simple" else PlackettLuceSubset)(2, logits)
    support = law.enumerate_support()
    draws = HARD[name]()(logits.expand(40_000, -1), 2, generator)
    counts = torch.stack([(draws == mask).all(-1).sum() for mask in support])
    probs = law.log_prob(support).exp()
    z = (counts - 40_000 * probs) / (40_000 * probs * (1 - probs)).sqrt()
    assert z.abs().max() < 5.0


@pytest.mark.parametrize("num_selected", [1, 2, 4])
def test_relaxed_subset_gradcheck(num_selected):
    logits = random_logits(2, 5, absent=1)
    tau = torch.tensor(0.7, dtype=FLOAT64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda q, t: successive_softmax(q, num_selected, t), (logits, tau))
    with torch.random.fork_rng():
        assert torch.autograd.gradgradcheck(lambda q: successive_softmax(q, num_selected, 0.7), logits)
    assert torch.autograd.gradcheck(lambda q: RelaxedSubset(0.7)(q, num_selected, seeded()), logits)


def test_relaxed_subset_is_the_plain_recursion_and_tends_to_the_top_k():
    keys = random_logits(20, 6).detach()
    alpha, total = keys, torch.zeros_like(keys)
    for _ in range(3):
        probs = (alpha / 0.8).softmax(-1)
        alpha, total = alpha + torch.log1p(-probs), total + probs
    assert torch.allclose(successive_softmax(keys, 3, 0.8), total, rtol=1e-12)
    assert torch.allclose(successive_softmax(keys, 3, 1e-4), top_k_mask(keys, 3).double(), atol=1e-6)


def test_relaxed_subset_at_temperature_one_takes_a_certain_item_again_by_half():
    total = successive_softmax(torch.tensor([50.0, 1.0, 0.0, -1.0]), 2, 1.0)
    assert torch.allclose(total[0], torch.tensor(1.5), atol=1e-6)


def test_relaxed_subset_stays_exact_where_one_item_is_certain():
    keys = torch.tensor([50.0, 1.0, 0.0, -1.0], requires_grad=True)
    total = successive_softmax(keys, 2, 0.5)
    rest = torch.tensor([2.0, 0.0, -2.0]).softmax(-1)
    assert torch.allclose(total, torch.cat((torch.ones(1), rest)), atol=1e-6)
    assert torch.autograd.grad((total * torch.arange(4.0)).sum(), keys)[0].isfinite().all()


@pytest.mark.parametrize("num_selected", [1, 2, 4, 5])
@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_soft_top_k_gradients(num_selected, temperature):
    logits = random_logits(3, 5)
    tau = torch.tensor(temperature, dtype=FLOAT64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda q, t: soft_top_k(q, num_selected, t), (logits, tau))
    with torch.random.fork_rng():
        assert torch.autograd.gradgradcheck(lambda q: soft_top_k(q, num_selected, temperature), logits)
    if num_selected < 5:
        absent = random_logits(3, 5, absent=2)
        assert torch.autograd.gradcheck(lambda q: soft_top_k(q, num_selected, temperature), absent)


def test_soft_top_k_is_a_shifted_sigmoid_that_tends_to_the_top_k():
    logits = random_logits(30, 8).detach()
    mask = soft_top_k(logits, 3, 0.5)
    shift = torch.logit(mask) - logits / 0.5
    assert torch.allclose(shift, shift[:, :1].expand_as(shift), atol=1e-8)
    assert torch.allclose(soft_top_k(logits, 3, 1e-5), top_k_mask(logits, 3).double(), atol=1e-6)
    assert torch.allclose(soft_top_k(torch.zeros(6), 2), torch.full((6,), 1 / 3))


def test_implicit_mle_is_the_difference_of_two_masks():
    logits, weight = random_logits(4, 6), torch.randn(4, 6, dtype=FLOAT64, generator=seeded(8))
    mask = ImplicitMLE(3.0, noise_scale=1e-12)(logits, 2, seeded())
    (ours,) = torch.autograd.grad((mask * weight).sum(), logits)
    target = top_k_mask(logits.detach() - 3.0 * weight, 2).double()
    assert torch.equal(mask.detach(), top_k_mask(logits, 2).double())
    assert torch.allclose(ours, (mask.detach() - target) / 3.0)


@pytest.mark.parametrize("control_variate", [True, False])
def test_perturbed_top_k_gradient_is_unbiased(control_variate, generator):
    """K = 1 of two items has a closed form: the probability of the first is Phi((a - b) / (sigma sqrt 2))."""
    scale, gap = 0.8, torch.tensor(0.5, dtype=FLOAT64)
    logits = torch.stack((gap, torch.zeros_like(gap))).expand(400, 2).clone().requires_grad_()
    sampler = PerturbedTopK(scale, num_samples=400, control_variate=control_variate)
    mask = sampler(logits, 1, generator)
    (gradient,) = torch.autograd.grad(mask[:, 0].sum(), logits)
    normal = torch.distributions.Normal(0.0, scale * 2**0.5)
    error = gradient[:, 0].std() / 400**0.5
    assert ((gradient[:, 0].mean() - normal.log_prob(gap).exp()) / error).abs() < 4.9
    value_error = mask[:, 0].detach().std() / 400**0.5
    assert ((mask[:, 0].detach().mean() - normal.cdf(gap)) / value_error).abs() < 4.9


def test_the_control_variate_reduces_the_variance(generator):
    logits = random_logits(2000, 6, seed=2)

    def spread(control_variate):
        mask = PerturbedTopK(0.5, 10, control_variate=control_variate)(logits[:1].expand(2000, -1), 2, generator)
        (gradient,) = torch.autograd.grad((mask * torch.arange(6.0)).sum(), logits, retain_graph=True)
        return gradient

    # every replicate shares one row of logits, so the gradient of that row is the sum; compare over repeats
    plain, controlled = (torch.stack([spread(flag)[0] for _ in range(20)]).var(0).sum() for flag in (False, True))
    assert controlled < 0.5 * plain


@pytest.mark.parametrize("name", ALL)
def test_a_gate_selects_with_any_sampler(name, generator):
    score = LinearScore(3, 6, generator=generator)
    gate = Gate(score, selection=SampledTopK(2, ALL[name]()), normalizer=Softmax())
    x = torch.randn(30, 3, generator=generator)
    log_weights = gate(x, generator)
    assert torch.allclose(log_weights.exp().sum(-1), torch.ones(30), atol=1e-5)
    assert gate.num_selected == (2 if name in HARD else 6)
    if name in HARD:
        assert (log_weights.isfinite().sum(-1) == 2).all()
    routing = gate.route(x, seeded(3))
    assert routing.indices.shape == (30, gate.num_selected)
    torch.testing.assert_close(routing.weights.sum(-1), torch.ones_like(routing.weights[:, 0]))
    kept = gate(x, seeded(3)) > -torch.inf
    torch.testing.assert_close(gate.selection_rate(x, generator=seeded(3)), kept.float().mean(0))
    finite = torch.where(log_weights.isfinite(), log_weights, 0.0)
    (finite.exp() * torch.arange(6.0)).sum().backward()
    assert score.weight.grad.isfinite().all()
    assert score.weight.grad.abs().sum() > 0
    gate.eval()
    evaluated = gate(x)
    assert gate.num_selected == 2
    assert gate.route(x).indices.shape == (30, 2)
    assert torch.equal(evaluated.isfinite(), top_k_mask(score(x), 2))


def test_a_hard_selection_keeps_the_scores_to_the_bit(generator):
    scores = torch.randn(50, 6, generator=generator)
    kept = SampledTopK(2, Simple())(scores, slope_scores=scores, x=scores, generator=generator)
    chosen = kept.isfinite()
    assert (chosen.sum(-1) == 2).all()
    assert torch.equal(kept[chosen], scores[chosen])


def test_the_gradient_of_the_sampler_reaches_unselected_experts(generator):
    scores = torch.zeros(1, 5, requires_grad=True)
    kept = SampledTopK(2, Simple())(scores, slope_scores=scores, x=scores, generator=generator)
    kept[kept.isfinite()][0].backward()
    assert (scores.grad != 0).all()


def test_a_selection_names_bad_arguments():
    with pytest.raises(TypeError, match="sampler must be a SubsetSampler object"):
        SampledTopK(2, "simple")
    with pytest.raises(ValueError, match="num_selected must be at least 1"):
        SampledTopK(0, Simple())
    assert "num_selected=2" in repr(SampledTopK(2, Simple()))
