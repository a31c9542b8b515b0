"""Predictors: their formulas, shapes, batches and checks."""

import pickle

import pytest
import torch
from torch import nn

from mixkit.experts.predictors import ConstantPredictor, LinearPredictor, ModulePredictor, Predictor
from tests.mixkit.gate_table import D, as_function, check_derivatives, normal, one_of_batch, seeded

K, P, N = 3, 2, 5


def network(response_dim=None, dtype=torch.float64, **_):
    shape = (K,) if response_dim is None else (K, response_dim)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Linear(D, torch.Size(shape).numel(), dtype=dtype), nn.Unflatten(-1, shape), nn.Tanh()
    return ModulePredictor(nn.Sequential(*layers), K, response_dim=response_dim)


def linear(**o):
    return LinearPredictor(D, K, **{"dtype": torch.float64, "generator": seeded(), **o})


def constant(**o):
    return ConstantPredictor(K, **{"dtype": torch.float64, "generator": seeded(), **o})


every_predictor = pytest.mark.parametrize("make", [linear, constant, network])
every_response = pytest.mark.parametrize("response_dim", [None, P], ids=["scalar", "vector"])


@every_predictor
@every_response
def test_the_contract(make, response_dim):
    predictor, tail = make(response_dim=response_dim), (K,) if response_dim is None else (K, P)
    assert isinstance(predictor, Predictor)
    assert (predictor.num_experts, predictor.response_dim) == (K, response_dim)
    x = normal(2, N, D)
    assert predictor(x).shape == (2, N, *tail)
    torch.testing.assert_close(predictor(x)[1], predictor(x[1]))
    assert predictor(x).dtype == torch.float64
    assert torch.equal(pickle.loads(pickle.dumps(predictor))(x), predictor(x))
    assert f"num_experts={K}" in repr(predictor)
    assert ("response_dim=2" in repr(predictor)) == (response_dim == P)


@every_predictor
@every_response
def test_derivatives(make, response_dim):
    call, leaves = as_function(make(response_dim=response_dim), normal(N, D))
    check_derivatives(call, leaves)


@every_response
def test_the_linear_predictor_by_hand(response_dim):
    predictor, x = linear(response_dim=response_dim), normal(N, D)
    rows = "k" if response_dim is None else "kp"
    expected = torch.einsum(f"nd,{rows}d->n{rows}", x, predictor.slope) + predictor.intercept
    torch.testing.assert_close(predictor(x), expected)


@every_response
@pytest.mark.parametrize("make", [linear, constant])
@pytest.mark.parametrize("own_x", [True, False])
def test_a_batch_equals_a_loop(make, response_dim, own_x):
    predictor = make(response_dim=response_dim, batch_shape=(2,))
    x = normal(2, N, D) if own_x else normal(N, D)

    def single(batch_shape=(), dtype=torch.float64):
        return make(response_dim=response_dim, batch_shape=batch_shape, dtype=dtype)

    for i in range(2):
        torch.testing.assert_close(predictor(x)[i], one_of_batch(single, predictor, (i,))(x[i] if own_x else x))


def test_a_constant_does_not_depend_on_x():
    predictor = constant()
    assert torch.equal(predictor(normal(N, D)), predictor.intercept.expand(N, K))


def test_the_start_is_the_generators():
    for make in (linear, constant):
        assert torch.equal(make(generator=seeded(3)).intercept, make(generator=seeded(3)).intercept)
        assert not torch.equal(make(generator=seeded(3)).intercept, make(generator=seeded(4)).intercept)


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="num_features must be at least 1, got 0"):
        LinearPredictor(0, K, generator=seeded())
    with pytest.raises(ValueError, match="num_experts must be at least 1, got 0"):
        ConstantPredictor(0, generator=seeded())
    with pytest.raises(ValueError, match="response_dim must be at least 1, got 0"):
        linear(response_dim=0)
    with pytest.raises(TypeError, match=r"num_experts must be an integer, got float 2\.0"):
        ModulePredictor(nn.Identity(), 2.0)
    with pytest.raises(TypeError, match=r"module must be a torch\.nn\.Module, got function"):
        ModulePredictor(network, 2)


def test_covariates_are_counted():
    with pytest.raises(ValueError, match=r"x must have 3 covariates in its last dimension, got shape \(5, 2\)"):
        linear()(normal(N, 2))


@pytest.mark.parametrize("module", [nn.Identity(), nn.Flatten(0), nn.Unflatten(-1, (1, D))])
def test_a_module_of_the_wrong_shape_is_named(module):
    predictor = ModulePredictor(module, 2)
    with pytest.raises(ValueError, match=r"the output of module must have shape \(5, 2\), got"):
        predictor(normal(N, D))
