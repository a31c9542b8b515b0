"""Every family: its objective against the model's own log-density, one expert against SciPy, R's mixtures."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy import optimize, special, stats

from estimators import EM, MLE
from estimators.data.dataset import Data
from estimators.objectives.choose import make_objective
from estimators.objectives.softmax_gate.objective import LinearObjective
from mixkit import BinomialExperts, ConstantPredictor, LinearPredictor, MixtureOfExperts, constant_gate, softmax_gate
from mixkit.experts import MixedExperts, PointMassExperts, family_by_name

from .flexmix_data import decayed_teeth, flexmix_frame
from .flexmix_fits import ROWS
from .models import DTYPE, seeded

D = 2


def numbers(*values):
    return torch.tensor(values, dtype=DTYPE)


def trials_model(k=3, offset=False):
    generator = seeded(7)
    predictor = LinearPredictor(D, k, offset=offset, dtype=DTYPE, generator=generator)
    gate = softmax_gate(D, k, dtype=DTYPE, generator=generator)
    return MixtureOfExperts(gate, BinomialExperts(predictor, trials=None))


def trials_data(n=40, offset=False):
    generator = seeded(8)
    x = torch.randn(n, D + offset, dtype=DTYPE, generator=generator)
    trials = torch.randint(1, 30, (n, 1), generator=generator).to(DTYPE)
    y = (trials[:, 0] * torch.rand(n, dtype=DTYPE, generator=generator)).round()
    return torch.cat([x, trials], -1), y


@torch.no_grad()
def moderate(name, k, **options):
    """A model of small coefficients, the experts set apart."""
    generator = seeded(7)
    gate = softmax_gate(D, k, dtype=DTYPE, generator=generator)
    model = MixtureOfExperts(gate, family_by_name(name, D, k, dtype=DTYPE, generator=generator, **options))
    for parameter in model.parameters():
        parameter.mul_(0.4)
    for constant in model.experts.constant_names:
        getattr(model.experts, constant).add_(-0.5)
    model.experts.predictor.intercept.add_(torch.arange(k) - 0.5 * k + 0.5)
    return model


def check_objective(model, x, y, kind):
    weight = torch.rand(len(x), dtype=DTYPE, generator=seeded(11))
    pinned = torch.zeros(x.shape[1], dtype=torch.bool)
    objective = make_objective(model, Data(x[None], y[None], weight[None]), 1e-6, pinned)
    assert type(objective) is kind
    theta = objective.read(model)

    def value(vector):
        law = torch.func.functional_call(model, objective.parameters(vector), (x,))
        return (weight * law.log_prob(y)).sum()

    evaluation = objective.evaluate(theta)
    torch.testing.assert_close(evaluation.value[0, 0], value(theta[0, 0]))
    torch.testing.assert_close(objective.value(theta), evaluation.value)
    gradient = torch.autograd.functional.jacobian(value, theta[0, 0])
    torch.testing.assert_close(evaluation.gradient[0, 0], gradient)
    torch.testing.assert_close(evaluation.hessian[0, 0], torch.autograd.functional.hessian(value, theta[0, 0]))


@pytest.mark.parametrize("offset", [False, True])
def test_the_objective_of_trials_in_x_is_the_models_log_likelihood(offset):
    check_objective(trials_model(offset=offset), *trials_data(offset=offset), LinearObjective)


FAST = {
    "zero_inflated_poisson": {},
    "zero_inflated_negative_binomial": {},
    "hurdle_poisson": {},
    "hurdle_negative_binomial": {},
    "truncated_poisson": {},
    "truncated_negative_binomial": {},
    "log_normal": {},
    "gamma": {},
    "inverse_gaussian": {},
    "beta": {},
    "ordinal": {"num_levels": 4},
}


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("offset", [False, True])
def test_every_family_has_the_fast_objective(name, offset):
    model = moderate(name, 3, offset=offset, **FAST[name])
    x = torch.randn(40, D + offset, dtype=DTYPE, generator=seeded(12))
    check_objective(model, x, model(x).sample(generator=seeded(13)).detach(), LinearObjective)


@pytest.mark.parametrize("name", ["log_normal", "gamma", "inverse_gaussian"])
def test_fits_of_positive_responses_follow_their_units(name):
    """Of y in other units the log-means are shifted, and the log-likelihood by the Jacobian; floors too."""
    model = moderate(name, 2)
    x = torch.randn(150, D, dtype=DTYPE, generator=seeded(14))
    y = model(x).sample(generator=seeded(15)).detach()
    fit, other = (EM(random_state=0, n_init=3).fit(model, x, unit * y) for unit in (1.0, 1e6))
    assert other.llf == pytest.approx(fit.llf - len(y) * np.log(1e6), abs=1e-5)
    floors = [
        make_objective(model, Data(x[None], (unit * y)[None], None), 1e-6, torch.zeros(D, dtype=torch.bool)).lower
        for unit in (1.0, 1e6)
    ]
    shift = -0.5 * np.log(1e6) if name == "inverse_gaussian" else 0.0
    torch.testing.assert_close(floors[1], floors[0] + shift * floors[0].isfinite())


def one_expert(name, **options):
    return MixtureOfExperts(
        constant_gate(1, dtype=DTYPE), family_by_name(name, D, 1, dtype=DTYPE, generator=seeded(0), **options)
    )


def binomial_of(eta, x, constants):
    return stats.binom(x[:, -1], special.expit(eta + x[:, D]))


class One(NamedTuple):
    """A family of one expert: how SciPy writes its distribution at linear predictors, and data."""

    law: Callable[[np.ndarray, np.ndarray, np.ndarray], Any]  # at eta (n,), x and constants
    data: Callable[[], tuple[torch.Tensor, torch.Tensor]]
    options: dict[str, Any] = {}  # noqa: RUF012


def drawn(name, **options):
    """Covariates, and responses of one expert of moderate coefficients."""

    def data(n=80):
        model = moderate(name, 1, **options)
        x = torch.randn(n, D, dtype=DTYPE, generator=seeded(9))
        return x, model(x).sample(generator=seeded(10)).detach()

    return data


def gamma_of(eta, x, constants):
    dispersion = np.exp(2.0 * constants[0])
    return stats.gamma(1.0 / dispersion, scale=np.exp(eta) * dispersion)


def inverse_gaussian_of(eta, x, constants):
    dispersion = np.exp(2.0 * constants[0])
    return stats.invgauss(np.exp(eta) * dispersion, scale=1.0 / dispersion)


def generalized_gaussian_of(eta, x, constants):
    return stats.gennorm(2.0 * np.exp(constants[1]), eta, np.exp(constants[0]))


def beta_of(eta, x, constants):
    precision = np.exp(-2.0 * constants[0])
    return stats.beta(precision * special.expit(eta), precision * special.expit(-eta))


class ChangedCounts:
    """Counts whose zeros are treated apart, over SciPy's."""

    def __init__(self, eta, counts, zero, is_inflated):
        self.counts = counts
        self.zero = zero + (1.0 - zero) * counts.pmf(0) * is_inflated
        self.log_factor = np.log1p(-zero) - (0.0 if is_inflated else counts.logsf(0))

    def logpmf(self, y):
        return np.where(y == 0, np.log(self.zero + (self.zero == 0)), self.log_factor + self.counts.logpmf(y))


