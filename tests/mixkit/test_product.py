"""Several responses at once, independent given the expert."""

import copy
import pickle

import pytest
import torch

from mixkit import MixtureOfExperts, softmax_gate
from mixkit.distributions import IndependentResponses, Normal
from mixkit.experts import MultivariateBinaryExperts, PointMassExperts, ProductExperts, family_by_name
from mixkit.parameters import records_of
from tests.mixkit.gate_table import normal, seeded

D, K = 2, 3


def part(word, k=K, **options):
    return family_by_name(word, D, k, dtype=torch.float64, generator=seeded(len(word)), **options)


def product():
    return ProductExperts({"weight": part("gaussian"), "visits": part("poisson"), "share": part("beta")})


def drawn(experts, x):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return experts(x).sample()


def test_the_density_is_the_product_of_those_of_the_coordinates():
    experts, x = product(), normal(5, D)
    law, y = experts(x), drawn(experts, x)
    assert (law.batch_shape, law.event_shape, y.shape) == ((5, K), (3,), (5, K, 3))
    parts = [family(x) for family in experts.families]
    expected = sum(own.log_prob(y[..., i]) for i, own in enumerate(parts))
    torch.testing.assert_close(law.log_prob(y), expected)
    torch.testing.assert_close(law.mean, torch.stack([own.mean for own in parts], -1))
    torch.testing.assert_close(law.variance, torch.stack([own.variance for own in parts], -1))
    for twin in (copy.deepcopy(experts), pickle.loads(pickle.dumps(experts))):
        assert torch.equal(twin(x).log_prob(y), law.log_prob(y))
    assert torch.equal(law.expand((2, 5, K)).log_prob(y), law.log_prob(y).expand(2, 5, K))


def test_a_mixture_of_them_is_a_distribution_of_vectors():
    model = MixtureOfExperts(softmax_gate(D, K, dtype=torch.float64, generator=seeded()), product())
    x = normal(4, D)
    y = model(x).sample((3000,), generator=seeded(5))
    assert y.shape == (3000, 4, 3)
    error = (y.mean(0) - model(x).mean) / (model(x).variance / 3000).sqrt()
    assert error.abs().max() < 5.0  # false alarm 1e-5
    assert model.log_prob(x, y[0]).isfinite().all()


def test_parameters_are_called_by_response_and_block():
    model = MixtureOfExperts(softmax_gate(D, K, generator=seeded()), product())
    blocks = {record.block for record in records_of(model)} - {"gate_weight", "gate_bias"}
    assert blocks == {
        *("weight.slope", "weight.intercept", "weight.std", "visits.slope", "visits.intercept"),
        *("share.slope", "share.intercept", "share.precision"),
    }
    unnamed = MixtureOfExperts(softmax_gate(D, K, generator=seeded()), ProductExperts([part("poisson")] * 1))
    assert "y0.slope" in {record.block for record in records_of(unnamed)}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0.0, 1.0], r"y must have 3 responses in its last dimension, got shape \(1, 2\)"),
        ([0.0, 1.5, 0.5], r"non-negative integers for Poisson experts, got 1\.5"),
        ([0.0, 1.0, 1.0], r"strictly between 0 and 1 for beta experts, got 1\.0"),
        ([torch.nan, 1.0, 0.5], "y must be finite"),
    ],
)
def test_every_family_checks_its_own_response(row, message):
    with pytest.raises(ValueError, match=message):
        product().check_response(torch.tensor([row]))


def test_known_columns_are_seen_by_those_that_know_them():
    experts = ProductExperts([part("gaussian"), part("poisson", offset=True)])
    assert experts.known_columns == ("offset",)
    x, offset = normal(4, D), normal(4, 1, seed=8)
    law = experts(torch.cat([x, offset], -1))
    torch.testing.assert_close(law.mean[..., 0], experts.families[0](x).mean)
    torch.testing.assert_close(law.laws[1].log_rate, experts.families[1].predictor(torch.cat([x, offset], -1)))
    y = torch.ones(4, 2, dtype=torch.float64)
    assert experts.check_rows(torch.cat([x, offset], -1), y) is y


def test_families_that_make_no_product_are_refused():
    with pytest.raises(ValueError, match="families must hold at least one family of experts, got none"):
        ProductExperts([])
    with pytest.raises(TypeError, match=r"families must hold mixkit\.experts\.Experts, got str"):
        ProductExperts(["poisson"])
    with pytest.raises(ValueError, match=r"families must have one number of experts, got \[3, 2\]"):
        ProductExperts([part("poisson"), part("gaussian", k=2)])
    with pytest.raises(ValueError, match=r"must know the same columns of x, got \('offset',\) and \('trials',\)"):
        ProductExperts([part("poisson", offset=True), part("binomial", trials=None)])
    with pytest.raises(ValueError, match=r"laws must hold distributions of scalars, got \[\(2,\)\]"):
        IndependentResponses([IndependentResponses([Normal(torch.zeros(1), torch.ones(1))] * 2)])
    assert ProductExperts([PointMassExperts(0.0, 3), part("poisson")]).num_experts == 3


def test_binary_vectors_have_one_regression_for_each_response():
    experts = family_by_name("multivariate_binary", D, K, response=torch.zeros(6, 4), generator=seeded())
    assert isinstance(experts, MultivariateBinaryExperts)
    assert len(experts.families) == 4
    assert len({family.predictor.slope.sum().item() for family in experts.families}) == 4
    with pytest.raises(ValueError, match="at most the number of trials, got 2"):
        experts.check_response(torch.full((1, 4), 2.0))
