"""Figures of a gate agree with their closed forms, and with what plain loops count."""

import math

import pytest
import torch

from mixkit import constant_gate, sigmoid_gate, softmax_gate, topk_gate
from mixkit.gates import Gate
from mixkit.gates.diagnostics import gate_diagnostics, gradient_strength, score_margin, wasserstein_uniformity
from mixkit.gates.normalizers import Entmax, Sparsemax
from mixkit.gates.scores import LinearScore
from mixkit.gates.selections import TopKByScore
from tests.mixkit.gate_table import normal, seeded

DOUBLE = torch.float64


def softmax_of(scores):
    """A gate whose scores are the covariates themselves."""
    k = scores.shape[-1]
    gate = softmax_gate(k, k, dtype=DOUBLE, generator=seeded())
    with torch.no_grad():
        gate.score.weight.copy_(torch.eye(k, dtype=DOUBLE))
        gate.score.bias.zero_()
    return gate


def test_an_even_gate_has_the_extreme_figures():
    k, n = 5, 7
    found = gate_diagnostics(constant_gate(k, dtype=DOUBLE), normal(n, 2))
    assert found.entropy == pytest.approx(math.log(k), rel=1e-12)
    assert found.effective_experts == pytest.approx(k, rel=1e-12)
    assert found.effective_load == pytest.approx(k, rel=1e-12)
    assert found.top_weight == pytest.approx(1 / k, rel=1e-12)
    assert found.margin.tolist() == [0.0, 0.0, 0.0]
    assert found.unused() == []
    # (k - 1) / k^2 is the sum of squares of diag(1/k) - 1/k^2
    torch.testing.assert_close(found.mean_gradient * found.temperatures, torch.full((6,), (k - 1) ** 0.5 / k).double())


def test_a_collapsed_gate_uses_one_expert_of_the_data():
    gate = constant_gate(3, dtype=DOUBLE)
    with torch.no_grad():
        gate.score.bias.copy_(torch.tensor([0.0, 60.0, 0.0]))
    found = gate_diagnostics(gate, normal(4, 1))
    assert found.effective_load == pytest.approx(1.0, abs=1e-9)
    assert found.unused() == [0, 2]
    assert found.hard_share.tolist() == [0.0, 1.0, 0.0]


def test_a_gate_may_be_selective_at_every_row_and_even_over_the_data():
    scores = 50.0 * torch.eye(4, dtype=DOUBLE)
    found = gate_diagnostics(softmax_of(scores), scores)
    assert found.effective_experts == pytest.approx(1.0, abs=1e-9)
    assert found.effective_load == pytest.approx(4.0, rel=1e-9)
    assert found.margin.tolist() == [50.0, 50.0, 50.0]


def test_shares_are_means_over_the_rows():
    gate, x = topk_gate(3, 5, 2, dtype=DOUBLE, generator=seeded()), normal(40, 3)
    found, weights = gate_diagnostics(gate, x), gate(x).detach().exp()
    torch.testing.assert_close(found.soft_share, weights.mean(0))
    counted = torch.bincount(weights.argmax(-1), minlength=5) / 40
    torch.testing.assert_close(found.hard_share, counted.double())
    torch.testing.assert_close(found.selection_rate, (weights > 0).double().mean(0))
    assert float(found.selection_rate.sum()) == pytest.approx(2.0)
    assert found.effective_experts <= 2.0


def test_the_margin_of_a_sparse_gate_is_that_of_its_selection():
    gate = Gate(LinearScore(3, 5, dtype=DOUBLE, generator=seeded()), selection=TopKByScore(2))
    x = normal(31, 3)
    ordered = gate.scores(x)[0].detach().sort(-1, descending=True).values
    gap = ordered[:, 1] - ordered[:, 2]
    levels = torch.tensor([0.1, 0.5, 0.9], dtype=DOUBLE)
    torch.testing.assert_close(gate_diagnostics(gate, x).margin, gap.quantile(levels, interpolation="lower"))


def test_a_margin_is_the_log_ratio_of_the_two_weights():
    scores = normal(20, 4)
    weights = scores.softmax(-1).sort(-1, descending=True).values
    torch.testing.assert_close(score_margin(scores), (weights[:, 0] / weights[:, 1]).log())


def test_a_margin_without_a_next_score_is_infinite():
    scores = torch.tensor([[1.0, 2.0, -torch.inf]])
    assert score_margin(scores, 2).tolist() == [torch.inf]
    assert score_margin(scores, 3).tolist() == [torch.inf]
    assert gate_diagnostics(constant_gate(1), torch.ones(2, 1)).margin.tolist() == [torch.inf] * 3


def test_the_gradient_of_a_softmax_has_its_closed_form():
    scores = normal(30, 6)
    w = scores.softmax(-1)
    square, cube = w.square().sum(-1), w.pow(3).sum(-1)
    exact = (square - 2 * cube + square.square()).sqrt()
    torch.testing.assert_close(gradient_strength(softmax_of(scores), scores), exact)


@pytest.mark.parametrize("normalizer", [Sparsemax(), Entmax(1.5)], ids=["sparsemax", "entmax"])
def test_the_gradient_is_the_norm_of_the_jacobian(normalizer):
    gate, x = Gate(LinearScore(2, 4, dtype=DOUBLE, generator=seeded()), normalizer=normalizer), normal(8, 2)
    scores = gate.scores(x)[1].detach()
    for row, strength in zip(scores, gradient_strength(gate, scores), strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda u: gate.normalizer(u[None])[0].exp(), row)
        torch.testing.assert_close(strength, torch.linalg.matrix_norm(jacobian))


