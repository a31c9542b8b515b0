"""What a processor of logits is, and how processors compose."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator

import torch
from torch import Tensor

from mixkit._validation import check_integer, check_tensor

from .ordering import at_least

LogitsFunction = Callable[[Tensor, Tensor], Tensor]
"""Anything with the call of a Hugging Face ``LogitsProcessor``: ``(input_ids, scores) -> scores``."""


_LOWEST = torch.tensor(-torch.inf)


def check_scores(name: str, scores: Tensor) -> Tensor:
    """Return ``scores`` if every row is a distribution up to normalization: no NaN, no +inf, not all -inf."""
    check_tensor(name, scores)
    if scores.ndim == 0 or scores.shape[-1] == 0:
        raise ValueError(f"{name} must have a last dimension of at least one token, got shape {tuple(scores.shape)}")
    top = scores.detach().amax(dim=-1)
    total = float(top.sum(dtype=torch.float64))  # NaN and infinities survive a sum
    if not math.isfinite(total) and not bool(torch.isfinite(top).all()):
        row = tuple((~torch.isfinite(top)).nonzero()[0].tolist())
        raise ValueError(
            f"{name} must hold no NaN, no +inf and at least one finite entry a row, got a row of maximum "
            f"{float(top[row])} at index {row}"
        )
    return scores


def keep_only(scores: Tensor, kept: Tensor) -> Tensor:
    """``scores`` where ``kept``, else ``-inf``; the gradient flows through the kept entries."""
    if scores.requires_grad or scores.device.type != "cpu":
        return scores.masked_fill(~kept, -torch.inf)
    # 0 where kept, else -1 and then -inf. Vectorized: a masked fill on a CPU takes one element at a time.
    return torch.threshold_(kept.view(torch.uint8).to(scores.dtype).sub_(1), -0.5, -torch.inf).add_(scores)


def keep_at_least(scores: Tensor, smallest: Tensor) -> Tensor:
    """``scores (..., v)`` where at least ``smallest (..., 1)``, else ``-inf``: on a CPU one pass without a mask."""
    if scores.device.type != "cpu" or not _has_normal_neighbors(smallest):
        return keep_only(scores, scores >= smallest)
    below = torch.nextafter(smallest, _LOWEST).flatten().tolist()
    rows = scores.reshape(-1, scores.shape[-1])
    if len(below) == 1:
        return torch.threshold(rows, below[0], -torch.inf).reshape(scores.shape)
    if scores.requires_grad:
        return keep_only(scores, scores >= smallest)
    out = torch.empty_like(rows)
    for row, bound, place in zip(rows, below, out, strict=True):
        torch.threshold(row, bound, -torch.inf, out=place)
    return out.reshape(scores.shape)


def _has_normal_neighbors(values: Tensor) -> bool:
    """Whether no value is so near zero that the next lower number may be flushed to zero (`set_flush_denormal`)."""
    return not bool((values.abs() <= torch.finfo(values.dtype).tiny).any())


class Processor(ABC):
    """A map of logits to logits that depends on nothing else.

    ``processor(input_ids, scores)`` is the call of a Hugging Face ``LogitsProcessor``; ``processor.process(logits)`` is
    the same map on logits ``(..., v)`` with any leading dimensions. A subclass writes ``transform``.
    """

    @property
    def needs_history(self) -> bool:
        """Whether ``input_ids`` may be read."""
        return False

    @property
    def settings_key(self) -> Hashable:
        """What this has in common with processors that do the same: its type, and its settings.

        Numbers and strings are compared by value, other objects (a tensor, say) by identity.
        """
        settings = tuple(vars(self).items())
        try:
            hash(settings)
        except TypeError:  # a list or a dictionary
            return id(self)
        return type(self), settings

    @abstractmethod
    def transform(self, scores: Tensor) -> Tensor:
        """Map valid logits ``(..., v)`` to logits of the same shape."""

    def process(self, scores: Tensor) -> Tensor:
        """Return the processed logits ``(..., v)``.

        Raises:
            TypeError: If ``scores`` is no floating tensor.
            ValueError: If a row holds NaN or +inf, or nothing but -inf.
        """
        return self.transform(check_scores("scores", scores))

    def __call__(self, input_ids: Tensor | None, scores: Tensor) -> Tensor:
        """Return ``process(scores)``; the history ``input_ids`` is not used."""
        return self.process(scores)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"{type(self).__name__}({settings})"


class Truncation(Processor):
    """A processor that keeps some tokens as they are and gives the others probability zero (``-inf``).

    A subclass writes ``kept``.

    Args:
        min_tokens_to_keep: Tokens that survive whatever the rule says; at least 1.
    """

    def __init__(self, min_tokens_to_keep: int = 1) -> None:
        self.min_tokens_to_keep = check_integer("min_tokens_to_keep", min_tokens_to_keep, low=1)

    @abstractmethod
    def kept(self, scores: Tensor) -> Tensor:
        """Return the mask ``(..., v)`` of the tokens kept."""

    def transform(self, scores: Tensor) -> Tensor:
        """Set the scores of all tokens but the kept ones to ``-inf``."""
        return keep_only(scores, self.kept(scores.detach()))


class LowerTruncation(Truncation):
    """A truncation that keeps the scores from a smallest one up. A subclass writes ``smallest_kept``."""

    @abstractmethod
    def smallest_kept(self, scores: Tensor) -> Tensor:
        """Return the smallest score that is kept ``(..., 1)``."""

    def kept(self, scores: Tensor) -> Tensor:
        """Return ``scores >= smallest_kept(scores)``."""
        return at_least(scores, self.smallest_kept(scores))

    def transform(self, scores: Tensor) -> Tensor:
        """Set the scores below the smallest kept to ``-inf``."""
        return keep_at_least(scores, self.smallest_kept(scores.detach()))


class Chain(Processor):
    """Processors applied one after another, left to right, as Hugging Face's ``LogitsProcessorList``.

    Members may be processors of this package or any ``(input_ids, scores) -> scores``, such as the processors of
    transformers; ``process`` without a history needs members of this package only.

    Example:
        >>> import torch
        >>> from samplers.processors import Chain, Temperature, TopK
        >>> Chain(Temperature(0.5), TopK(2)).process(torch.tensor([0.0, 1.0, 2.0]))
        tensor([-inf, 2., 4.])
    """

    def __init__(self, *processors: LogitsFunction) -> None:
        for processor in processors:
            if not callable(processor) or isinstance(processor, type):
                raise TypeError(f"processors must be callables (input_ids, scores) -> scores, got {processor!r}")
        self.processors = processors

    def transform(self, scores: Tensor) -> Tensor:
        """Apply every member without a history."""
        for processor in self.processors:
            if not isinstance(processor, Processor):
                raise TypeError(f"{processor!r} needs the history: call the chain with (input_ids, scores)")
            scores = processor.process(scores)
        return scores

    def __call__(self, input_ids: Tensor | None, scores: Tensor) -> Tensor:
        """Apply every member with the history ``input_ids (B, L)`` to ``scores (B, v)``."""
        check_scores("scores", scores)
        for processor in self.processors:
            scores = processor(input_ids, scores)  # type: ignore[arg-type]
        return scores

    @property
    def needs_history(self) -> bool:
        """Whether a member is not of this package, and so may read ``input_ids``."""
        return any(p.needs_history if isinstance(p, Processor) else True for p in self.processors)

    @property
    def settings_key(self) -> Hashable:
        """The keys of the members."""
        return tuple(p.settings_key if isinstance(p, Processor) else id(p) for p in self.processors)

    def __iter__(self) -> Iterator[LogitsFunction]:
        return iter(self.processors)

    def __len__(self) -> int:
        return len(self.processors)

    def __repr__(self) -> str:
        return f"Chain({', '.join(map(repr, self.processors))})"
