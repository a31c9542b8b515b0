"""Profiles where refits are hard: gates that jump, coefficients that the lasso set to zero."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from estimators import EM, SingularInformationWarning
from estimators.inference import ProfileWarning, bootstrap, profile_intervals, profile_likelihood
from estimators.penalties import Lasso
from estimators.results.profile_roots import EndSearch
from mixkit.datasets import load_faithful

from .models import softmax_model


@pytest.fixture(scope="module")
def sharp():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(500, 1))
    y = np.where(x[:, 0] < 0.5, 1 + x[:, 0], 3 - 2 * x[:, 0]) + 0.1 * rng.normal(size=500)
    with pytest.warns(SingularInformationWarning, match="gate_weight"):
        return EM(random_state=0).fit(softmax_model(1, 2), x, y)


@pytest.fixture(scope="module", params=["array", "frame"])
def sparse(request):
    """The lasso sets the gate's weight of the second column to zero, whatever the columns are called."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    first = x[:, 0] + 0.5 * rng.logistic(size=300) > 0
    y = np.where(first, 1 + x[:, 0], -1 - 2 * x[:, 0]) + 0.3 * rng.normal(size=300)
    data = x if request.param == "array" else pd.DataFrame(x, columns=["x1", "x0"])  # each the name of the other
    result = EM(random_state=0, penalty=Lasso(20.0, 20.0)).fit(softmax_model(2, 2), data, y)
    assert result.maximum.objective.is_zeroed.nonzero().flatten().tolist() == [1]
    assert result.maximum.objective.zeroed == ["gate_weight[0,x1]"]
    return result


def best_border(result, weight: float) -> float:
    """The best log-likelihood with that weight on a grid of borders, the experts as they are: a lower bound."""
    objective = result.maximum.objective
    users = result.maximum.to_user
    borders = torch.linspace(0.4, 0.6, 401, dtype=torch.float64)
    vectors = users.linear(result.maximum.theta).repeat(len(borders), 1)
    vectors[:, result.param_names.index("gate_weight[0,x0]")] = weight
    vectors[:, result.param_names.index("gate_bias[0]")] = -weight * borders
    theta = torch.linalg.solve(users.matrix, (vectors - users.offset).mT).mT
    return float(objective.value(theta[None]).max())


class TestSharpGate:
    def test_refits_are_no_worse_than_a_scan_of_the_border(self, sharp):
        sign = np.sign(sharp.params[sharp.param_names.index("gate_weight[0,x0]")])
        weights = [sign * size for size in (100.0, 1000.0)]
        found = profile_likelihood(sharp, "gate_weight[0,x0]", weights)
        for weight, value in zip(weights, found, strict=True):
            assert best_border(sharp, weight) - 1e-6 <= value <= sharp.llf + 1e-6

    def test_only_the_flat_end_is_finite(self, sharp):
        names = ["gate_weight[0,x0]", "gate_bias[0]"]
        signs = np.sign([sharp.params[sharp.param_names.index(name)] for name in names])
        ends = np.sort(np.abs(profile_intervals(sharp, names)), axis=1)
        assert np.isinf(ends[:, 1]).all()
        assert (ends[:, 0] > 100).all() & (ends[:, 0] < 1000).all()
        for name, sign, end in zip(names, signs, ends[:, 0], strict=True):
            drop = 2 * (sharp.llf - profile_likelihood(sharp, name, [sign * end]))
            np.testing.assert_allclose(drop, 3.841459, rtol=1e-4)

    def test_many_rows_and_the_wrong_side_too(self):
        """There the experts change places, and refits end anywhere: those that have ended leave the work."""
        rng = np.random.default_rng(0)
        x = rng.uniform(size=(20_000, 1))
        y = np.where(x[:, 0] < 0.5, 1 + x[:, 0], 3 - 2 * x[:, 0]) + 0.1 * rng.normal(size=20_000)
        with pytest.warns(SingularInformationWarning, match="gate_weight"):
            result = EM(random_state=0, n_init=4).fit(softmax_model(1, 2), x, y)
        sign = np.sign(result.params[result.param_names.index("gate_weight[0,x0]")])
        with pytest.warns(ProfileWarning, match="numbered the experts otherwise"):
            found = profile_likelihood(result, "gate_weight[0,x0]", sign * np.array([-500.0, 100.0, 500.0, 1000.0]))
        assert np.isnan(found[0])
        assert (np.diff(found[1:]) > 0).all()
        assert best_border(result, sign * 1000.0) - 1e-6 <= found[-1] <= result.llf + 1e-6


class TestProfilesThatRiseAgain:
    """Old Faithful: towards a gate without slope, experts of other lines fit nearly as well."""

    def test_the_rise_is_found_and_is_no_reason_to_doubt(self):
        result = EM(random_state=0, n_init=4).fit(softmax_model(1, 2), *load_faithful())
        name = "gate_weight[0,x0]"
        at = result.params[result.param_names.index(name)]
        values = np.sign(at) * np.array([3.0, 2.1, 1.6, 0.6])
        drop = result.llf - profile_likelihood(result, name, values)
        assert drop[0] < drop[1] > drop[2] < drop[3]
        finer = result.llf - profile_likelihood(result, name, np.sign(at) * np.linspace(0.6, 3.0, 25))
        np.testing.assert_allclose(finer[[0, 10, 15, 24]], drop[::-1], atol=1e-6)

    def test_the_search_ends_where_the_level_is_crossed(self):
        def deviance(t):
            return t**2 * (1.0 + 0.9 * np.cos(4.0 * t))

        search = EndSearch(torch.tensor([1.0], dtype=torch.float64), 2.0)
        for active, distance in search.rounds():
            drop = 0.5 * torch.as_tensor(deviance(distance.numpy()))
            search.tell(active, distance, drop, torch.ones(1, dtype=torch.bool))
        assert deviance(search.ends().item()) == pytest.approx(4.0, rel=1e-5)


class TestZeroedCoefficients:
    def test_a_profile_is_refused(self, sparse):
        zero = sparse.param_names[1]
        with pytest.raises(ValueError, match=re.escape(f"the lasso set to zero, got {zero!r}")):
            profile_likelihood(sparse, zero, [-5.0, 0.0, 5.0])

    def test_an_interval_is_nan_with_the_reason(self, sparse):
        names = sparse.param_names[:2]
        with pytest.warns(ProfileWarning, match=re.escape(f"for {names[1]}, which the lasso set to zero")):
            ends = profile_intervals(sparse, names)
        assert np.isfinite(ends[0]).all()
        assert np.isnan(ends[1]).all()

    def test_the_penalty_counts_on_the_other_side_of_zero(self, sparse):
        """The lasso pulls towards zero from both sides: the profile falls from the estimate through zero and on."""
        name = sparse.param_names[sparse.maximum.to_user.names.index("slope[0,x1]")]
        at = sparse.params[sparse.param_names.index(name)]
        near, zero, beyond = profile_likelihood(sparse, name, [at, 0.0, -at])
        assert near > zero > beyond

    def test_the_bootstrap_gives_the_reason(self, sparse):
        with pytest.warns(SingularInformationWarning, match=re.escape(f"{sparse.param_names[1]}: the lasso set them")):
            bootstrap(sparse, 2, random_state=0)
