"""Contracts of every normalizer: log-weights that sum to 1, exact zeros, invariances, derivatives, extremes."""

import copy
import itertools
import math
import pickle

import entmax
import numpy as np
import pytest
import torch

from mixkit.gates.normalizers import (
    Entmax,
    NormalizedSigmoid,
    Sinkhorn,
    Softmax,
    SoftplusL1,
    Sparsemax,
    SphericalSoftmax,
    StableMax,
    TaylorSoftmax,
)
from tests.mixkit.gate_table import NORMALIZERS, build, check_derivatives, normal

every_normalizer = pytest.mark.parametrize("make", NORMALIZERS.values(), ids=NORMALIZERS.keys())
ROWWISE = {name: make for name, make in NORMALIZERS.items() if name != "sinkhorn"}
every_rowwise_normalizer = pytest.mark.parametrize("make", ROWWISE.values(), ids=ROWWISE.keys())
LINKS = {
    "softmax": (Softmax(), np.exp),
    "sigmoid": (NormalizedSigmoid(), lambda s: 1 / (1 + np.exp(-s))),
    "softplus": (SoftplusL1(), lambda s: np.log1p(np.exp(s))),
    "stablemax": (StableMax(), lambda s: np.where(s >= 0, s + 1, 1 / (1 - np.minimum(s, 0)))),
}
INF = torch.inf


def with_holes(scores, seed=4):
    """Some scores at -inf, never a whole row or column."""
    generator = torch.Generator().manual_seed(seed)
    holes = torch.rand(scores.shape, generator=generator) < 0.4
    holes[..., range(scores.shape[-2]), [i % scores.shape[-1] for i in range(scores.shape[-2])]] = False
    return torch.where(holes, -INF, scores)


@every_normalizer
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 100.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_sum_to_one_and_unselected_stay_at_minus_infinity(make, scale, dtype):
    scores = with_holes(normal(2, 40, 6, scale=scale, dtype=dtype))
    log_weights = build(make)(scores)
    assert log_weights.dtype == torch.promote_types(dtype, torch.float32)
    assert (log_weights[scores == -INF] == -INF).all()
    total = log_weights.double().exp().sum(-1)
    spread = log_weights.double().where(log_weights > -INF, 0.0).abs().amax(-1).clamp(min=1.0)
    eps = torch.finfo(log_weights.dtype).eps
    error = (total - 1).abs() / (eps * spread.clamp(max=1.0 / math.sqrt(eps)))
    assert error.max() < 20
    assert (log_weights <= 0.0).all()


@every_normalizer
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_scores_are_those_of_the_same_scores_in_float32(make, dtype):
    scores = with_holes(normal(40, 256, scale=3.0, dtype=dtype))
    assert torch.equal(build(make)(scores), build(make)(scores.float()))


@every_normalizer
def test_a_row_of_one_possible_expert_gives_it_everything(make):
    scores = torch.full((3, 4), -INF, dtype=torch.float64)
    scores[:, 1] = torch.tensor([-1e4, 0.0, 1e4])
    assert torch.equal(build(make)(scores), torch.where(scores > -INF, 0.0, -INF).double())


@every_normalizer
@pytest.mark.parametrize("level", [-1e4, -1.0, 0.0, 1.0, 1e4])
def test_ties_share_equally(make, level):
    weights = build(make)(torch.full((8, 4), level, dtype=torch.float64)).exp()
    torch.testing.assert_close(weights, torch.full_like(weights, 0.25), rtol=1e-12, atol=0.0)


@every_normalizer
def test_permuted_scores_permute_the_weights(make):
    normalizer, scores, order = build(make), with_holes(normal(5, 4)), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(normalizer(scores[:, order]), normalizer(scores)[:, order])


@every_normalizer
def test_the_flag_of_shift_invariance_is_true_to_the_facts(make):
    normalizer, scores = build(make), normal(5, 4)
    shifted = normalizer(scores + 1.5).exp()
    assert torch.allclose(shifted, normalizer(scores).exp(), rtol=1e-12) == normalizer.shift_invariant


