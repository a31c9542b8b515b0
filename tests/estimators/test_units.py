"""The value a fit ends at does not depend on the units of covariates and responses, whatever the model and route."""

import numpy as np
import pytest
import torch

from estimators import EM, MLE, FitBatch, GivenResponsibilities, NoFiniteStartWarning
from mixkit import (
    MixtureOfExperts,
    constant_gate,
    linear_gaussian_experts,
    sigmoid_gate,
    softmax_gate,
)
from mixkit.experts import (
    DiagonalCovariance,
    FullCovariance,
    GaussianExperts,
    LaplaceExperts,
    LogNormalExperts,
    MultivariateGaussianExperts,
    NegativeBinomialExperts,
    PointMassExperts,
    PoissonExperts,
    SphericalCovariance,
    StudentTExperts,
)
from mixkit.experts.predictors import ConstantPredictor, LinearPredictor, ModulePredictor
from mixkit.gates import Gate
from mixkit.gates.scores import ModuleScore

from .models import seeded

pytestmark = pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")

N = 80


def _data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, 1))
    first = x[:, 0] + rng.standard_normal(N) > 0
    noise = 0.3 * rng.standard_normal((N, 2))
    both = np.where(first[:, None], np.c_[1 + 2 * x[:, 0], x[:, 0]], np.c_[-2 - x[:, 0], 1 - x[:, 0]]) + noise
    counts = rng.poisson(np.exp(np.where(first, 2.5 + 0.3 * x[:, 0], 0.2 - 0.5 * x[:, 0]))).astype(float)
    bent = np.where(first, 1.0 + 2.0 * np.tanh(1.5 * x[:, 0]), -2.0 - np.tanh(1.5 * x[:, 0])) + noise[:, 0]
    return x, first, both, counts, bent


X, FIRST, Y, COUNTS, BENT = _data()
START = [GivenResponsibilities(torch.tensor(np.where(np.array([FIRST, ~FIRST]), 0.9, 0.1)))]


