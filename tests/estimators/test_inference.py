"""Standard errors against closed forms, numerical derivatives and published figures."""

import numpy as np
import pytest
import torch

from estimators import EM, MLE, SingularInformationWarning
from estimators.inference import inverse_information, propagate
from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
from mixkit.datasets import load_ethanol, load_faithful, load_mcycle, load_tone
from mixkit.experts import StudentTExperts
from mixkit.experts.predictors import LinearPredictor

from .models import DTYPE, reference_truth, seeded, softmax_model


def test_one_expert_is_least_squares():
    x, y = load_ethanol()
    result = MLE(n_init=1, random_state=0).fit(softmax_model(2, 1), x, y)
    design = torch.column_stack([x, torch.ones_like(y)])
    solution = torch.linalg.lstsq(design, y).solution
    variance = (y - design @ solution).square().mean()
    errors = (variance * torch.linalg.inv(design.mT @ design).diagonal()).sqrt()
    np.testing.assert_allclose(result.params[:3], solution, rtol=1e-6)
    np.testing.assert_allclose(result.bse[:3], errors, rtol=1e-6)
    assert result.params[3] == pytest.approx(float(variance.sqrt()), rel=1e-6)
    assert result.bse[3] == pytest.approx(float(variance.sqrt()) / np.sqrt(2 * len(y)), rel=1e-6)
    assert result.param_names == ["slope[0,x0]", "slope[0,x1]", "intercept[0]", "std[0]"]


def user_log_likelihood(names, values, x, y, k):
    """The log-likelihood written out in NumPy from named parameters."""
    named = dict(zip(names, values, strict=True))
    part = {
        name: np.array([named.get(f"{name}[{j}{suffix}]", 0.0) for j in range(k)])
        for name, suffix in (
            ("gate_weight", ",x0"),
            ("gate_bias", ""),
            ("slope", ",x0"),
            ("intercept", ""),
            ("std", ""),
        )
    }
    scores = np.outer(x, part["gate_weight"]) + part["gate_bias"]
    log_weights = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    mean = np.outer(x, part["slope"]) + part["intercept"]
    log_densities = -0.5 * np.log(2 * np.pi) - np.log(part["std"]) - 0.5 * ((y[:, None] - mean) / part["std"]) ** 2
    return np.logaddexp.reduce(log_weights + log_densities, axis=1).sum()


@pytest.mark.parametrize("data", ["tone", "reference"])
def test_standard_errors_are_those_of_a_numerical_hessian(data):
    x, y = load_tone() if data == "tone" else reference_truth().sample_xy(1000, generator=seeded(0))
    result = EM(random_state=0).fit(softmax_model(1, 2), x, y)
    x, y = x[:, 0].numpy(), y.numpy()
    assert user_log_likelihood(result.param_names, result.params, x, y, 2) == pytest.approx(result.llf, abs=1e-8)
    size, step = len(result.params), 1e-2 * result.bse
    hessian = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            corners = [
                a
                * b
                * user_log_likelihood(
                    result.param_names,
                    result.params + a * step * (np.arange(size) == i) + b * step * (np.arange(size) == j),
                    x,
                    y,
                    2,
                )
                for a in (1, -1)
                for b in (1, -1)
            ]
            hessian[i, j] = sum(corners) / (4 * step[i] * step[j])
    np.testing.assert_allclose(result.bse, np.sqrt(np.diag(np.linalg.inv(-hessian))), rtol=2e-3)


def test_gates_that_jump_have_no_standard_error_and_the_rest_has():
    x, y = load_mcycle()
    with pytest.warns(SingularInformationWarning, match="gate_weight"):
        result = EM(n_init=30, random_state=0).fit(softmax_model(1, 4), x, y)
    missing = np.isnan(result.bse)
    of_gate = np.array([name.startswith("gate") for name in result.param_names])
    assert missing.any()
    assert not missing[~of_gate].any()
    assert any("no standard error" in remark for remark in result.warnings)


