"""Thresholds of ordinal experts."""

import pytest
import torch

from tests.mixkit.expert_table import SCALAR, D, build_experts
from tests.mixkit.gate_table import normal


def test_thresholds_without_an_intercept_increase_and_give_the_same_levels():
    experts = build_experts(SCALAR["ordinal"].make)
    cuts, x = experts.thresholds().detach(), normal(5, D)
    assert (cuts.diff(dim=-1) > 0).all()
    below = torch.sigmoid(cuts - (x @ experts.predictor.slope.mT).unsqueeze(-1))
    torch.testing.assert_close(experts(x).cdf(torch.arange(3.0).double().reshape(3, 1, 1)), below.movedim(-1, 0))
    with pytest.raises(TypeError, match="predictor must have an intercept, got ModulePredictor"):
        build_experts(SCALAR["ordinal-two-levels"].make).thresholds()
