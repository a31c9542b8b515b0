"""The four ways to a posterior against closed forms and quadrature."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import norm
from torch.distributions import Distribution, MultivariateNormal

from estimators import EM
from estimators.bayes import (
    BayesianMixtureOfExperts,
    LaplaceApproximation,
    fit_chi_square,
    fit_nuts,
    fit_svi,
    laplace,
)
from estimators.bayes.randomness import pyro_scope
from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
from mixkit.datasets import load_tone

from .cases import DTYPE, one_line, two_means

_SIGMAS = 5.0  # a statistic of its distribution's own mean is farther off in 6 of 10 million runs


@pytest.fixture(scope="module")
def line():
    """A conjugate regression, with the exact posterior of (slope, intercept) and the log-evidence."""
    model, x, y = one_line()
    priors = {"slope": dist.Normal(0.0, 2.0), "intercept": dist.Normal(1.0, 3.0)}
    bayes = BayesianMixtureOfExperts(model, x, y, priors=priors)
    design = torch.cat([x, torch.ones_like(x)], -1)
    mean, scale = torch.tensor([0.0, 1.0], dtype=DTYPE), torch.diag(torch.tensor([4.0, 9.0], dtype=DTYPE))
    noise = 0.49 * torch.eye(len(y), dtype=DTYPE)
    evidence = MultivariateNormal(design @ mean, design @ scale @ design.T + noise).log_prob(y)
    precision = design.T @ design / 0.49 + torch.linalg.inv(scale)
    covariance = torch.linalg.inv(precision)
    center = covariance @ (design.T @ y / 0.49 + torch.linalg.solve(scale, mean))
    return bayes, center.numpy(), covariance.numpy(), float(evidence)


@pytest.fixture(scope="module")
def pair():
    """Two means, with the log-evidence and the mean of the smaller one by quadrature over the plane."""
    model, x, y = two_means()
    bayes = BayesianMixtureOfExperts(model, x, y, priors={"intercept": dist.Normal(1.0, 2.0)}, ordering="intercept")
    grid = torch.linspace(-6.0, 8.0, 561, dtype=DTYPE)
    points = torch.cartesian_prod(grid, grid)
    values = torch.vmap(bayes.log_density, chunk_size=20_000)(points)
    step = 2.0 * math.log(float(grid[1] - grid[0]))
    evidence = float(torch.logsumexp(values, 0)) + step
    smaller = float((torch.softmax(values, 0) * points.amin(-1)).sum())
    return bayes, evidence, smaller


def test_laplace_is_exact_where_the_posterior_is_normal(line):
    bayes, center, covariance, evidence = line
    at = laplace(bayes, bayes.model)
    assert at.converged
    np.testing.assert_allclose(at.mode, center, rtol=1e-8)
    np.testing.assert_allclose(at.factor @ at.factor.T, covariance, rtol=1e-8)
    assert at.log_evidence == pytest.approx(evidence, abs=1e-6)


def test_laplace_reports_users_parameters(line):
    bayes, center, covariance, _ = line
    at = laplace(bayes, bayes.model)
    assert len(at.param_names) == 2
    np.testing.assert_allclose(np.sort(at.params), np.sort(center))
    np.testing.assert_allclose(np.sort(at.std), np.sort(np.sqrt(np.diag(covariance))))
    half = norm.ppf(0.95) * at.std
    np.testing.assert_allclose(at.interval(level=0.9), at.params[:, None] + np.outer(half, [-1.0, 1.0]))


def test_the_table_of_laplace_is_near_that_of_a_fit():
    """150 rows and weak priors: a mode within a standard error of the maximum, deviations within a quarter."""
    x, y = load_tone()
    generator = torch.Generator().manual_seed(0)
    gate, experts = softmax_gate(1, 2, generator=generator), linear_gaussian_experts(1, 2, generator=generator)
    model = MixtureOfExperts(gate, experts)
    fit = EM(random_state=0, n_init=3).fit(model, x, y)
    at = laplace(BayesianMixtureOfExperts(fit.model, x, y), fit.model)
    assert at.param_names == fit.param_names
    assert (np.abs(at.params - fit.params) < fit.bse).all()
    np.testing.assert_allclose(at.std, fit.bse, rtol=0.25)
    ends = at.interval()
    np.testing.assert_allclose(ends[-2:].prod(1), at.params[-2:] ** 2)  # standard deviations: the log scale
    table = at.summary(level=0.9)
    frame = table.to_frame()
    assert list(frame.columns) == ["mode", "std", "0.05", "0.95"]
    np.testing.assert_array_equal(frame.to_numpy(), np.column_stack([at.params, at.std, at.interval(level=0.9)]))
    assert "Log-evidence" in str(table)
    assert "Gates are relative to expert 1" in str(table)
    with pytest.raises(ValueError, match="level must be strictly between 0 and 1"):
        at.summary(level=1.5)
    with pytest.raises(ValueError, match="bayes must be given"):
        LaplaceApproximation(at.mode, at.factor, at.log_density, True).summary()


def test_chi_square_finds_evidence_and_moments(line):
    bayes, center, covariance, evidence = line
    posterior = fit_chi_square(bayes, steps=150, num_samples=500, random_state=1)
    sample = posterior.importance
    assert abs(sample.log_evidence - evidence) < _SIGMAS * sample.standard_error
    mean, error = sample.expectation(lambda p: torch.cat([p[n].flatten() for n in bayes.shapes]))
    assert (np.abs(mean.numpy() - center) < _SIGMAS * error.numpy()).all()
    assert sample.ess > 0.8 * len(sample.log_weights)  # a t law against a normal one
    assert posterior.history[-20:].mean() < posterior.history[:20].mean()  # the divergence fell
    np.testing.assert_allclose(posterior.std, np.sqrt(np.diag(covariance)), rtol=0.25)


def test_the_gradient_is_that_of_the_divergence(line):
    """The loss whose gradient Adam takes against the derivative of a large sample's log E w^2, by differences."""
    from estimators.bayes.chi_square import _StudentProposal
    from estimators.bayes.importance import log_target

    bayes = line[0]
    at = laplace(bayes, bayes.model)
    proposal = _StudentProposal(at.mode, 10.0)
    base = _StudentProposal(at.mode, 5.0)
    with torch.no_grad():
        proposal.location.add_(0.2)
    z = base.draw(4000, np.random.default_rng(0))
    fixed = 2.0 * log_target(bayes, at, z) - base.log_prob(z).detach()  # E_q w^2 = E_base p^2 / (q base)

    def log_second_moment():
        return torch.logsumexp(fixed - proposal.log_prob(z), 0)

    (exact,) = torch.autograd.grad(log_second_moment(), proposal.location)
    log_q = proposal.log_prob(z)
    weights = torch.softmax(fixed - log_q.detach(), 0)  # w^2 under q, by way of base
    (ours,) = torch.autograd.grad(-(weights * log_q).sum(), proposal.location)
    torch.testing.assert_close(ours, exact)


