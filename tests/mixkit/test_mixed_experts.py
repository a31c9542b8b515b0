"""Experts of several families behind one gate."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from mixkit.distributions import Atom, LogNormal, PerComponentDistribution, ZeroInflatedLogNormal
from mixkit.experts import LogNormalExperts, MixedExperts, PointMassExperts, PoissonExperts
from mixkit.experts.predictors import ConstantPredictor, LinearPredictor
from mixkit.mixture import ExpertMixture
from tests.mixkit.expert_table import (
    D,
)
from tests.mixkit.gate_table import normal, seeded

N = 4


class TestMixedFamilies:
    @staticmethod
    def experts():
        log_normal = LogNormalExperts(
            LinearPredictor(D, 2, dtype=torch.float64, generator=seeded()), dtype=torch.float64
        )
        return MixedExperts(
            [PointMassExperts(0.0), log_normal, PoissonExperts(ConstantPredictor(1, generator=seeded()))]
        )

    def test_every_law_stands_at_its_place(self):
        experts, x, y = self.experts(), normal(N, D), torch.tensor([0.0, 1.0, 2.5, 3.0], dtype=torch.float64)
        law = experts(x)
        assert (experts.num_experts, law.batch_shape) == (4, (N, 4))
        parts = [family(x) for family in experts.families]
        for name in ("log_prob", "cdf"):
            apart = torch.cat([getattr(part, name)(y.unsqueeze(-1)).expand(N, -1) for part in parts], -1)
            assert torch.equal(getattr(law, name)(y.unsqueeze(-1)), apart.to(torch.float64))
            own = getattr(law, name)(y.unsqueeze(-1).expand(N, 4))
            assert torch.equal(own, apart.to(torch.float64))
        assert torch.equal(law.mean, torch.cat([part.mean for part in parts], -1))
        assert torch.equal(law.variance, torch.cat([part.variance for part in parts], -1))
        assert law.expand((3, N, 4)).mean.shape == (3, N, 4)
        with pytest.raises(ValueError, match="batch_shape must end in 4"):
            law.expand((N, 1))

    def test_an_atom_and_a_log_normal_law_make_the_zero_inflated_one(self):
        """With the gate's weight of the atom as the probability of zero the mixture is the zero-inflated law."""
        share, loc, scale = torch.tensor([0.7, 0.4, 1.3], dtype=torch.float64)
        mixture = ExpertMixture(
            torch.stack([1 - share, share]).log(),
            PerComponentDistribution([Atom(torch.zeros(1).double()), LogNormal(loc.reshape(1), scale.reshape(1))]),
        )
        whole = ZeroInflatedLogNormal(torch.logit(share), loc, scale)
        y = torch.tensor([0.0, 0.1, 1.0, 20.0], dtype=torch.float64)
        torch.testing.assert_close(mixture.log_prob(y), whole.log_prob(y))
        torch.testing.assert_close(mixture.cdf(y), whole.cdf(y))
        torch.testing.assert_close(mixture.mean, whole.mean)
        torch.testing.assert_close(mixture.variance, whole.variance)
        p = torch.tensor([0.01, 0.1, 0.29, 0.35, 0.99], dtype=torch.float64)
        torch.testing.assert_close(mixture.icdf(p), whole.icdf(p), rtol=1e-9, atol=1e-12)
        assert mixture.icdf(p)[2] == 0.0
        draws = mixture.sample((2000,), generator=seeded(3))
        assert abs(float((draws == 0).double().mean()) - 0.3) < 4.4 * math.sqrt(0.21 / 2000)  # false alarms 1e-5

    def test_what_is_no_family_is_named(self):
        with pytest.raises(TypeError, match=r"families must hold mixkit\.experts\.Experts, got Identity"):
            MixedExperts([nn.Identity()])
        with pytest.raises(ValueError, match="families must hold at least one"):
            MixedExperts([])
        with pytest.raises(ValueError, match="laws must hold at least one"):
            PerComponentDistribution([])
        with pytest.raises(ValueError, match=r"laws must be of scalar responses .* got batch shape \(\)"):
            PerComponentDistribution([LogNormal(torch.tensor(0.0), torch.tensor(1.0))])

    def test_state_travels(self):
        experts, x, y = self.experts(), normal(N, D), torch.ones(N, 1, dtype=torch.float64)
        for twin in (copy.deepcopy(experts), pickle.loads(pickle.dumps(experts))):
            assert torch.equal(twin(x).log_prob(y), experts(x).log_prob(y))
        assert "num_experts=4" in repr(experts)
        assert experts.check_response(y) is y
        with pytest.raises(ValueError, match="Poisson"):
            experts.check_response(y + 0.5)
