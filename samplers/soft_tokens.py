r"""Soft tokens: random mixtures of token embeddings fed back to a language model in place of one token.

Given next-token logits ``(*batch, v)``, truncated or not (-inf for a token cut off), a ``SoftTokenLaw`` draws
``log_weights (*batch, v)``, the logarithms of weights that sum to 1 and are 0 outside the support, and evaluates the
probability of such a draw under any other logits: what a policy gradient needs. ``mixture_embedding`` turns weights
into the input of the next step, and ``decode_soft_tokens`` is the loop.

Densities. The weights of ``n`` tokens in the support vary over ``n - 1`` dimensions. Continuous ones state their
density with respect to Lebesgue measure on the log-ratios ``log(w_i / w_n)``; subtract ``sum_i log w_i`` over the
support for the density on the simplex. The difference does not depend on the logits, so likelihood ratios and policy
gradients are the same, while this form stays finite and exact where weights underflow.

Truncation. A draw is possible only under logits of exactly its support. To evaluate it under logits that another
truncation would cut elsewhere, cut them as the draw was: ``logits.masked_fill(log_weights == -torch.inf, -torch.inf)``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from mixkit._validation import (
    can_read_values,
    check_integer,
    check_last_dim,
    check_no_nan,
    check_positive,
    check_tensor,
)
from mixkit.numerics.precision import wide_sum, widest_dtype
from mixkit.numerics.randomness import Randomness, as_generator
from mixkit.relaxations import LogRelaxedOneHot, gumbel_like
from mixkit.relaxations._checks import check_logits

from ._validation import check_seed

__all__ = [
    "ComposedTokens",
    "DirichletTokens",
    "GumbelSoftmaxTokens",
    "SoftTokenLaw",
    "SoftTokenTrace",
    "decode_soft_tokens",
    "mixture_embedding",
]


Seeds: TypeAlias = torch.Generator | int | Sequence[torch.Generator | int] | None
"""One generator or seed for all rows, or one for each entry of the first dimension; torch's default if None."""