def test_cooling_moves_the_gradient_to_the_borders():
    """At a tie it grows as 1 / t; at margin m it falls as exp(-m / t) / t: sqrt(2) times that for two experts."""
    scores = torch.tensor([[0.0, 0.0], [2.0, 0.0]], dtype=DOUBLE)
    gate = softmax_of(scores)
    cold = [0.5, 0.25, 0.125]
    for t in cold:
        at_tie, at_margin = (gradient_strength(gate, scores / t) / t).tolist()
        p = 1 / (1 + math.exp(2 / t))
        assert at_tie == pytest.approx(0.5 / t)
        assert at_margin == pytest.approx(2 * p * (1 - p) / t)
    found = gate_diagnostics(gate, scores, temperatures=cold)
    torch.testing.assert_close(found.max_gradient, torch.tensor([1.0, 2.0, 4.0], dtype=DOUBLE))


def test_unselected_experts_have_no_part_in_the_gradient():
    gate, x = topk_gate(3, 5, 2, dtype=DOUBLE, generator=seeded()), normal(10, 3)
    kept = gate.scores(x)[1].detach()
    chosen = kept[kept > -torch.inf].reshape(10, 2)
    torch.testing.assert_close(gradient_strength(gate, kept), gradient_strength(softmax_of(chosen), chosen))


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_uniformity_of_rows_isotropic_in_a_subspace(rank):
    axes = torch.eye(4, dtype=DOUBLE)[:rank]
    z = 3.0 * torch.cat([axes, -axes])  # lengths do not count
    assert wasserstein_uniformity(z) == pytest.approx(math.sqrt(2 - 2 * math.sqrt(rank / 4)), abs=1e-7)


def test_uniformity_of_equal_rows_is_the_square_root_of_two():
    assert wasserstein_uniformity(torch.ones(6, 3)) == pytest.approx(math.sqrt(2.0))


def test_uniformity_is_the_distance_between_two_normal_laws():
    """Against the general formula, with matrix square roots from an eigendecomposition."""
    z = normal(50, 3) + torch.tensor([1.0, 0.0, 0.0], dtype=DOUBLE)
    rows = z / z.norm(dim=-1, keepdim=True)
    mean, cov, target = rows.mean(0), torch.cov(rows.T, correction=0), torch.eye(3, dtype=DOUBLE) / 3
    values, vectors = torch.linalg.eigh(cov)
    root = vectors * values.sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ target @ root).clamp(min=0).sqrt().sum()
    squared = mean.square().sum() + torch.trace(cov) + torch.trace(target) - 2 * cross
    assert wasserstein_uniformity(z) == pytest.approx(float(squared.sqrt()), rel=1e-10)


def test_rotations_do_not_change_uniformity():
    z, turn = normal(20, 4), torch.linalg.qr(normal(4, 4, seed=1)).Q
    assert wasserstein_uniformity(z) == pytest.approx(wasserstein_uniformity(z @ turn), rel=1e-10)


def test_rows_of_zeros_are_left_out_of_the_uniformity_of_covariates():
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert gate_diagnostics(constant_gate(2), x).uniformity == pytest.approx(math.sqrt(2.0))
    assert math.isnan(gate_diagnostics(constant_gate(2), torch.zeros(2, 2)).uniformity)


def test_parameters_keep_no_gradient_and_grad_mode_is_left_alone():
    gate, x = softmax_gate(2, 3, generator=seeded()), torch.ones(4, 2)
    with torch.no_grad():
        gate_diagnostics(gate, x)
    assert all(parameter.grad is None for parameter in gate.parameters())


def test_it_prints_a_row_for_every_expert_and_temperature():
    text = repr(gate_diagnostics(sigmoid_gate(2, 3, generator=seeded()), torch.ones(4, 2), temperatures=[1.0, 0.5]))
    lines = text.splitlines()
    assert lines[0] == "GateDiagnostics(k=3, n=4)"
    assert len(lines) == 1 + 6 + 1 + 3 + 1 + 2


class TestBadInput:
    def test_what_is_no_gate(self):
        with pytest.raises(TypeError, match=r"gate must be a mixkit.gates.Gate, got Identity"):
            gate_diagnostics(torch.nn.Identity(), torch.ones(3, 1))

    @pytest.mark.parametrize("shape", [(3,), (0, 2), (2, 3, 2)])
    def test_covariates_of_another_shape(self, shape):
        with pytest.raises(ValueError, match=r"x must have shape \(n, d\) with n >= 1"):
            gate_diagnostics(softmax_gate(2, 3, generator=seeded()), torch.ones(shape))

    def test_covariates_that_are_not_finite(self):
        with pytest.raises(ValueError, match="x must be finite"):
            gate_diagnostics(softmax_gate(1, 3, generator=seeded()), torch.tensor([[torch.nan]]))

    def test_a_batch_of_gates(self):
        gate = softmax_gate(2, 3, batch_shape=(4,), generator=seeded())
        with pytest.raises(ValueError, match=r"gate must be a single one, got a batch of shape \(4,\)"):
            gate_diagnostics(gate, torch.ones(5, 2))

    def test_a_temperature_of_zero(self):
        with pytest.raises(ValueError, match="temperatures must be positive"):
            gate_diagnostics(softmax_gate(1, 3, generator=seeded()), torch.ones(2, 1), temperatures=[1.0, 0.0])

    def test_more_selected_than_scores(self):
        with pytest.raises(ValueError, match="num_selected must be from 0 to 3, got 4"):
            score_margin(torch.ones(2, 3), 4)

    def test_representations_of_length_zero(self):
        with pytest.raises(ValueError, match="z must have no row of zeros, got 1"):
            wasserstein_uniformity(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
