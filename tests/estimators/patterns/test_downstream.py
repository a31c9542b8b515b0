"""What follows a fit of a patterned model: errors, bootstraps, penalties, streams, posteriors, choices of k."""

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from estimators import EM, MixtureOfExpertsRegressor, StochasticEM, mixing_dendrogram, select_experts
from estimators.bayes import BayesianMixtureOfExperts, default_priors, laplace
from estimators.bayes.labels import NearestLabels, SortedLabels, labeling
from estimators.inference import bootstrap, likelihood_ratio_test, profile_intervals
from estimators.model_selection.nesting import duplicate_expert
from estimators.penalties import Lasso, Ridge
from estimators.rates.theory import theoretical_rates
from estimators.results.alignment import align_experts
from estimators.results.fit_result import FitResult
from mixkit.experts import GaussianExperts
from mixkit.experts.predictors import LinearPredictor
from mixkit.gates import Gate
from mixkit.gates.normalizers import NormalizedSigmoid
from mixkit.gates.scores import LinearScore
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import CoefficientPattern, alike_experts, distinct_orders, reorder_experts

from ..flexmix_data import flexmix_frame
from .cases import regression, settings
from .test_fits import crossing, nested, values


def built(k: int = 2, **gate: object) -> MixtureOfExperts:
    """A gate of the first column, experts with a common slope of the second."""
    score = LinearScore(2, k, pattern=CoefficientPattern.of(k, 2, columns=[0]), **settings())
    pattern = CoefficientPattern.of(k, 2, common=[1])
    return MixtureOfExperts(Gate(score, **gate), GaussianExperts(LinearPredictor(2, k, pattern=pattern, **settings())))


@pytest.fixture(scope="module")
def fit() -> FitResult:
    return EM(random_state=0, n_init=4).fit(built(), *crossing())


@pytest.fixture(scope="module")
def nested_fit() -> FitResult:
    data = flexmix_frame("NregFix")
    return EM(random_state=0, n_init=8).fit(
        regression(GaussianExperts, 3, nested()), data[["x1", "x2", "w"]], data["y"]
    )


def test_standard_errors_are_those_of_a_module_written_by_hand(fit: FitResult) -> None:
    """The Hessian of the log-likelihood in the module's parameters, by autograd, inverted."""
    x, y = crossing()
    model = fit.model
    names = ["gate.score.free_weight", "gate.score.free_bias", "experts.predictor.free_slope"]
    names += ["experts.predictor.free_intercept", "experts.log_std"]
    start = {name: model.get_parameter(name).detach() for name in names}

    def value(*parts: torch.Tensor) -> torch.Tensor:
        own = [torch.cat([part, part.new_zeros(1)]) if index < 2 else part for index, part in enumerate(parts)]
        law = torch.func.functional_call(model, dict(zip(names, own, strict=True)), (x,))
        return law.log_prob(y).sum()

    parts = [part[:1] if index < 2 else part for index, part in enumerate(start.values())]
    blocks = torch.autograd.functional.hessian(value, tuple(parts))
    hessian = torch.cat([torch.cat(list(row), -1) for row in blocks])
    errors = torch.linalg.inv(-hessian).diagonal().sqrt()
    own = ["gate_weight[0,x0]", "gate_bias[0]", "slope[0,x0]", "slope[common,x1]", "slope[1,x0]"]
    found = dict(zip(fit.param_names, fit.bse, strict=True))
    assert [found[name] for name in own] == pytest.approx(errors[:5].tolist(), rel=1e-8)
    assert len(fit.params) == fit.df_model == len(errors)


def test_profiles_and_bootstraps_agree_with_wald_where_the_likelihood_is_quadratic(fit: FitResult) -> None:
    place = fit.param_names.index("slope[common,x1]")
    wald = fit.conf_int()[place]
    np.testing.assert_allclose(profile_intervals(fit, ["slope[common,x1]"])[0], wald, atol=0.1 * np.ptp(wald))
    drawn = bootstrap(fit, 100, random_state=0)
    assert drawn.num_failed == 0
    assert drawn.bse[place] == pytest.approx(fit.bse[place], rel=0.3)


def test_a_common_slope_is_tested_against_slopes_of_their_own(fit: FitResult) -> None:
    x, y = crossing()
    large = copy.deepcopy(built())
    large.experts = GaussianExperts(LinearPredictor(2, 2, **settings()))
    test = likelihood_ratio_test(fit, EM(random_state=0, n_init=4).fit(large, x, y))
    assert test.df == 1
    assert 0.0 <= test.statistic < 6.7  # the truth has a common slope; above it once in 100 samples


