"""Experts for outliers."""

import pytest
import torch

from mixkit import MixtureOfExperts, constant_gate
from mixkit.distributions import Box
from mixkit.experts import MixedExperts, NoiseExperts, PoissonExperts, family_by_name
from mixkit.experts.predictors import ConstantPredictor
from tests.mixkit.expert_table import double
from tests.mixkit.gate_table import normal, seeded


def test_the_density_is_one_over_the_volume_inside_and_zero_or_the_same_outside():
    y = double(-1.0, 1.0, 3.0)
    inside = NoiseExperts.over(y)(normal(3, 2))
    torch.testing.assert_close(inside.log_prob(y.unsqueeze(-1)).exp(), torch.full((3, 1), 0.25).double())
    assert inside.log_prob(double(4.0)).tolist() == [[-torch.inf]] * 3
    improper = NoiseExperts.over(y, everywhere=True)(normal(3, 2))
    torch.testing.assert_close(improper.log_prob(double(4.0)).exp(), torch.full((3, 1), 0.25).double())
    box = NoiseExperts.over(torch.stack([y, 2.0 * y], -1))(normal(3, 2))
    assert (box.batch_shape, box.event_shape) == ((3, 1), (2,))
    assert box.log_prob(double(0.0, 0.0)).exp().flatten().tolist() == pytest.approx([1 / 32] * 3)
    assert box.log_prob(double(0.0, 7.0)).tolist() == [[-torch.inf]] * 3


def test_moments_quantiles_and_draws_of_a_box():
    law = Box(double(-1.0), double(3.0))
    assert (law.mean.item(), law.variance.item()) == (1.0, pytest.approx(16 / 12))
    p = double(0.0, 0.3, 1.0)
    torch.testing.assert_close(law.cdf(law.icdf(p)), p)
    assert law.icdf(double(-0.1)).isnan().all()
    assert law.cdf(double(-2.0, 5.0)).tolist() == [0.0, 1.0]
    assert law.expand((4,)).log_prob(double(0.0)).shape == (4,)


@pytest.mark.parametrize("word", ["gaussian", "multivariate_gaussian"])
def test_noise_beside_other_experts_is_a_mixture_of_both(word):
    options = {"response_dim": 2} if word == "multivariate_gaussian" else {}
    own = family_by_name(word, 2, 2, dtype=torch.float64, generator=seeded(), **options)
    tail = (2,) if options else ()
    noise = NoiseExperts(torch.full(tail, -5.0).double(), torch.full(tail, 5.0).double())
    model = MixtureOfExperts(constant_gate(3, dtype=torch.float64), MixedExperts([own, noise]))
    x = normal(4, 2)
    y = model(x).sample((50,), generator=seeded(2))
    law = model(x)
    assert law.event_shape == tail
    joint = torch.cat([own(x).log_prob(y.unsqueeze(2)), noise(x).log_prob(y.unsqueeze(2))], -1)
    torch.testing.assert_close(law.log_prob(y), torch.logsumexp(joint, -1) - torch.tensor(3.0).double().log())
    torch.testing.assert_close(law.mean, torch.cat([own(x).mean, noise(x).mean], 1).mean(1))
    assert model.log_prob(x, y[0]).isfinite().all()


def test_boxes_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"high must be above low, got 1\.0 and 1\.0"):
        NoiseExperts(1.0, 1.0)
    with pytest.raises(ValueError, match="low must be finite"):
        NoiseExperts(-torch.inf, 1.0)
    with pytest.raises(ValueError, match="y must have 2 responses in its last dimension"):
        NoiseExperts([0.0, 0.0], [1.0, 1.0]).check_response(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="densities with respect to one measure"):
        MixedExperts([PoissonExperts(ConstantPredictor(1, generator=seeded())), NoiseExperts(0.0, 9.0)])
