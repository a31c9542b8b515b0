"""EM: never down, agrees with scikit-learn where it must, and with what M-steps should be."""

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from estimators import EM, GivenResponsibilities, RandomPartition
from estimators.data.dataset import Data
from estimators.objectives.choose import make_objective
from estimators.optimizers.em_iterations import em_iterations
from mixkit import ConstantPredictor, GaussianExperts, MixtureOfExperts, constant_gate
from mixkit.datasets import load_faithful

from .models import DTYPE, LINEAR_CASES, seeded, softmax_model

NONE_PINNED = torch.zeros(2, dtype=torch.bool)


def random_problem(case, seed):
    """A model, data from noise or from another model of the form, and a random start."""
    k, d, n = 2 + seed % 4, 2, 30 + 10 * (seed % 7)
    model = case.model(d, k, seed)
    x, y = case.data(n, d, seed)
    if seed % 2 and not case.counts:
        with torch.no_grad():
            y = case.model(d, k, seed + 1)(x).sample(generator=seeded(seed))
    objective = make_objective(model, Data(x[None], y[None], None), 1e-6, NONE_PINNED)
    return objective, torch.randn((1, 1, objective.num_params), dtype=DTYPE, generator=seeded(seed + 7))


def test_em_never_lowers_the_log_likelihood_on_500_random_problems():
    problems = 0
    for seed in range(56):
        for case in LINEAR_CASES:
            objective, theta = random_problem(case, seed)
            values = [objective.value(objective.project(theta))]
            run = em_iterations(objective, objective.project(theta), 8, callback=values.append)
            path = torch.cat(values).flatten()
            assert bool(torch.isfinite(path).all()), (case.name, seed)
            rounding = 1e-11 * path.abs().max()
            assert bool((path.diff() >= -rounding).all()), (case.name, seed, path.diff().min())
            torch.testing.assert_close(objective.value(run.theta), run.value)
            problems += 1
    assert problems >= 500


def test_constant_gates_agree_with_gaussian_mixture():
    _, y = load_faithful()
    k = 2
    labels = (y > 70).long()
    resp = torch.nn.functional.one_hot(labels, k).to(DTYPE)
    means, weights = [y[labels == j].mean() for j in range(k)], resp.mean(0)
    variances = [y[labels == j].var(correction=0) for j in range(k)]
    peer = GaussianMixture(
        k,
        tol=1e-14,
        max_iter=5000,
        reg_covar=0.0,
        means_init=np.reshape(means, (k, 1)),
        weights_init=weights.numpy(),
        precisions_init=1.0 / np.reshape(variances, (k, 1, 1)),
    ).fit(y[:, None])
    experts = GaussianExperts(ConstantPredictor(k, dtype=DTYPE, generator=seeded(0)), dtype=DTYPE)
    model = MixtureOfExperts(constant_gate(k, dtype=DTYPE), experts)
    result = EM(n_init=1, starts=[GivenResponsibilities(resp.mT)]).fit(
        model, torch.arange(len(y), dtype=DTYPE)[:, None], y
    )
    assert result.converged
    assert result.llf == pytest.approx(peer.score(y[:, None]) * len(y), abs=1e-8)
    order = np.argsort(peer.means_[:, 0])
    found = result.model.experts.predictor.intercept.detach().numpy()
    np.testing.assert_allclose(found[np.argsort(found)], peer.means_[order, 0], rtol=1e-5)
    np.testing.assert_allclose(
        result.model.experts.log_std.detach().exp().square().numpy()[np.argsort(found)],
        peer.covariances_[order, 0, 0],
        rtol=1e-4,
    )


def test_alone_em_stops_by_the_relative_gain():
    x, y = load_faithful()
    alone = EM(finish=False, em_iter=1000, em_tol=1e-4, random_state=0).fit(softmax_model(1, 2), x, y)
    finished = EM(random_state=0).fit(softmax_model(1, 2), x, y)
    assert len(alone.history) < 1000
    assert alone.llf < finished.llf
    assert alone.predicted_gain > 1e-7 > finished.predicted_gain  # what EM left on the table


def test_an_expert_without_data_keeps_its_coefficients():
    x, y = load_faithful()
    objective = make_objective(softmax_model(1, 2), Data(x[None], y[None], None), 1e-6, NONE_PINNED[:1])
    given = torch.zeros((1, 1, 2, len(y)), dtype=DTYPE)
    given[:, :, 0] = 1.0
    theta = objective.from_responsibilities(given)
    model = softmax_model(1, 2)
    objective.write(theta[0, 0], model)
    predictor = model.experts.predictor
    slope, intercept = np.polyfit(x[:, 0], y, 1)
    np.testing.assert_allclose(predictor.slope.detach()[:, 0], [slope, 0.0], atol=1e-12)
    np.testing.assert_allclose(predictor.intercept.detach(), [intercept, y.mean()])  # where all starts begin
    assert bool(torch.isfinite(objective.evaluate(theta).value).all())


@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")  # y is noise: gates separate
@pytest.mark.parametrize("case", LINEAR_CASES, ids=lambda case: case.name)
def test_a_fit_never_ends_below_its_start(case):
    model, (x, y) = case.model(2, 3, 5), case.data(80, 2, 5)
    with torch.no_grad():
        start = float(model.log_prob(x, y).sum())
    result = EM(n_init=0, starts=[], start_at_model=True).fit(model, x, y)
    assert result.llf >= start
    assert bool((np.diff(result.history) >= -1e-9 * abs(result.llf)).all())


def test_same_seed_same_bits():
    x, y = load_faithful()
    settings = {"n_init": 4, "starts": [RandomPartition()], "random_state": 3}
    first, second = (EM(**settings).fit(softmax_model(1, 2), x, y) for _ in range(2))
    assert first.llf == second.llf
    np.testing.assert_array_equal(first.params, second.params)
