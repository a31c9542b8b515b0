"""The Newton ascent on functions whose maxima are known."""

import pytest
import torch
from torch import Tensor

from estimators.optimizers.linalg import damped_cholesky, solve_ascent
from estimators.optimizers.newton import newton_ascent
from estimators.optimizers.objective import Evaluation

from .models import DTYPE, seeded


class Surface:
    """A concave or saddle-shaped function with derivatives by autograd, in the form of an objective."""

    n = 1

    def __init__(self, function, num_params, lower=-torch.inf):
        self.function = function
        self.lower = torch.full((num_params,), lower, dtype=DTYPE)

    def project(self, theta: Tensor) -> Tensor:
        return torch.maximum(theta, self.lower)

    def value(self, theta: Tensor) -> Tensor:
        return torch.stack([torch.stack([self.function(vector) for vector in row]) for row in theta])

    def evaluate(self, theta: Tensor) -> Evaluation:
        derivatives = [
            [
                (
                    torch.autograd.functional.jacobian(self.function, v),
                    torch.autograd.functional.hessian(self.function, v),
                )
                for v in row
            ]
            for row in theta
        ]
        gradient, hessian = (torch.stack([torch.stack([d[i] for d in row]) for row in derivatives]) for i in (0, 1))
        return Evaluation(self.value(theta), gradient, hessian)


def start(*rows):
    return torch.tensor([rows], dtype=DTYPE)


def test_a_quadratic_is_solved_for_every_start_at_once():
    surface = Surface(lambda v: -((v[0] - 3.0) ** 2) - 100.0 * (v[1] + v[0]) ** 2, 2)
    end = newton_ascent(surface, start([0.0, 0.0], [50.0, -7.0]))
    expected = torch.tensor([3.0, -3.0], dtype=DTYPE).expand(1, 2, 2)
    torch.testing.assert_close(end.theta, expected, atol=1e-4, rtol=0)
    assert bool(end.converged.all())
    assert bool((end.predicted_gain < 1e-9).all())


def test_a_banana_is_climbed():
    surface = Surface(lambda v: -100.0 * (v[1] - v[0] ** 2) ** 2 - (1.0 - v[0]) ** 2, 2)
    end = newton_ascent(surface, start([-1.2, 1.0]))
    torch.testing.assert_close(end.theta[0, 0], torch.ones(2, dtype=DTYPE), atol=1e-4, rtol=0)


def test_a_saddle_is_left():
    surface = Surface(lambda v: v[0] ** 2 - v[0] ** 4 - v[1] ** 2, 2)
    end = newton_ascent(surface, start([0.0, 1.0]))
    assert bool(end.converged)
    assert float(end.value) == pytest.approx(0.25, abs=1e-8)


def test_a_start_at_a_saddle_leaves_it_while_another_still_climbs():
    def saddle_and_banana(v):
        return v[0] ** 2 - v[0] ** 4 - 100.0 * (v[2] - v[1] ** 2) ** 2 - (1.0 - v[1]) ** 2

    end = newton_ascent(Surface(saddle_and_banana, 3), start([0.0, 1.0, 1.0], [0.5, -1.2, 1.0]))
    torch.testing.assert_close(end.value, torch.full((1, 2), 0.25, dtype=DTYPE), atol=1e-8, rtol=0)
    assert bool(end.converged.all())


@pytest.mark.parametrize("curvature", [1e-6, 1.0, 1e22])
def test_a_saddle_is_left_whatever_the_curvature_in_other_parameters(curvature):
    end = newton_ascent(Surface(lambda v: v[0] ** 2 - v[0] ** 4 - curvature * v[1] ** 2, 2), start([0.0, 0.0]))
    assert float(end.value) == pytest.approx(0.25, abs=1e-8)
    assert bool(end.converged)


def test_a_saddle_across_two_parameters_without_a_curvature_of_their_own_is_left():
    surface = Surface(lambda v: v[0] * v[1] - (v[0] * v[1]) ** 2 - v[2] ** 2, 3)
    end = newton_ascent(surface, start([0.0, 0.0, 1.0]))
    assert float(end.value) == pytest.approx(0.25, abs=1e-6)


def test_a_start_without_a_value_is_dropped_and_the_others_climb():
    end = newton_ascent(Surface(lambda v: torch.log(v[0]) - v[0], 1), start([-1.0], [2.0], [torch.nan]))
    assert end.value[0].tolist() == [-torch.inf, pytest.approx(-1.0), -torch.inf]
    assert end.converged[0].tolist() == [False, True, False]


def test_a_function_of_no_parameters_is_at_its_maximum():
    class Constant(Surface):
        def evaluate(self, theta: Tensor) -> Evaluation:
            return Evaluation(theta.new_full((1, 2), -3.0), theta, theta.new_zeros((1, 2, 0, 0)))

    end = newton_ascent(Constant(None, 0), torch.zeros((1, 2, 0), dtype=DTYPE))
    assert bool(end.converged.all())
    assert end.value.tolist() == [[-3.0, -3.0]]