@every_rowwise_normalizer
def test_larger_scores_have_larger_weights(make):
    """The spherical family above the lowest point of its links, 0 and -1."""
    scores = normal(50, 6, scale=2.0).sort(-1).values
    normalizer = build(make)
    scores = scores.abs().sort(-1).values if isinstance(normalizer, SphericalSoftmax | TaylorSoftmax) else scores
    assert (normalizer(scores).exp().diff(dim=-1) >= 0).all()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, 1e6, 1e30])
def test_the_spherical_family_by_its_formula(scale):
    scores = normal(20, 5, scale=scale)
    square = (scores / scale).square() + 0.1 / scale / scale
    taylor = (scores / scale).square() / 2.0 + scores / scale / scale + 1.0 / scale / scale
    for normalizer, links in ((SphericalSoftmax(0.1), square), (TaylorSoftmax(), taylor)):
        torch.testing.assert_close(
            normalizer(scores).exp(), links / links.sum(-1, keepdim=True), rtol=1e-12, atol=1e-14
        )
        assert normalizer(scores.float()).isfinite().all()


@every_normalizer
def test_leading_dimensions_are_independent(make):
    normalizer, scores = build(make), normal(2, 3, 5, 4)
    together = normalizer(scores)
    for index in itertools.product(range(2), range(3)):
        torch.testing.assert_close(together[index], normalizer(scores[index]))


@every_normalizer
@pytest.mark.parametrize("of", ["weights", "log-weights"])
def test_first_and_second_derivatives(make, of):
    normalizer, scores = build(make), 0.4 * normal(3, 4)

    def call(s):
        value = normalizer(s)
        return value.exp() if of == "weights" else torch.where(value > -INF, value, 0.0)

    check_derivatives(call, (scores.requires_grad_(),))


@every_normalizer
def test_derivatives_with_unselected_experts(make):
    """-inf is put where a mask says; the derivatives in the other scores must be those of finite differences."""
    normalizer, holes = build(make), with_holes(torch.zeros(4, 4, dtype=torch.float64)) == -INF

    def call(s):
        return normalizer(torch.where(holes, -INF, s)).exp()

    check_derivatives(call, (0.4 * normal(4, 4).requires_grad_(),))


@every_normalizer
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_gradients_of_first_and_second_order_are_never_nan(make, scale):
    scores = with_holes(normal(6, 6, scale=scale)).requires_grad_()
    value = build(make)(scores)
    safe = torch.where(value > -INF, value, 0.0)
    loss = (safe.clamp(min=-50.0).square() + value.exp().square()).sum()
    (gradient,) = torch.autograd.grad(loss, scores, create_graph=True)
    assert gradient.isfinite().all()
    assert (gradient[scores == -INF] == 0).all()
    (second,) = torch.autograd.grad(gradient.sum(), scores, allow_unused=True)
    assert second is None or second.isfinite().all()


@every_normalizer
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own forward mode warns
def test_function_transforms(make):
    normalizer, scores, factors = build(make), 0.4 * normal(3, 4), normal(3, 4, seed=8)

    def loss(s):
        return (normalizer(s).exp() * factors).sum()

    torch.testing.assert_close(torch.func.hessian(loss)(scores), torch.autograd.functional.hessian(loss, scores))
    stack = torch.stack([scores, 2 * scores], 1)
    torch.testing.assert_close(torch.vmap(normalizer, in_dims=1)(stack), normalizer(stack.transpose(0, 1)))


@every_normalizer
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's tracer warns of itself
def test_compilation_keeps_the_weights(make):
    normalizer, scores = build(make), normal(3, 4)
    torch.testing.assert_close(torch.compile(normalizer, backend="aot_eager")(scores), normalizer(scores))


@every_normalizer
@pytest.mark.parametrize("bad", [-INF, INF, torch.nan], ids=str)
def test_bad_rows_are_named(make, bad):
    scores = normal(2, 5, 4)
    scores[1, 3] = bad
    with pytest.raises(
        ValueError, match=r"at least one finite entry in every row, got 1 rows .* the first at index \(1, 3\)"
    ):
        build(make)(scores)


