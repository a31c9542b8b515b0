"""Voronoi losses against brute force; what they must not depend on; where they are zero."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import least_squares, minimize, minimize_scalar
from torch.distributions import Normal

from estimators.voronoi import (
    GateInvariance,
    atom_errors,
    block_errors,
    density_distances,
    exact_loss,
    overspecified_loss,
    rbar,
    voronoi_cells,
    voronoi_loss,
)
from estimators.voronoi.terms import build_terms
from estimators.voronoi.translation import least_power_sum, power_sum, weighted_median
from mixkit import (
    MixingMeasure,
    activation_gate,
    laplace_gate,
    sigmoid_gate,
    softmax_gate,
    topk_gate,
)

from .models import DTYPE, reference_truth, seeded

NAMES = ("gate_bias", "gate_weight", "slope", "intercept", "variance")
GATES = {
    "softmax": lambda: None,
    "laplace": lambda: laplace_gate(1, 2, generator=seeded(0)),
    "sigmoid": lambda: sigmoid_gate(1, 2, generator=seeded(0)),
}


def random_measure(k: int, d: int, seed: int, batch: tuple[int, ...] = ()) -> MixingMeasure:
    generator = seeded(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*batch, *shape, dtype=DTYPE, generator=generator)

    return MixingMeasure(normal(k), normal(k, d), normal(k, d), normal(k), 0.2 + normal(k).square())


def moved(measure: MixingMeasure, shift_0: float, shift_1: torch.Tensor) -> MixingMeasure:
    parts = [getattr(measure, name) for name in NAMES]
    return MixingMeasure(parts[0] + shift_0, parts[1] + shift_1, *parts[2:])


def numpy_parts(measure: MixingMeasure) -> list[np.ndarray]:
    return [getattr(measure, name).numpy() for name in NAMES]


def brute_force(fitted, truth, order, count, freedom) -> float:
    """The least over anchors of a direct numerical infimum, written with loops."""
    bias, weight, slope, intercept, variance = numpy_parts(fitted)
    bias_0, weight_0, slope_0, intercept_0, variance_0 = numpy_parts(truth)
    mass, mass_0 = np.exp(bias), np.exp(bias_0)
    if freedom.bias:
        mass, mass_0 = mass / mass.sum(), mass_0 / mass_0.sum()
    k, k_0, d = len(bias), len(bias_0), weight.shape[1]
    anchors = [weight[i] - weight_0[j] for i in range(k) for j in range(k_0)] if freedom.weight else [np.zeros(d)]

    def value(cells, scale, t) -> float:
        terms = []
        for j in range(k_0):
            cell = [i for i in range(k) if cells[i] == j]
            r = 1.0 if len(cell) <= 1 else order(len(cell))
            q = 1.0 if len(cell) <= 1 or r == 1.0 else r / 2
            term = abs(sum(mass[i] for i in cell) - scale * mass_0[j])
            for i in cell:
                term += mass[i] * np.linalg.norm(weight[i] - weight_0[j] - t) ** r
                term += mass[i] * np.linalg.norm(slope[i] - slope_0[j]) ** q
                term += mass[i] * abs(intercept[i] - intercept_0[j]) ** r
                term += mass[i] * abs(variance[i] - variance_0[j]) ** q
            terms.append(term)
        return sum(sorted(terms)[-count:])

    assignments = set()
    for anchor in anchors:
        cells = []
        for i in range(k):
            gaps = [
                np.sum((weight[i] - weight_0[j] - anchor) ** 2)
                + np.sum((slope[i] - slope_0[j]) ** 2)
                + (intercept[i] - intercept_0[j]) ** 2
                + (variance[i] - variance_0[j]) ** 2
                for j in range(k_0)
            ]
            cells.append(int(np.argmin(gaps)))
        assignments.add(tuple(cells))
    return min(_least(lambda s, t, c=cells: value(c, s, t), d, freedom) for cells in assignments)


def _golden(function, low: float, high: float) -> float:
    """The least value of a convex function."""
    result = minimize_scalar(function, bounds=(low, high), method="bounded", options={"xatol": 1e-10, "maxiter": 200})
    return min(result.fun, function(low), function(high))


def _least(value, d: int, freedom: GateInvariance) -> float:
    def over_scale(t) -> float:
        return _golden(lambda s: value(s, t), 0.0, 60.0) if freedom.bias else value(1.0, t)

    if not freedom.weight:
        return over_scale(np.zeros(d))
    if d == 1:
        return _golden(lambda t: over_scale(np.array([t])), -12.0, 12.0)
    options = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 1000}
    result = minimize(lambda t: value(1.0, t), np.zeros(d), method="Nelder-Mead", options=options)
    for _ in range(2):
        result = minimize(lambda t: value(1.0, t), result.x, method="Nelder-Mead", options=options)
    return over_scale(result.x)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(("k", "k_0", "count"), [(2, 2, 2), (3, 2, 2), (4, 3, 3), (3, 3, 1), (4, 3, 2)])
@pytest.mark.parametrize("seed", range(2))
def test_losses_of_one_covariate_agree_with_brute_force(gate, k, k_0, count, seed):
    fitted, truth = random_measure(k, 1, seed), random_measure(k_0, 1, seed + 100)
    freedom = GateInvariance.of(GATES[gate]())
    for order in (None, rbar):
        loss = voronoi_loss(fitted, truth, rbar=order, num_selected=count, gate=GATES[gate]())
        expected = brute_force(fitted, truth, order or (lambda m: 1.0), count, freedom)
        # The brute force can only be above the infimum, by the tolerance of its search.
        assert float(loss.total) <= expected + 1e-9
        assert float(loss.total) == pytest.approx(expected, rel=2e-7, abs=1e-8)


@pytest.mark.parametrize(("d", "seed"), [(2, 0), (2, 1), (3, 2)])
def test_losses_of_several_covariates_agree_with_brute_force(d, seed):
    fitted, truth = random_measure(3, d, seed), random_measure(2, d, seed + 50)
    for order in (None, rbar):
        loss = voronoi_loss(fitted, truth, rbar=order)
        expected = brute_force(fitted, truth, order or (lambda m: 1.0), 2, GateInvariance())
        assert float(loss.total) <= expected + 1e-9
        assert float(loss.total) == pytest.approx(expected, rel=1e-7, abs=1e-8)


def test_the_translation_is_optimal_by_its_own_convexity():
    generator = seeded(3)
    points = torch.randn(50, 5, 2, dtype=DTYPE, generator=generator)
    weight = torch.rand(50, 5, dtype=DTYPE, generator=generator)
    power = torch.tensor([1.0, 4.0, 6.0], dtype=DTYPE)[torch.randint(3, (50, 5), generator=generator)]
    for dims in (points, points[..., :1]):
        best = least_power_sum(dims, weight, power)
        value = power_sum(best, dims, weight, power)
        for size in (1e-1, 1e-3, 1e-5):
            near = best + size * torch.randn(best.shape, dtype=DTYPE, generator=generator)
            assert (power_sum(near, dims, weight, power) >= value * (1 - 1e-12)).all()


def test_weighted_median_minimizes_over_all_values():
    generator = seeded(4)
    values, weight = (torch.rand(100, 5, dtype=DTYPE, generator=generator) for _ in range(2))
    best = weighted_median(values, weight)
    cost = (weight * (values - best.unsqueeze(-1)).abs()).sum(-1)
    others = (weight.unsqueeze(-2) * (values.unsqueeze(-2) - values.unsqueeze(-1)).abs()).sum(-1)
    torch.testing.assert_close(cost, others.amin(-1))


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_equivalent_measures_have_one_loss(d, seed):
    fitted, truth = random_measure(4, d, seed), random_measure(3, d, seed + 9)
    shift = torch.full((d,), 1.7, dtype=DTYPE)
    order, order_0 = [2, 0, 3, 1], [1, 2, 0]
    same_fitted, same_truth = moved(fitted.permute(order), -3.0, shift), moved(truth.permute(order_0), 8.0, -2 * shift)
    for loss in (exact_loss, overspecified_loss):
        torch.testing.assert_close(loss(fitted, truth), loss(same_fitted, same_truth), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_zero_for_equivalent_measures_and_for_no_others(d, seed):
    truth = random_measure(3, d, seed)
    same = moved(truth.permute([2, 0, 1]), 0.4, torch.full((d,), -5.0, dtype=DTYPE))
    assert float(exact_loss(same, truth)) < 1e-12
    for name in NAMES:
        parts = {other: getattr(same, other).clone() for other in NAMES}
        parts[name][1] += 0.01
        assert float(exact_loss(MixingMeasure(**parts), truth)) > 1e-4, name


def test_a_split_atom_is_at_distance_zero():
    truth = reference_truth()
    halves = torch.tensor([-8.0 - math.log(2), -8.0 - math.log(2), 0.0], dtype=DTYPE)
    index = torch.tensor([0, 0, 1])
    split = MixingMeasure(halves, *(getattr(truth, name)[index] for name in NAMES[1:]))
    assert float(overspecified_loss(split, truth)) < 1e-12
    assert voronoi_loss(split, truth, rbar=rbar).cells.tolist() == [0, 0, 1]


def test_a_split_reference_expert_costs_nothing_by_itself():
    truth = reference_truth()
    index = torch.tensor([0, 1, 1])
    bias = torch.tensor([-8.0, -math.log(2), -math.log(2)], dtype=DTYPE) + 5.0
    split = MixingMeasure(bias, truth.gate_weight[index] + 3.0, *(getattr(truth, n)[index] for n in NAMES[2:]))
    assert float(overspecified_loss(split, truth)) < 1e-12


def test_batches_are_each_alone_and_truths_broadcast():
    fitted, truth = random_measure(3, 2, 0, (4,)), random_measure(2, 2, 1)
    together = voronoi_loss(fitted, truth, rbar=rbar)
    for index in range(4):
        alone = voronoi_loss(fitted[index], truth, rbar=rbar)
        torch.testing.assert_close(together.total[index], alone.total)
        torch.testing.assert_close(together.shift[index], alone.shift)
    torch.testing.assert_close(together.total, sum(together[1:6]))


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("order", [None, rbar])
@pytest.mark.parametrize("seed", range(4))
def test_gradients(d, order, seed):
    fitted, truth = random_measure(3, d, seed), random_measure(2, d, seed + 30)
    parts = [getattr(fitted, name).clone().requires_grad_() for name in NAMES]
    assert torch.autograd.gradcheck(
        lambda *values: voronoi_loss(MixingMeasure(*values), truth, rbar=order).total, parts, atol=1e-5, rtol=1e-4
    )


def test_cells_may_be_given_and_shifted():
    truth = reference_truth()
    far = moved(truth, 0.0, torch.tensor([40.0], dtype=DTYPE))
    assert voronoi_cells(far, truth).tolist() == [0, 1]
    held = voronoi_loss(far, truth, cells=torch.tensor([1, 0]))
    assert held.cells.tolist() == [1, 0]
    assert float(held.total) > float(exact_loss(far, truth)) + 1.0
    assert voronoi_cells(far, truth, shift=torch.tensor([40.0], dtype=DTYPE)).tolist() == [0, 1]


def test_subsets_of_true_atoms_grow():
    fitted, truth = random_measure(4, 1, 5), random_measure(3, 1, 6)
    totals = [float(voronoi_loss(fitted, truth, num_selected=count).total) for count in (1, 2, 3)]
    assert totals == sorted(totals)
    subset = voronoi_loss(fitted, truth, num_selected=3).total
    torch.testing.assert_close(subset, exact_loss(fitted, truth))


def turned(measure: MixingMeasure, rotation: torch.Tensor) -> MixingMeasure:
    """A measure of one covariate as one of several, its vectors along the first column of a rotation."""
    weight, slope = (part * rotation[:, 0] for part in (measure.gate_weight, measure.slope))
    return MixingMeasure(measure.gate_bias, weight, slope, measure.intercept, measure.variance)


@pytest.mark.parametrize("order", [None, rbar])
@pytest.mark.parametrize(("d", "count", "seed"), [(2, 1, 2), (2, 2, 3), (3, 2, 1)])
def test_subset_losses_of_several_covariates_contain_those_of_one(d, count, seed, order):
    rotation, _ = torch.linalg.qr(torch.randn(d, d, dtype=DTYPE, generator=seeded(7)))
    fitted, truth = random_measure(4, 1, seed), random_measure(3, 1, seed + 10)
    one = voronoi_loss(fitted, truth, rbar=order, num_selected=count)
    many = voronoi_loss(turned(fitted, rotation), turned(truth, rotation), rbar=order, num_selected=count)
    assert float(many.total) == pytest.approx(float(one.total), rel=1e-7)


@pytest.mark.parametrize(("gate", "order", "seed"), [("softmax", None, 0), ("softmax", rbar, 1), ("sigmoid", None, 2)])
def test_no_translation_near_the_best_lowers_the_subset_loss(gate, order, seed):
    fitted, truth = random_measure(4, 2, seed), random_measure(3, 2, seed + 10)
    freedom = GateInvariance.of(GATES[gate]())
    loss = voronoi_loss(fitted, truth, rbar=order, num_selected=2, gate=GATES[gate]())
    terms = build_terms(fitted, truth, loss.cells.unsqueeze(-2), freedom, order)
    generator = seeded(8)
    for size in (0.0, 1e-4, 1e-2, 1.0):
        noise = torch.randn(200, 3, dtype=DTYPE, generator=generator)
        shift = loss.shift + size * noise[:, :2] * freedom.weight
        scale = (loss.scale + size * noise[:, 2] * freedom.bias).clamp(min=0.0).unsqueeze(-1)
        gap = torch.linalg.vector_norm(terms.gate_gap - shift.unsqueeze(-2), dim=-1)
        by_atom = terms.by_cell(terms.mass * gap.pow(terms.power) + terms.expert.sum(-1))
        near = ((terms.cell_mass - scale * terms.true_mass).abs() + by_atom).topk(2, -1).values.sum(-1)
        assert bool((near >= loss.total - 1e-8).all())  # convex: a minimum among its neighbors is one


@pytest.mark.parametrize(
    ("gate", "freedom"),
    [
        (softmax_gate(1, 2, generator=seeded(0)), (True, True)),
        (topk_gate(1, 2, 1, generator=seeded(0)), (True, True)),
        (activation_gate(1, 2, generator=seeded(0)), (True, False)),
        (laplace_gate(1, 2, generator=seeded(0)), (True, False)),
        (sigmoid_gate(1, 2, generator=seeded(0)), (False, False)),
    ],
)
def test_freedom_of_gates_leaves_their_densities_alone(gate, freedom):
    assert GateInvariance.of(gate) == freedom
    truth = random_measure(2, 1, 0)
    x = torch.randn(20, 1, dtype=DTYPE, generator=seeded(1))
    y = torch.randn(20, dtype=DTYPE, generator=seeded(2))
    shift = torch.tensor([0.7], dtype=DTYPE)
    for bias, weight in itertools.product((False, True), repeat=2):
        other = moved(truth, 0.9 * bias, shift * weight)
        same = torch.allclose(truth.to_module(gate).log_prob(x, y), other.to_module(gate).log_prob(x, y))
        assert same == ((not bias or freedom[0]) and (not weight or freedom[1]))


def test_block_errors_of_known_gaps():
    truth = reference_truth()
    index = torch.tensor([0, 0, 1])
    bias = torch.tensor([-8.0 - math.log(4), -8.0 + math.log(0.75), 0.0], dtype=DTYPE)
    parts = {name: getattr(truth, name)[index].clone() for name in NAMES[1:]}
    parts["slope"] += torch.tensor([[0.4], [-0.2], [0.01]], dtype=DTYPE)
    parts["variance"] += torch.tensor([0.02, 0.0, 0.03], dtype=DTYPE)
    errors = block_errors(MixingMeasure(bias, **parts), truth)
    torch.testing.assert_close(errors.slope, torch.tensor([0.25, 0.01], dtype=DTYPE))
    torch.testing.assert_close(errors.variance, torch.tensor([0.005, 0.03], dtype=DTYPE))
    torch.testing.assert_close(errors.mass, torch.zeros(2, dtype=DTYPE))
    assert errors.cell_size.tolist() == [2, 1]
    atoms = atom_errors(MixingMeasure(bias, **parts), truth)
    torch.testing.assert_close(atoms.slope, torch.tensor([0.4, 0.2, 0.01], dtype=DTYPE))
    torch.testing.assert_close(atoms.variance, torch.tensor([0.02, 0.0, 0.03], dtype=DTYPE))
    assert (atoms.cell_size.tolist(), atoms.cells.tolist()) == ([2, 2, 1], [0, 0, 1])
    empty = block_errors(truth.permute([1, 0]), MixingMeasure(*(getattr(truth, n).clone() for n in NAMES)))
    assert not empty.gate.isnan().any()


def test_an_empty_cell_has_no_error():
    truth = reference_truth()
    index = torch.tensor([1, 1])
    both = MixingMeasure(torch.zeros(2, dtype=DTYPE), *(getattr(truth, name)[index] for name in NAMES[1:]))
    errors = block_errors(both, truth)
    assert errors.cell_size.tolist() == [0, 2]
    assert errors.slope.isnan().tolist() == [True, False]
    assert float(exact_loss(both, truth)) == pytest.approx(math.exp(-8))


def test_distances_agree_with_adaptive_quadrature():
    model, other = random_measure(2, 1, 0).to_module(), random_measure(3, 1, 1).to_module()
    x = torch.tensor([[-0.3], [0.8]], dtype=DTYPE)
    found = density_distances(model, other, x)
    for row in range(2):
        p, q = (m(x[row : row + 1]) for m in (model, other))

        def density(law, y):
            return float(law.log_prob(torch.tensor([y], dtype=DTYPE)).detach().exp())

        functions = (
            lambda y, p=p, q=q: 0.5 * (density(p, y) ** 0.5 - density(q, y) ** 0.5) ** 2,
            lambda y, p=p, q=q: 0.5 * abs(density(p, y) - density(q, y)),
        )
        squared, variation = (quad(f, -25, 25, limit=400, epsabs=1e-11, points=[-2, 0, 2])[0] for f in functions)
        assert float(found.hellinger[row]) == pytest.approx(squared**0.5, abs=1e-8)
        assert float(found.total_variation[row]) == pytest.approx(variation, abs=1e-4)


TWO = ([0.0, 0.0], [[2.0], [-2.0]], [[3.0], [-2.0]], [0.5, -0.5], [0.1, 0.2])
THREE = ([0.0, 0.0, 0.0], [[0.0], [3.0], [-3.0]], [[1.0], [-2.0], [2.0]], [0.0, 4.0, -4.0], [0.1, 0.1, 0.1])


@pytest.mark.parametrize(
    ("values", "selected", "fitted", "is_same"),
    [(TWO, 1, 1, True), (TWO, 1, 2, False), (THREE, 2, 2, False), (THREE, 2, 3, True)],
)
def test_how_many_experts_a_top_k_gate_must_select_once_an_atom_is_split(values, selected, fitted, is_same):
    """Both halves at the atom, so that D2 is zero: of one selected expert the weight is one, whatever its mass."""
    truth = MixingMeasure(*(torch.tensor(value, dtype=DTYPE) for value in values))
    index = torch.tensor([0, *range(truth.num_experts)])
    bias = truth.gate_bias[index] - math.log(2) * (index == 0).to(DTYPE)
    split = MixingMeasure(bias, *(getattr(truth, name)[index] for name in NAMES[1:]))
    assert float(overspecified_loss(split, truth)) < 1e-12
    own = split.to_module(topk_gate(1, truth.num_experts + 1, fitted, generator=seeded(0)))
    true = truth.to_module(topk_gate(1, truth.num_experts, selected, generator=seeded(0)))
    x = torch.linspace(-0.95, 0.95, 20, dtype=DTYPE).unsqueeze(-1)
    hellinger = density_distances(own, true, x).hellinger
    assert (float(hellinger.max()) < 1e-6) == is_same
    assert is_same or float(hellinger.mean()) > 0.02


def test_distances_of_normals_in_closed_form():
    p = MixingMeasure(*(torch.tensor(v, dtype=DTYPE) for v in ([0.0], [[0.0]], [[0.0]], [1.0], [0.04])))
    q = MixingMeasure(*(torch.tensor(v, dtype=DTYPE) for v in ([0.0], [[0.0]], [[0.0]], [1.5], [4.0])))
    x = torch.zeros(1, 1, dtype=DTYPE)
    found = density_distances(p.to_module(), q.to_module(), x)
    s, t, gap = 0.2, 2.0, 0.5
    affinity = math.sqrt(2 * s * t / (s**2 + t**2)) * math.exp(-(gap**2) / (4 * (s**2 + t**2)))
    expected = torch.distributions.kl_divergence(Normal(1.0, s), Normal(1.5, t))
    assert float(found.hellinger) == pytest.approx(math.sqrt(1 - affinity), abs=1e-10)
    assert float(found.kl) == pytest.approx(float(expected), rel=1e-6)
    same = density_distances(p.to_module(), p.to_module(), x)
    assert all(float(value) < 1e-12 for value in same)


def cell_equations(w: np.ndarray, b: np.ndarray, v: np.ndarray, order: int) -> np.ndarray:
    """Coefficients of t, ..., t^order in sum_i w_i exp(b_i t + v_i t^2), each times its factorial."""
    rows = [np.ones_like(b), b]
    for degree in range(2, order + 1):
        rows.append((b * rows[-1] + 2.0 * v * rows[-2]) / degree)
    return np.array([math.factorial(degree) * (w * row).sum() for degree, row in enumerate(rows)])[1:]


@pytest.mark.parametrize("m", range(2, 8))
def test_nodes_of_gauss_and_hermite_solve_the_system_of_a_cell_up_to_its_order(m):
    nodes, weights = np.polynomial.hermite_e.hermegauss(m)
    left = cell_equations(weights / weights.sum(), nodes, np.full(m, -0.5), int(rbar(m)))
    scale = [math.factorial(degree) for degree in range(1, 2 * m + 1)]
    np.testing.assert_allclose(left[:-1] / scale[:-1], 0.0, atol=1e-13)
    # What is left is minus the integral of the square of the m-th Hermite polynomial.
    assert left[-1] == pytest.approx(-math.factorial(m), rel=1e-9)


@pytest.mark.parametrize("m", [2, 3])
def test_no_search_finds_a_solution_of_one_order_more(m):
    rng, order = np.random.default_rng(0), int(rbar(m))

    def residual(x: np.ndarray, order: int) -> np.ndarray:
        w = np.exp(x[:m] - x[:m].max())
        w, b, v = w / w.sum(), x[m : 2 * m], x[2 * m :]
        size = np.sqrt((w * b**2).sum())
        return cell_equations(w, b / size, v / size**2, order) / np.sqrt(scale[:order])

    scale = np.array([math.factorial(degree) for degree in range(1, order + 1)], dtype=float)
    starts = rng.standard_normal((12, 3 * m))
    below, at = (min(least_squares(residual, x, args=(r,), xtol=1e-14, ftol=1e-14).cost for x in starts)
                 for r in (order - 1, order))  # fmt: skip
    assert below < 1e-12
    assert at > 1e-3


def test_orders():
    assert [rbar(m) for m in range(1, 6)] == [1.0, 4.0, 6.0, 8.0, 10.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, t: voronoi_loss(m, random_measure(2, 2, 0)), "truth must have the 1 covariates"),
        (lambda m, t: voronoi_loss(m, t, num_selected=3), "num_selected must be at most 2"),
        (lambda m, t: voronoi_loss(m, t, cells=torch.tensor([0, 1])), "cells must be integers of shape"),
        (lambda m, t: voronoi_loss(m, t, cells=torch.tensor([0, 1, 5])), r"cells must be in 0\.\.1"),
        (lambda m, t: voronoi_loss(random_measure(3, 2, 0), random_measure(2, 2, 1), num_selected=3), "at most 2"),
        (lambda m, t: rbar(0), "m must be at least 1"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(random_measure(3, 1, 0), random_measure(2, 1, 1))


def test_other_kinds_are_refused():
    with pytest.raises(TypeError, match="fitted must be a MixingMeasure"):
        exact_loss(torch.zeros(2), reference_truth())
    with pytest.raises(TypeError, match="gate must be a"):
        GateInvariance.of(object())