@pytest.mark.parametrize("guide", ["auto_normal", "auto_multivariate"])
def test_svi_finds_a_normal_posterior(line, guide):
    bayes, center, covariance, evidence = line
    posterior = fit_svi(bayes, guide=guide, steps=400, num_samples=400, random_state=0)
    sample = posterior.importance
    assert abs(sample.log_evidence - evidence) < _SIGMAS * max(sample.standard_error, 1e-3)
    assert sample.ess > 0.9 * 400
    std = np.sqrt(np.diag(covariance))
    assert (np.abs(posterior.mean - center) < (0.2 + _SIGMAS / 20.0) * std).all()
    assert posterior.history[-50:].mean() <= evidence + 0.1  # a lower bound


def test_nuts_finds_a_normal_posterior(line):
    bayes, center, covariance, _ = line
    posterior = fit_nuts(bayes, num_samples=150, warmup=60, num_chains=2, random_state=0)
    std = np.sqrt(np.diag(covariance))
    assert posterior.num_divergences == 0
    assert (posterior.r_hat < 1.1).all()
    assert (posterior.ess > 100).all()
    assert (np.abs(posterior.mean - center) < _SIGMAS * std / np.sqrt(posterior.ess)).all()
    np.testing.assert_allclose(posterior.std, std, rtol=_SIGMAS / math.sqrt(200.0))


class TestTwoCopies:
    """Two exchangeable experts: the evidence counts both copies, the draws keep to one."""

    def test_chi_square(self, pair):
        bayes, evidence, smaller = pair
        posterior = fit_chi_square(bayes, steps=150, num_samples=500, random_state=0)
        sample = posterior.importance
        assert sample.num_copies == 2
        assert abs(sample.log_evidence - evidence) < _SIGMAS * sample.standard_error
        mean, error = sample.expectation(lambda p: p["experts.predictor.intercept"].amin(-1))
        assert abs(float(mean) - smaller) < _SIGMAS * float(error)

    def test_svi(self, pair):
        bayes, evidence, _ = pair
        posterior = fit_svi(bayes, steps=300, num_samples=500, random_state=0)
        assert abs(posterior.importance.log_evidence - evidence) < _SIGMAS * posterior.importance.standard_error

    def test_nuts_keeps_the_order(self, pair):
        bayes, _, smaller = pair
        posterior = fit_nuts(bayes, num_samples=120, warmup=60, num_chains=2, random_state=0)
        draws = posterior.samples["experts.predictor.intercept"]
        assert draws.shape == (2, 120, 2)
        assert bool((draws[..., 0] <= draws[..., 1]).all())
        error = posterior.std[0] / math.sqrt(posterior.ess[0])
        assert abs(posterior.mean[0] - smaller) < _SIGMAS * error


