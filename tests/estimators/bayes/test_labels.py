"""Naming experts: one of k! permutations, always the same one."""

import itertools
import math

import pyro.distributions as dist
import pytest
import torch

from estimators.bayes import BayesianMixtureOfExperts
from estimators.bayes.labels import NearestLabels, SortedLabels, Unlabeled, is_exchangeable, labeling, permute
from estimators.bayes.laplace import LaplaceApproximation

from .cases import CASES, DTYPE, K, seeded

GAUSSIAN, SHARED, NETWORK = CASES[0], CASES[1], CASES[9]


def near(bayes, spread=0.3):
    """A normal law around the model's own parameters, as good as any for naming."""
    vector = bayes.vector(bayes.read(bayes.model))
    factor = spread * torch.eye(len(vector), dtype=DTYPE)
    return LaplaceApproximation(vector, factor, 0.0, True)


def draws_of(bayes, at, count=20):
    return bayes.parameters(at.to_vector(torch.randn(count, bayes.num_params, dtype=DTYPE, generator=seeded(7))))


@pytest.mark.parametrize("case", [GAUSSIAN, SHARED, *CASES[2:9]], ids=lambda case: case.name)
def test_the_posterior_does_not_change_when_experts_are_permuted(case):
    bayes = BayesianMixtureOfExperts(case.model(), *case.data())
    assert is_exchangeable(bayes, near(bayes).mode)


def test_a_prior_or_a_hidden_layer_may_tell_experts_apart():
    prior = {"slope": dist.Normal(torch.tensor([[0.0], [1.0], [2.0]], dtype=DTYPE), 1.0)}
    bayes = BayesianMixtureOfExperts(GAUSSIAN.model(), *GAUSSIAN.data(), priors=prior)
    assert not is_exchangeable(bayes, near(bayes).mode)
    assert isinstance(labeling(bayes, near(bayes).mode, near(bayes).factor), Unlabeled)


def test_experts_of_one_network_are_its_last_rows():
    bayes = BayesianMixtureOfExperts(NETWORK.model(), *NETWORK.data())
    assert is_exchangeable(bayes, near(bayes).mode)


@pytest.mark.parametrize("case", [GAUSSIAN, SHARED], ids=lambda case: case.name)
@pytest.mark.parametrize("ordering", ["nearest", "intercept", "slope"])
def test_of_all_permutations_of_a_draw_one_is_in_order(case, ordering):
    bayes = BayesianMixtureOfExperts(case.model(), *case.data(), ordering=ordering)
    at = near(bayes)
    labels, draws = labeling(bayes, at.mode, at.factor), draws_of(bayes, at)
    assert labels.num_copies == math.factorial(K)
    held = []
    for order in itertools.permutations(range(K)):
        moved = permute(bayes, draws, torch.tensor(order).expand(20, -1))
        held.append(labels.holds(moved))
        named = permute(bayes, moved, labels.order(moved))
        reference = permute(bayes, draws, labels.order(draws))
        for name in named:
            torch.testing.assert_close(named[name], reference[name])
    assert torch.stack(held).sum(0).tolist() == [1] * 20


def test_the_nearest_names_undo_a_permutation(monkeypatch):
    bayes = BayesianMixtureOfExperts(GAUSSIAN.model(), *GAUSSIAN.data())
    at = near(bayes, 0.02)
    draws, order = draws_of(bayes, at), torch.tensor([2, 0, 1]).expand(20, -1)
    labels = NearestLabels(bayes, at.mode, at.factor)
    shifted = {n: v + 1.0 if n in bayes.translated else v for n, v in permute(bayes, draws, order).items()}
    found = labels.order(shifted)
    assert found.tolist() == [[1, 2, 0]] * 20
    monkeypatch.setattr("estimators.bayes.labels._MOST_LISTED", 2)  # the assignment for many experts
    assert torch.equal(labels.order(shifted), found)


def test_sorting_is_by_the_first_entry():
    labels = SortedLabels("slope", 2)
    draws = {"slope": torch.tensor([[[2.0, 0.0], [1.0, 5.0]], [[1.0, 9.0], [3.0, 0.0]]])}
    assert labels.order(draws).tolist() == [[1, 0], [0, 1]]
