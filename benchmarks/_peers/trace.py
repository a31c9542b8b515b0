"""A log-likelihood watched over time."""

import time

__all__ = ["OutOfTimeError", "Trace"]


class OutOfTimeError(Exception):
    """The time granted to a fit is over."""


class Trace:
    """Seconds of processor time since the start, and the log-likelihood, at every recorded point.

    Processor time, because it does not count the work of others on the same machine.

    Args:
        budget: seconds after which ``record`` raises :class:`OutOfTimeError`.
    """

    def __init__(self, budget: float = float("inf")) -> None:
        self.budget = budget
        self.start = time.process_time()
        self.seconds: list[float] = []
        self.values: list[float] = []

    def record(self, value: float) -> None:
        """Add a point."""
        self.seconds.append(time.process_time() - self.start)
        self.values.append(value)
        if self.seconds[-1] > self.budget:
            raise OutOfTimeError

    def seconds_to(self, target: float) -> float:
        """When the log-likelihood first was at least ``target``; infinity if never."""
        return next((s for s, v in zip(self.seconds, self.values, strict=True) if v >= target), float("inf"))