@every_normalizer
def test_what_is_not_a_floating_tensor_is_named(make):
    with pytest.raises(TypeError, match=r"scores must have a floating dtype, got torch\.int64"):
        build(make)(torch.ones(3, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"scores must have experts in their last dimension, got shape \(3, 0\)"):
        build(make)(torch.ones(3, 0))


@every_normalizer
def test_no_rows_give_no_rows(make):
    assert build(make)(torch.zeros(0, 4)).shape == (0, 4)


@every_normalizer
def test_pickle_copy_and_repr(make):
    normalizer, scores = build(make), normal(3, 4)
    for twin in (pickle.loads(pickle.dumps(normalizer)), copy.deepcopy(normalizer)):
        assert torch.equal(twin(scores), normalizer(scores))
        assert repr(twin) == repr(normalizer)


@pytest.mark.parametrize("name", LINKS)
def test_links_against_numpy(name):
    normalizer, link = LINKS[name]
    scores = normal(20, 5, scale=3.0)
    values = link(scores.numpy())
    np.testing.assert_allclose(normalizer(scores).exp(), values / values.sum(-1, keepdims=True), rtol=1e-13)


@pytest.mark.parametrize("alpha", [1.0001, 1.1, 1.5, 1.9, 2.0])
@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0, 1e4])
def test_entmax_against_the_entmax_package(alpha, scale):
    scores = normal(100, 30, scale=scale)
    oracle = entmax.entmax_bisect(scores, alpha, n_iter=100)
    torch.testing.assert_close(Entmax(alpha)(scores).exp(), oracle, rtol=0.0, atol=1e-12)
    torch.testing.assert_close(Entmax(alpha)(scores.float()).exp().double(), oracle, rtol=0.0, atol=3e-6)


@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0, 1e4])
@pytest.mark.parametrize("k", [1, 2, 30, 500])
def test_sparsemax_against_the_entmax_package(k, scale):
    scores = normal(20, k, scale=scale)
    weights, oracle = Sparsemax()(scores).exp(), entmax.sparsemax(scores)
    torch.testing.assert_close(weights, oracle, rtol=0.0, atol=1e-13)
    assert torch.equal(weights > 0, oracle > 0)
    assert torch.equal(weights, Entmax(2.0)(scores).exp())


def test_entmax_near_one_is_the_softmax():
    scores = normal(20, 5)
    torch.testing.assert_close(Entmax(1.0 + 1e-9)(scores), Softmax()(scores), rtol=1e-7, atol=1e-7)


def test_sparse_normalizers_reach_exact_zeros():
    scores = torch.tensor([[3.0, 0.0, -3.0]])
    for normalizer in (Sparsemax(), Entmax(1.5)):
        assert normalizer(scores)[0, 2] == -INF


@pytest.mark.parametrize("alpha", [1.0, 0.5, 2.5])
def test_a_bad_alpha_is_named(alpha):
    with pytest.raises(ValueError, match=f"alpha must be above 1 and at most 2, got {alpha}"):
        Entmax(alpha)


