"""Losses that fit a denoiser or a score model to a Gumbel-softmax path."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ..._validation import at_least_float32
from ...numerics.precision import wide_mean, wide_sum
from ...numerics.randomness import Randomness, as_generator
from .paths import GumbelSoftmaxPath

Denoiser: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Maps ``log_x (*batch, length, v)`` and times ``(*batch,)`` to logits of each token, ``(*batch, length, v)``."""


def denoising_loss(
    denoiser: Denoiser,
    tokens: Tensor,  # (*batch, length)
    path: GumbelSoftmaxPath,
    *,
    num_categories: int,
    generator: Randomness = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Cross-entropy of the tokens under the denoiser at uniform times, in nats per token: a scalar.

    ``E[-log p_theta(x_1 | x_t, t)]``. Its minimizer is the posterior of each token, which turns the conditional
    velocity into the marginal one exactly (arXiv:2503.17361).

    Example:
        >>> from mixkit.relaxations.flows import gumbel_softmax_path
        >>> generator = torch.Generator().manual_seed(0)
        >>> tokens = torch.randint(4, (8, 5), generator=generator)
        >>> uniform = lambda log_x, t: torch.zeros_like(log_x)
        >>> denoising_loss(uniform, tokens, gumbel_softmax_path(), num_categories=4, generator=generator)
        tensor(1.3863)
    """
    log_x, t = _draw(tokens, path, num_categories, generator, dtype)
    logits = denoiser(log_x, t)
    return torch.nn.functional.cross_entropy(at_least_float32(logits).flatten(0, -2), tokens.flatten())


def flow_matching_loss(
    denoiser: Denoiser,
    tokens: Tensor,  # (*batch, length)
    path: GumbelSoftmaxPath,
    *,
    num_categories: int,
    generator: Randomness = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Conditional flow matching: mean squared error of the velocity, summed over the vocabulary; a scalar.

    ``E || u_theta(x_t, t) - u(x_t, t | x_1) ||^2``, ``u_theta`` the path's velocity under the denoiser's probabilities.
    The minimizer is that of ``denoising_loss``, which conditions better where the velocity is small.

    Example:
        >>> from mixkit.relaxations.flows import gumbel_softmax_path
        >>> generator = torch.Generator().manual_seed(0)
        >>> tokens = torch.zeros(8, 5, dtype=torch.long)
        >>> knows = lambda log_x, t: torch.tensor([50.0, 0.0, 0.0]).expand(log_x.shape)
        >>> flow_matching_loss(knows, tokens, gumbel_softmax_path(), num_categories=3, generator=generator)
        tensor(0.)
    """
    log_x, t = _draw(tokens, path, num_categories, generator, dtype)
    time = t.unsqueeze(-1)
    predicted = path.velocity(log_x, torch.log_softmax(denoiser(log_x, t), dim=-1), time)
    target = path.velocity(log_x, _log_one_hot(tokens, log_x), time)
    return wide_mean(wide_sum((predicted - target).square()).flatten())


def score_matching_loss(
    denoiser: Denoiser,
    tokens: Tensor,  # (*batch, length)
    path: GumbelSoftmaxPath,
    *,
    num_categories: int,
    generator: Randomness = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Denoising score matching in ``log x``: mean squared error, summed over the vocabulary; a scalar.

    The denoiser's score is ``GumbelSoftmaxPath.score`` under its probabilities, the target that of the token itself,
    and the error is divided by ``(v T)^2``, ``T = temperature(t)``, so that all times weigh alike. The score determines
    the posterior where the signal is not 0, so the minimizer is that of ``denoising_loss``: flows and scores share one
    model. arXiv:2503.17361 fits a free softmax to the score instead; a flow would have to read the posterior back from
    it, which multiplies its error by ``1 / (e^signal - 1)``.

    Example:
        >>> from mixkit.relaxations.flows import gumbel_softmax_path
        >>> generator = torch.Generator().manual_seed(0)
        >>> tokens = torch.zeros(8, 5, dtype=torch.long)
        >>> knows = lambda log_x, t: torch.tensor([50.0, 0.0, 0.0]).expand(log_x.shape)
        >>> score_matching_loss(knows, tokens, gumbel_softmax_path(), num_categories=3, generator=generator)
        tensor(0.)
    """
    log_x, t = _draw(tokens, path, num_categories, generator, dtype)
    time = t.unsqueeze(-1)
    predicted = path.score(log_x, torch.log_softmax(denoiser(log_x, t), dim=-1), time)
    target = path.score(log_x, _log_one_hot(tokens, log_x), time)
    scale = num_categories * path.temperature(time).unsqueeze(-1)
    return wide_mean(wide_sum(((predicted - target) / scale).square()).flatten())


def _draw(
    tokens: Tensor,
    path: GumbelSoftmaxPath,
    num_categories: int,
    generator: Randomness,
    dtype: torch.dtype | None,
) -> tuple[Tensor, Tensor]:
    """Uniform times, one for each sequence, and the path's points at them."""
    if tokens.ndim < 1:
        raise ValueError("tokens must have shape (*batch, length), got a scalar")
    dtype, generator = dtype or torch.get_default_dtype(), as_generator(generator, tokens.device)
    t = torch.rand(tokens.shape[:-1], generator=generator, dtype=dtype, device=tokens.device)
    log_x = path.sample(tokens, t.unsqueeze(-1), num_categories=num_categories, generator=generator, dtype=dtype)
    return log_x, t


def _log_one_hot(tokens: Tensor, like: Tensor) -> Tensor:
    """0 at the token and -inf elsewhere."""
    return torch.full_like(like, -torch.inf).scatter(-1, tokens.unsqueeze(-1), 0.0)
