"""Which ends of climbs on a subsample go on."""

import re
import warnings

import numpy as np
import pytest
import torch

from estimators import EM
from estimators.data.dataset import as_data
from estimators.objectives.choose import make_objective
from estimators.optimizers.newton import newton_ascent
from estimators.search.optima import Optima, _distinct, best_end, ranking, surviving
from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
from mixkit.datasets import load_faithful, load_mcycle

DTYPE = torch.float64


@pytest.fixture
def problem():
    x, y = load_faithful()
    settings = {"dtype": DTYPE, "generator": torch.Generator().manual_seed(0)}
    model = MixtureOfExperts(softmax_gate(1, 2, **settings), linear_gaussian_experts(1, 2, **settings))
    data = as_data(model, x, y, None, is_batch=False)
    objective = make_objective(model, data, 1e-6, torch.zeros(1, dtype=torch.bool))
    theta = EM(random_state=0)._best_optima(model, data)[1].theta
    return model, objective, data, theta


def ends_at(objective, *thetas):
    return newton_ascent(objective, torch.cat(thetas, 1), max_iter=0, tol=1e-9)


def test_a_clearly_beaten_end_is_left_behind(problem):
    model, objective, data, theta = problem
    worse = theta.clone()
    worse[..., -2:] += 2.0  # both log standard deviations
    kept = surviving(model, objective, data, ends_at(objective, worse, theta), 4)
    assert torch.equal(kept, theta)


def test_an_end_within_chance_goes_on_behind_the_best(problem):
    model, objective, data, theta = problem
    close = theta + 0.01
    kept = surviving(model, objective, data, ends_at(objective, close, theta), 4)
    assert torch.equal(kept, torch.cat([theta, close], 1))
    assert torch.equal(surviving(model, objective, data, ends_at(objective, close, theta), 1), theta)


def test_equal_ends_are_one(problem):
    model, objective, data, theta = problem
    assert torch.equal(surviving(model, objective, data, ends_at(objective, theta, theta, theta), 4), theta)


def chosen_of(objective, ends, values, converged):
    """The position of the best end, of ends with given values."""
    told = ends._replace(value=torch.tensor([values], dtype=DTYPE), converged=torch.tensor([converged]))
    best = best_end(objective, Optima(told, [], told.value)).ascent.theta
    (position,) = (ends.theta == best).all(-1)[0].nonzero()
    return position.item()


def test_of_ends_that_are_equal_to_rounding_the_first_is_best(problem):
    """Else the order of the experts would be another on another processor."""
    _, objective, _, theta = problem
    ends = ends_at(objective, theta, theta + 0.01, theta + 0.02)
    assert chosen_of(objective, ends, [-300.0, -300.0 + 1e-12, -300.0 - 1e-12], [True] * 3) == 0
    assert chosen_of(objective, ends, [-300.0 - 1e-5, -300.0, -300.0 + 1e-12], [True] * 3) == 1
    assert chosen_of(objective, ends, [-300.0, -300.0 - 1e-12, -300.0], [False, True, True]) == 1
    assert chosen_of(objective, ends, [-torch.inf, -300.0, -torch.inf], [False] * 3) == 1


def test_of_equal_ends_that_go_on_the_first_start_stands_for_all(problem):
    model, objective, data, theta = problem
    ends = ends_at(objective, theta, theta + 0.01, theta + 0.02)
    nearly = ends._replace(value=torch.tensor([[-310.0 - 1e-12, -300.0, -310.0]], dtype=DTYPE))
    assert torch.equal(surviving(model, objective, data, nearly, 1), theta + 0.01)
    different = _distinct(nearly.value[0], torch.tensor([1, 2, 0]), 4)
    assert different == [1, 0]


def test_ends_that_are_not_finite_rank_last_and_do_not_disturb_the_others(problem):
    _, objective, _, theta = problem
    ends = ends_at(objective, theta, theta + 0.01)
    broken = ends._replace(value=torch.cat([torch.full((1, 1), -torch.inf), ends.value[:, 1:]], 1).to(DTYPE))
    rank = ranking(objective, broken)
    assert rank[0, 0] == -torch.inf
    assert rank[0, 1] == ends.value[0, 1]


