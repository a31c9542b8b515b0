"""A draft model that costs next to nothing: counted n-grams."""

import torch
from torch import Tensor

from mixkit._validation import check_integer, check_positive, check_tensor

from .scoring import CallableScorer, Scorer

__all__ = ["NGramModel"]


class NGramModel(Scorer):
    r"""A causal model of counted n-grams, each order smoothed with the one below.

    The distribution after a context :math:`c` of ``order - 1`` tokens is Dirichlet-smoothed (MacKay and Peto 1995),

    .. math:: p(y \mid c) = \frac{N(c, y) + \kappa\, p(y \mid c')}{N(c) + \kappa},

    where :math:`c'` drops the oldest token of :math:`c` and the lowest distribution is uniform. A draft model for
    `SpeculativeDecoder`; called, it maps ids ``(R, L)`` to logits ``(R, L, v)``.

    Args:
        tokens: Token ids of a text ``(n,)``.
        vocab_size: Number of tokens ``v``.
        order: Length of the longest n-grams, at least 1.
        strength: Weight :math:`\kappa` of the order below, positive.

    Raises:
        TypeError: If ``tokens`` is no integer tensor.
        ValueError: If ``tokens`` holds fewer than ``order`` ids or one outside the vocabulary, or if a setting is out
            of range.

    Example:
        >>> import torch
        >>> model = NGramModel(torch.tensor([0, 1, 0, 1, 0, 2]), vocab_size=3, order=2, strength=1.0)
        >>> model(torch.tensor([[0]])).exp()
        tensor([[[0.1190, 0.5833, 0.2976]]])
    """

    def __init__(self, tokens: Tensor, vocab_size: int, order: int = 3, strength: float = 1.0) -> None:
        self.vocab_size = check_integer("vocab_size", vocab_size, low=1)
        self.order = check_integer("order", order, low=1)
        self.strength = check_positive("strength", strength)
        if vocab_size**order >= 2**63:
            raise ValueError(f"order must keep vocab_size ** order below 2 ** 63, got {vocab_size} ** {order}")
        check_tensor("tokens", tokens, floating=False)
        if tokens.is_floating_point() or tokens.dtype == torch.bool:
            raise TypeError(f"tokens must have an integer dtype, got {tokens.dtype}")
        if tokens.ndim != 1 or len(tokens) < order or tokens.min() < 0 or tokens.max() >= vocab_size:
            raise ValueError(f"tokens must hold at least {order} ids in 0..{vocab_size - 1}, got {tuple(tokens.shape)}")
        self._grams = [self._count(tokens.long(), length) for length in range(1, order + 1)]

    def _count(self, tokens: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Sorted codes of the n-grams of one length, and how often each occurs."""
        codes = self._code(tokens.unfold(0, length, 1))
        return torch.unique(codes, return_counts=True)

    def _code(self, grams: Tensor) -> Tensor:
        """One number ``(...)`` for each n-gram ``(..., n)``."""
        powers = self.vocab_size ** torch.arange(grams.shape[-1] - 1, -1, -1)
        return (grams * powers.to(grams.device)).sum(-1)

    def __call__(self, ids: Tensor) -> Tensor:
        """Return log-probabilities ``(R, L, v)`` of the next token after every prefix of ``ids (R, L)``."""
        probs = torch.full((*ids.shape, self.vocab_size), 1 / self.vocab_size, device=ids.device)
        for length, (codes, counts) in enumerate(self._grams, start=1):
            if length - 1 > ids.shape[1]:
                break
            context = self._code(ids.unfold(1, length - 1, 1)) if length > 1 else torch.zeros_like(ids)
            seen = self._lookup(codes.to(ids.device), counts.to(ids.device), context)
            where = slice(max(length - 2, 0), None)
            lower = probs[:, where]
            total = seen.sum(-1, keepdim=True)
            strength = min(self.strength, 1e30)  # no count matters beside it, and float32 holds it
            probs[:, where] = torch.where(total > 0, (seen + strength * lower) / (total + strength), lower)
        return probs.log()

    def scores(self, ids: Tensor, lengths: Tensor, count: int) -> Tensor:
        """Score the last ``count`` prefixes of each row from the few tokens that they depend on."""
        width = count + max(self.order - 2, 0)
        if int(lengths.min()) < width:
            return CallableScorer(self).scores(ids, lengths, count)
        position = (lengths - width)[:, None] + torch.arange(width, device=ids.device)
        return self(ids.gather(1, position))[:, -count:]

    def _lookup(self, codes: Tensor, counts: Tensor, context: Tensor) -> Tensor:
        """Counts ``(R, l, v)`` of every token after the contexts of code ``context (R, l)``."""
        wanted = context[..., None] * self.vocab_size + torch.arange(self.vocab_size, device=context.device)
        index = torch.searchsorted(codes, wanted).clamp_(max=len(codes) - 1)
        return torch.where(codes[index] == wanted, counts[index], 0).float()