def test_both_routes_to_the_information_agree():
    x, y = load_faithful()
    fast = EM(random_state=0).fit(softmax_model(1, 2), x, y)
    slow = EM(random_state=0).fit(_same_model_by_autograd(), x, y)
    assert slow.llf == pytest.approx(fast.llf, abs=1e-6)
    fast_errors = dict(zip(fast.param_names, fast.bse, strict=True))
    slow_errors = dict(zip(slow.param_names, slow.bse, strict=True))
    expected = sorted(fast_errors[f"slope[{j},x0]"] for j in range(2))
    found = sorted(slow_errors[f"slope[{j},x0]"] for j in range(2))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert sorted(slow.param_names) == sorted(fast.param_names)
    ends = (sorted(result.conf_int()[result.param_names.index("std[0]")]) for result in (fast, slow))
    assert all(low > 0 for low, _ in ends)


def _same_model_by_autograd():
    class Plain(LinearPredictor):
        """A linear predictor that the fast objective does not know."""

    generator = seeded(0)
    experts = linear_gaussian_experts(1, 2, dtype=DTYPE, generator=generator)
    experts.predictor = Plain(1, 2, dtype=DTYPE, generator=generator)
    return MixtureOfExperts(softmax_gate(1, 2, dtype=DTYPE, generator=generator), experts)


def test_student_t_reports_scale_and_df_on_their_own_scale():
    generator = seeded(3)
    x = torch.randn(800, 1, dtype=DTYPE, generator=generator)
    heavy = torch.distributions.StudentT(torch.tensor(4.0, dtype=DTYPE))
    uniform = torch.rand(800, dtype=DTYPE, generator=generator)
    noise = torch.as_tensor(__import__("scipy.stats").stats.t.ppf(uniform, heavy.df))
    y = 1.0 + 2.0 * x[:, 0] + 0.5 * noise
    experts = StudentTExperts(LinearPredictor(1, 1, dtype=DTYPE, generator=generator), dtype=DTYPE)
    model = MixtureOfExperts(softmax_gate(1, 1, dtype=DTYPE, generator=generator), experts)
    result = MLE(n_init=1, random_state=0).fit(model, x, y)
    found = dict(zip(result.param_names, zip(result.params, result.bse, strict=True), strict=True))
    for name, truth in (("slope[0,x0]", 2.0), ("intercept[0]", 1.0), ("scale[0]", 0.5), ("df[0]", 4.0)):
        estimate, error = found[name]
        assert abs(estimate - truth) < 4.4 * error  # false-alarm rate 1e-5 each at a fixed seed


def test_singular_information_marks_only_what_it_must():
    hessian = -torch.tensor([[2.0, 2.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 4.0]], dtype=DTYPE)
    covariance = inverse_information(hessian, torch.zeros(3, dtype=torch.bool))
    assert covariance.diagonal().isnan().tolist() == [True, True, False]
    assert float(covariance[2, 2]) == pytest.approx(0.25)
    held = inverse_information(hessian, torch.tensor([False, True, False]))
    assert held.diagonal().isnan().tolist() == [False, True, False]
    assert float(held[0, 0]) == pytest.approx(0.5)


def test_delta_method_keeps_nan_where_it_belongs():
    covariance = torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan]], dtype=DTYPE)
    mapped = propagate(torch.tensor([[2.0, 0.0], [1.0, 1.0]], dtype=DTYPE), covariance)
    assert float(mapped[0, 0]) == 4.0
    assert mapped.diagonal().isnan().tolist() == [False, True]


def test_delta_method_takes_derivatives_that_are_rounding_as_zero():
    covariance = torch.tensor([[4.0, torch.nan], [torch.nan, torch.nan]], dtype=DTYPE)
    jacobian = torch.tensor([[2.0, 1e-268], [2e-200, 1e-200], [1.0, 1e-6], [0.0, 0.0]], dtype=DTYPE)
    mapped = propagate(jacobian, covariance).diagonal()
    assert mapped.isnan().tolist() == [False, True, True, False]
    assert mapped[[0, 3]].tolist() == [16.0, 0.0]
