"""What drafters of chains and of trees have in common."""

from abc import ABC
from copy import copy
from typing import Any, Self

from torch import Tensor

from ..processors import LogitsFunction


class Proposer(ABC):
    """What proposes tokens to a verifier.

    Attributes:
        draft_length: Longest draft ``t``, the depth of a tree.
        hidden_layers: Layers of the target whose hidden states are wanted as ``histories.hidden``.
        inherits_processors: Whether drafts take the target's processors: they have a use for them and none of their
            own.
        processors: Processors of the drafts' logits, if there are any.
    """

    draft_length: int
    hidden_layers: tuple[int, ...] = ()
    inherits_processors: bool = False
    processors: Any

    def inherit(self, processors: LogitsFunction) -> Self:
        """Return a drafter with the target's processors, if it takes them."""
        if not self.inherits_processors:
            return self
        drafter = copy(self)
        drafter.use(processors)
        return drafter

    def use(self, processors: LogitsFunction) -> None:
        """Take the processors of the drafts' logits."""
        self.processors = processors

    def without_laws(self) -> Self:
        """Return a drafter that need not return logits: the target is greedy, and tokens alone decide."""
        return self

    def reset(self) -> None:  # noqa: B027  a drafter without a cache has nothing to forget
        """Forget what was cached: a new batch begins."""


class LogitsRoom:
    """Memory for the logits of drafts, that of the last round if it fits: what is not written is finite."""

    def __init__(self) -> None:
        self._held: Tensor | None = None

    def of(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return a tensor of a shape to write to, of the dtype and on the device of another."""
        held = self._held
        if held is None or held.shape != shape or held.dtype != like.dtype or held.device != like.device:
            held = self._held = like.new_zeros(shape)
        return held

    def clear(self) -> None:
        """Let the memory go."""
        self._held = None