def _filled(module):
    """The module with parameters that no global random state has made."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=seeded(3)))
    return module


class SharedSlope(torch.nn.Module):
    """One slope for all experts, as a user writes it."""

    def __init__(self, num_features):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.zeros(num_features))
        self.intercept = torch.nn.Parameter(torch.tensor([0.1, -0.1]))

    def forward(self, x):
        return (x @ self.slope).unsqueeze(-1) + self.intercept


def lines(**settings):
    return LinearPredictor(1, 2, generator=seeded(0), **settings)


def layer(inputs=1, outputs=2):
    return _filled(torch.nn.utils.skip_init(torch.nn.Linear, inputs, outputs))


def network():
    return torch.nn.Sequential(layer(1, 1), torch.nn.Tanh(), layer(1, 2))


def vector_layer():
    return torch.nn.Sequential(layer(1, 4), torch.nn.Unflatten(-1, (2, 2)))


def vector_experts(predictor, covariance):
    return MultivariateGaussianExperts(predictor, covariance(2, 2))


GATES = {
    "softmax": lambda: softmax_gate(1, 2, generator=seeded(1)),
    "sigmoid": lambda: sigmoid_gate(1, 2, generator=seeded(1)),
    "constant": lambda: constant_gate(2),
    "module": lambda: Gate(ModuleScore(layer(), 2, num_features=1)),
}
# Gate, experts, response, how many powers of its units the density has.
CASES = {
    "normal": ("softmax", lambda: linear_gaussian_experts(1, 2, generator=seeded(0)), Y[:, 0], 1),
    "normal behind a sigmoid": ("sigmoid", lambda: GaussianExperts(lines()), Y[:, 0], 1),
    "normal, level": ("sigmoid", lambda: GaussianExperts(ConstantPredictor(2, generator=seeded(0))), Y[:, 0], 1),
    "normal behind a module": ("module", lambda: GaussianExperts(lines()), Y[:, 0], 1),
    "normal of a layer": ("softmax", lambda: GaussianExperts(ModulePredictor(layer(), 2)), Y[:, 0], 1),
    "normal of a network": ("softmax", lambda: GaussianExperts(ModulePredictor(network(), 2)), BENT, 1),
    "normal of one slope": ("constant", lambda: GaussianExperts(ModulePredictor(SharedSlope(1), 2)), Y[:, 1], 1),
    "t behind a sigmoid": ("sigmoid", lambda: StudentTExperts(lines()), Y[:, 0], 1),
    "laplace": ("softmax", lambda: LaplaceExperts(lines()), Y[:, 0], 1),
    "poisson": ("softmax", lambda: PoissonExperts(lines()), COUNTS, 0),
    "poisson behind a sigmoid": ("sigmoid", lambda: PoissonExperts(lines()), COUNTS, 0),
    "poisson of one slope": ("constant", lambda: PoissonExperts(ModulePredictor(SharedSlope(1), 2)), COUNTS, 0),
    "log-normal": ("softmax", lambda: LogNormalExperts(lines()), np.exp(Y[:, 0]), 0),
    "full covariance": ("softmax", lambda: vector_experts(lines(response_dim=2), FullCovariance), Y, 2),
    "diagonal covariance": ("sigmoid", lambda: vector_experts(lines(response_dim=2), DiagonalCovariance), Y, 2),
    "spherical covariance": (
        "softmax",
        lambda: vector_experts(ModulePredictor(vector_layer(), 2, response_dim=2), SphericalCovariance),
        Y,
        2,
    ),
}
CHANGES = [(1e-8, 0.0, 1e8, 0.0), (1e8, 0.0, 1e-8, 0.0), (1.0, 1e6, 1.0, 1e6)]  # scale and shift of x, of y


def model_of(case):
    gate, experts, *_ = CASES[case]
    return MixtureOfExperts(GATES[gate](), experts())


def fit_of(case, x, y):
    return EM(starts=START, n_init=1, n_moves=0, em_iter=3).fit(model_of(case), x, y)


@pytest.mark.parametrize("case", CASES)
def test_a_change_of_units_changes_the_value_by_its_jacobian(case):
    _, _, y, powers = CASES[case]
    plain = fit_of(case, X, y)
    assert plain.converged
    for x_scale, x_shift, y_scale, y_shift in CHANGES:
        scale, shift = (y_scale, y_shift) if powers else (1.0, 0.0)
        changed = fit_of(case, x_scale * X + x_shift, scale * y + shift)
        assert changed.llf + powers * N * np.log(scale) == pytest.approx(plain.llf, abs=1e-6)
        assert changed.converged


@pytest.mark.parametrize("case", ["full covariance", "diagonal covariance"])
def test_each_coordinate_of_a_response_has_units_of_its_own(case):
    plain = fit_of(case, X, Y)
    for units in ([1.0, 1e-8], [1e8, 1e-8]):
        changed = fit_of(case, X, Y * units)
        assert changed.llf + N * np.log(units).sum() == pytest.approx(plain.llf, abs=1e-6)
        assert changed.converged


@pytest.mark.parametrize("case", ["normal behind a sigmoid", "normal of a network", "full covariance"])
def test_what_users_read_is_in_the_units_of_the_data(case):
    _, _, y, _ = CASES[case]
    plain, changed = fit_of(case, X, y), fit_of(case, 1990.0 + 10.0 * X, 5.0 + 1e3 * y)
    x = torch.tensor(X)
    mean = changed.model(1990.0 + 10.0 * x).components.mean
    torch.testing.assert_close(mean, 5.0 + 1e3 * plain.model(x).components.mean, rtol=1e-5, atol=1e-2)
    weights = changed.model(1990.0 + 10.0 * x).log_weights
    torch.testing.assert_close(weights, plain.model(x).log_weights, rtol=0, atol=1e-4)
    names = [name for name in plain.param_names if name.startswith("slope")]
    ratio = [changed.bse[i] / plain.bse[i] for i, name in enumerate(plain.param_names) if name in names]
    np.testing.assert_allclose(ratio, 100.0, rtol=1e-4)


def test_a_model_on_raw_units_is_a_start_as_it_is():
    plain = fit_of("normal of a network", 1990.0 + 10.0 * X, BENT)
    again = EM(n_init=0, start_at_model=True, em_iter=0).fit(plain.model, 1990.0 + 10.0 * X, BENT)
    assert again.llf == pytest.approx(plain.llf, abs=1e-8)
    assert len(again.start_llf) == 1
    np.testing.assert_allclose(again.params, plain.params, rtol=1e-3)


def test_a_saddle_of_tiny_responses_is_left():
    rng = np.random.default_rng(1)
    x, first = rng.standard_normal((100, 1)), rng.random(100) < 0.5
    y = np.where(first[:, None], np.c_[1 + x[:, 0], -x[:, 0]], np.c_[-1 - x[:, 0], 1 + 0.5 * x[:, 0]])
    y = y + 0.5 * rng.standard_normal((100, 2))
    values = []
    for scale in (1.0, 1e-8):
        gate, mean = softmax_gate(1, 2, generator=seeded(0)), lines(response_dim=2)
        model = MixtureOfExperts(gate, vector_experts(mean, FullCovariance))
        fit = MLE(n_init=2, random_state=0).fit(model, x, y * [1.0, scale])
        values.append(fit.llf + 100 * np.log(scale))
        assert fit.converged
    one = MixtureOfExperts(softmax_gate(1, 1, generator=seeded(0)), MultivariateGaussianExperts(
        LinearPredictor(1, 1, response_dim=2, generator=seeded(0)), FullCovariance(1, 2)))  # fmt: skip
    assert values[0] == pytest.approx(values[1], abs=1e-6)
    assert values[0] > MLE(n_init=1).fit(one, x, y).llf + 20.0  # where both experts are one


@pytest.mark.parametrize("case", ["normal", "normal behind a sigmoid"])
def test_tiny_and_huge_responses_have_the_same_fit_or_an_error_that_names_them(case):
    y = Y[:, 0]
    plain = fit_of(case, X, y)
    for scale in (1e-149, 1e149):
        changed = fit_of(case, X, scale * y)
        assert changed.llf + N * np.log(scale) == pytest.approx(plain.llf, abs=1e-6)
        slopes = [i for i, name in enumerate(plain.param_names) if name.startswith("slope")]
        ratios = [fit.params[slopes] / fit.bse[slopes] for fit in (plain, changed)]
        np.testing.assert_allclose(ratios[1], ratios[0], rtol=1e-4)
    for scale in (1e-160, 1e-170, 1e160):
        with pytest.raises(ValueError, match=r"y must have a standard deviation between .* got \d"):
            fit_of(case, X, scale * y)
    with pytest.raises(ValueError, match=r"x must have squares that do not underflow, got columns \[0\]"):
        fit_of(case, 1e-160 * X, y)


DOSES = np.repeat([0.0, 10.0, 33.0, 100.0, 333.0, 1000.0], 3)
COLONIES = np.array([15, 21, 29, 16, 18, 21, 16, 26, 33, 27, 41, 60, 33, 38, 41, 20, 27, 42.0])


def test_a_module_of_raw_doses_finds_the_maximum_of_scaled_ones():
    """Salmonella in the Ames test (Margolin and others 1981), two Poisson regressions with slopes in common."""
    x = np.c_[DOSES, np.log(DOSES + 10.0)]
    model = MixtureOfExperts(constant_gate(2), PoissonExperts(ModulePredictor(SharedSlope(2), 2)))
    for scale in (1.0, 1e-3, 1e6):
        fit = EM(n_init=4, random_state=0).fit(model, x * [scale, 1.0], COLONIES)
        assert fit.llf == pytest.approx(-60.907071, abs=1e-5)
        assert fit.converged


def test_a_bounded_likelihood_demotes_no_end():
    x = np.c_[DOSES, np.log(DOSES + 10.0)]
    model = MixtureOfExperts(constant_gate(2), PoissonExperts(LinearPredictor(2, 2, generator=seeded(0))))
    fit = EM(random_state=0).fit(model, x, COLONIES)
    assert fit.llf == pytest.approx(fit.start_llf.max(), abs=1e-6)
    assert not any("set aside" in remark for remark in fit.warnings)


def test_a_higher_end_that_was_set_aside_is_named():
    t = np.linspace(-1.0, 1.0, 60)
    y = np.where(np.arange(60) % 2, 1 + t, -1 - 2 * t)
    model = MixtureOfExperts(softmax_gate(1, 2, generator=seeded(0)), GaussianExperts(lines()))
    fit = EM(random_state=0, variance_floor=1e-6).fit(model, t[:, None], y)
    remarks = [remark for remark in fit.warnings if "set aside" in remark]
    assert fit.llf < fit.start_llf.max()
    assert len(remarks) == 1
    assert f"{fit.start_llf.max():.6g}" in remarks[0]
    assert "variance_floor" in remarks[0]
    assert "set aside" in " ".join(str(fit.summary()).split())


# -- bad starts, bad data sets ----------------------------------------------------------------------------------------

FAR = np.append(np.linspace(-2.0, 2.0, 30), 1000.0)[:, None]
RISING = np.append(np.round(np.exp(np.linspace(-2.0, 2.0, 30))), 3.0)


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("family", [PoissonExperts, NegativeBinomialExperts])
def test_a_start_that_is_lost_is_dropped(family, k):
    model = MixtureOfExperts(constant_gate(k), family(LinearPredictor(1, k, generator=seeded(0))))
    fit = EM(random_state=0, n_init=3, n_moves=0, max_iter=40).fit(model, FAR, RISING)
    assert np.isfinite(fit.llf)
    assert fit.llf == pytest.approx(np.nanmax(fit.start_llf), abs=1e-6)


def test_a_data_set_that_no_start_can_fit_leaves_the_others_alone():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3, 40, 1)), np.exp(rng.standard_normal((3, 40)))
    y[2, 3] = 0.0  # density zero
    model = MixtureOfExperts(softmax_gate(1, 2, generator=seeded(0)), LogNormalExperts(lines()))
    estimator = EM(random_state=0, n_init=2)
    with pytest.warns(NoFiniteStartWarning, match=r"data sets \[2\] of 3"):
        batch = estimator.fit_many(model, x, y)
    alone = estimator.fit_many(model, x[:2], y[:2])
    assert isinstance(batch, FitBatch)
    np.testing.assert_allclose(batch.llf[:2], alone.llf, atol=1e-6)
    assert np.isnan([batch.llf[2], batch.grad_norm[2], batch.predicted_gain[2]]).all()
    assert not batch.converged[2]
    assert all(bool(parameter.isnan().any()) for parameter in batch.models[2].parameters())
    with pytest.raises(ValueError, match="no start has a finite log-likelihood"):
        estimator.fit(model, x[2], y[2])


@pytest.mark.parametrize("estimator", [EM, MLE])
def test_a_model_without_free_parameters_fits(estimator):
    x = np.linspace(0.0, 1.0, 10)
    fit = estimator().fit(
        MixtureOfExperts(softmax_gate(1, 1, generator=seeded(0)), PointMassExperts(0.0)), x[:, None], 0.0 * x
    )
    assert (fit.llf, fit.df_model, fit.converged, len(fit.params)) == (0.0, 0, True, 0)
    assert "Log-Likelihood" in str(fit.summary())