class SoftTokenLaw(ABC):
    """A distribution over mixtures of tokens given the next-token logits.

    A distribution subclasses two methods, one to draw and one to evaluate. Both take logits of any floating dtype and
    compute in float32 at least, which is also the dtype of what they return: half precision cannot hold log-weights.
    """

    def sample(self, logits: Tensor, *, generator: Seeds = None) -> Tensor:
        """Draw ``log_weights (*batch, v)``, without gradient; -inf where ``logits`` is.

        Args:
            logits: next-token logits ``(*batch, v)``, -inf allowed.
            generator: one for all rows, or a sequence of one for each entry of the first dimension: then what a request
                draws depends on its own seed alone, not on the batch it is decoded in.

        Raises:
            ValueError: if ``logits`` holds NaN or +inf, a row is all -inf, or generators and rows differ in number.
        """
        log_law, generator = _log_law(logits.detach()), _generators(generator)
        if not isinstance(generator, list):
            return self._sample(log_law, generator)
        if log_law.ndim < 2 or len(generator) != len(log_law):
            raise ValueError(
                f"generator must be one, or one for each entry of the first dimension of logits, got {len(generator)} "
                f"for shape {tuple(log_law.shape)}"
            )
        return torch.stack([self._sample(row, seeded) for row, seeded in zip(log_law, generator, strict=True)])

    def log_prob(self, log_weights: Tensor, logits: Tensor) -> Tensor:
        """Log-probability (density, for continuous laws) of ``log_weights`` given ``logits``, shape ``(*batch,)``.

        Differentiable in ``logits``; -inf for weights the logits exclude.
        """
        check_tensor("log_weights", log_weights)
        if can_read_values(log_weights):
            check_no_nan("log_weights", log_weights)
        check_last_dim("log_weights", log_weights, check_logits(logits).shape[-1], "tokens")
        wide = widest_dtype(logits)
        value = self._log_prob(log_weights.detach().to(wide), torch.log_softmax(logits.to(wide), dim=-1))
        return value.to(torch.promote_types(logits.dtype, torch.float32))

    @abstractmethod
    def _sample(self, log_law: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw log-weights given normalized log-probabilities in float32 at least."""

    @abstractmethod
    def _log_prob(self, log_weights: Tensor, log_law: Tensor) -> Tensor:
        """Evaluate log-weights given normalized log-probabilities, both in float64 where the device has it."""


@dataclass(frozen=True)
class GumbelSoftmaxTokens(SoftTokenLaw):
    r"""``w = softmax((log p + g) / temperature)``, ``g_i ~ Gumbel(0, 1)``: the largest weight is a draw from ``p``.

    Stochastic Soft Thinking (Wu et al. 2025, arXiv:2508.03440). With ``s_i = log p_i - temperature log w_i`` over the
    ``n`` tokens of the support, ``log_prob = log (n-1)! + (n-1) log temperature + sum_i s_i - n logsumexp_i s_i``:
    the distribution is ``LogRelaxedOneHot`` of ``mixkit.relaxations``.

    Args:
        temperature: positive; near 0 one token, large the uniform mixture of the support.

    Example:
        >>> logits = torch.tensor([2.0, 1.0, -torch.inf])
        >>> law = GumbelSoftmaxTokens(temperature=0.5)
        >>> log_weights = law.sample(logits, generator=torch.Generator().manual_seed(0))
        >>> log_weights.exp().sum(), log_weights[2]
        (tensor(1.), tensor(-inf))
    """

    temperature: float = 0.5

    def __post_init__(self) -> None:
        check_positive("temperature", self.temperature)

    def _sample(self, log_law: Tensor, generator: torch.Generator | None) -> Tensor:
        return self._law(log_law).sample(generator=generator)

    def _log_prob(self, log_weights: Tensor, log_law: Tensor) -> Tensor:
        return self._law(log_law).log_prob(log_weights)

    def _law(self, log_law: Tensor) -> LogRelaxedOneHot:
        return LogRelaxedOneHot(self.temperature, logits=log_law, validate_args=False)


@dataclass(frozen=True)
class DirichletTokens(SoftTokenLaw):
    r"""``w ~ Dirichlet(concentration * p)``, whose mean is ``p`` (arXiv:2508.03440; arXiv:2505.23648).

    ``log_prob = log Gamma(sum_i alpha_i) + sum_i [alpha_i log w_i - log Gamma(alpha_i)]``, ``alpha = concentration p``
    over the support. Drawn in log space as ``log w = log Gamma-variate(alpha + 1) + log(u) / alpha``, normalized: tiny
    ``alpha`` gives tiny weights, never NaN. The density is summed in Stirling's form, ``-concentration KL(p || w)`` and
    terms of order one, so that nothing cancels at a large concentration.

    Args:
        concentration: positive; near 0 one token drawn from ``p``, large the plain mixture ``p``.

    Example:
        >>> logits = torch.zeros(3)
        >>> law = DirichletTokens(concentration=3.0)  # uniform on the simplex: 2!, times the product of the weights
        >>> log_weights = law.sample(logits, generator=torch.Generator().manual_seed(0))
        >>> torch.allclose(law.log_prob(log_weights, logits), torch.tensor(2.0).log() + log_weights.sum())
        True
    """

    concentration: float = 1.0

    def __post_init__(self) -> None:
        check_positive("concentration", self.concentration)

    def _sample(self, log_law: Tensor, generator: torch.Generator | None) -> Tensor:
        support = log_law > -torch.inf
        log_alpha = log_law.to(widest_dtype(log_law)) + math.log(self.concentration)
        boost = -gumbel_like(log_alpha, generator=generator) - log_alpha  # log(-log(u) / alpha)
        least = boost.masked_fill(~support, torch.inf).amin(-1, keepdim=True)
        shape = log_alpha.exp() + 1  # 1 off the support, where the variate is not used
        scores = torch._standard_gamma(shape, generator=generator).log() - _exp_difference(boost, least)
        log_weights = torch.log_softmax(scores.masked_fill(~support, -torch.inf), dim=-1)
        finite = log_weights.clamp(min=torch.finfo(log_law.dtype).min).to(log_law.dtype)
        return finite.masked_fill(~support, -torch.inf)

    def _log_prob(self, log_weights: Tensor, log_law: Tensor) -> Tensor:
        support, allowed = _support(log_weights, log_law)
        total = torch.log_softmax(log_weights, dim=-1)  # rounding moves a draw off the simplex
        log_ratio = (total - log_law).masked_fill(~support, 0)
        log_alpha = log_law.masked_fill(~support, 0) + math.log(self.concentration)
        alpha = log_alpha.exp().masked_fill(~support, 0)
        divergence = (alpha * (torch.expm1(log_ratio) - log_ratio)).sum(-1)
        terms = 0.5 * log_alpha - _stirling_remainder(log_alpha)
        whole = torch.full_like(divergence, math.log(self.concentration))
        free = support.sum(-1).to(divergence) - 1
        value = terms.masked_fill(~support, 0).sum(-1) - 0.5 * whole + _stirling_remainder(whole)
        value = value - 0.5 * math.log(2 * math.pi) * free - divergence
        return value.masked_fill(~allowed, -torch.inf)


@dataclass(frozen=True)
class ComposedTokens(SoftTokenLaw):
    r"""``w`` = the shares of ``num_tokens`` independent draws from ``p``, as in CoT2 (arXiv:2505.23648).

    ``num_tokens`` is the paper's K. The weights tell the multiset of the draws, so ``log_prob`` is the multinomial
    distribution ``log K! + sum_i [n_i log p_i - log n_i!]``, ``n = K w``; ``sequence_log_prob`` is that of the ordered
    draws, ``sum_j log p(token_j)``. They differ by a constant of the draw, so their gradients are equal.

    Args:
        num_tokens: tokens composed, at least 1 (plain sampling).

    Example:
        >>> logits = torch.tensor([0.5, 0.25, 0.25]).log()
        >>> law = ComposedTokens(num_tokens=2)
        >>> law.log_prob(torch.tensor([0.5, 0.5, 0.0]).log(), logits).exp()  # 2 * 0.5 * 0.25
        tensor(0.2500)
    """

    num_tokens: int = 2

    def __post_init__(self) -> None:
        check_integer("num_tokens", self.num_tokens, low=1)

    def sample_tokens(self, logits: Tensor, *, generator: Randomness = None) -> Tensor:
        """The draws themselves, integers of shape ``(*batch, num_tokens)``."""
        log_law = _log_law(logits.detach())
        cumulative = log_law.to(widest_dtype(log_law)).exp().cumsum(-1)
        shape = (*cumulative.shape[:-1], self.num_tokens)
        source = as_generator(generator, cumulative.device)
        uniform = torch.rand(shape, dtype=cumulative.dtype, device=cumulative.device, generator=source)
        total = cumulative[..., -1:].contiguous()
        tokens = torch.searchsorted(cumulative, uniform * total, right=True)
        return tokens.minimum(torch.searchsorted(cumulative, total))  # rounding may have led to the end

    def compose(self, tokens: Tensor, logits: Tensor) -> Tensor:
        """The ``log_weights (*batch, v)`` of drawn tokens."""
        zeros = torch.zeros_like(logits, dtype=torch.promote_types(logits.dtype, torch.float32))
        counts = zeros.scatter_add(-1, tokens, torch.ones_like(tokens, dtype=zeros.dtype))
        return (counts / self.num_tokens).log()

    def sequence_log_prob(self, tokens: Tensor, logits: Tensor) -> Tensor:
        """Log-probability of the ordered draws, shape ``(*batch,)``."""
        return wide_sum(_log_law(logits).gather(-1, tokens))

    def _sample(self, log_law: Tensor, generator: torch.Generator | None) -> Tensor:
        return self.compose(self.sample_tokens(log_law, generator=generator), log_law)

    def _log_prob(self, log_weights: Tensor, log_law: Tensor) -> Tensor:
        shares = self.num_tokens * log_weights.exp()
        counts = shares.round()
        if (
            can_read_values(counts)
            and ((counts.sum(-1) != self.num_tokens) | ((shares - counts).abs() > 0.01).any(-1)).any()
        ):
            raise ValueError(f"log_weights must be shares of num_tokens={self.num_tokens} draws, got other weights")
        drawn = counts > 0
        terms = counts * log_law.masked_fill(~drawn, 0) - torch.lgamma(counts + 1)
        return math.lgamma(self.num_tokens + 1) + terms.sum(-1)


def mixture_embedding(log_weights: Tensor, embedding: Tensor) -> Tensor:
    """``sum_i w_i embedding_i``, shape ``(*batch, width)``, in the dtype of ``embedding``; differentiable in both.

    Reads only the rows of ``embedding (v, width)`` that carry weight when those are few, as after truncation.

    Example:
        >>> mixture_embedding(torch.tensor([0.25, 0.75, 0.0]).log(), torch.eye(3))
        tensor([0.2500, 0.7500, 0.0000])
    """
    check_tensor("embedding", embedding)
    if embedding.ndim != 2:
        raise ValueError(f"embedding must have shape (v, width), got {tuple(embedding.shape)}")
    check_last_dim("log_weights", log_weights, embedding.shape[0], "tokens (rows of embedding)")
    weights = log_weights.exp()
    num_kept = int((weights > 0).sum(-1).amax()) if weights.numel() and can_read_values(weights) else len(embedding)
    if 4 * num_kept > embedding.shape[0]:
        return weights.to(embedding.dtype) @ embedding
    weights, rows = weights.topk(max(num_kept, 1), dim=-1)
    return (weights.to(embedding.dtype).unsqueeze(-2) @ embedding[rows]).squeeze(-2)


class SoftTokenTrace(NamedTuple):
    """What a soft-token decoding loop did, for ``t`` steps.

    Attributes:
        log_weights: ``(*batch, t, v)``.
        log_prob: ``(*batch, t)``, under the distribution each soft token was drawn from.
        embeddings: ``(*batch, t, width)``, fed back at each step.
    """

    log_weights: Tensor
    log_prob: Tensor
    embeddings: Tensor


def decode_soft_tokens(
    step: Callable[[Tensor], Tensor],
    prompt: Tensor,  # (*batch, length, width)
    embedding: Tensor,  # (v, width)
    law: SoftTokenLaw,
    *,
    num_steps: int,
    truncate: Callable[[Tensor], Tensor] | None = None,
    generator: Seeds = None,
) -> SoftTokenTrace:
    """Draw ``num_steps`` soft tokens one after the other.

    Args:
        step: the model. It receives the embeddings it has not seen yet, the prompt first and one soft token
            ``(*batch, 1, width)`` at a time after that, and returns next-token logits ``(*batch, v)``; a model with a
            cache keeps it between calls.
        prompt: embeddings of the prompt.
        embedding: input embedding matrix.
        law: how a soft token is drawn.
        num_steps: soft tokens to draw, at least 1.
        truncate: maps logits to logits with -inf for the tokens cut off, for example
            ``Chain(Temperature(0.7), TopP(0.9)).process`` of ``samplers.processors``; none unless told.
        generator: source of randomness, one for all or one for each entry of the first dimension of the batch.

    Example:
        >>> from samplers.processors import TopK
        >>> embedding = torch.eye(4)
        >>> step = lambda new: new.mean(-2) * 3  # a toy model: favors what it saw last
        >>> trace = decode_soft_tokens(step, embedding[None, :2], embedding, DirichletTokens(5.0), num_steps=3,
        ...                            truncate=TopK(2).process, generator=torch.Generator().manual_seed(0))
        >>> (trace.log_weights > -torch.inf).sum(-1), trace.log_prob.shape
        (tensor([[2, 2, 2]]), torch.Size([1, 3]))
    """
    check_integer("num_steps", num_steps, low=1)
    drawn: list[SoftTokenTrace] = []
    new, generator = prompt, _generators(generator)
    for _ in range(num_steps):
        logits = step(new)
        logits = truncate(logits) if truncate is not None else logits
        log_weights = law.sample(logits, generator=generator)
        token = mixture_embedding(log_weights, embedding)
        drawn.append(SoftTokenTrace(log_weights, law.log_prob(log_weights, logits), token))
        new = token.unsqueeze(-2)
    return SoftTokenTrace(
        log_weights=torch.stack([each.log_weights for each in drawn], -2),
        log_prob=torch.stack([each.log_prob for each in drawn], -1),
        embeddings=torch.stack([each.embeddings for each in drawn], -2),
    )


def _generators(generator: Seeds) -> torch.Generator | list[torch.Generator] | None:
    """Generators in place of seeds."""
    if isinstance(generator, Sequence) and not isinstance(generator, str):
        return [check_seed(entry) for entry in generator]
    return None if generator is None else check_seed(generator)


def _log_law(logits: Tensor) -> Tensor:
    """Normalized log-probabilities in float32 at least; refuses NaN, +inf and rows without a finite entry."""
    return torch.log_softmax(check_logits(logits).to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)


def _exp_difference(exponent: Tensor, least: Tensor) -> Tensor:
    """``exp(exponent) - exp(least)``, finite or inf, for exponents that may overflow."""
    highest = math.log(torch.finfo(exponent.dtype).max) - 1.0
    return least.clamp(max=highest).exp() * torch.expm1((exponent - least).clamp(min=0.0))


def _stirling_remainder(log_value: Tensor) -> Tensor:
    r""":math:`\log\Gamma(a) - (a - 1/2) \log a + a - \log(2 \pi) / 2` of ``log a``: about 1 / 12 a for large a.

    Source: Abramowitz and Stegun (1964), 6.1.41, for a above 16; below, the definition, of which nothing is lost.
    """
    large = log_value > math.log(16.0)
    inverse = (-torch.where(large, log_value, math.log(16.0))).exp()
    square = inverse.square()
    series = inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188))))
    inside = torch.where(large, 0.0, log_value)
    value = inside.exp()
    exact = torch.lgamma(value + 1.0) - (value + 0.5) * inside + value - 0.5 * math.log(2 * math.pi)
    return torch.where(large, series, exact)


def _support(log_weights: Tensor, log_law: Tensor) -> tuple[Tensor, Tensor]:
    """The support of the distribution, broadcast over the draws, and which draws have exactly that support."""
    support = (log_law > -torch.inf).broadcast_to(torch.broadcast_shapes(log_law.shape, log_weights.shape))
    return support, ((log_weights > -torch.inf) == support).all(-1)
