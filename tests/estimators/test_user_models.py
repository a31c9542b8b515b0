"""Families and scores written as a user would write them get what built-in ones get, on every route."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import nn
from torch.distributions import Gamma
from torch.func import functional_call

from estimators import EM, MixtureOfExpertsRegressor, StochasticEM, select_experts
from estimators.bayes import BayesianMixtureOfExperts, laplace
from estimators.data.dataset import Data
from estimators.inference import Resampling, bootstrap, profile_intervals, profile_likelihood
from estimators.objectives.choose import make_objective
from estimators.objectives.multi_location.objective import MultiLinearObjective
from estimators.objectives.smooth_gate.objective import SmoothGateObjective
from estimators.objectives.softmax_gate.m_step import NewtonStep, expert_step
from estimators.objectives.softmax_gate.objective import LinearObjective
from estimators.penalties import LogPrior, Ridge
from mixkit import MixtureOfExperts, linear_gaussian_experts
from mixkit.distributions import StudentT
from mixkit.experts import GaussianExperts, StudentTExperts
from mixkit.experts.predictors import ConstantPredictor, LinearPredictor
from mixkit.gates import Gate, gate_by_name
from mixkit.gates.scores import LinearScore
from tests.estimators.models import seeded

from .user_models import (
    DOUBLE,
    GATES,
    LINES,
    POSITIVE,
    CauchyExperts,
    CubeScore,
    FastCubeScore,
    GammaExperts,
    SigmaExperts,
    climb,
    gamma_model,
    model_of,
)


@pytest.fixture
def positive():
    return POSITIVE


@pytest.fixture
def lines():
    return LINES


@pytest.fixture(scope="module", params=GATES)
def gamma_fit(request):
    return climb().fit(gamma_model(request.param), *POSITIVE)


def independent_log_likelihood(is_softmax, x, y):
    """Of both gates, written anew: a function of (gate weights, biases, slopes, intercepts, log shapes)."""

    def value(theta):
        rows = theta if not is_softmax else torch.stack([theta[0], 0 * theta[0], theta[1], 0 * theta[0], *theta[2:]])
        w0, w1, b0, b1, *rest = rows
        slopes, intercepts, shapes = torch.stack(rest).reshape(3, 2)
        scores = torch.stack([w0 * x[:, 0] + b0, w1 * x[:, 0] + b1], -1)
        scores = scores if is_softmax else torch.nn.functional.logsigmoid(scores)
        means = torch.exp(slopes * x + intercepts)
        density = Gamma(shapes.exp(), shapes.exp() / means).log_prob(y.unsqueeze(-1))
        return torch.logsumexp(torch.log_softmax(scores, -1) + density, -1).sum()

    return value


def as_vector(result):
    named = dict(zip(result.param_names, result.params, strict=True))
    order = ["gate_weight[0,x0]", "gate_weight[1,x0]", "gate_bias[0]", "gate_bias[1]", "slope[0,x0]", "slope[1,x0]"]
    order += ["intercept[0]", "intercept[1]", "shape[0]", "shape[1]"]
    order = [name for name in order if name in named]
    return order, np.array([np.log(named[n]) if n.startswith("shape") else named[n] for n in order])


def maximum_near(value, start, held=None):
    """The maximum by SciPy, from near the end of the fit; entry ``held`` stays."""
    free = np.arange(len(start)) != (-1 if held is None else held)

    def minus(part):
        whole = torch.as_tensor(start.copy())
        whole[torch.as_tensor(free)] = torch.as_tensor(part)
        whole.requires_grad_()
        (gradient,) = torch.autograd.grad(loss := -value(whole), whole)
        return float(loss.detach()), gradient.numpy()[free]

    first = start[free] + 0.05 * np.cos(np.arange(free.sum()))
    found = scipy.optimize.minimize(minus, first, jac=True, method="BFGS", options={"gtol": 1e-7, "maxiter": 500})
    return -found.fun


class TestGammaExperts:
    def test_the_fit_is_the_maximum(self, gamma_fit, positive):
        is_softmax = gamma_fit.model.gate.shift_invariant
        value = independent_log_likelihood(is_softmax, *positive)
        order, vector = as_vector(gamma_fit)
        assert gamma_fit.converged
        assert len(order) == gamma_fit.df_model == (8 if is_softmax else 10)
        assert gamma_fit.llf == pytest.approx(float(value(torch.as_tensor(vector))), abs=1e-8)
        assert gamma_fit.llf == pytest.approx(maximum_near(value, vector), abs=1e-5)

    def test_standard_errors_are_those_of_the_curvature(self, gamma_fit, positive):
        value = independent_log_likelihood(gamma_fit.model.gate.shift_invariant, *positive)
        order, vector = as_vector(gamma_fit)
        hessian = torch.autograd.functional.hessian(value, torch.as_tensor(vector))
        covariance = torch.linalg.inv(-hessian).numpy()
        factor = np.array([np.exp(v) if n.startswith("shape") else 1.0 for n, v in zip(order, vector, strict=True)])
        expected = dict(zip(order, factor * np.sqrt(np.diag(covariance)), strict=True))
        np.testing.assert_allclose(gamma_fit.bse, [expected[name] for name in gamma_fit.param_names], rtol=1e-5)

    def test_profile_intervals_end_where_the_likelihood_has_dropped(self, gamma_fit, positive):
        value = independent_log_likelihood(gamma_fit.model.gate.shift_invariant, *positive)
        order, vector = as_vector(gamma_fit)
        at = order.index("shape[0]")
        low, high = profile_intervals(gamma_fit, ["shape[0]"])[0]
        assert 0 < low < np.exp(vector[at]) < high
        for end in (low, high):
            start = vector.copy()
            start[at] = np.log(end)
            assert gamma_fit.llf - maximum_near(value, start, held=at) == pytest.approx(1.920729, abs=1e-3)

    def test_a_ridge_is_subtracted_from_its_likelihood(self, positive):
        fit = climb(penalty=Ridge(gate=1.0, experts=3.0)).fit(gamma_model("softmax"), *positive)
        likelihood, width = independent_log_likelihood(True, *positive), positive[0].std(correction=0)

        def value(theta):  # weights w and 0 are w / 2 and -w / 2 about their mean
            ridge = 0.5 * theta[0].square() + 3.0 * theta[2:4].square().sum()
            return likelihood(theta) - 0.5 * width.square() * ridge

        order, vector = as_vector(fit)
        assert order[0] == "gate_weight[0,x0]"
        assert order[2:4] == ["slope[0,x0]", "slope[1,x0]"]
        assert fit.objective_value == pytest.approx(float(value(torch.as_tensor(vector))), abs=1e-8)
        assert fit.objective_value == pytest.approx(maximum_near(value, vector), abs=1e-5)

    def test_a_bootstrap_refits_it_to_other_rows(self, gamma_fit, positive):
        class EveryOther(Resampling):
            def draw(self, model, data, rngs):
                x, y = (part[:, ::2].repeat(len(rngs), *[1] * (part.ndim - 1)) for part in data[:2])
                return Data(x, y, None)

        found = bootstrap(gamma_fit, 2, resampling=EveryOther(), random_state=0)
        value = independent_log_likelihood(gamma_fit.model.gate.shift_invariant, *(part[::2] for part in positive))
        _, vector = as_vector(SimpleNamespace(param_names=found.param_names, params=found.replicates[0]))
        assert found.num_failed == found.num_not_converged == 0
        np.testing.assert_array_equal(found.replicates[0], found.replicates[1])
        assert found.llf[0] == pytest.approx(float(value(torch.as_tensor(vector))), abs=1e-8)
        assert found.llf[0] == pytest.approx(maximum_near(value, vector), abs=1e-5)

    def test_a_stream_ends_near_its_maximum(self):
        rng = np.random.default_rng(3)
        x = rng.uniform(-2, 2, 2_000)
        y = np.exp(1.0 + 0.8 * x) * rng.gamma(6.0, size=2_000) / 6.0
        model = gamma_model("softmax", k=1)
        stream = StochasticEM(start_rows=500, batch_size=100, random_state=0).stream(model)
        found = stream.partial_fit(x[:, None], y).result()
        fit = climb().fit(model, x[:, None], y)
        assert found.param_names == fit.param_names == ["slope[0,x0]", "intercept[0]", "shape[0]"]
        assert bool((abs(found.params - fit.params) < 0.3 * fit.bse).all())
        np.testing.assert_allclose(found.bse, fit.bse, rtol=0.05)

    def test_the_mode_of_a_posterior_is_its_maximum(self, positive):
        model = gamma_model("softmax", k=1)
        prior = torch.distributions.Gamma(*torch.tensor([2.0, 0.5], **DOUBLE))
        bayes = BayesianMixtureOfExperts(model, *positive, priors={"shape": prior})
        found = laplace(bayes, random_state=0)
        x, y = positive

        def log_density(theta):
            slope, intercept, log_shape = theta
            means = torch.exp(slope * x[:, 0] + intercept)
            total = Gamma(log_shape.exp(), log_shape.exp() / means).log_prob(y).sum()
            total = total + prior.log_prob(log_shape.exp()) + log_shape  # the density of the logarithm
            scale = 2.5 / x.std(correction=0)
            level = intercept + slope * x.mean()
            center = y.log().mean()
            return total - 0.5 * (slope / scale) ** 2 - 0.5 * ((level - center) / 2.5) ** 2

        def minus(theta):
            leaf = torch.as_tensor(theta).requires_grad_()
            (gradient,) = torch.autograd.grad(loss := -log_density(leaf), leaf)
            return float(loss.detach()), gradient.numpy()

        best = scipy.optimize.minimize(minus, np.array([0.1, 1.0, 0.0]), jac=True, options={"gtol": 1e-8}).x
        named = dict(zip(found.param_names, found.summary().values[:, 0], strict=True))
        assert named["slope[0,x0]"] == pytest.approx(best[0], rel=1e-4)
        assert named["intercept[0]"] == pytest.approx(best[1], rel=1e-4)
        assert named["shape[0]"] == pytest.approx(np.exp(best[2]), rel=1e-4)

    def test_the_regressor_and_the_choice_of_k_fit_it(self, positive):
        x, y = (part.numpy() for part in positive)
        experts = GammaExperts(LinearPredictor(1, 2, generator=seeded(1), **DOUBLE))
        face = MixtureOfExpertsRegressor(2, experts=experts, n_init=4, random_state=0).fit(x, y)
        chosen = select_experts(
            x, y, (1, 2), experts=lambda d, k: GammaExperts(LinearPredictor(d, k, **DOUBLE)), random_state=0
        )
        one = independent_one(x[:, 0], y)
        assert chosen.best_num_experts == 2
        assert chosen.fits[0].llf == pytest.approx(one, abs=1e-5)
        assert chosen.fits[1].llf == pytest.approx(face.log_likelihood_, abs=1e-5)
        assert face.log_likelihood_ > one + 50


def independent_one(x, y):
    """The maximized log-likelihood of one gamma regression."""

    def minus(theta):
        mean, shape = np.exp(theta[0] * x + theta[1]), np.exp(theta[2])
        return -scipy.stats.gamma.logpdf(y, shape, scale=mean / shape).sum()

    return -scipy.optimize.minimize(minus, [0.0, 1.0, 0.0], method="BFGS", options={"gtol": 1e-6}).fun


class TestANormalFamilyByAnotherName:
    """Equal to Gaussian experts, digit for digit up to the tolerance of the fits, behind every gate."""

    @pytest.fixture(params=GATES)
    def pair(self, request, lines):
        return [climb().fit(model_of(request.param, f), *lines) for f in FAMILIES]

    def test_fits_errors_and_labels(self, pair):
        own, built_in = pair
        assert own.llf == pytest.approx(built_in.llf, abs=1e-6)
        assert own.param_names == [name.replace("std", "sigma") for name in built_in.param_names]
        np.testing.assert_allclose(own.params, built_in.params, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(own.bse, built_in.bse, rtol=1e-3)
        np.testing.assert_allclose(own.conf_int(), built_in.conf_int(), rtol=1e-3, atol=1e-3)
        assert own.is_positive.tolist() == built_in.is_positive.tolist()

    def test_a_floor_holds_its_scale(self):
        """The floor is that of the built-in family behind every gate: a thousandth of the response's deviation."""
        x = torch.arange(10.0, **DOUBLE).unsqueeze(-1)
        y = torch.tensor([0, 0, 0, 0, 0, 2, -1, 3, -2, 1], **DOUBLE)
        for gate in GATES:
            for family in FAMILIES:
                model = model_of(gate, family)
                objective = make_objective(model, Data(x[None], y[None], None), 1e-6, torch.zeros(1, dtype=torch.bool))
                to_user = objective.user_map()
                lowest = torch.where(to_user.is_log, objective.lower, 0.0)
                floors = to_user.values(lowest)[to_user.is_log]
                torch.testing.assert_close(floors, (1e-3 * y.std(correction=0)).expand(2))

    def test_profiles_and_resampled_fits(self, pair):
        own, built_in = pair
        levels = [0.5]
        np.testing.assert_allclose(
            profile_likelihood(own, "sigma[0]", levels), profile_likelihood(built_in, "std[0]", levels), atol=1e-5
        )
        found = [bootstrap(fit, 2, random_state=5).bse[-6:] for fit in pair]  # refits of gates may jump
        np.testing.assert_allclose(found[0], found[1], rtol=1e-3)

    @pytest.mark.filterwarnings("ignore:the observed information is singular")
    @pytest.mark.parametrize("gate", GATES)
    def test_penalties(self, gate, lines):
        for make in (
            lambda name: Ridge(gate=2.0, experts=5.0),
            lambda name: Ridge(gate=1.0) + LogPrior({name: torch.distributions.Gamma(3.0, 2.0)}),
        ):
            own = climb(penalty=make("sigma")).fit(model_of(gate, SigmaExperts), *lines)
            built_in = climb(penalty=make("std")).fit(model_of(gate, GaussianExperts), *lines)
            assert own.objective_value == pytest.approx(built_in.objective_value, abs=1e-6)
            np.testing.assert_allclose(own.params, built_in.params, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("gate", GATES)
    def test_posterior_modes(self, gate):
        """Values of Gaussian experts behind a softmax; the interval of the scale is on the log scale by all routes."""
        x = torch.arange(6.0, **DOUBLE).unsqueeze(-1)
        y = torch.tensor([0, 1.2, 1.9, 3.1, 3.8, 5.3], **DOUBLE)
        for family in FAMILIES:
            bayes = BayesianMixtureOfExperts(model_of(gate, family, k=1), x, y)
            summary = laplace(bayes, random_state=0).summary(level=0.95)
            assert summary.names[-1] in ("sigma[0]", "std[0]")
            assert summary.values[-1, 2:] == pytest.approx([0.0992, 0.3183], abs=1e-4)

    def test_streams(self):
        """One line, whose built-in recursion is least squares: the same estimates, up to the noise of a recursion."""
        x, y = torch.linspace(-2, 2, 1_500, **DOUBLE).unsqueeze(-1), torch.empty(1_500, **DOUBLE)
        y = 1.0 + 2.0 * x[:, 0] + 0.4 * torch.randn(1_500, generator=seeded(3), **DOUBLE)
        order = torch.randperm(1_500, generator=seeded(4))
        found = []
        for family in FAMILIES:
            stream = StochasticEM(start_rows=500, batch_size=100, random_state=0).stream(
                model_of("softmax", family, k=1)
            )
            found.append(stream.partial_fit(x[order], y[order]).result())
        assert found[0].param_names == ["slope[0,x0]", "intercept[0]", "sigma[0]"]
        assert found[0].conf_int()[2, 0] > 0
        np.testing.assert_allclose(found[0].params, found[1].params, atol=0.01)
        np.testing.assert_allclose(found[0].bse, found[1].bse, rtol=0.05)


FAMILIES = (SigmaExperts, GaussianExperts)


@pytest.mark.parametrize("score", [CubeScore, FastCubeScore])
def test_a_users_score_is_the_linear_one_of_other_covariates(score, lines):
    """Experts do not see the covariates, so scores of cubes are linear scores of the data's cubes."""
    x, y = lines
    experts = [GaussianExperts(ConstantPredictor(2, generator=seeded(1), **DOUBLE)) for _ in range(2)]
    own = EM(n_init=4, n_moves=0, random_state=0).fit(MixtureOfExperts(Gate(score(1, 2)), experts[0]), x, y)
    linear = EM(n_init=4, n_moves=0, random_state=0).fit(
        MixtureOfExperts(gate_by_name("softmax", 1, 2, generator=seeded(0), **DOUBLE), experts[1]), x**3, y
    )
    assert own.llf == pytest.approx(linear.llf, abs=1e-6)
    named = [dict(zip(fit.param_names, zip(fit.params, fit.bse, strict=True), strict=True)) for fit in (own, linear)]
    assert named[0].keys() - named[1].keys() == {"gate_weight[0,0]"}
    weights = [abs(np.array(named[i][name])) for i, name in enumerate(("gate_weight[0,0]", "gate_weight[0,x0]"))]
    np.testing.assert_allclose(*weights, rtol=1e-3)


def test_profiles_and_resampled_fits_of_a_users_score_are_those_of_the_linear_one(lines):
    x, y = lines
    fits = []
    for gate, points in (
        (Gate(CubeScore(1, 2)), x),
        (gate_by_name("softmax", 1, 2, generator=seeded(0), **DOUBLE), x**3),
    ):
        experts = GaussianExperts(ConstantPredictor(2, generator=seeded(1), **DOUBLE))
        with torch.no_grad():
            gate.score.weight.copy_(torch.tensor([[0.5], [0.0]]))
            experts.predictor.intercept.copy_(torch.tensor([4.0, 0.0]))
        fits.append(climb().fit(MixtureOfExperts(gate, experts), points, y))
    names = ("gate_weight[0,0]", "gate_weight[0,x0]")
    intervals = [profile_intervals(fit, [name, "gate_bias[0]"]) for fit, name in zip(fits, names, strict=True)]
    assert np.isfinite(intervals[1]).all()
    np.testing.assert_allclose(*intervals, rtol=1e-4, atol=1e-5)
    found = [bootstrap(fit, 3, random_state=5) for fit in fits]
    np.testing.assert_allclose(found[0].llf, found[1].llf, atol=1e-6)
    experts = [fit.replicates[:, -4:] for fit in found]  # a gate may jump: its weights then have no one value
    np.testing.assert_allclose(*experts, rtol=1e-4)


class TestWhoGetsTheClosedForms:
    @pytest.mark.filterwarnings("ignore:the observed information is singular")
    def test_another_density_has_no_gaussian_step(self, lines):
        """One location and scale: the maximum by SciPy, where a step of least squares would end at the mean."""
        y = torch.tensor([-1.0, 0.0, 0.3, 0.5, 1.1, 40.0, 2.0, 0.2], **DOUBLE)
        x = torch.arange(8.0, **DOUBLE).unsqueeze(-1)
        experts = CauchyExperts(ConstantPredictor(1, generator=seeded(0), **DOUBLE))
        assert isinstance(expert_step(experts), NewtonStep)

        def minus(theta):
            return -scipy.stats.cauchy.logpdf(y.numpy(), theta[0], np.exp(theta[1])).sum()

        best = scipy.optimize.minimize(minus, [0.4, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
        for gate in GATES:
            fit = EM(n_init=1, n_moves=0, random_state=0).fit(
                MixtureOfExperts(gate_by_name(gate, 1, 1, generator=seeded(0), **DOUBLE), experts), x, y
            )
            named = dict(zip(fit.param_names, fit.params, strict=True))
            assert fit.llf == pytest.approx(-best.fun, abs=1e-6)
            assert named["intercept[0]"] == pytest.approx(best.x[0], abs=1e-4)

    def test_derivatives_in_closed_form_go_with_the_density(self):
        experts = CauchyExperts(ConstantPredictor(1, generator=seeded(0), **DOUBLE))
        y, eta, log_std = (torch.tensor([[v]], **DOUBLE) for v in (2.0, 0.5, 0.3))
        terms = experts.density_terms(y, eta, log_std)
        z = 1.5 * math.exp(-0.3)
        assert float(terms.log_prob) == pytest.approx(-math.log(math.pi) - 0.3 - math.log1p(z * z))
        assert float(terms.first[0]) == pytest.approx(2 * z * math.exp(-0.3) / (1 + z * z))

    def test_a_subclass_that_changes_nothing_has_them(self, lines):
        class Renamed(GaussianExperts):
            pass

        class Linear(LinearScore):
            pass

        x, y = (part.unsqueeze(0) for part in lines)
        data, pinned = Data(x, y, None), torch.zeros(1, dtype=torch.bool)
        experts = Renamed(LinearPredictor(1, 2, generator=seeded(0), **DOUBLE))
        gate = Gate(Linear(1, 2, generator=seeded(0), **DOUBLE))
        model = MixtureOfExperts(gate, experts)
        objective = make_objective(model, data, 1e-6, pinned)
        assert type(objective) is LinearObjective
        assert expert_step(experts).is_exact
        fit = climb().fit(model, *lines)
        plain = climb().fit(model_of("softmax", GaussianExperts), *lines)
        assert fit.llf == pytest.approx(plain.llf, abs=1e-8)

    def test_a_subclass_with_half_of_another_density_fits_its_distribution(self, lines):
        """Where ``forward`` and ``log_density`` disagree the distribution counts: it is what predictions are of."""

        class OnlyForward(GaussianExperts):
            def forward(self, x):
                return StudentT(
                    torch.ones((), **DOUBLE), self.predictor(x), self.log_std.exp().unsqueeze(-2), validate_args=False
                )

        x, y = (part.unsqueeze(0) for part in lines)
        data, pinned = Data(x, y, None), torch.zeros(1, dtype=torch.bool)
        for gate in GATES:
            model = model_of(gate, OnlyForward)
            objective = make_objective(model, data, 1e-6, pinned)
            assert not isinstance(objective, LinearObjective | MultiLinearObjective | SmoothGateObjective)
            theta = objective.read(model)
            assert float(objective.value(theta)) == pytest.approx(float(model.log_prob(*lines).sum().detach()))

    def test_another_score_has_no_linear_route_and_no_inherited_statements(self, lines):
        class Clipped(LinearScore):
            def slope_score(self, x):
                return 3.0 * torch.tanh(super().slope_score(x))

        score = Clipped(1, 2, generator=seeded(0), **DOUBLE)
        assert (score.translated, score.is_homogeneous, score.can_shift, score.weight_name) == (
            ("bias",),
            False,
            False,
            None,
        )
        x, y = (part.unsqueeze(0) for part in lines)
        model = MixtureOfExperts(Gate(score), linear_gaussian_experts(1, 2, generator=seeded(0), **DOUBLE))
        objective = make_objective(model, Data(x, y, None), 1e-6, torch.zeros(1, dtype=torch.bool))
        assert not isinstance(objective, LinearObjective | SmoothGateObjective)
        theta = objective.read(model)
        assert float(objective.value(theta)) == pytest.approx(float(model.log_prob(*lines).sum().detach()))
        assert objective.user_map().names[:3] == ["gate_weight[0,x0]", "gate_weight[1,x0]", "gate_bias[0]"]


def test_a_parameter_without_a_record_is_fitted_under_its_own_name(lines):
    class Shifted(StudentTExperts):
        """Adds to every location a number of which nobody says anything."""

        def __init__(self, predictor):
            super().__init__(predictor)
            self.lift = nn.Parameter(torch.zeros((), **DOUBLE))

        def forward(self, x):
            law = super().forward(x)
            return StudentT(law.df, law.loc + self.lift * x[..., :1].square(), law.scale, validate_args=False)

    model = model_of("softmax", Shifted, k=1)
    fit = climb().fit(model, *lines)
    named = dict(zip(fit.param_names, fit.params, strict=True))
    assert fit.param_names[-1] == "lift"
    assert not fit.is_positive[-1]
    moved = functional_call(
        model,
        {"experts.lift": torch.tensor(named["lift"] + 1e-3, **DOUBLE)},
        (lines[0],),
    )
    assert fit.llf >= float(moved.log_prob(lines[1]).sum().detach())
    assert fit.llf > climb().fit(model_of("softmax", StudentTExperts, k=1), *lines).llf
