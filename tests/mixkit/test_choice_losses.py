"""Losses and sums over large choices, each against its formula written out."""

import itertools
import math

import pytest
import torch
from scipy import stats
from torch.autograd import gradcheck

from mixkit.losses import (
    decoupled_softmax_loss,
    log_sum_exp_in_blocks,
    noisy_softmax_logits,
    plackett_luce_loss,
    softmax_in_blocks,
)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def test_the_decoupled_softmax_by_its_formula():
    logits, positive = normal(4, 6), normal(4, 6, seed=1) > 0.3
    positive[0] = False
    loss = decoupled_softmax_loss(logits, positive)
    for row in range(4):
        right, wrong = logits[row][positive[row]].exp(), logits[row][~positive[row]].exp().sum()
        expected = -(right / (right + wrong)).log().mean() if len(right) else torch.zeros(())
        assert loss[row].item() == pytest.approx(float(expected), rel=1e-12)
    assert gradcheck(lambda q: decoupled_softmax_loss(q, positive), logits.requires_grad_())


def test_the_decoupled_softmax_of_one_label_is_the_cross_entropy():
    logits, labels = normal(5, 7), torch.tensor([0, 3, 6, 2, 2])
    one = torch.nn.functional.one_hot(labels, 7).bool()
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(decoupled_softmax_loss(logits, one), expected)


@pytest.mark.parametrize("offset", [1e7, -1e7])
def test_the_decoupled_softmax_beside_an_offset(offset):
    logits = torch.tensor([0.0, 1.0, 2.0, -torch.inf])
    positive = torch.tensor([True, False, True, False])
    leaf = (logits + offset).requires_grad_()
    loss = decoupled_softmax_loss(leaf, positive)
    loss.backward()
    torch.testing.assert_close(loss.detach(), decoupled_softmax_loss(logits, positive))
    assert leaf.grad.isfinite().all()
    everything = decoupled_softmax_loss(logits[:3], torch.ones(3, dtype=torch.bool))
    assert everything.item() == 0.0


def test_rankings_are_a_distribution():
    scores, reference = normal(4), normal(4, seed=1)
    for options in ({}, {"reference": reference, "temperature": 0.3}):
        orders = torch.tensor(list(itertools.permutations(range(4))))
        losses = plackett_luce_loss(scores.expand(24, 4), orders, **_expanded(options, 24))
        assert float((-losses).exp().sum()) == pytest.approx(1.0, rel=1e-12)


def _expanded(options, n):
    return {name: value.expand(n, -1) if isinstance(value, torch.Tensor) else value for name, value in options.items()}


def test_two_items_are_direct_preference_optimization():
    scores, reference = normal(9, 2), normal(9, 2, seed=1)
    order = torch.tensor([1, 0]).expand(9, 2)
    anchored = (scores - reference) / 0.5
    expected = -torch.nn.functional.logsigmoid(anchored[:, 1] - anchored[:, 0])
    torch.testing.assert_close(plackett_luce_loss(scores, order, reference=reference, temperature=0.5), expected)
    shifted = plackett_luce_loss(scores + 1e6, order, reference=reference, temperature=0.5)
    torch.testing.assert_close(shifted, expected, rtol=1e-8, atol=1e-8)


def test_gradients_of_rankings_and_bad_ones():
    order = torch.tensor([[2, 0, 1], [1, 3, 0]])
    assert gradcheck(
        lambda q: plackett_luce_loss(q, order, reference=normal(2, 4, seed=1)), normal(2, 4).requires_grad_()
    )
    with pytest.raises(ValueError, match="order must name different items"):
        plackett_luce_loss(normal(3), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match="reference must have the shape of scores"):
        plackett_luce_loss(normal(3), torch.tensor([0]), reference=normal(4))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e7, -1e7, 1e30])