def test_stablemax_has_its_gradient_at_zero_and_at_one():
    """phi'(s) / phi(s) = 1 / (1 + |s|); the form with 1 / (1 - s) in a branch gives NaN at s = 1."""
    scores = torch.tensor([-1.0, 0.0, 1.0, 1.0], dtype=torch.float64, requires_grad=True)
    weights = StableMax()(scores).exp()
    (gradient,) = torch.autograd.grad(StableMax()(scores)[1], scores)
    slope = 1 / (1 + scores.detach().abs())
    expected = slope * (torch.tensor([0.0, 1.0, 0.0, 0.0]) - weights.detach())
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("normalizer", [NormalizedSigmoid(), SoftplusL1()], ids=["sigmoid", "softplus"])
def test_very_negative_scores_weigh_as_a_softmax_does(normalizer):
    """Sigmoid and softplus are exp far below zero: an epsilon in the denominator would give weights of zero."""
    scores = normal(20, 5) - 9e3
    torch.testing.assert_close(normalizer(scores), Softmax()(scores), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("score", [-30.0 - 1e-9, -30.0 + 1e-9, -745.0, -1e4, 0.0, 30.0, 800.0])
def test_the_logarithm_of_the_softplus_to_the_last_digits(score):
    """Within a few units in the last place; just below -30 the second term of the expansion is thirteen."""
    exact = (
        score - math.exp(score) / 2 if score < -30.0 else math.log(max(score, 0.0) + math.log1p(math.exp(-abs(score))))
    )
    value = SoftplusL1().log_link(torch.tensor([score], dtype=torch.float64)).item()
    assert abs(value - exact) <= (1.0 if score < -30.0 else 4.0) * math.ulp(exact)


def test_sinkhorn_balances_what_can_be_balanced():
    normalizer, scores = Sinkhorn(200), normal(30, 5, scale=2.0)
    log_weights = normalizer(scores)
    torch.testing.assert_close(log_weights.exp().sum(0), torch.full((5,), 6.0, dtype=torch.float64))
    assert normalizer.residual(log_weights) < 1e-10
    potentials = log_weights - scores  # must be f_i + g_j
    interaction = potentials - potentials.mean(0) - potentials.mean(1, keepdim=True) + potentials.mean()
    assert interaction.abs().max() < 1e-12


def test_sinkhorn_reports_what_it_did_not_reach():
    scores = normal(30, 5, scale=300.0)
    weights = Sinkhorn(3)(scores).exp()
    expected = (weights.sum(0) / 6.0 - 1.0).abs().max()
    assert expected > 0.1
    torch.testing.assert_close(Sinkhorn(3).residual(weights.log()), expected)


def test_sinkhorn_leaves_dead_experts_out_of_the_balance():
    scores = normal(2, 30, 5)
    scores[0, :, 2] = -INF
    log_weights = Sinkhorn(100)(scores)
    expected = torch.tensor([[7.5, 7.5, 0.0, 7.5, 7.5], [6.0] * 5], dtype=torch.float64)
    torch.testing.assert_close(log_weights.exp().sum(-2), expected)
    assert (Sinkhorn().residual(log_weights) < 1e-8).all()


def test_sinkhorn_balances_the_rows_that_count():
    normalizer, scores = Sinkhorn(200), normal(2, 30, 5, scale=2.0)
    mask = torch.stack([torch.arange(30) < 20, torch.arange(30) >= 15])
    scores[0, :20, 2] = -INF  # dead among the rows that count, alive in the others
    log_weights = normalizer(scores, mask)
    for j in range(2):
        torch.testing.assert_close(log_weights[j, mask[j]], normalizer(scores[j, mask[j]]))
    assert (normalizer.residual(log_weights, mask) < 1e-8).all()
    assert (normalizer.residual(log_weights) > 0.01).all()
    torch.testing.assert_close(log_weights.exp().sum(-1), torch.ones(2, 30, dtype=torch.float64))
    leaf = scores.clone().requires_grad_()
    normalizer(leaf, mask)[mask].exp().square().sum().backward()
    assert leaf.grad.isfinite().all()
    assert (leaf.grad[~mask] == 0).all()


def test_a_normalizer_that_couples_rows_must_say_how_it_masks_them():
    class Coupled(Softmax):
        couples_rows = True

    scores = normal(3, 4)
    torch.testing.assert_close(Coupled()(scores), Softmax()(scores))
    with pytest.raises(NotImplementedError, match="Coupled couples rows, so it must have masked_log_weights"):
        Coupled()(scores, torch.tensor([True, True, False]))


def test_sinkhorn_needs_rows():
    with pytest.raises(ValueError, match=r"scores must have shape \(\*batch, n, k\), got \(4,\)"):
        Sinkhorn()(torch.zeros(4))