@pytest.mark.parametrize("scale", [1e-6, 1.0 / 272.0, 50.0])
def test_ends_rank_alike_whatever_the_scale_of_the_weights(problem, scale):
    model, plain, data, theta = problem
    collapsed = theta.clone()
    collapsed[..., -1] = plain.lower[-1]  # a variance at its floor
    starved = theta.clone()
    starved[..., 1] += 1e3  # a gate that gives the other expert no observation
    weighted = make_objective(model, data._replace(weight=torch.full_like(data.y, scale)), 1e-6, torch.zeros(1).bool())
    thetas = torch.cat([collapsed, theta, starved], 1)
    torch.testing.assert_close(weighted.observations(thetas), plain.observations(thetas))
    ends = newton_ascent(plain, thetas, max_iter=0, tol=1e-9)
    scaled = newton_ascent(weighted, thetas, max_iter=0, tol=1e-9)
    orders = [ranking(o, e).argsort(-1).tolist() for o, e in ((plain, ends), (weighted, scaled))]
    assert orders[0] == orders[1]
    assert orders[1][0][-1] == 1


def test_rows_of_weight_zero_are_no_observations(problem):
    model, _, data, theta = problem
    weight = torch.full_like(data.y, 3.0)
    weight[:, 100:] = 0.0
    objective = make_objective(model, data._replace(weight=weight), 1e-6, torch.zeros(1).bool())
    assert objective.mean_weight.item() == 3.0
    assert objective.observations(theta).sum().item() == pytest.approx(100.0)


def test_weights_that_sum_to_one_end_at_the_maximum_of_weights_of_one():
    x, y = load_faithful()
    settings = {"dtype": DTYPE, "generator": torch.Generator().manual_seed(0)}
    model = MixtureOfExperts(softmax_gate(1, 4, **settings), linear_gaussian_experts(1, 4, **settings))
    plain = EM(random_state=0).fit(model, x, y)
    normalized = EM(random_state=0).fit(model, x, y, np.full(len(y), 1.0 / len(y)))
    assert normalized.llf * len(y) == pytest.approx(plain.llf, rel=1e-9)
    assert normalized.predicted_gain * len(y) < 1e-9
    assert without_numbers(normalized.warnings) == without_numbers(plain.warnings)


def without_numbers(remarks):
    """Log-likelihoods are of another scale if weights are."""
    return [re.sub(r"-?\d+\.\d+", "", remark) for remark in remarks]


def test_growing_subsamples_find_the_maximum_of_a_search_on_all_the_data():
    rng = np.random.default_rng(3)
    x = rng.uniform(-1.0, 1.0, size=(20_000, 2))
    label = rng.uniform(size=len(x)) < 1.0 / (1.0 + np.exp(-4.0 * x[:, 0]))
    y = np.where(label, 1.0 + x @ [2.0, -1.0], -1.0 + x @ [-1.0, 0.5]) + 0.5 * rng.normal(size=len(x))
    settings = {"dtype": DTYPE, "generator": torch.Generator().manual_seed(0)}
    model = MixtureOfExperts(softmax_gate(2, 2, **settings), linear_gaussian_experts(2, 2, **settings))
    grown = EM(random_state=0, subsample=300).fit(model, x, y)  # on 300, 2,400, then all
    whole = EM(random_state=0, subsample=20_000).fit(model, x, y)
    assert grown.converged
    assert grown.llf == pytest.approx(whole.llf, rel=1e-12)
    assert len(grown.start_llf) == len(whole.start_llf) == 10 + 6  # starts, and one round of moves


def test_a_floor_that_was_chosen_is_a_constraint_and_no_sign_of_collapse():
    """Before the impact nothing moves: the best expert of those rows has the least variance that it may have."""
    x, y = load_mcycle()
    settings = {"dtype": DTYPE, "generator": torch.Generator().manual_seed(0)}
    model = MixtureOfExperts(softmax_gate(1, 4, **settings), linear_gaussian_experts(1, 4, **settings))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen, safeguard = (
            EM(random_state=0, n_init=4, n_moves=0, variance_floor=floor).fit(model, x, y) for floor in (3e-3, 9e-5)
        )
    least = [float(fit.model.experts.log_std.detach().exp().min() / y.std(correction=0)) for fit in (chosen, safeguard)]
    assert least[0] == pytest.approx(3e-3**0.5)
    assert chosen.llf == pytest.approx(chosen.start_llf.max())
    assert least[1] > 9e-5**0.5
