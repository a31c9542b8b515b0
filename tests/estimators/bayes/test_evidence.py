"""Evidence counts every labeling and proper priors; figures of quality are those of the weights."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy.special import logsumexp
from torch.distributions import Categorical, MixtureSameFamily, Normal

from estimators.bayes import BayesianMixtureOfExperts, ImportanceSample, ImportanceWarning, fit_chi_square, fit_svi
from estimators.bayes.importance import warn_of_weights
from estimators.bayes.truncated import PositivePart, on_positive
from mixkit import MixtureOfExperts, constant_gate, linear_gaussian_experts, softmax_gate
from mixkit.datasets import load_tone


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def tone(k, **options):
    x, y = load_tone()
    settings = {"generator": seeded()}
    model = MixtureOfExperts(softmax_gate(1, k, **settings), linear_gaussian_experts(1, k, **settings))
    return BayesianMixtureOfExperts(model, x[:60], y[:60], **options)


@pytest.mark.filterwarnings("ignore::estimators.bayes.ImportanceWarning")
@pytest.mark.parametrize("fit", [fit_chi_square, fit_svi])
def test_evidence_does_not_depend_on_what_users_call_the_experts(fit):
    found = [
        fit(tone(2, ordering=ordering), steps=20, random_state=0).importance.log_evidence
        for ordering in ("nearest", None)
    ]
    assert found[0] == found[1]


def test_evidence_of_experts_apart_counts_both_labelings():
    """Two locations far apart, everything else known by narrow priors: the sum over allocations is the truth."""
    y = torch.tensor([-3.0, -2.9, 3.1, 3.0], dtype=torch.float64)
    x = torch.ones((4, 1), dtype=torch.float64)
    model = MixtureOfExperts(constant_gate(2), linear_gaussian_experts(1, 2, generator=seeded()))
    priors = {"slope": Normal(0.0, 1e-6), "intercept": Normal(0.0, 10.0), "log_std": Normal(0.0, 1e-6)}
    bayes = BayesianMixtureOfExperts(model, x, y, priors={**priors, "bias": Normal(0.0, 1e-6)}, ordering=None)
    found = fit_chi_square(bayes, steps=0, random_state=0).importance
    terms = []
    for allocation in np.ndindex(2, 2, 2, 2):
        groups = [y.numpy()[np.array(allocation) == j] for j in range(2)]
        terms.append(4 * math.log(0.5) + sum(log_marginal(own, 10.0) for own in groups))
    assert found.log_evidence == pytest.approx(logsumexp(terms), abs=4.0 * found.standard_error + 1e-3)


def log_marginal(y, std):
    """Of normal observations of variance 1 whose mean is N(0, std^2)."""
    n = len(y)
    covariance = np.eye(n) + std**2
    return float(
        -0.5 * (n * math.log(2 * math.pi) + np.linalg.slogdet(covariance)[1] + y @ np.linalg.solve(covariance, y))
    )


def test_a_prior_of_a_scale_is_cut_off_at_zero():
    whole, half = (
        fit_chi_square(tone(1, priors={"std": prior}), steps=10, random_state=0).importance.log_evidence
        for prior in (dist.Normal(0.0, 1.0), dist.HalfNormal(1.0))
    )
    assert whole == pytest.approx(half, abs=1e-6)


def test_the_positive_part_is_the_conditional_distribution():
    part = PositivePart(Normal(0.3, 2.0).expand([3]))
    value = torch.tensor([-1.0, 0.5, 4.0])
    mass = 1.0 - Normal(0.3, 2.0).cdf(torch.tensor(0.0))
    expected = Normal(0.3, 2.0).log_prob(value) - mass.log()
    assert part.log_prob(value)[0] == -torch.inf
    torch.testing.assert_close(part.log_prob(value)[1:], expected[1:])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = part.sample((20_000,))
    assert (draws > 0).all()
    hazard = Normal(0.0, 1.0).log_prob(torch.tensor(-0.15)).exp() / mass  # mean 0.3 + 2 phi / P; error 0.01 a draw's
    assert draws.mean().item() == pytest.approx(0.3 + 2.0 * hazard.item(), abs=5 * 1.3 / math.sqrt(60_000))
    assert on_positive("std", dist.Gamma(2.0, 1.0)).__class__ is dist.Gamma


def test_a_prior_that_cannot_be_cut_off_is_refused_by_name():
    class Plain(dist.TorchDistribution):
        support = torch.distributions.constraints.real
        arg_constraints = {}  # noqa: RUF012
        mean = torch.zeros(())

        def log_prob(self, value):
            return -value.abs()

    with pytest.raises(ValueError, match=r"the prior of experts\.log_std must be one of positive values, .* got Plain"):
        tone(1, priors={"std": Plain(torch.Size())})
    both = MixtureSameFamily(Categorical(torch.ones(2)), Normal(torch.tensor([-1.0, 1.0]), 1.0))
    assert isinstance(on_positive("std", both), PositivePart)


# -- weights ----------------------------------------------------------------------------------------------------------


def sample_of(log_weights):
    return ImportanceSample({}, log_weights)


@pytest.mark.parametrize("shape", [0.2, 0.5, 1.0])
def test_the_pareto_k_of_pareto_weights_is_their_shape(shape):
    """Quantiles in place of draws; ten weights of 1/2 are mixed in."""
    levels = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    found = sample_of(-shape * torch.log1p(-levels)).pareto_k
    count = int(3.0 * math.sqrt(4000))
    assert found == pytest.approx((count * shape + 5.0) / (count + 10.0), abs=0.06)


def test_equal_weights_and_few_weights():
    assert sample_of(torch.zeros(100, dtype=torch.float64)).pareto_k == -math.inf
    assert math.isnan(sample_of(torch.zeros(20, dtype=torch.float64)).pareto_k)


def test_weights_of_heavy_tails_warn():
    levels = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    with pytest.warns(ImportanceWarning, match=r"Pareto k of 1\.\d+, above 0\.7"):
        warn_of_weights(sample_of(-1.5 * torch.log1p(-levels)))


def test_draws_are_worth_no_more_than_the_weights():
    posterior = fit_chi_square(tone(1), steps=5, df=2.0, num_samples=1000, random_state=0)
    assert (posterior.ess == min(1000.0, posterior.importance.ess)).all()
    assert np.isnan(posterior.r_hat).all()
    worth = fit_svi(tone(1), steps=5, num_samples=500, random_state=0)
    assert (worth.ess == worth.importance.ess).all()
    assert worth.importance.ess < 500
    assert str(worth.summary()).count(" -\n") == len(worth.param_names)
