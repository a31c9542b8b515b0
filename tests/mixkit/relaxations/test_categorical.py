"""The contract of every categorical estimator: values, gradients, extremes, dtypes, transforms, settings."""

import pickle

import pytest
import torch
from torch.func import grad, vmap

from mixkit.relaxations import expectation

from .categorical_table import ALL, HARD, PATH

EXTREME = torch.tensor([[1e4, -1e4, 0.0, -torch.inf], [5.0, 5.0, 5.0, 5.0], [-1e4, -1e4, -1e4, -torch.inf]])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def first_is_squared(choices):
    return (choices * torch.arange(1.0, choices.shape[-1] + 1, dtype=choices.dtype)).sum(-1).square()


@pytest.mark.parametrize("name", PATH)
def test_samples_lie_in_the_simplex_and_never_in_an_absent_category(name, generator):
    logits = torch.randn(200, 5, dtype=torch.float64, generator=generator)
    logits[:, 1] = -torch.inf
    sample = PATH[name]()(logits, generator)
    assert torch.allclose(sample.sum(-1), torch.ones(200, dtype=torch.float64))
    assert (sample >= 0).all()
    assert (sample[:, 1] == 0).all()


@pytest.mark.parametrize("name", HARD)
def test_hard_samples_are_one_hot_to_the_bit(name, generator):
    sample = HARD[name]()(torch.randn(500, 7, generator=generator).requires_grad_(), generator)
    assert set(sample.unique().tolist()) == {0.0, 1.0}
    assert (sample.sum(-1) == 1.0).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_values_and_gradients_are_finite_at_extremes(name, dtype, generator):
    logits = EXTREME.to(dtype, copy=True).requires_grad_()
    value = expectation(first_is_squared, logits, estimator=ALL[name](), num_samples=4, generator=generator)
    value.sum().backward()
    assert value.dtype == logits.grad.dtype == dtype
    assert value.isfinite().all()
    assert logits.grad.isfinite().all()
    assert (logits.grad[logits.isneginf()] == 0).all()


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_gives_the_same_bits(name):
    logits = torch.randn(3, 4, generator=seeded(5)).requires_grad_()

    def run():
        value = expectation(first_is_squared, logits, estimator=ALL[name](), num_samples=3, generator=seeded(1))
        return value, torch.autograd.grad(value.sum(), logits)[0]

    (value, gradient), (again, gradient_again) = run(), run()
    assert torch.equal(value, again)
    assert torch.equal(gradient, gradient_again)


@pytest.mark.parametrize("name", ALL)
def test_vmap_over_gradients(name, generator):
    logits = torch.randn(5, 4, dtype=torch.float64, generator=generator)

    def gradient(row):
        estimator = ALL[name]()
        return grad(
            lambda q: expectation(first_is_squared, q, estimator=estimator, num_samples=2, generator=generator)
        )(row)

    result = vmap(gradient, randomness="different")(logits)
    assert result.shape == logits.shape
    assert torch.allclose(result.sum(-1), torch.zeros(5, dtype=torch.float64), atol=1e-9)


@pytest.mark.filterwarnings("ignore")  # the compiler itself warns
@pytest.mark.parametrize("name", ["gumbel_softmax", "gumbel_rao", "reinmax", "straight_through"])
def test_compiles_with_aot_eager(name, generator):
    estimator = PATH[name]()
    logits = torch.randn(6, 4, generator=generator).requires_grad_()
    sample = torch.compile(lambda scores: estimator(scores, generator), backend="aot_eager")(logits)
    (sample * torch.arange(4.0)).sum().backward()
    assert torch.allclose(sample.sum(-1), torch.ones(6))
    assert logits.grad.abs().sum() > 0
    assert torch.allclose(logits.grad.sum(-1), torch.zeros(6), atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_gradients_sum_to_zero_over_the_categories(name, generator):
    logits = torch.randn(4, 5, dtype=torch.float64, generator=generator).requires_grad_()
    value = expectation(first_is_squared, logits, estimator=ALL[name](), num_samples=3, generator=generator)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert gradient.abs().max() > 0
    assert torch.allclose(gradient.sum(-1), torch.zeros(4, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_pickle_state_dict_and_repr(name):
    estimator = ALL[name]()
    copy = pickle.loads(pickle.dumps(estimator))
    copy.load_state_dict(estimator.state_dict())
    assert repr(copy) == repr(estimator)
    assert type(estimator).__name__ in repr(estimator)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (torch.tensor([0.0, torch.nan]), "logits must hold no NaN"),
        (torch.tensor([0.0, torch.inf]), "no \\+inf"),
        (torch.tensor([[0.0, 1.0], [-torch.inf, -torch.inf]]), "all -inf"),
        (torch.zeros(3, 0), "at least one category"),
    ],
)
def test_bad_logits_are_refused(name, logits, message, generator):
    with pytest.raises(ValueError, match=message):
        expectation(first_is_squared, logits, estimator=ALL[name](), num_samples=2, generator=generator)


@pytest.mark.parametrize("logits", [[0.0, 1.0], torch.tensor([0, 1])])
def test_logits_must_be_a_floating_tensor(logits, generator):
    with pytest.raises(TypeError, match="logits must"):
        expectation(first_is_squared, logits, estimator=ALL["reinmax"](), generator=generator)


def test_an_empty_batch_is_an_empty_result(generator):
    assert PATH["reinmax"]()(torch.zeros(0, 3), generator).shape == (0, 3)
