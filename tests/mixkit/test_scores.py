"""Contracts of every score, and the formula of each against a loop in NumPy."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch

from mixkit.gates.scores import (
    ActivationScore,
    ConstantScore,
    CosineScore,
    DistanceScore,
    LinearScore,
    ModuleScore,
    QuadraticScore,
)
from tests.mixkit.gate_table import SCORES, D, K, as_function, build, check_derivatives, normal, one_of_batch, seeded

every_score = pytest.mark.parametrize("make", SCORES.values(), ids=SCORES.keys())


def loop(name, parameters, x):
    """The score of one row and one expert, written out."""
    p = {key: value.detach().numpy() for key, value in parameters.items()}

    def one(row, j):
        value = {
            "linear": lambda: p["weight"][j] @ row,
            "activation": lambda: np.tanh(p["weight"][j] @ row),
            "quadratic": lambda: (
                sum(
                    p["quadratic"][j, m] * row[a] * row[b]
                    for m, (a, b) in enumerate(itertools.combinations_with_replacement(range(D), 2))
                )
                + p["weight"][j] @ row
            ),
            "distance": lambda: -np.linalg.norm(row - p["center"][j]),
            "squared-distance": lambda: -(np.linalg.norm(row - p["center"][j]) ** 2),
            "cosine": lambda: (
                p["weight"][j] @ row / ((np.linalg.norm(p["weight"][j]) + 0.1) * (np.linalg.norm(row) + 0.2))
            ),
            "cosine-unperturbed": lambda: p["weight"][j] @ row / (np.linalg.norm(p["weight"][j]) * np.linalg.norm(row)),
            "query-key": lambda: (
                p["gain"]
                * (p["query"] @ row)
                @ p["key"][j]
                / (np.linalg.norm(p["query"] @ row) * np.linalg.norm(p["key"][j]))
            ),
            "constant": lambda: 0.0,
            "module": lambda: p["module.weight"][j] @ row + p["module.bias"][j],
        }[name.removesuffix("-no-bias")]()
        return value + (p["bias"][j] if "bias" in p else 0.0)

    return np.array([[one(row, j) for j in range(K)] for row in x.numpy()])


@pytest.mark.parametrize("name", SCORES)
def test_formula(name):
    score, x = build(SCORES[name]), normal(5, D)
    expected = loop(name, dict(score.named_parameters()), x)
    np.testing.assert_allclose(score(x).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


@every_score
def test_forward_is_the_slope_score_plus_the_bias(make):
    score, x = build(make), normal(5, D)
    bias = 0.0 if score.bias is None else score.bias
    assert torch.equal(score(x), score.slope_score(x) + bias)


@every_score
@pytest.mark.parametrize("shared", [True, False], ids=["shared-x", "own-x"])
def test_a_batch_equals_a_loop(make, shared):
    score = build(make, batch_shape=(2, 3))
    x = normal(5, D) if shared else normal(2, 3, 5, D)
    scores = score(x)
    assert shared is False or scores.shape == (2, 3, 5, K) or not list(score.parameters())
    for index in itertools.product(range(2), range(3)):
        single = one_of_batch(make, score, index)
        torch.testing.assert_close(scores.expand(2, 3, 5, K)[index], single(x if shared else x[index]))


@every_score
def test_first_and_second_derivatives(make):
    check_derivatives(*as_function(build(make), normal(3, D)))


@every_score
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_follows(make, dtype):
    score, x = build(make, dtype=dtype), normal(5, D, dtype=dtype)
    exact = copy.deepcopy(score).double()(x.double())
    assert score(x).dtype == dtype
    tolerance = 20 * torch.finfo(dtype).eps
    torch.testing.assert_close(score(x).double(), exact, rtol=tolerance, atol=tolerance)


@every_score
def test_permuted_parameters_permute_the_scores(make):
    score, x, order = build(make), normal(5, D), torch.tensor([2, 0, 3, 1])
    before = score(x)
    score.load_state_dict(
        {name: value[order] if value.shape[:1] == (K,) else value for name, value in score.state_dict().items()}
    )
    torch.testing.assert_close(score(x), before[:, order])


@every_score
def test_state_dict_pickle_and_copy_keep_the_scores(make):
    score, x = build(make), normal(5, D)
    other = build(make, seed=9)
    other.load_state_dict(score.state_dict())
    for twin in (other, pickle.loads(pickle.dumps(score)), copy.deepcopy(score)):
        assert torch.equal(twin(x), score(x))


@every_score
def test_repr_names_the_class_and_its_sizes(make):
    text = repr(build(make))
    assert text.startswith(type(build(make)).__name__)
    assert f"num_experts={K}" in text


@every_score
def test_the_start_is_reproducible(make):
    first, second = make(batch_shape=(2,), dtype=torch.float64), make(batch_shape=(2,), dtype=torch.float64)
    if not isinstance(first, ModuleScore):
        for a, b in zip(first.parameters(), second.parameters(), strict=True):
            assert torch.equal(a, b)
    assert first(normal(5, D)).isfinite().all()


@pytest.mark.parametrize("name", sorted(set(SCORES) - {"constant", "module"}))
def test_a_wrong_number_of_covariates_is_named(name):
    with pytest.raises(ValueError, match=r"x must have 3 covariates in its last dimension, got shape \(5, 4\)"):
        build(SCORES[name])(normal(5, D + 1))


def test_a_wrong_batch_is_named():
    with pytest.raises(
        ValueError, match=r"x must have leading dimensions that broadcast with \(2, 3\), .* \(4, 5, 3\)"
    ):
        build(SCORES["linear"], batch_shape=(2, 3))(normal(4, 5, D))
    assert build(SCORES["linear"], batch_shape=(2, 1))(normal(3, 5, D)).shape == (2, 3, 5, K)


@every_score
def test_other_bad_covariates_are_named(make):
    score = build(make)
    with pytest.raises(ValueError, match=r"x must have shape \(\*batch, n, d\), got shape \(3,\)"):
        score(normal(D))
    with pytest.raises(TypeError, match=r"x must have a floating dtype, got torch\.int64"):
        score(torch.ones(5, D, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"x must be a torch\.Tensor, got list"):
        score([[1.0, 2.0, 3.0]])
    with pytest.raises(TypeError, match=r"parameters, torch\.float64, got torch\.float32"):
        score(normal(5, D).float())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearScore(0, 3), "num_features must be at least 1, got 0"),
        (lambda: LinearScore(2, 0), "num_experts must be at least 1, got 0"),
        (lambda: LinearScore(2, 3, batch_shape=(0,)), "batch_shape must be at least 1, got 0"),
        (lambda: CosineScore(2, 3, perturbation=-0.1), "perturbation must be finite and at least 0, got -0.1"),
        (lambda: ConstantScore(-1), "num_experts must be at least 1, got -1"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_not_a_module_or_a_function_is_named():
    with pytest.raises(TypeError, match=r"module must be a torch\.nn\.Module, got function"):
        ModuleScore(lambda x: x, 3)
    with pytest.raises(TypeError, match="activation must be a function of a tensor, got str"):
        ActivationScore("tanh", 2, 3)


def test_a_module_of_the_wrong_size_is_named():
    score = ModuleScore(torch.nn.Identity(), 4)
    with pytest.raises(ValueError, match="the output of module must have 4 experts in its last dimension"):
        score(normal(5, D))


@pytest.mark.parametrize("squared", [True, False])
def test_a_distance_of_zero_has_a_zero_gradient_of_every_order(squared):
    score = DistanceScore(D, K, squared=squared, bias=False, dtype=torch.float64, generator=seeded())
    x = score.center.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(x).diagonal().sum(), x, create_graph=True)
    assert torch.equal(gradient, torch.zeros_like(x))
    (second,) = torch.autograd.grad(gradient.sum(), x)
    assert second.isfinite().all()


@pytest.mark.parametrize("perturbation", [0.0, 0.1])
def test_cosines_of_zero_vectors_are_zero_with_finite_gradients(perturbation):
    score = CosineScore(D, K, perturbation=perturbation, bias=False, dtype=torch.float64, generator=seeded())
    x = torch.zeros(1, D, dtype=torch.float64, requires_grad=True)
    value = score(x)
    value.sum().backward()
    assert torch.equal(value, torch.zeros(1, K, dtype=torch.float64))
    assert x.grad.isfinite().all()
    assert score.weight.grad.isfinite().all()


def test_unperturbed_cosines_are_invariant_to_both_lengths():
    score, x = build(SCORES["cosine-unperturbed"]), normal(5, D)
    before = score(x)
    with torch.no_grad():
        score.weight *= 10.0
    torch.testing.assert_close(score(100.0 * x), before)


def test_the_quadratic_score_is_that_of_gaussian_classes():
    """log N(x; m, S) is a quadratic form in x: its coefficients in, the log-density out."""
    mean, root = normal(D, seed=5), normal(D, D, seed=6)
    law = torch.distributions.MultivariateNormal(mean, root @ root.T + torch.eye(D))
    precision = law.precision_matrix
    score = QuadraticScore(D, 1, dtype=torch.float64, generator=seeded())
    rows, columns = torch.triu_indices(D, D)
    with torch.no_grad():
        score.quadratic[0] = -torch.where(rows == columns, 0.5, 1.0) * precision[rows, columns]
        score.weight[0] = precision @ mean
        score.bias[0] = law.log_prob(torch.zeros(D))
    x = normal(5, D)
    torch.testing.assert_close(score(x)[:, 0], law.log_prob(x))


def test_half_precision_distances_do_not_overflow():
    score = DistanceScore(1, 1, bias=False, dtype=torch.float16, generator=seeded())
    x = torch.tensor([[1e4]], dtype=torch.float16)  # its square is beyond float16
    torch.testing.assert_close(score(x), copy.deepcopy(score).double()(x.double()).half(), rtol=2e-3, atol=0.0)
    assert score(x).abs() > 9e3


def test_autocast_may_mix_dtypes():
    score = build(SCORES["linear"], dtype=torch.float32)
    x = normal(5, D, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = score(x)
    torch.testing.assert_close(value.float(), score(x.float()), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_cosines_of_the_longest_and_the_shortest_vectors(scale):
    """A square of 1e30 is beyond float32; the perturbation plays no part, or is all there is."""
    score, x = CosineScore(D, K, bias=False, generator=seeded()), normal(6, D, dtype=torch.float32)
    scores = score(scale * x)
    far = CosineScore(D, K, perturbation=(0.1, 0.0), bias=False, generator=seeded())(x)
    short = far * x.norm(dim=-1, keepdim=True) * scale / 0.1
    torch.testing.assert_close(scores, far if scale > 1.0 else short, rtol=1e-5, atol=0.0)
