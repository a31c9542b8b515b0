"""Router losses: their formulas in NumPy, padding left out, and what an even load gives."""

import numpy as np
import pytest
import torch

from mixkit.gates import Gate
from mixkit.gates.normalizers import NormalizedSigmoid
from mixkit.gates.router_losses import importance_loss, load_balance_loss, masked_mean, router_z_loss, selection_rate
from mixkit.gates.scores import LinearScore
from mixkit.gates.selections import TopKByScore
from tests.mixkit.gate_table import check_derivatives, normal, seeded

N, K, SELECTED = 12, 5, 2
MASK = torch.arange(N) % 3 > 0


def routed(*batch, scale=1.0):
    logits = normal(*batch, N, K, scale=scale)
    return logits, torch.log_softmax(logits, -1), logits.topk(SELECTED, dim=-1).indices


LOSSES = {
    "load-balance": lambda logits, log_weights, indices, mask=None: load_balance_loss(log_weights, indices, mask),
    "importance": lambda logits, log_weights, indices, mask=None: importance_loss(log_weights, mask),
    "z": lambda logits, log_weights, indices, mask=None: router_z_loss(logits, mask),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def in_numpy(name, logits, indices):
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    counts = np.bincount(indices.ravel(), minlength=K)
    return {
        "load-balance": lambda: K * np.sum(counts / counts.sum() * weights.mean(0)),
        "importance": lambda: np.var(weights.sum(0)) / np.mean(weights.sum(0)) ** 2,
        "z": lambda: np.mean(np.log(np.exp(logits).sum(-1)) ** 2),
    }[name]()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_formulas(name, mask):
    logits, log_weights, indices = routed()
    rows = slice(None) if mask is None else mask.numpy()
    expected = in_numpy(name, logits.numpy()[rows], indices.numpy()[rows])
    assert LOSSES[name](logits, log_weights, indices, mask).item() == pytest.approx(expected, rel=1e-6)


@every_loss
def test_one_loss_per_batch_index(loss):
    parts, masks = routed(2, 3), torch.rand(2, 3, N, generator=seeded()) < 0.7
    together = loss(*parts, masks)
    assert together.shape == (2, 3)
    for index in np.ndindex(2, 3):
        torch.testing.assert_close(together[index], loss(*(part[index] for part in parts), masks[index]))


@every_loss
@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, -torch.inf, 1e30], ids=str)
def test_padding_reaches_neither_value_nor_gradient(loss, garbage):
    logits, _, indices = routed()
    clean = logits.clone().requires_grad_()
    dirty = torch.where(MASK.unsqueeze(-1), logits, garbage).requires_grad_()
    values = [
        loss(s, torch.log_softmax(torch.where(MASK.unsqueeze(-1), s, 0.0), -1), indices, MASK) for s in (clean, dirty)
    ]
    gradients = [torch.autograd.grad(v, s)[0] for v, s in zip(values, (clean, dirty), strict=True)]
    assert torch.equal(*values)
    assert torch.equal(*gradients)
    assert (gradients[1][~MASK] == 0).all()


@every_loss
def test_log_weights_of_padding_may_be_nan_too(loss):
    logits, log_weights, indices = (
        torch.where(MASK.unsqueeze(-1), part, bad)
        for part, bad in zip(routed(), (torch.nan, torch.nan, 0), strict=True)
    )
    assert torch.equal(loss(logits, log_weights, indices, MASK), loss(*routed(), MASK))


@every_loss
def test_a_mask_that_keeps_nothing_gives_zero(loss):
    logits, _, indices = routed()
    logits.requires_grad_()
    value = loss(logits, torch.log_softmax(logits, -1), indices, torch.zeros(N, dtype=torch.bool))
    value.backward()
    assert value.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@every_loss
def test_first_and_second_derivatives(loss):
    _, _, indices = routed()
    check_derivatives(lambda s: loss(s, torch.log_softmax(s, -1), indices, MASK), (normal(N, K).requires_grad_(),))


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_are_in_float32(loss, dtype):
    logits = normal(40_000, K, dtype=dtype)
    indices = logits.topk(SELECTED, dim=-1).indices
    value = loss(logits, torch.log_softmax(logits, -1), indices)
    exact = loss(logits.double(), torch.log_softmax(logits, -1).double(), indices)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact, rtol=1e-4, atol=1e-6)


def test_an_even_load_has_a_balance_of_one_and_no_importance_loss():
    log_weights = torch.full((K, K), 1.0 / K).log()
    indices = torch.stack([torch.arange(K), (torch.arange(K) + 1) % K], -1)
    assert load_balance_loss(log_weights, indices).item() == pytest.approx(1.0, rel=1e-6)
    assert importance_loss(log_weights).item() == pytest.approx(0.0, abs=1e-12)