@pytest.mark.parametrize("normalizer", [None, NormalizedSigmoid()])
def test_penalties_and_batches_take_patterns(normalizer: NormalizedSigmoid | None) -> None:
    x, y = crossing()
    model = built(normalizer=normalizer)
    plain = EM(random_state=0, n_init=4).fit(model, x, y)
    ridge = EM(random_state=0, n_init=4, penalty=Ridge(experts=50.0)).fit(model, x, y)
    assert abs(values(ridge)["slope[common,x1]"]) < abs(values(plain)["slope[common,x1]"])
    batch = EM(random_state=0, n_init=4).fit_many(model, torch.stack([x, 10.0 * x + 5.0]), torch.stack([y, y]))
    assert batch.llf == pytest.approx([plain.llf] * 2, abs=1e-6)


def test_the_lasso_can_set_a_common_slope_to_zero() -> None:
    x, y = crossing()
    fit = EM(random_state=0, n_init=4, penalty=Lasso(experts=40.0)).fit(built(), x, y - 0.5 * x[:, 1])
    assert values(fit)["slope[common,x1]"] == 0.0


def test_the_ridge_of_a_patterned_gate_knows_no_reference() -> None:
    """Coefficients relative to the mean over experts: adding one number to a column changes nothing."""
    pattern = CoefficientPattern.of(3, 1, common={0: (1, 2)})
    block = pattern.slopes
    free = torch.tensor([0.7, -0.2], dtype=torch.float64)
    torch.testing.assert_close(block.centered(free), block.centered(free + 3.0), rtol=1e-12, atol=1e-12)
    # full coefficients 0.7, -0.2, -0.2 have mean 0.1
    assert block.centered(free).tolist() == pytest.approx([0.6, -0.3])
    assert CoefficientPattern.of(3, 1, absent={0: [0]}).slopes.centered(free).tolist() == free.tolist()


def test_streams_reach_the_maximum() -> None:
    x, y = crossing(2000)
    whole = EM(random_state=0, n_init=4).fit(built(), x, y)
    stream = StochasticEM(batch_size=100, start_rows=500, random_state=0).fit(built(), zip(x.split(250), y.split(250)))  # noqa: B905
    assert stream.model.experts.predictor.slope[0, 1] == stream.model.experts.predictor.slope[1, 1]
    found = sorted(stream.model.experts.predictor.slope.flatten().tolist())
    assert found == pytest.approx(sorted(whole.model.experts.predictor.slope.flatten().tolist()), abs=0.02)


def test_selection_builds_a_pattern_for_each_number_of_experts() -> None:
    x, y = crossing()
    chosen = select_experts(x, y, range(1, 4), model=built, random_state=0)
    assert chosen.best_num_experts == 2
    assert [fit.df_model for fit in chosen.fits] == [4, 9, 14]


def test_a_doubled_expert_keeps_the_distribution_if_the_pattern_has_room(fit: FitResult) -> None:
    x, y = crossing()
    doubled = duplicate_expert(fit.model, built(3), 0)
    assert doubled is not None
    torch.testing.assert_close(doubled.log_prob(x, y), fit.model.log_prob(x, y), rtol=1e-10, atol=1e-10)
    narrow = copy.deepcopy(built(3))
    absent = CoefficientPattern.of(3, 2, common=[1], absent={2: [0]})
    narrow.experts = GaussianExperts(LinearPredictor(2, 3, pattern=absent, **settings()))
    assert duplicate_expert(fit.model, narrow, 0) is None


def test_experts_are_exchanged_where_the_pattern_leaves_them_alike(nested_fit: FitResult) -> None:
    model = nested_fit.model
    assert alike_experts(model, 3).tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    assert distinct_orders(model, 3) == [[0, 1, 2], [0, 2, 1], [1, 2, 0]]
    objective, theta = nested_fit.maximum.objective, nested_fit.maximum.theta
    other = copy.deepcopy(model)
    reorder_experts(other, [1, 0, 2])
    moved = objective.read(other)[0]
    assert float((moved - theta).abs().max()) > 0.1
    torch.testing.assert_close(align_experts(objective, moved, theta, model)[0], theta, rtol=1e-9, atol=1e-9)
    data = flexmix_frame("NregFix")
    x, y = (torch.tensor(data[names].to_numpy()) for names in (["x1", "x2", "w"], "y"))
    torch.testing.assert_close(other.log_prob(x, y), model.log_prob(x, y), rtol=1e-10, atol=1e-10)


