"""Estimates and standard errors against R's flexmix 2.3-18; its script and figures are in ``reference/``."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from estimators import EM
from mixkit import MixtureOfExperts, constant_gate, linear_gaussian_experts, softmax_gate
from mixkit.datasets import load_tone

from .models import DTYPE, seeded

FOLDER = Path(__file__).with_name("reference")
GATES = {
    "constant": lambda: constant_gate(2, dtype=DTYPE),
    "softmax": lambda: softmax_gate(1, 2, dtype=DTYPE, generator=seeded(0)),
}


def rows_of(data: str, gate: str) -> tuple[float, dict[str, tuple[float, float]]]:
    """flexmix's log-likelihood, and its estimate and standard error by its own names."""
    with open(FOLDER / "flexmix_fits.csv") as lines:
        rows = [row for row in csv.DictReader(lines) if (row["data"], row["gate"]) == (data, gate)]
    return float(rows[0]["llf"]), {r["parameter"]: (float(r["estimate"]), float(r["std_error"])) for r in rows}


def data_of(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    if name == "tone":
        return load_tone()
    values = torch.as_tensor(np.loadtxt(FOLDER / "crossing_lines.csv", delimiter=",", skiprows=1))
    return values[:, :1], values[:, 1]


@pytest.mark.parametrize("gate", ["constant", "softmax"])
@pytest.mark.parametrize(("data", "covariate"), [("tone", "stretchratio"), ("lines", "x")])
def test_estimates_and_standard_errors_are_those_of_flexmix(data, covariate, gate):
    model = MixtureOfExperts(GATES[gate](), linear_gaussian_experts(1, 2, dtype=DTYPE, generator=seeded(0)))
    result = EM(random_state=0).fit(model, *data_of(data))
    llf, theirs = rows_of(data, gate)
    assert result.llf == pytest.approx(llf, abs=1e-6)
    ours = dict(zip(result.param_names, zip(result.params, result.bse, strict=True), strict=True))
    slopes = [theirs[f"model.1_Comp.{c}_coef.{covariate}"][0] for c in (1, 2)]
    experts = np.argsort([abs(ours["slope[0,x0]"][0] - slope) for slope in slopes])  # our expert j is their experts[j]
    pairs = [
        pair
        for ours_at, their in enumerate(experts + 1)
        for pair in (
            (ours[f"slope[{ours_at},x0]"], theirs[f"model.1_Comp.{their}_coef.{covariate}"]),
            (ours[f"intercept[{ours_at}]"], theirs[f"model.1_Comp.{their}_coef.(Intercept)"]),
            (logarithm(ours[f"std[{ours_at}]"]), theirs[f"model.1_Comp.{their}_log(sigma)"]),
        )
    ]
    sign = 1.0 if experts[1] == 0 else -1.0  # their reference is component 1, ours the last expert
    names = {"gate_bias[0]": "concomitant_Comp.2.alpha"}
    if gate == "softmax":
        names = {
            "gate_bias[0]": "concomitant_Comp.2.(Intercept)",
            "gate_weight[0,x0]": f"concomitant_Comp.2.{covariate}",
        }
    pairs += [((sign * ours[a][0], ours[a][1]), theirs[b]) for a, b in names.items()]
    assert len(pairs) == len(theirs) == result.df_model
    found, expected = (np.array(side) for side in zip(*pairs, strict=True))
    np.testing.assert_allclose(found[:, 0], expected[:, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[:, 1], expected[:, 1], rtol=1e-5)


def logarithm(pair: tuple[float, float]) -> tuple[float, float]:
    """Estimate and standard error of the logarithm."""
    return float(np.log(pair[0])), pair[1] / pair[0]
