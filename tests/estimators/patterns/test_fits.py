"""Fits of patterned models: against published ones, other forms of the same model, and other units."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from estimators import EM
from mixkit import constant_gate
from mixkit.experts import GaussianExperts, PoissonExperts, ProductExperts
from mixkit.experts.predictors import LinearPredictor, ModulePredictor
from mixkit.gates import Gate
from mixkit.gates.normalizers import NormalizedSigmoid
from mixkit.gates.scores import LinearScore
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import CoefficientPattern

from ..flexmix_data import decayed_teeth, flexmix_frame
from ..flexmix_fits import ROWS
from .cases import regression, settings


def crossing(n: int = 300, columns: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Two lines that cross, behind a gate of the first column, and a common slope of the second."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(n, columns, generator=generator, dtype=torch.float64)
    upper = torch.rand(n, generator=generator, dtype=torch.float64) < torch.sigmoid(2.0 * x[:, 0])
    noise = torch.randn(n, generator=generator, dtype=torch.float64) * torch.where(upper, 0.3, 0.6)
    return x, torch.where(upper, 1.0 + 2.0 * x[:, 0], -1.0 - x[:, 0]) + 0.5 * x[:, 1] + noise


def values(fit: object) -> dict[str, float]:
    return dict(zip(fit.param_names, fit.params.tolist(), strict=True))  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:the observed information is singular")  # one expert would do
def test_dmft_with_all_coefficients_common() -> None:
    x, y = decayed_teeth()
    names = list(x.columns)
    fit = EM(random_state=0, n_init=4).fit(
        regression(PoissonExperts, len(names), CoefficientPattern.of(2, names, common=names)), x, y
    )
    assert fit.llf == pytest.approx(-1236.609970, abs=1e-3)
    assert fit.df_model == 12
    found = values(fit)
    assert found["slope[common,log(Begin + 0.5)]"] == pytest.approx(0.7303, abs=5e-5)
    assert found["slope[common,Gender_male]"] == pytest.approx(0.0226, abs=5e-5)
    assert found["slope[common,Treatment_control]"] == pytest.approx(0.3721, abs=5e-5)


def test_fabric_faults_with_a_common_slope() -> None:
    data, row = flexmix_frame("fabricfault"), ROWS["fabric faults"]
    x = np.log(data[["Length"]])
    fit = EM(random_state=0, n_init=4).fit(
        regression(PoissonExperts, 1, CoefficientPattern.of(2, 1, common=[0])), x, data["Faults"]
    )
    assert fit.llf == pytest.approx(row.llf, abs=1e-3)
    assert fit.df_model == 4
    errors = dict(zip(fit.param_names, fit.bse, strict=True))
    slope, slope_error = row.shared["slope[common,log(Length)]"]
    assert values(fit)["slope[common,Length]"] == pytest.approx(slope, abs=1e-3)
    assert errors["slope[common,Length]"] == pytest.approx(slope_error, rel=1e-2)
    levels, level_errors = zip(*(own["intercept"] for own in row.experts), strict=True)
    assert sorted(v for name, v in values(fit).items() if "intercept" in name) == pytest.approx(
        sorted(levels), abs=1e-3
    )
    assert sorted(e for name, e in errors.items() if "intercept" in name) == pytest.approx(
        sorted(level_errors), rel=1e-2
    )


def test_salmonella_with_common_slopes() -> None:
    data, row = flexmix_frame("salmonellaTA98"), ROWS["salmonella"]
    x = np.column_stack([data["x"], np.log(data["x"] + 10.0)])
    fit = EM(random_state=0, n_init=4).fit(
        regression(PoissonExperts, 2, CoefficientPattern.of(2, 2, common=[0, 1])), x, data["y"]
    )
    found = values(fit)
    assert fit.llf == pytest.approx(row.llf, abs=1e-3)
    assert fit.df_model == 5
    assert found["slope[common,x0]"] == pytest.approx(row.shared["slope[common,x]"][0], rel=1e-3)
    assert found["slope[common,x1]"] == pytest.approx(row.shared["slope[common,log(x + 10)]"][0], abs=1e-3)
    assert sorted([found["intercept[0]"], found["intercept[1]"]]) == pytest.approx(
        sorted(own["intercept"][0] for own in row.experts), abs=1e-3
    )


def nested() -> CoefficientPattern:
    """Slopes that experts 0 and 1 share, which expert 2 has not, and one common to all."""
    common = {"x1": (0, 1), "x2": (0, 1), "w": (0, 1, 2)}
    return CoefficientPattern.of(3, ["x1", "x2", "w"], common=common, absent={2: ["x1", "x2"]})


@pytest.mark.parametrize("factor", [1.0, 1e-6, 1e6])
def test_nested_experts_in_any_units(factor: float) -> None:
    data = flexmix_frame("NregFix")
    x = data[["x1", "x2", "w"]] * factor + 1e3 * factor
    fit = EM(random_state=0, n_init=8).fit(regression(GaussianExperts, 3, nested()), x, data["y"])
    found = values(fit)
    assert fit.llf == pytest.approx(-544.1062678, abs=1e-6)
    assert fit.df_model == 11
    assert fit.converged
    assert found["slope[0+1,x1]"] * factor == pytest.approx(9.8816, abs=1e-4)
    assert found["slope[0+1,x2]"] * factor == pytest.approx(4.9975, abs=1e-4)
    assert found["slope[common,w]"] * factor == pytest.approx(0.3262, abs=1e-4)


class CommonSlope(nn.Module):
    """Two lines in the first column, with a common slope of the second, as one would write it by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))
        self.common = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
        self.level = nn.Parameter(torch.tensor([1.0, -1.0], dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., :1] * self.own + x[..., 1:] * self.common + self.level


def test_common_slopes_reach_the_maximum_of_a_module_written_by_hand() -> None:
    x, y = crossing()
    pattern = CoefficientPattern.of(2, 2, common=[1])
    gate = Gate(LinearScore(2, 2, **settings()))
    fit = EM(random_state=0, n_init=4).fit(
        MixtureOfExperts(gate, GaussianExperts(LinearPredictor(2, 2, pattern=pattern, **settings()))), x, y
    )
    by_hand = MixtureOfExperts(copy.deepcopy(gate), GaussianExperts(ModulePredictor(CommonSlope(), 2)).double())
    other = EM(random_state=0, n_init=0, start_at_model=True).fit(by_hand, x, y)
    assert fit.llf == pytest.approx(other.llf, abs=1e-8)
    found = sorted(fit.model.experts.predictor.slope.flatten().tolist())
    module = other.model.experts.predictor.module
    expected = sorted([*module.own.tolist(), *[module.common.item()] * 2])
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_gate_of_one_column_of_ten_is_the_fit_on_that_column() -> None:
    x, y = crossing(columns=10)
    read = {"columns": [0]}
    gate, experts = (CoefficientPattern.of(2, 10, **read) for _ in range(2))
    wide = MixtureOfExperts(
        Gate(LinearScore(10, 2, pattern=gate, **settings())),
        GaussianExperts(LinearPredictor(10, 2, pattern=experts, **settings())),
    )
    narrow = MixtureOfExperts(
        Gate(LinearScore(1, 2, **settings())), GaussianExperts(LinearPredictor(1, 2, **settings()))
    )
    start = EM(random_state=0, n_init=4, tol=1e-14).fit(narrow, x[:, :1], y)
    with torch.no_grad():
        wide.gate.score.free_weight.copy_(start.model.gate.score.weight[:, 0])
        wide.gate.score.free_bias.copy_(start.model.gate.score.bias)
        wide.experts.predictor.free_slope.copy_(start.model.experts.predictor.slope[:, 0])
        wide.experts.predictor.free_intercept.copy_(start.model.experts.predictor.intercept)
        wide.experts.log_std.copy_(start.model.experts.log_std)
    fit = EM(random_state=0, n_init=0, start_at_model=True, tol=1e-14).fit(wide, x, y)
    assert fit.llf == pytest.approx(start.llf, abs=1e-10)
    assert fit.df_model == start.df_model
    assert values(fit) == pytest.approx(values(start), abs=1e-8)
    searched = EM(random_state=0, n_init=4).fit(wide, x, y)
    assert searched.llf == pytest.approx(start.llf, abs=1e-8)


def test_without_anything_in_common_the_fit_is_the_plain_one() -> None:
    x, y = crossing()
    pattern = CoefficientPattern.of(2, 2)
    plain = MixtureOfExperts(
        Gate(LinearScore(2, 2, **settings())), GaussianExperts(LinearPredictor(2, 2, **settings()))
    )
    twin = MixtureOfExperts(
        Gate(LinearScore(2, 2, pattern=pattern, **settings())),
        GaussianExperts(LinearPredictor(2, 2, pattern=pattern, **settings())),
    )
    first, second = (EM(random_state=0, n_init=4).fit(model, x, y) for model in (plain, twin))
    assert first.param_names == second.param_names
    assert values(second) == pytest.approx(values(first), abs=1e-7)
    assert second.llf == pytest.approx(first.llf, abs=1e-10)
    np.testing.assert_allclose(second.bse, first.bse, rtol=1e-6)


def test_columns_are_collinear_among_those_that_a_part_reads() -> None:
    x, y = crossing(columns=2)
    doubled = torch.cat([x, 2.0 * x[:, :1], x[:, :1] * 0.0 + 5.0], -1)
    gate = CoefficientPattern.of(2, 4, columns=[2])
    experts = CoefficientPattern.of(2, 4, columns=[0, 1], common=[1])
    model = MixtureOfExperts(
        Gate(LinearScore(4, 2, pattern=gate, **settings())),
        GaussianExperts(LinearPredictor(4, 2, pattern=experts, **settings())),
    )
    fit = EM(random_state=0, n_init=4).fit(model, doubled, y)  # a warning would be an error
    assert not fit.warnings
    # expert 1 reads the column and its double, expert 0 the column alone: a common slope of the column tells them apart
    told = CoefficientPattern.of(2, 4, columns=[0, 2], common=[0], absent={0: [2]})
    fit = EM(random_state=0, n_init=4).fit(regression(GaussianExperts, 4, told), doubled, y)
    assert not fit.warnings
    assert fit.df_model == 7
    own = CoefficientPattern.of(2, 4, columns=[0, 2])
    with pytest.warns(
        UserWarning, match=r"columns \[2\] of x are constant or linear combinations of others that the e"
    ):
        fit = EM(random_state=0, n_init=4).fit(regression(GaussianExperts, 4, own), doubled, y)
    assert fit.df_model == 7
    assert "slope[0,x2]" not in fit.param_names


def test_several_responses_have_patterns_of_their_own() -> None:
    x, y = crossing(200)
    count = torch.poisson(torch.exp(0.5 * x[:, 0] + 1.0), generator=torch.Generator().manual_seed(0))
    doubled = torch.cat([x, 2.0 * x[:, :1]], -1)
    first = CoefficientPattern.of(2, 3, columns=[0, 1], common=[1])
    second = CoefficientPattern.of(2, 3, columns=[2], common=[2])  # the double of a column that the other family reads
    experts = ProductExperts(
        [
            GaussianExperts(LinearPredictor(3, 2, pattern=first, **settings())),
            PoissonExperts(LinearPredictor(3, 2, pattern=second, **settings())),
        ]
    )
    model = MixtureOfExperts(constant_gate(2, dtype=torch.float64), experts)
    fit = EM(random_state=0, n_init=3, n_moves=0).fit(model, doubled, torch.stack([y, count], -1))
    assert not fit.warnings
    assert {"y0.slope[common,x1]", "y1.slope[common,x2]"} < set(fit.param_names)
    assert fit.df_model == 1 + 5 + 2 + 3


def test_a_constant_column_is_an_intercept_where_there_is_none() -> None:
    x, y = crossing()
    ones = torch.cat([x, torch.full_like(x[:, :1], 5.0)], -1)
    pattern = CoefficientPattern.of(2, 3, common=[1], intercept=False)
    fit = EM(random_state=0, n_init=4).fit(regression(GaussianExperts, 3, pattern), ones, y)
    other = EM(random_state=0, n_init=4).fit(
        regression(GaussianExperts, 2, CoefficientPattern.of(2, 2, common=[1])), x, y
    )
    assert fit.llf == pytest.approx(other.llf, abs=1e-8)
    assert fit.df_model == other.df_model
    found = [5.0 * values(fit)[f"slope[{j},x2]"] for j in range(2)]
    assert sorted(found) == pytest.approx(sorted(values(other)[f"intercept[{j}]"] for j in range(2)), abs=1e-5)


def test_known_coefficients_act_as_offsets() -> None:
    x, y = crossing()
    fixed = {(j, 1): 0.75 for j in range(2)}
    known = CoefficientPattern.of(2, 2, fixed=fixed)
    fit = EM(random_state=0, n_init=4).fit(regression(GaussianExperts, 2, known), x, y)
    rest = y - 0.75 * x[:, 1]
    model = MixtureOfExperts(
        constant_gate(2, dtype=torch.float64), GaussianExperts(LinearPredictor(1, 2, **settings()))
    )
    other = EM(random_state=0, n_init=4).fit(model, x[:, :1], rest)
    assert fit.llf == pytest.approx(other.llf, abs=1e-8)
    assert fit.model.experts.predictor.slope[:, 1].tolist() == [0.75, 0.75]
    assert sorted(fit.params) == pytest.approx(sorted(other.params), abs=1e-6)


@pytest.mark.filterwarnings("ignore:the observed information is singular")  # of the gate: weights run far
@pytest.mark.parametrize(("factor", "shift"), [(1e-6, 1e3), (1e6, 1e3)])
def test_units_change_nothing_behind_a_smooth_gate(factor: float, shift: float) -> None:
    x, y = crossing(200)
    model = smooth(CoefficientPattern.of(2, 2, common=[1]))
    plain, moved = (EM(random_state=0, n_init=3, n_moves=0).fit(model, data, y) for data in (x, (x + shift) * factor))
    assert moved.llf == pytest.approx(plain.llf, abs=1e-6)
    assert values(moved)["slope[common,x1]"] * factor == pytest.approx(values(plain)["slope[common,x1]"], abs=1e-5)


@pytest.mark.filterwarnings("ignore:the observed information is singular")  # of the gate: weights run far
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_known_slopes_have_units_behind_a_smooth_gate(factor: float) -> None:
    x, y = crossing(200)
    known = [CoefficientPattern.of(2, 2, common=[1], fixed={(0, 0): 2.0 / unit}) for unit in (1.0, factor)]
    plain, moved = (
        EM(random_state=0, n_init=3, n_moves=0).fit(smooth(pattern), x * unit, y)
        for pattern, unit in zip(known, (1.0, factor), strict=True)
    )
    assert moved.llf == pytest.approx(plain.llf, abs=1e-6)
    assert moved.model.experts.predictor.slope[0, 0].item() == pytest.approx(2.0 / factor)


def smooth(pattern: CoefficientPattern) -> MixtureOfExperts:
    """Experts of a pattern behind a normalized sigmoid of the first column."""
    gate = CoefficientPattern.of(2, 2, columns=[0])
    return MixtureOfExperts(
        Gate(LinearScore(2, 2, pattern=gate, **settings()), normalizer=NormalizedSigmoid()),
        GaussianExperts(LinearPredictor(2, 2, pattern=pattern, **settings())),
    )


@pytest.mark.filterwarnings("ignore:the observed information is singular")  # of the gate: weights run far
@pytest.mark.parametrize("normalizer", [None, NormalizedSigmoid()])
def test_a_common_weight_of_a_gate_counts_unless_it_cancels(normalizer: NormalizedSigmoid | None) -> None:
    x, y = crossing(200)
    common = CoefficientPattern.of(2, 2, common=[1])
    if normalizer is None:
        with pytest.raises(ValueError, match="they cancel"):
            Gate(LinearScore(2, 2, pattern=common, **settings()))
        return
    gate = Gate(LinearScore(2, 2, pattern=common, **settings()), normalizer=normalizer)
    model = MixtureOfExperts(gate, GaussianExperts(LinearPredictor(2, 2, **settings())))
    fit = EM(random_state=0, n_init=3, n_moves=0).fit(model, x, y)
    assert "gate_weight[common,x1]" in fit.param_names
    assert fit.df_model == 3 + 2 + 4 + 2 + 2
