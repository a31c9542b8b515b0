"""Fits: the maxima they reach, the freedoms they respect, the data they refuse."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import estimators.search.estimator
from estimators import EM, MLE, CollinearityWarning, KMeansXY, SingularInformationWarning, SplitAtom
from estimators.data.dataset import Data
from estimators.objectives.autograd import AutogradObjective
from estimators.objectives.choose import make_objective
from mixkit import (
    FullCovariance,
    LinearPredictor,
    MixtureOfExperts,
    MultivariateGaussianExperts,
    activation_gate,
    laplace_gate,
    linear_gaussian_experts,
    sigmoid_gate,
    softmax_gate,
    topk_gate,
)
from mixkit.datasets import load_ethanol, load_faithful, load_tone
from mixkit.experts import DiagonalCovariance, GaussianExperts, SphericalCovariance
from mixkit.experts.predictors import ModulePredictor

from .models import DTYPE, LINEAR_CASES, reference_truth, seeded, softmax_model

ESTIMATORS = [EM, MLE]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_seed_finds_the_maximum_of_the_reference_problem(estimator):
    x, y = reference_truth().sample_xy(1000, generator=seeded(0))
    results = [estimator(random_state=seed, n_init=4).fit(softmax_model(1, 2), x, y) for seed in range(8)]
    values = np.array([result.llf for result in results])
    assert values.max() - values.min() < 1e-6 * abs(values.max())
    assert all(result.converged and result.predicted_gain < 1e-6 for result in results)
    found = results[0].measure.align(reference_truth())
    for name in ("slope", "intercept", "variance"):
        torch.testing.assert_close(getattr(found, name), getattr(reference_truth(), name), rtol=0.2, atol=0.2)


@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
@pytest.mark.parametrize("k", [3, 4])
def test_more_experts_than_the_truth_still_end_at_a_maximum(k):
    x, y = reference_truth().sample_xy(3000, generator=seeded(1))
    result = EM(random_state=0, n_init=5).fit(softmax_model(1, k), x, y)
    exact = EM(random_state=0, n_init=5).fit(softmax_model(1, 2), x, y)
    assert result.llf > exact.llf
    assert result.grad_norm < 1e-8 or result.predicted_gain < 1e-6


def test_split_atoms_start_a_larger_fit_above_the_smaller():
    x, y = reference_truth().sample_xy(1000, generator=seeded(2))
    small = EM(random_state=0).fit(softmax_model(1, 2), x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularInformationWarning)
        large = EM(n_init=1, starts=[SplitAtom(small.model)], random_state=0).fit(softmax_model(1, 3), x, y)
    assert large.llf > small.llf
    assert len(large.start_llf) == 6


@pytest.mark.parametrize("case", LINEAR_CASES, ids=lambda case: case.name)
def test_autograd_and_matrix_products_agree(case):
    model, (x, y) = case.model(2, 2, 3), case.data(40, 2, 3)
    data = Data(x[None], y[None], torch.rand(1, 40, dtype=DTYPE, generator=seeded(0)))
    fast = make_objective(model, data, 1e-6, torch.zeros(2, dtype=torch.bool))
    slow = AutogradObjective(model, data, variance_floor=1e-6)
    at_fast, at_slow = fast.read(model), slow.read(model)
    torch.testing.assert_close(fast.value(at_fast), slow.value(at_slow))
    torch.testing.assert_close(fast.expected_counts(at_fast), slow.expected_counts(at_slow))
    gain_fast, gain_slow = ((o.em_step(t)[0]) for o, t in ((fast, at_fast), (slow, at_slow)))
    torch.testing.assert_close(gain_fast, gain_slow)
    # Newton's decrement g' H^-1 g does not depend on the coordinates.
    decrements = []
    for objective, theta in ((fast, at_fast), (slow, at_slow)):
        evaluation = objective.evaluate(theta)
        solution = torch.linalg.pinv(evaluation.hessian[0, 0], rtol=1e-12) @ evaluation.gradient[0, 0]
        decrements.append(evaluation.gradient[0, 0] @ solution)
    torch.testing.assert_close(decrements[0], decrements[1], rtol=1e-5, atol=1e-7)


@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
@pytest.mark.parametrize("covariance", [FullCovariance, DiagonalCovariance, SphericalCovariance])
@pytest.mark.parametrize("shared", [False, True])
def test_vector_responses(covariance, shared):
    generator = seeded(0)
    x = torch.rand(150, 1, dtype=DTYPE, generator=generator)
    noise = 0.1 * torch.randn(150, 2, dtype=DTYPE, generator=generator)
    low = x < 0.5
    y = torch.where(low, torch.cat([x, -x], 1), torch.cat([2 - x, 3 * x], 1)) + noise
    experts = MultivariateGaussianExperts(
        LinearPredictor(1, 2, response_dim=2, generator=generator), covariance(2, 2, shared=shared)
    )
    result = EM(n_init=2, starts=[KMeansXY()], em_iter=5, random_state=0).fit(
        MixtureOfExperts(softmax_gate(1, 2, generator=generator), experts), x, y
    )
    slopes = result.model.experts.predictor.slope.detach()[..., 0].sort(0).values
    assert result.converged
    torch.testing.assert_close(slopes, torch.tensor([[-1.0, -1.0], [1.0, 3.0]], dtype=DTYPE), atol=0.3, rtol=0)


@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")  # a center beyond the data
@pytest.mark.parametrize("gate", [sigmoid_gate, activation_gate, laplace_gate])
def test_gates_without_linear_scores(gate):
    x = torch.linspace(-2, 2, 300, dtype=DTYPE)[:, None]
    weight = 0.1 + 0.8 * torch.sigmoid(4 * x[:, 0])  # bounded away from 0 and 1: every gate has a finite estimate
    is_first = torch.rand(300, dtype=DTYPE, generator=seeded(2)) < weight
    noise = 0.3 * torch.randn(300, dtype=DTYPE, generator=seeded(3))
    y = torch.where(is_first, 1 + x[:, 0], -1 - 0.5 * x[:, 0]) + noise
    model = MixtureOfExperts(gate(1, 2, generator=seeded(0)), linear_gaussian_experts(1, 2, generator=seeded(1)))
    result = EM(n_init=2, em_iter=3, random_state=0).fit(model, x, y)
    one = EM(n_init=1, random_state=0).fit(softmax_model(1, 1), x, y)
    assert result.llf > one.llf + 1.0
    assert result.converged
    assert result.grad_norm < 1e-6
    experts = ["slope[0,x0]", "slope[1,x0]", "intercept[0]", "intercept[1]"]
    assert {*experts, "std[0]", "std[1]"} < set(result.param_names)
    named = dict(zip(result.param_names, result.params, strict=True))
    assert min(named["std[0]"], named["std[1]"]) > 0.2  # not logarithms
    assert sum(name.startswith("gate_") for name in result.param_names) >= 3


def test_large_networks_climb_by_lbfgs(monkeypatch):
    monkeypatch.setattr(estimators.search.estimator, "_LARGEST_HESSIAN", 5)
    x, y = load_faithful()
    x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    network = torch.nn.utils.skip_init(torch.nn.Linear, 1, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.1], [0.3]]))
        network.bias.copy_(torch.tensor([-0.5, 0.5]))
    experts = GaussianExperts(ModulePredictor(network, 2))
    model = MixtureOfExperts(softmax_gate(1, 2, generator=seeded(0)), experts)
    result = MLE(n_init=2, random_state=0).fit(model, x, y)
    linear = MLE(n_init=4, random_state=0).fit(softmax_model(1, 2), x, y)
    assert result.llf == pytest.approx(linear.llf, abs=1e-4)
    assert np.isnan(result.predicted_gain)
    assert np.isnan(result.bse).all()


def test_many_data_sets_at_once_are_each_alone():
    pairs = [reference_truth().sample_xy(300, generator=seeded(seed)) for seed in range(3)]
    x, y = (torch.stack(part) for part in zip(*pairs, strict=True))
    together = EM(n_init=3, starts=[KMeansXY()], random_state=0).fit_many(softmax_model(1, 2), x, y)
    for index, (x_one, y_one) in enumerate(pairs):
        alone = EM(random_state=1).fit(softmax_model(1, 2), x_one, y_one)
        assert together.llf[index] == pytest.approx(alone.llf, abs=1e-6)
    assert together.converged.all()
    assert together.measure.batch_shape == (3,)


def test_a_subsample_leads_to_the_same_maximum():
    x, y = reference_truth().sample_xy(1500, generator=seeded(4))
    sub = EM(subsample=300, random_state=0).fit(softmax_model(1, 2), x, y)
    full = EM(random_state=0).fit(softmax_model(1, 2), x, y)
    assert sub.llf == pytest.approx(full.llf, abs=1e-7)
    assert sub.nobs == 1500
    np.testing.assert_allclose(np.sort(sub.bse), np.sort(full.bse), rtol=1e-4)


def test_integer_weights_are_repeated_rows():
    x, y = load_tone()
    weight = torch.arange(len(y)) % 3
    weighted = EM(random_state=0).fit(softmax_model(1, 2), x, y, sample_weight=weight)
    rows = torch.arange(len(y)).repeat_interleave(weight)
    repeated = EM(random_state=0).fit(softmax_model(1, 2), x[rows], y[rows])
    assert weighted.llf == pytest.approx(repeated.llf, abs=1e-7)


def test_units_of_the_data_change_nothing_but_units():
    x, y = load_faithful()
    plain = EM(random_state=0).fit(softmax_model(1, 2), x, y)
    scaled = EM(random_state=0).fit(softmax_model(1, 2), 1e8 * x + 1e9, 1e-6 * y)
    assert scaled.llf - len(y) * np.log(1e6) == pytest.approx(plain.llf, abs=1e-5)
    np.testing.assert_allclose(
        np.sort(scaled.measure.slope.flatten()), 1e-14 * np.sort(plain.measure.slope.flatten()), rtol=1e-5
    )


def test_experts_and_gate_of_tone_data():
    x, y = load_tone()
    result = EM(random_state=0).fit(softmax_model(1, 2), x, y)
    lines = dict(zip(result.measure.intercept.round().tolist(), result.measure.slope[:, 0].tolist(), strict=True))
    assert lines[2.0] == pytest.approx(0.04, abs=0.02)  # one group hears the octave,
    assert lines[0.0] == pytest.approx(1.0, abs=0.05)  # the other the interval as stretched


@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
def test_constant_and_collinear_columns_are_dropped_and_named():
    x, y = load_ethanol()
    wide = torch.column_stack([x, torch.full_like(y, 7.0), x[:, 0] - 2.0 * x[:, 1]])
    with pytest.warns(CollinearityWarning, match=r"\[2, 3\]"):
        result = EM(random_state=0, n_init=5).fit(softmax_model(4, 2), wide, y)
    assert [remark for remark in result.warnings if "columns [2, 3] of x are constant" in remark]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularInformationWarning)
        plain = EM(random_state=0, n_init=5).fit(softmax_model(2, 2), x, y)
    assert result.llf == pytest.approx(plain.llf, abs=1e-5)
    assert bool((result.measure.slope[:, 2:] == 0).all())


@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
def test_coefficients_that_are_not_fixed_are_not_said_to_be():
    x, y = load_faithful()
    wide = torch.cat([x, torch.ones_like(x)], 1)
    gate, experts = sigmoid_gate(2, 2, generator=seeded(0)), linear_gaussian_experts(2, 2, generator=seeded(1))
    with pytest.warns(CollinearityWarning, match="the data do not determine their coefficients"):
        result = EM(n_init=1, em_iter=1, max_iter=2, random_state=0).fit(MixtureOfExperts(gate, experts), wide, y)
    assert result.warnings[-1].endswith("the data do not determine their coefficients")
    assert not any("fixed at 0" in remark for remark in result.warnings)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_frame_gives_its_names(estimator):
    x, y = (part.numpy() for part in load_faithful())
    frame = pd.DataFrame({"waiting": x[:, 0], "x0": 1.0})
    with pytest.warns(CollinearityWarning, match=r"columns \['x0'\] of x are constant"):
        result = estimator(random_state=0, n_init=2).fit(softmax_model(2, 2), frame, pd.Series(y))
    assert "slope[0,waiting]" in result.param_names
    assert not [name for name in result.param_names if "x0" in name or "x1" in name]
    assert [remark for remark in result.warnings if remark.startswith("columns ['x0'] of x are constant")]
    frame.columns = [0, 1]
    with pytest.warns(CollinearityWarning, match=r"columns \[1\]"):
        plain = estimator(random_state=0, n_init=2).fit(softmax_model(2, 2), frame, y)
    assert "slope[0,x0]" in plain.param_names


@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_constant_response_and_duplicated_rows_give_a_sane_result(estimator):
    x = torch.rand(40, 1, dtype=DTYPE, generator=seeded(0))
    constant = estimator(random_state=0, n_init=2).fit(softmax_model(1, 2), x, torch.full((40,), 3.0, dtype=DTYPE))
    assert np.isfinite(constant.llf)
    torch.testing.assert_close(constant.model(x).mean.detach(), torch.full((40,), 3.0, dtype=DTYPE))
    assert any("floor" in remark for remark in constant.warnings)
    x, y = load_faithful()
    rows = torch.zeros(50, dtype=torch.long)
    rows[25:] = 1
    duplicated = estimator(random_state=0, n_init=2).fit(softmax_model(1, 2), x[rows], y[rows])
    assert np.isfinite(duplicated.llf)


def test_top_k_fits_end_above_one_expert_and_select():
    x, y = reference_truth().sample_xy(600, generator=seeded(0))
    x = x - 0.5  # the ranking by slope leaves the bias out, so regions meet at the origin
    generator = seeded(0)
    model = MixtureOfExperts(
        topk_gate(1, 3, 1, dtype=DTYPE, generator=generator),
        linear_gaussian_experts(1, 3, dtype=DTYPE, generator=generator),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularInformationWarning)
        result = EM(random_state=0, n_init=12).fit(model, x, y)
    one = EM(n_init=1, random_state=0).fit(softmax_model(1, 1), x, y)
    assert result.llf > one.llf + 100.0
    weights = result.model.gate(x).exp()
    assert bool(((weights > 0).sum(-1) == 1).all())


def test_results_survive_pickling_and_print():
    x, y = load_faithful()
    result = EM(random_state=0).fit(softmax_model(1, 2), x, y)
    twin = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(twin.bse, result.bse)
    assert twin.llf == result.llf
    assert "FitResult(k=2, llf=-851.315, converged, nobs=272)" in repr(result)
    text = str(result.summary())
    assert all(name in text for name in result.param_names)
    frame = result.summary().to_frame()
    np.testing.assert_allclose(frame["coef"], result.params)
    assert result.bic == pytest.approx(np.log(272) * 8 - 2 * result.llf)
    assert result.aic == pytest.approx(16 - 2 * result.llf)


def test_the_global_random_state_and_the_model_are_left_alone():
    x, y = load_faithful()
    model = softmax_model(1, 2)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    EM(n_init=2).fit(model, x, y)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


X, Y = load_faithful()
BAD = [
    ({"x": X.clone().fill_(torch.nan)}, r"x must be finite.*272"),
    ({"y": torch.where(Y > 90, torch.inf, Y)}, r"y must be finite"),
    ({"x": X[:-1]}, r"y must have one row for each of the 271 rows"),
    ({"x": X[:, 0]}, r"x must have shape \(n, d\), got \(272,\)"),
    ({"x": X[:1], "y": Y[:1]}, r"at least as many rows as experts, 2, got 1"),
    ({"x": X[:, :0]}, r"at least one covariate"),
    ({"y": Y[:, None].repeat(1, 2)}, r"y must have shape \(n,\)"),
    ({"sample_weight": -torch.ones_like(Y)}, r"sample_weight must be non-negative"),
    ({"sample_weight": torch.zeros_like(Y)}, r"sample_weight must be non-negative with a positive sum"),
    ({"sample_weight": torch.ones(5)}, r"sample_weight must have one entry a row"),
    ({"x": X.repeat(1, 3)}, r"x must have the 1 covariates of the model's LinearScore, got 3 columns"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_data_is_refused(change, message):
    arguments = {"x": X, "y": Y, "sample_weight": None} | change
    with pytest.raises(ValueError, match=message):
        EM().fit(softmax_model(1, 2), **arguments)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_init": 0}, "n_init must be at least 1"),
        ({"tol": 0.0}, "tol must be positive"),
        ({"max_iter": 0}, "max_iter must be at least 1"),
        ({"variance_floor": -1.0}, "variance_floor must be positive"),
        ({"em_iter": -1}, "em_iter must be at least 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        EM(**settings)


def test_a_batch_of_models_is_refused():
    generator = seeded(0)
    gate = softmax_gate(1, 2, batch_shape=(2,), dtype=DTYPE, generator=generator)
    experts = linear_gaussian_experts(1, 2, batch_shape=(2,), dtype=DTYPE, generator=generator)
    with pytest.raises(ValueError, match=r"model must be a single one, got a batch of shape \(2,\)"):
        EM().fit(MixtureOfExperts(gate, experts), X, Y)


def test_a_step_that_overflows_has_no_value_and_is_not_taken():
    model = MixtureOfExperts(
        activation_gate(1, 2, generator=seeded(0)), linear_gaussian_experts(1, 2, generator=seeded(1))
    )
    objective = AutogradObjective(model, Data(X[None], Y[None], None), variance_floor=1e-6)
    theta = torch.full((1, 1, objective.num_params), 1e308, dtype=DTYPE)
    assert bool(objective.value(theta).isnan().all())
    assert all(bool(part.isnan().all()) for part in objective.evaluate(theta))


def test_frames_of_numbers_and_truth_values_are_data_and_others_are_named():
    x, y = load_faithful()
    frame = pd.DataFrame({"waiting": x[:, 0], "late": np.arange(len(x)) % 2 == 0})
    settings = {"random_state": 0, "n_init": 1, "n_moves": 0}
    result = EM(**settings).fit(softmax_model(2, 2), frame, y)
    np.testing.assert_array_equal(
        result.params, EM(**settings).fit(softmax_model(2, 2), frame.to_numpy(dtype=float), y).params
    )
    assert result.mean_conf_int(frame[:3]).value.shape == (3,)
    with pytest.raises(TypeError, match=r"x must be numeric, got columns \['kind'\] of other kinds"):
        EM().fit(softmax_model(2, 2), frame.drop(columns="late").assign(kind="a"), y)


def test_parameters_without_a_standard_error_are_named_after_columns():
    x, y = load_faithful()
    frame = pd.DataFrame({"eruptions": x[:, 0], "long": x[:, 0] > 3.0})
    with pytest.warns(SingularInformationWarning, match=r"gate_weight\[0,long\]"):
        EM(random_state=0, n_init=1, n_moves=0).fit(softmax_model(2, 2), frame, y)


def test_what_is_too_large_or_negative_is_said():
    x, y = load_faithful()
    with pytest.raises(ValueError, match=r"x must have squares that do not overflow, got columns \[0\] too large"):
        EM().fit(softmax_model(1, 2), x * 1e200, y)
    with pytest.raises(ValueError, match="got a least of -1 and a sum of -272"):
        EM().fit(softmax_model(1, 2), x, y, -np.ones(272))
