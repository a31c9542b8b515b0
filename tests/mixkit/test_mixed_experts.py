"""Experts of several families behind one gate."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from mixkit.distributions import Atom, LogNormal, PerComponentDistribution, ZeroInflatedLogNormal
from mixkit.experts import (
    COUNTS,
    REAL_LINE,
    CategoricalExperts,
    DominatingMeasure,
    GaussianExperts,
    LaplaceExperts,
    LogNormalExperts,
    MixedExperts,
    NegativeBinomialExperts,
    PointMassExperts,
    PoissonExperts,
    StudentTExperts,
    ZeroInflatedLogNormalExperts,
)
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
        inflated = ZeroInflatedLogNormalExperts(ConstantPredictor(1, response_dim=2, generator=seeded()))
        return MixedExperts([PointMassExperts(0.0), log_normal, inflated])

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
        with pytest.raises(ValueError, match=r"laws must have one event shape .* got batch shape \(\)"):
            PerComponentDistribution([LogNormal(torch.tensor(0.0), torch.tensor(1.0))])

    def test_state_travels(self):
        experts, x, y = self.experts(), normal(N, D), torch.ones(N, 1, dtype=torch.float64)
        for twin in (copy.deepcopy(experts), pickle.loads(pickle.dumps(experts))):
            assert torch.equal(twin(x).log_prob(y), experts(x).log_prob(y))
        assert "num_experts=4" in repr(experts)
        assert experts.check_response(y) is y
        with pytest.raises(ValueError, match="log-normal"):
            experts.check_response(y - 2.0)


def one(kind, response_dim=None):
    return kind(ConstantPredictor(1, response_dim=response_dim, generator=seeded()))


MEASURES = {
    "gaussian": lambda: one(GaussianExperts),
    "student-t": lambda: one(StudentTExperts),
    "laplace": lambda: one(LaplaceExperts),
    "log-normal": lambda: one(LogNormalExperts),
    "zero-inflated": lambda: one(ZeroInflatedLogNormalExperts, 2),
    "poisson": lambda: one(PoissonExperts),
    "negative-binomial": lambda: one(NegativeBinomialExperts),
    "categorical": lambda: one(CategoricalExperts, 2),
    "zero": lambda: PointMassExperts(0.0),
    "two": lambda: PointMassExperts(2.0),
}
LINE, POSITIVE, COUNTING = (
    {"gaussian", "student-t", "laplace"},
    {"log-normal"},
    {"poisson", "negative-binomial", "categorical"},
)
TOGETHER = [LINE | POSITIVE, POSITIVE | {"zero-inflated", "zero"}, COUNTING | {"zero", "two"}]


class TestMeasures:
    @pytest.mark.parametrize("first", MEASURES)
    @pytest.mark.parametrize("second", MEASURES)
    def test_families_go_together_if_their_densities_can_be_added(self, first, second):
        families = [MEASURES[first](), MEASURES[second]()]
        if any({first, second} <= together for together in TOGETHER):
            assert MixedExperts(families).num_experts == 2
            return
        with pytest.raises(ValueError, match="families must have densities with respect to one measure, got"):
            MixedExperts(families)

    @pytest.mark.parametrize("name", MEASURES)
    def test_densities_sum_to_one_over_the_measure(self, name):
        """Masses by summation, densities by the trapezoid rule on a grid that is uniform in sinh."""
        family = MEASURES[name]().to(torch.float64)
        law, measure = family(torch.zeros(1, 1, dtype=torch.float64)), family.dominating_measure
        masses = [*measure.values, *(range(500) if measure.has_counts else ())]
        total = sum(float(law.log_prob(torch.tensor(value, dtype=torch.float64)).exp().detach()) for value in masses)
        if measure.interval is not None:
            t = torch.linspace(-25.0, 25.0, 40_001, dtype=torch.float64)
            grid, slope = t.sinh(), t.cosh()
            inside = (grid > measure.interval[0]) & (grid < measure.interval[1])
            density = torch.where(inside, law.log_prob(grid[:, None])[:, 0].exp().detach() * slope, 0.0)
            total += float(torch.trapezoid(density, t))
        assert total == pytest.approx(1.0, abs=1e-4)

    def test_the_message_names_the_families_and_the_value(self):
        with pytest.raises(ValueError, match=r"got LogNormalExperts and PoissonExperts, of which one has a mass at 1 "):
            MixedExperts([one(LogNormalExperts), one(PoissonExperts)])

    def test_a_container_has_the_measures_of_its_families(self):
        inner = MixedExperts([PointMassExperts(0.0), one(LogNormalExperts)])
        assert inner.dominating_measure == DominatingMeasure((0.0, math.inf), (0.0,))
        assert MixedExperts([inner, one(ZeroInflatedLogNormalExperts, 2)]).num_experts == 3
        with pytest.raises(ValueError, match="MixedExperts and GaussianExperts, of which one has a mass at 0"):
            MixedExperts([inner, one(GaussianExperts)])

    def test_another_distribution_says_its_measure_anew(self):
        class Renamed(PoissonExperts):
            pass

        class Halved(PoissonExperts):
            def forward(self, x):
                return super().forward(x)

        assert one(Renamed).dominating_measure is COUNTS
        assert one(Halved).dominating_measure is None
        with pytest.raises(ValueError, match=r"families must say their dominating_measure, .* got Halved with None"):
            MixedExperts([one(Halved)])
        Halved.dominating_measure = COUNTS
        assert MixedExperts([one(Halved), one(PoissonExperts)]).num_experts == 2
        assert REAL_LINE.clash(REAL_LINE) is None

    def test_a_count_beside_the_atom_of_a_density_is_a_clash(self):
        inflated = DominatingMeasure((-math.inf, math.inf), (0.0,))
        assert inflated.clash(COUNTS) == COUNTS.clash(inflated) == 1.0
        assert DominatingMeasure((-2.5, 0.5), (0.0,)).clash(COUNTS) is None
        assert DominatingMeasure((1.5, math.inf)).clash(COUNTS) == 2.0
