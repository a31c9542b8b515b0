"""Families by name."""

import pytest
import torch

from mixkit.experts import (
    GaussianExperts,
    PointMassExperts,
    SphericalCovariance,
    family,
    family_by_name,
    family_names,
    family_of,
)
from mixkit.experts.predictors import ConstantPredictor, LinearPredictor, Predictor
from tests.mixkit.expert_table import double
from tests.mixkit.gate_table import normal, seeded

OPTIONS = {
    "categorical": {"num_classes": 3},
    "ordinal": {"num_levels": 3},
    "multivariate_binary": {"response_dim": 3},
    "multivariate_gaussian": {"response_dim": 2},
}


@pytest.mark.parametrize("name", family_names())
@pytest.mark.parametrize("d", [0, 2])
def test_every_word_builds_a_family_of_linear_or_constant_locations(name, d):
    settings = {"dtype": torch.float64, "generator": seeded(), "batch_shape": (2,)}
    experts = family_by_name(name, d, 3, **OPTIONS.get(name, {}), **settings)
    assert type(experts) is family_of(name)
    predictors = [part for part in experts.modules() if isinstance(part, Predictor)]
    assert {type(part) for part in predictors} == {LinearPredictor if d else ConstantPredictor}
    assert {p.dtype for p in experts.parameters()} == {torch.float64}
    law = experts(normal(5, 2))
    assert law.batch_shape == (2, 5, 3)
    with torch.random.fork_rng(devices=[]):
        assert law.log_prob(law.sample()).isfinite().all()


@pytest.mark.parametrize(("name", "options"), OPTIONS.items())
def test_a_family_says_which_option_it_lacks(name, options):
    (option,) = options
    with pytest.raises(TypeError, match=option):
        family_of(name).linear(2, 3, generator=seeded())


def test_the_same_seed_gives_the_same_experts():
    first, second = (family_by_name("gaussian", 2, 3, generator=seeded(4)) for _ in range(2))
    assert torch.equal(first.predictor.slope, second.predictor.slope)


def test_options_that_are_needed_are_given_or_told_by_the_response():
    assert set(family_names()) - set(family_names(with_options=False)) == set(OPTIONS)
    with pytest.raises(TypeError, match="num_classes must be given for the family 'categorical'"):
        family_by_name("categorical", 1, 2)
    assert family_by_name("categorical", 1, 2, generator=seeded(), response=double(0.0, 3.0, 1.0)).num_classes == 4
    assert (
        family_by_name("categorical", 1, 2, generator=seeded(), response=double(0.0, 1.0), num_classes=3).num_classes
        == 3
    )
    vector = family_by_name("multivariate_gaussian", 1, 2, response=normal(5, 4), covariance="VII", generator=seeded())
    assert vector.covariance.response_dim == 4
    assert isinstance(vector.covariance, SphericalCovariance)


def test_words_that_are_none():
    with pytest.raises(ValueError, match=r"name must be one of \['.*'\], got 'normal'"):
        family_by_name("normal", 1, 2)
    with pytest.raises(TypeError, match="name must be a string, got int"):
        family_by_name(3, 1, 2)
    with pytest.raises(ValueError, match="num_features must be at least 0, got -1"):
        family_by_name("poisson", -1, 2)
    with pytest.raises(ValueError, match="name must be free, got 'poisson', which is that of PoissonExperts"):
        family("poisson")(GaussianExperts)


def test_families_without_linear_locations_say_so():
    with pytest.raises(TypeError, match="PointMassExperts has no linear locations"):
        PointMassExperts.linear(2, 1)