def test_a_posterior_names_alike_experts_alone(nested_fit: FitResult) -> None:
    data = flexmix_frame("NregFix")
    x, y = (torch.tensor(data[names].to_numpy()) for names in (["x1", "x2", "w"], "y"))
    bayes = BayesianMixtureOfExperts(nested_fit.model, x, y)
    mode = laplace(bayes, start=nested_fit.model)
    rule = labeling(bayes, mode.mode, mode.factor)
    assert isinstance(rule, NearestLabels)
    assert rule.num_copies == 2
    draw = dict(bayes.parameters(mode.mode.unsqueeze(0)).items())
    assert rule.order(draw).tolist() == [[0, 1, 2]]
    ordered = BayesianMixtureOfExperts(nested_fit.model, x, y, ordering="log_std")
    rule = labeling(ordered, mode.mode, mode.factor)
    assert isinstance(rule, SortedLabels)
    assert rule.classes == [[0, 1], [2]]
    assert np.allclose(dict(zip(mode.param_names, mode.params, strict=True))["slope[0+1,x0]"], 9.88, atol=0.05)


def test_default_priors_of_free_coefficients_have_the_units_of_their_columns(fit: FitResult) -> None:
    x, y = crossing()
    scaled = default_priors(built(), x * torch.tensor([10.0, 0.1]).double(), y)["experts.predictor.free_slope"]
    plain = default_priors(built(), x, y)["experts.predictor.free_slope"]
    # free slopes are those of column 0, the common one of column 1, and of column 0 again
    ratio = (plain.scale / scaled.scale).tolist()
    assert ratio == pytest.approx([10.0, 0.1, 10.0])


def test_a_measure_goes_back_into_a_gate_that_it_follows(fit: FitResult) -> None:
    x, y = crossing()
    again = fit.measure.to_module(fit.model.gate)
    torch.testing.assert_close(again.log_prob(x, y), fit.model.log_prob(x, y), rtol=1e-10, atol=1e-10)
    other = Gate(LinearScore(2, 2, pattern=CoefficientPattern.of(2, 2, columns=[1]), **settings()))
    with pytest.raises(ValueError, match="gate must have a pattern that weight follows"):
        fit.measure.to_module(other)


def test_theory_says_nothing_of_patterned_gates() -> None:
    gate = LinearScore(2, 3, pattern=CoefficientPattern.of(3, 2, columns=[0]), **settings())
    assert theoretical_rates(Gate(LinearScore(2, 3, **settings())), 3, 2)
    assert theoretical_rates(Gate(gate), 3, 2) == {}


def test_saved_fits_have_their_pattern(nested_fit: FitResult, tmp_path: Path) -> None:
    nested_fit.save(tmp_path / "fit.npz")
    again = FitResult.load(tmp_path / "fit.npz")
    assert again.model.experts.predictor.pattern == nested()
    assert torch.equal(again.model.experts.predictor.slope, nested_fit.model.experts.predictor.slope)
    assert list(again.param_names) == list(nested_fit.param_names)


def test_dendrograms_refuse_patterns(fit: FitResult) -> None:
    with pytest.raises(TypeError, match="merged ones follow no pattern"):
        mixing_dendrogram(fit)


def test_the_regressor_takes_columns_and_common_slopes_by_name() -> None:
    x, y = crossing()
    data = pd.DataFrame(x.numpy(), columns=["dose", "age"])
    face = MixtureOfExpertsRegressor(2, gate_columns=["dose"], common=["age"], n_init=4, random_state=0)
    face.fit(data, y.numpy())
    assert "slope[common,age]" in face.result_.param_names
    assert not [name for name in face.result_.param_names if name.startswith("gate_weight[0,age")]
    assert face.coef_.shape == (2, 2)
    assert face.coef_[0, 1] == face.coef_[1, 1]
    numbered = MixtureOfExpertsRegressor(2, gate_columns=[0], common=[1], n_init=4, random_state=0)
    assert numbered.fit(x.numpy(), y.numpy()).log_likelihood_ == face.log_likelihood_


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"gate_columns": [0], "gate": "constant"}, "gate_columns must be None unless gate names one of linear scores"),
        ({"gate_columns": [0], "gate": "laplace"}, "gate_columns must be None unless gate names one of linear scores"),
        ({"common": [0], "experts": GaussianExperts(LinearPredictor(2, 2))}, "common must be empty beside experts"),
        ({"common": ["age"]}, "common must name columns of"),
    ],
)
def test_the_regressor_refuses_what_no_part_follows(arguments: dict[str, object], match: str) -> None:
    x, y = crossing()
    with pytest.raises(ValueError, match=match):
        MixtureOfExpertsRegressor(2, **arguments).fit(x.numpy(), y.numpy())