class TestSeeds:
    @pytest.mark.parametrize(
        "fit",
        [
            lambda b, seed: fit_chi_square(b, steps=5, num_samples=20, random_state=seed),
            lambda b, seed: fit_svi(b, steps=5, num_samples=20, random_state=seed),
            lambda b, seed: fit_nuts(b, num_samples=10, warmup=5, num_chains=2, random_state=seed),
        ],
        ids=["chi-square", "svi", "nuts"],
    )
    def test_same_seed_same_bits(self, line, fit):
        first, second, other = (fit(line[0], seed) for seed in (3, 3, 4))
        assert torch.equal(first.values, second.values)
        assert not torch.equal(first.values, other.values)

    def test_chains_differ(self, line):
        values = fit_nuts(line[0], num_samples=5, warmup=5, num_chains=2, random_state=0).values
        assert not torch.equal(values[0], values[1])

    def test_pyros_settings_are_put_back(self, line):
        for validate in (True, False):
            Distribution.set_default_validate_args(validate)
            fit_svi(line[0], steps=2, num_samples=4, random_state=0)
            assert Distribution._validate_args is validate
            with pytest.raises(RuntimeError, match="inside"), pyro_scope(0):
                raise RuntimeError("inside")
            assert Distribution._validate_args is validate


def test_no_steps_leave_the_law_around_the_mode(line):
    posterior = fit_chi_square(line[0], steps=0, num_samples=50, random_state=0)
    assert len(posterior.history) == 0
    assert posterior.importance.log_evidence == pytest.approx(line[3], abs=0.1)  # a standard error of 0.01


def test_reprs_are_one_line(line):
    at = laplace(line[0], line[0].model)
    figures = f"log_density={at.log_density:.4f}, log_evidence={at.log_evidence:.4f}"
    assert repr(at) == f"LaplaceApproximation(parameters=2, {figures}, converged=True)"
    assert repr(line[0]) == "BayesianMixtureOfExperts(k=1, n=30, parameters=2, ordering='nearest')"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda b: laplace(b.model), TypeError, "bayes must be a BayesianMixtureOfExperts, got MixtureOfExperts"),
        (lambda b: laplace(b, b), TypeError, r"start must be a MixtureOfExperts \(.*model\), got Bayesian"),
        (lambda b: laplace(b, two_means()[0]), ValueError, "start must have the parameters of the model of bayes"),
        (lambda b: fit_chi_square(b, at=b.model), TypeError, r"at must be a LaplaceApproximation \(.*\), got Mixture"),
        (lambda b: fit_svi(b, at=b.model), TypeError, "at must be a LaplaceApproximation"),
        (lambda b: fit_nuts(b, at=b.model), TypeError, "at must be a LaplaceApproximation"),
        (lambda b: fit_nuts(b.model), TypeError, "bayes must be a BayesianMixtureOfExperts, got MixtureOfExperts"),
        (
            lambda b: fit_chi_square(b, at=LaplaceApproximation(torch.zeros(3), torch.eye(3), 0.0, True)),
            ValueError,
            "at must have the 2 parameters of bayes, got 3",
        ),
    ],
)
def test_arguments_of_another_kind_are_refused(line, call, error, message):
    with pytest.raises(error, match=message):
        call(line[0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda b: fit_svi(b, guide="auto"), ValueError, "guide must be one of"),
        (lambda b: fit_svi(b, steps=0), ValueError, "steps must be at least 1"),
        (lambda b: fit_svi(b, lr=-1.0), ValueError, "lr must be positive"),
        (lambda b: fit_chi_square(b, df=1.0), ValueError, "df must be at least 2, got 1.0"),
        (lambda b: fit_chi_square(b, particles=1), ValueError, "particles must be at least 2"),
        (lambda b: fit_nuts(b, num_samples=2), ValueError, "num_samples must be at least 4"),
        (lambda b: fit_nuts(b, target_accept=1.0), ValueError, "target_accept must be strictly between 0 and 1"),
    ],
)
def test_bad_settings_are_refused(line, call, error, message):
    with pytest.raises(error, match=message):
        call(line[0])