def inflated_poisson_of(eta, x, constants):
    return ChangedCounts(eta, stats.poisson(np.exp(eta)), special.expit(constants[0]), is_inflated=True)


def hurdle_poisson_of(eta, x, constants):
    return ChangedCounts(eta, stats.poisson(np.exp(eta)), special.expit(constants[0]), is_inflated=False)


def truncated_negative_binomial_of(eta, x, constants):
    size = np.exp(-constants[0])
    return ChangedCounts(eta, stats.nbinom(size, size / (size + np.exp(eta))), 0.0, is_inflated=False)


def negative_binomial(eta, log_dispersion):
    size = np.exp(-log_dispersion)
    return stats.nbinom(size, size / (size + np.exp(eta)))


def inflated_negative_binomial_of(eta, x, constants):
    counts = negative_binomial(eta, constants[0])
    return ChangedCounts(eta, counts, special.expit(constants[1]), is_inflated=True)


def hurdle_negative_binomial_of(eta, x, constants):
    counts = negative_binomial(eta, constants[0])
    return ChangedCounts(eta, counts, special.expit(constants[1]), is_inflated=False)


def truncated_poisson_of(eta, x, constants):
    return ChangedCounts(eta, stats.poisson(np.exp(eta)), 0.0, is_inflated=False)


class Levels:
    """Ordered levels as SciPy's other distributions are called."""

    def __init__(self, eta, x, constants):
        cuts = np.cumsum([0.0, *np.exp(constants)])
        ends = np.full((len(eta), 1), np.inf)
        self.cuts = np.hstack([-ends, cuts - eta[:, None], ends])

    def logpmf(self, y):
        below = special.expit(np.take_along_axis(self.cuts, np.add(y[:, None].astype(int), [0, 1]), 1))
        return np.log(np.diff(below)[:, 0])


ONE = {
    "binomial": One(binomial_of, lambda: trials_data(offset=True), {"offset": True, "trials": None}),
    "gamma": One(gamma_of, drawn("gamma")),
    "inverse_gaussian": One(inverse_gaussian_of, drawn("inverse_gaussian")),
    "generalized_gaussian": One(generalized_gaussian_of, drawn("generalized_gaussian")),
    "beta": One(beta_of, drawn("beta")),
    "zero_inflated_poisson": One(inflated_poisson_of, drawn("zero_inflated_poisson")),
    "hurdle_poisson": One(hurdle_poisson_of, drawn("hurdle_poisson")),
    "zero_inflated_negative_binomial": One(inflated_negative_binomial_of, drawn("zero_inflated_negative_binomial")),
    "hurdle_negative_binomial": One(hurdle_negative_binomial_of, drawn("hurdle_negative_binomial")),
    "truncated_poisson": One(truncated_poisson_of, drawn("truncated_poisson")),
    "truncated_negative_binomial": One(truncated_negative_binomial_of, drawn("truncated_negative_binomial")),
    "ordinal": One(Levels, drawn("ordinal", num_levels=4), {"num_levels": 4}),
}