def test_a_flat_quartic_maximum_counts_as_converged():
    end = newton_ascent(Surface(lambda v: -((v[0] + v[1]) ** 4), 2), start([1.0, 2.0]))
    assert bool(end.converged)
    assert float(end.value) > -1e-8


def test_bounds_hold_and_their_gradient_does_not_count():
    end = newton_ascent(Surface(lambda v: -((v[0] + 2.0) ** 2) - (v[1] - 1.0) ** 2, 2, lower=0.0), start([3.0, 3.0]))
    torch.testing.assert_close(end.theta[0, 0], torch.tensor([0.0, 1.0], dtype=DTYPE), atol=1e-5, rtol=0)
    assert bool(end.converged)


def test_an_unfinished_ascent_says_so():
    end = newton_ascent(
        Surface(lambda v: -100.0 * (v[1] - v[0] ** 2) ** 2 - (1.0 - v[0]) ** 2, 2), start([-1.2, 1.0]), max_iter=2
    )
    assert not bool(end.converged)
    assert float(end.predicted_gain) > 1e-6


def test_values_never_fall():
    values = []
    surface = Surface(lambda v: torch.sin(3.0 * v[0]) * torch.cos(v[1]) - 0.05 * (v @ v), 2)
    newton_ascent(surface, 3.0 * torch.randn(1, 6, 2, dtype=DTYPE, generator=seeded(0)), callback=values.append)
    assert bool((torch.cat(values).diff(dim=0) >= -1e-12).all())


@pytest.mark.parametrize("signature", [(1.0, 2.0, 3.0), (1.0, 0.0, 2.0), (1.0, -1.0, 2.0), (0.0, 0.0, 0.0)])
def test_damping_makes_any_symmetric_matrix_positive_definite(signature):
    basis, _ = torch.linalg.qr(torch.randn(3, 3, dtype=DTYPE, generator=seeded(0)))
    matrix = (basis * torch.tensor(signature, dtype=DTYPE)) @ basis.mT
    factor, used = damped_cholesky(matrix[None])
    assert bool(torch.isfinite(factor).all())
    damped = matrix + torch.diag(float(used) * matrix.diagonal().abs().clamp(min=torch.finfo(DTYPE).tiny))
    assert torch.allclose(factor[0] @ factor[0].mT, damped, atol=1e-14)
    if signature != (1.0, 0.0, 2.0):  # here rounding decides whether a singular matrix has a factor as it is
        assert (float(used) == 0.0) == (min(signature) > 0.0)


def test_solve_ascent_is_the_newton_step():
    root = torch.randn(4, 4, dtype=DTYPE, generator=seeded(1))
    hessian, gradient = -(root @ root.mT) - torch.eye(4, dtype=DTYPE), torch.ones(4, dtype=DTYPE)
    torch.testing.assert_close(solve_ascent(gradient, hessian), torch.linalg.solve(-hessian, gradient))


class Bananas(Surface):
    """A banana for each data set, of which some are harder to climb; ``sizes`` keeps how many each evaluation saw."""

    def __init__(self, bends, sizes):
        self.bends, self.sizes = bends, sizes
        self.lower = torch.full((2,), -torch.inf, dtype=DTYPE)

    def value(self, theta: Tensor) -> Tensor:
        a, b = theta[..., 0], theta[..., 1]
        return -self.bends[:, None] * (b - a**2) ** 2 - (1.0 - a) ** 2

    def evaluate(self, theta: Tensor) -> Evaluation:
        self.sizes.append(theta.shape[:2])
        a, b, bend = theta[..., 0], theta[..., 1], self.bends[:, None]
        gap = b - a**2
        gradient = torch.stack([4 * bend * a * gap + 2 * (1 - a), -2 * bend * gap], -1)
        first = torch.stack([4 * bend * (gap - 2 * a**2) - 2, 4 * bend * a], -1)
        second = torch.stack([4 * bend * a, torch.full_like(a, -2.0) * bend], -1)
        return Evaluation(self.value(theta), gradient, torch.stack([first, second], -2))

    def on_sets(self, sets: Tensor) -> "Bananas":
        return Bananas(self.bends[sets], self.sizes)


def test_data_sets_climb_as_if_alone_and_leave_the_work_when_done():
    bends = torch.tensor([0.0, 1.0, 100.0, 1.0], dtype=DTYPE) + 0.01
    starts = torch.tensor([[[-1.2, 1.0], [1.0, 1.0], [0.5, 0.0]]], dtype=DTYPE).expand(4, -1, -1)
    sizes = []
    together = newton_ascent(Bananas(bends, sizes), starts)
    assert sizes[0] == (4, 3)
    assert sizes[-1] == (1, 1)
    for index in range(4):
        alone = newton_ascent(Bananas(bends[index : index + 1], []), starts[:1])
        torch.testing.assert_close(together.theta[index], alone.theta[0])
        assert bool(together.converged[index].all())