def test_sums_in_blocks(dtype, offset):
    logits = (30.0 * normal(3, 101) + offset).to(dtype)
    logits[0, :40], logits[1] = -torch.inf, -torch.inf
    blocks = logits.split([40, 1, 60], dim=-1)
    total = log_sum_exp_in_blocks(iter(blocks))
    expected = logits.double().logsumexp(-1)
    assert total.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(
        total, expected.to(total.dtype), rtol=1e-14 if dtype == torch.float64 else 2e-7, atol=1e-12
    )
    if offset == 0.0:
        weights = torch.cat(list(softmax_in_blocks((b[::2] for b in blocks), total[::2])), -1)
        torch.testing.assert_close(weights, logits[::2].double().softmax(-1).to(weights), rtol=1e-4, atol=1e-6)


def test_sums_in_blocks_have_the_gradient_of_the_softmax():
    logits = normal(2, 9).requires_grad_()
    (gradient,) = torch.autograd.grad(log_sum_exp_in_blocks(logits.split(4, -1)).sum(), logits)
    torch.testing.assert_close(gradient, logits.softmax(-1))
    with pytest.raises(ValueError, match="at least one block"):
        log_sum_exp_in_blocks([])
    with pytest.raises(ValueError, match="blocks must agree"):
        log_sum_exp_in_blocks([torch.zeros(2, 3), torch.zeros(3, 3)])


def test_sums_in_blocks_have_no_gradient_in_what_is_out():
    logits = normal(2, 6)
    logits[0], logits[1, :3] = -torch.inf, -torch.inf
    (gradient,) = torch.autograd.grad(log_sum_exp_in_blocks(logits.requires_grad_().split(3, -1)).sum(), logits)
    assert torch.equal(gradient[0], torch.zeros(6, dtype=torch.float64))
    torch.testing.assert_close(gradient[1], logits[1].softmax(-1))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_blocks_that_are_no_logits_are_refused(bad):
    with pytest.raises(ValueError, match="blocks must hold no NaN and no"):
        log_sum_exp_in_blocks([torch.zeros(3), torch.tensor([0.0, bad])])
    with pytest.raises(ValueError, match="blocks must have logits in their last dimension"):
        log_sum_exp_in_blocks([torch.zeros(2, 0)])
    with pytest.raises(ValueError, match="log_total must be finite"):
        next(softmax_in_blocks([torch.full((2,), -torch.inf)], torch.tensor(-torch.inf)))
    with pytest.raises(ValueError, match="reference must be finite"):
        plackett_luce_loss(normal(2), torch.tensor([0, 1]), reference=torch.tensor([0.0, bad]))


def test_noise_lowers_the_right_label_by_its_formula():
    x, weight, labels = normal(6, 3), normal(4, 3, seed=1), torch.tensor([0, 1, 2, 3, 0, 1])
    plain = x @ weight.T
    noisy = noisy_softmax_logits(x, weight, labels, scale=0.3, generator=5)
    xi = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).abs()
    lengths = x.norm(dim=-1) * weight[labels].norm(dim=-1)
    cosine = plain.gather(-1, labels[:, None]).squeeze(-1) / lengths
    expected = plain.scatter_add(-1, labels[:, None], -(0.3 * lengths * (1 - cosine) * xi)[:, None])
    torch.testing.assert_close(noisy, expected)
    assert torch.equal(noisy_softmax_logits(x, weight, labels, scale=0.0, generator=5), plain)


def test_noise_is_half_normal_and_anneals():
    x, weight = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(20_000, 2), torch.eye(2, dtype=torch.float64)
    drop = -noisy_softmax_logits(x, weight, torch.zeros(20_000, dtype=torch.long), scale=1.0, generator=3)[:, 0]
    assert stats.kstest(drop.numpy(), "halfnorm").pvalue > 1e-5  # a right angle: the noise itself
    aligned = noisy_softmax_logits(x, weight, torch.ones(20_000, dtype=torch.long), scale=1.0, generator=3)
    assert torch.equal(aligned, x @ weight.T)
    assert math.isclose(float(drop.min()), 0.0, abs_tol=1e-3)


@pytest.mark.parametrize(
    ("labels", "scale", "match"),
    [([0, 4], 0.1, "labels must lie in"), ([0], 0.1, "labels must have shape"), ([0, 1], -1.0, "scale must be")],
)
def test_bad_noise_is_refused(labels, scale, match):
    with pytest.raises(ValueError, match=match):
        noisy_softmax_logits(normal(2, 3), normal(4, 3), torch.tensor(labels), scale=scale)