@pytest.mark.parametrize("name", ONE)
def test_one_expert_is_the_regression_by_scipy(name):
    """The same maximum, of a log-likelihood that SciPy computes and climbs; gradients there vanish by its own."""
    row = ONE[name]
    x, y = row.data()
    fit = MLE(random_state=0, n_init=1).fit(one_expert(name, **row.options), x, y)
    values, design = y.numpy(), np.column_stack([x[:, :D], np.ones(len(x))])

    def loss(vector):
        law = row.law(design @ vector[: D + 1], x.numpy(), vector[D + 1 :])
        return -(law.logpmf if is_discrete else law.logpdf)(values).sum()

    experts = fit.model.experts
    is_discrete = experts.dominating_measure.has_counts
    constants = [getattr(experts, constant).detach() for constant in experts.constant_names]
    ours = torch.cat([experts.predictor.slope[0].detach(), experts.predictor.intercept.detach(), *constants]).numpy()
    with np.errstate(all="ignore"):  # of steps too far
        peer = optimize.minimize(loss, ours + 0.02, method="BFGS", options={"gtol": 1e-5})
    assert fit.llf == pytest.approx(-loss(ours), abs=1e-8)
    assert fit.llf == pytest.approx(-peer.fun, abs=1e-6)
    assert ours == pytest.approx(peer.x, abs=1e-4)


def tribolium():
    """Beetles that remain, of a total, by species: dummies of the second and third in order of appearance."""
    rows = flexmix_frame("tribolium")
    species = rows["Species"]
    x = np.column_stack([species == "Confusum", species == "Madens", rows["Total"].astype(float)]).astype(float)
    return torch.as_tensor(x), torch.as_tensor(rows["Remaining"].to_numpy(float))


def test_remaining_beetles_have_the_mixture_of_flexmix():
    x, y = tribolium()
    generator = seeded(0)
    experts = BinomialExperts(ConstantPredictor(2, dtype=DTYPE, generator=generator), trials=None)
    model = MixtureOfExperts(softmax_gate(2, 2, dtype=DTYPE, generator=generator), experts)
    fit = EM(random_state=0).fit(model, x, y)
    assert fit.llf == pytest.approx(ROWS["tribolium"].llf, abs=1e-5)
    ours = dict(zip(fit.param_names, zip(fit.params, fit.bse, strict=True), strict=True))
    first, second = sorted((ours["intercept[0]"], ours["intercept[1]"]))
    published = [own["intercept"] for own in ROWS["tribolium"].experts]
    assert first == pytest.approx(published[0], rel=0.01)
    assert second == pytest.approx(published[1], rel=0.01)
    sign = 1.0 if ours["intercept[0]"] == second else -1.0  # their reference is the first expert, ours the last
    theirs = {
        "gate_bias[0]": (1.9736, 1.0932),
        "gate_weight[0,x0]": (-3.2244, 1.3833),
        "gate_weight[0,x1]": (-2.0894, 1.2990),
    }
    for name, (value, error) in theirs.items():
        assert (sign * ours[name][0], ours[name][1]) == pytest.approx((value, error), rel=0.01)
    assert fit.predict(x) == pytest.approx(fit.model(x).mean.detach().numpy())


@pytest.mark.parametrize("is_one_family", [False, True])
def test_zeros_among_teeth_are_those_of_flexmix(is_one_family):
    """A point mass beside one Poisson expert, and one zero-inflated expert: the same model twice."""
    x, y = (torch.as_tensor(part.to_numpy(float)) for part in decayed_teeth())
    settings = {"dtype": DTYPE, "generator": seeded(0)}
    if is_one_family:
        experts = family_by_name("zero_inflated_poisson", x.shape[1], 1, **settings)
    else:
        poisson = family_by_name("poisson", x.shape[1], 1, **settings)
        experts = MixedExperts([PointMassExperts(0.0, dtype=DTYPE), poisson])
    model = MixtureOfExperts(constant_gate(experts.num_experts, dtype=DTYPE), experts)
    fit = EM(random_state=0, n_init=3).fit(model, x, y)
    assert fit.llf == pytest.approx(ROWS["dmft, zeros"].llf, abs=1e-5)
    ours = dict(zip(fit.param_names, zip(fit.params, fit.bse, strict=True), strict=True))
    slope, logit = ("slope[0,x0]", "zero_logit[0]") if is_one_family else ("slope[1,x0]", "gate_bias[0]")
    assert ours[slope] == pytest.approx(ROWS["dmft, zeros"].experts[0]["slope,log(Begin + 0.5)"], rel=0.01)
    assert special.expit(ours[logit][0]) == pytest.approx(0.04529, rel=1e-3)
