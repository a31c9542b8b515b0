"""Where noise comes from: seeds, generators, and activation checkpointing, which runs a function a second time."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mixkit.numerics.randomness import as_generator
from mixkit.relaxations import GumbelSoftmax, PatternMask, gumbel_softmax, gumbel_softmax_path
from mixkit.relaxations.flows import denoising_loss, sample_flow
from tests.mixkit.relaxations.sampler_table import DRAWS, PATHS, K

every_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
every_path = pytest.mark.parametrize("draw", PATHS.values(), ids=PATHS)
reentrant = pytest.mark.parametrize("use_reentrant", [False, True], ids=["saved-tensors", "reentrant"])


def logits(n=7):
    return torch.randn(n, K, generator=torch.Generator().manual_seed(1))


@every_draw
def test_a_seed_draws_what_a_generator_of_that_seed_draws(draw):
    assert torch.equal(draw(logits(), 5), draw(logits(), torch.Generator().manual_seed(5)))
    assert torch.equal(draw(logits(), 5), draw(logits(), 5))


def test_flows_take_seeds():
    path, tokens = gumbel_softmax_path(), torch.zeros(3, 4, dtype=torch.long)

    def denoiser(log_x, t):
        return log_x

    for call in (
        lambda source: denoising_loss(denoiser, tokens, path, num_categories=5, generator=source),
        lambda source: sample_flow(denoiser, path, (2, 3), num_categories=5, generator=source).log_x,
        lambda source: path.sample(tokens, 0.5, num_categories=5, generator=source),
    ):
        assert torch.equal(call(5), call(torch.Generator().manual_seed(5)))


def gradient(draw, source, use_reentrant=None):
    leaf = logits().requires_grad_()

    def block(scores):
        return (draw(scores, source) * torch.linspace(0.0, 1.0, K)).nan_to_num(neginf=0.0).square()

    value = block(leaf) if use_reentrant is None else checkpoint(block, leaf, use_reentrant=use_reentrant)
    value.sum().backward()
    return leaf.grad


@reentrant
@every_path
def test_a_checkpoint_recomputes_with_the_noise_of_its_seed(draw, use_reentrant):
    """With a generator that had moved on, the gradient was 17% off, without a warning."""
    torch.testing.assert_close(gradient(draw, 5, use_reentrant), gradient(draw, 5), rtol=0.0, atol=0.0)


@reentrant
@pytest.mark.parametrize("draw", [PATHS["gumbel_softmax"], PATHS["simple"]], ids=["gumbel_softmax", "simple"])
def test_a_checkpoint_keeps_the_default_generator(draw, use_reentrant):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = gradient(draw, None)
        torch.manual_seed(0)
        assert torch.equal(gradient(draw, None, use_reentrant), plain)


@reentrant
@every_path
def test_a_checkpoint_with_a_generator_is_refused(draw, use_reentrant):
    with pytest.raises(RuntimeError, match="pass an integer seed"):
        gradient(draw, torch.Generator().manual_seed(5), use_reentrant)


def test_a_mask_with_a_generator_is_refused_in_a_checkpoint():
    mask = PatternMask((2, 8), 2, 4, generator=torch.Generator().manual_seed(0))
    value = checkpoint(mask, torch.ones(2, 8, requires_grad=True), use_reentrant=False)
    with pytest.raises(RuntimeError, match="pass an integer seed"):
        value.sum().backward()


def test_a_generator_is_free_in_ordinary_training(generator):
    layer = nn.utils.skip_init(nn.Linear, K, K)
    nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    for _ in range(2):
        GumbelSoftmax(0.5)(layer(logits()), generator).square().sum().backward()


@pytest.mark.parametrize("wrong", ["seed", 1.5, True])
def test_what_is_no_source_is_refused(wrong):
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator, an integer seed or None"):
        gumbel_softmax(torch.zeros(2), generator=wrong)


def test_sources():
    generator = torch.Generator()
    assert as_generator(None) is None
    assert as_generator(generator) is generator
    assert as_generator(3).initial_seed() == 3