def test_a_collapsed_load_has_a_balance_of_k():
    log_weights = torch.tensor([0.0] + [-torch.inf] * (K - 1)).expand(N, K)
    assert load_balance_loss(log_weights, torch.zeros(N, 1, dtype=torch.int64)).item() == K
    assert importance_loss(log_weights).item() == pytest.approx(K - 1, rel=1e-6)


def test_a_sigmoid_router_gains_nothing_by_shrinking_all_scores():
    """With an epsilon in the denominator, scores of -60 would have weights, and so a loss, of nearly zero."""
    scores = normal(N, K)
    indices = scores.topk(SELECTED, dim=-1).indices
    near, far = (load_balance_loss(NormalizedSigmoid()(scores - shift), indices) for shift in (40.0, 80.0))
    torch.testing.assert_close(near, far)
    assert near > 1.0


def test_the_loss_of_a_gate_evens_its_load():
    gate = Gate(LinearScore(3, K, dtype=torch.float64, generator=seeded()), selection=TopKByScore(1))
    x = normal(400, 3)
    with torch.no_grad():
        gate.score.bias[0] += 1.0
    before = gate.selection_rate(x).max()
    optimizer = torch.optim.Adam(gate.parameters(), lr=0.05)
    for _ in range(150):
        routing = gate.route(x)
        loss = load_balance_loss(gate.normalizer(routing.logits), routing.indices)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert before > 0.95
    assert gate.selection_rate(x).max() < 0.6


def test_rates_of_selection():
    indices = torch.tensor([[[0, 1], [0, 2], [3, 4]], [[1, 2], [1, 2], [1, 2]]])
    expected = torch.tensor([[2, 1, 1, 1, 1], [0, 3, 3, 0, 0]]) / 3.0
    torch.testing.assert_close(selection_rate(indices, 5), expected)
    torch.testing.assert_close(
        selection_rate(indices, 5, torch.tensor([True, False, False]))[0], torch.tensor([1.0, 1, 0, 0, 0])
    )


def test_means_of_half_precision_are_in_float32():
    values = torch.full((3000, 2), 0.1, dtype=torch.float16)
    for mask in (None, torch.ones(3000, dtype=torch.bool)):
        assert torch.allclose(masked_mean(values, mask), values[0].float(), rtol=1e-5)
        assert masked_mean(values, mask).dtype == torch.float32


def test_the_mean_of_no_rows_is_zero():
    assert torch.equal(masked_mean(torch.zeros(0, 3)), torch.zeros(3))


@every_loss
def test_bad_masks_are_named(loss):
    with pytest.raises(TypeError, match=r"mask must be a boolean tensor, got torch\.int64"):
        loss(*routed(), torch.ones(N, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"mask must broadcast to shape \(12,\), got shape \(13,\)"):
        loss(*routed(), torch.ones(N + 1, dtype=torch.bool))


def test_logits_are_not_taken_for_log_weights():
    """Raw logits gave losses of 6 to 21, where 1 is even, and no error."""
    logits, log_weights, indices = routed()
    for wrong in (logits, log_weights.exp()):
        with pytest.raises(ValueError, match="log_weights must be the logarithms of weights that sum to 1"):
            load_balance_loss(wrong, indices)
        with pytest.raises(ValueError, match="log_weights must be the logarithms of weights that sum to 1"):
            importance_loss(wrong)
    with pytest.raises(ValueError, match="logits must be scores before the normalizer, got log-weights"):
        router_z_loss(log_weights)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_numbers_that_are_none_are_refused(bad):
    logits, log_weights, indices = routed()
    logits[3, 1], log_weights[3, 1] = bad, bad
    for call in (
        lambda: load_balance_loss(log_weights, indices),
        lambda: importance_loss(log_weights),
        lambda: router_z_loss(logits),
    ):
        with pytest.raises(ValueError, match="must"):
            call()


@pytest.mark.parametrize("bad", [-1, K])
def test_experts_that_are_not_there_are_refused(bad):
    _, log_weights, indices = routed()
    indices[3, 1] = bad
    with pytest.raises(ValueError, match=rf"indices must lie in \[0, {K}\), got entries from"):
        selection_rate(indices, K)
    with pytest.raises(ValueError, match="indices must lie in"):
        load_balance_loss(log_weights, indices)
    padding = torch.arange(N) != 3
    assert selection_rate(indices, K, padding).sum().item() == pytest.approx(SELECTED)


def test_experts_named_twice_are_refused():
    with pytest.raises(ValueError, match="indices must name different experts"):
        selection_rate(torch.tensor([[0, 0]]), K)
    with pytest.raises(TypeError, match="indices must have an integer dtype"):
        selection_rate(torch.zeros(3, 1), K)


def test_means_of_many_rows_are_summed_in_float64():
    values = torch.full((3_000_000, 1), 0.1)
    assert masked_mean(values).item() == values[0].item()
    assert masked_mean(values, torch.ones(3_000_000, dtype=torch.bool)).item() == values[0].item()
