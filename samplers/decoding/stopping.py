"""What ends a row besides its length and its end-of-sequence tokens."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .histories import Histories

Stop = Callable[[Tensor], Any]
"""Called with a history ``(1, n)`` after each new token; true ends the row."""


class StopCondition(ABC):
    """Says after each new token which rows have come to their end."""

    @abstractmethod
    def is_met(self, histories: Histories) -> Tensor:
        """Return whether each row ``(R,)`` ends with its last token."""


class EachHistory(StopCondition):
    """A function of one history at a time.

    Args:
        stop: Called with a history ``(1, n)``, without padding; true ends the row.

    Example:
        >>> EachHistory(lambda ids: ids[0, -1] == 2).is_met(Histories.of([[1, 2], [2, 1, 3]]))
        tensor([ True, False])
    """

    def __init__(self, stop: Stop) -> None:
        if not callable(stop):
            raise TypeError(f"stop must be a callable or a StopCondition, got {type(stop).__name__}")
        self.stop = stop

    def is_met(self, histories: Histories) -> Tensor:
        """Ask the function row by row."""
        rows = zip(histories.ids, histories.lengths.tolist(), strict=True)
        return torch.tensor([bool(self.stop(ids[None, :length])) for ids, length in rows])


def as_stop(stop: StopCondition | Stop | None) -> StopCondition | None:
    """Return a condition as it is, and a function of a history as an `EachHistory`."""
    return stop if stop is None or isinstance(stop, StopCondition) else EachHistory(stop)
