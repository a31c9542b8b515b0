"""Schedules: a positive number as a function of the training step, for temperatures that anneal."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from ._validation import check_integer, check_positive

__all__ = ["ConstantSchedule", "CosineSchedule", "GeometricSchedule", "LinearSchedule", "Schedule"]


class Schedule(ABC):
    """A positive value at every step 0, 1, 2, ...

    A schedule is a value itself: immutable, compared by its settings, and free of state. The step belongs to the module
    that owns the schedule.
    """

    @abstractmethod
    def value_at(self, step: int) -> float:
        """The value at ``step``, which has been checked to be an integer of at least 0."""

    def __call__(self, step: int) -> float:
        """The value at ``step``.

        Raises:
            TypeError: if ``step`` is not an integer.
            ValueError: if ``step`` is negative.
        """
        return self.value_at(check_integer("step", step, low=0))


def _check_ends(start: float, end: float) -> None:
    check_positive("start", start)
    check_positive("end", end)


@dataclass(frozen=True)
class ConstantSchedule(Schedule):
    """The same ``value`` at every step.

    Example:
        >>> ConstantSchedule(0.5)(10)
        0.5
    """

    value: float

    def __post_init__(self) -> None:
        check_positive("value", self.value)

    def value_at(self, step: int) -> float:
        """The constant."""
        return float(self.value)


@dataclass(frozen=True)
class GeometricSchedule(Schedule):
    r"""Exponential annealing, :math:`\tau_t = \text{start} \cdot \text{rate}^t` until ``end`` is reached, then ``end``.

    The schedule of Jang, Gu and Poole (2017), arXiv 1611.01144, is ``rate = exp(-r)`` with a floor ``end``.

    Args:
        start: value at step 0.
        end: the value at which annealing stops.
        rate: factor per step; below 1 if ``end`` is below ``start``, above 1 if it is above.

    Raises:
        ValueError: if an argument is not positive and finite, or ``rate`` does not lead from ``start`` to ``end``.

    Example:
        >>> schedule = GeometricSchedule(start=1.0, end=0.3, rate=0.5)
        >>> [schedule(step) for step in range(4)]
        [1.0, 0.5, 0.3, 0.3]
    """

    start: float
    end: float
    rate: float

    def __post_init__(self) -> None:
        _check_ends(self.start, self.end)
        check_positive("rate", self.rate)
        if (self.end - self.start) * (self.rate - 1.0) <= 0.0 and self.start != self.end:
            raise ValueError(
                f"rate must lead from start to end (below 1 to fall, above 1 to grow), "
                f"got rate={self.rate} from {self.start} to {self.end}"
            )

    def value_at(self, step: int) -> float:
        """The value after ``step`` steps; the arrival is found in logarithms, which cannot overflow."""
        distance = abs(math.log(self.end / self.start))
        arrived = step * abs(math.log(self.rate)) >= distance
        return float(self.end) if arrived else float(self.start * self.rate**step)


@dataclass(frozen=True)
class LinearSchedule(Schedule):
    r"""A straight line from ``start`` at step 0 to ``end`` at step ``num_steps``, constant afterwards.

    Args:
        start: value at step 0.
        end: value from step ``num_steps`` on.
        num_steps: length of the line, at least 1.

    Raises:
        ValueError: if an end is not positive and finite or ``num_steps`` is below 1.

    Example:
        >>> schedule = LinearSchedule(start=2.0, end=1.0, num_steps=4)
        >>> [schedule(step) for step in (0, 2, 4, 9)]
        [2.0, 1.5, 1.0, 1.0]
    """

    start: float
    end: float
    num_steps: int

    def __post_init__(self) -> None:
        _check_ends(self.start, self.end)
        check_integer("num_steps", self.num_steps, low=1)

    def value_at(self, step: int) -> float:
        """The value on the line."""
        share = min(step / self.num_steps, 1.0)
        return self.start * (1.0 - share) + self.end * share


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    r"""Half a cosine from ``start`` to ``end``, flat at both ends, constant after ``num_steps``.

    :math:`\tau_t = \text{end} + (\text{start} - \text{end}) (1 + \cos(\pi t / T)) / 2`, after Loshchilov and Hutter
    (2017), arXiv 1608.03983, equation 5 (one period, no restart).

    Args:
        start: value at step 0.
        end: value from step ``num_steps`` on.
        num_steps: length :math:`T` of the descent, at least 1.

    Raises:
        ValueError: if an end is not positive and finite or ``num_steps`` is below 1.

    Example:
        >>> schedule = CosineSchedule(start=3.0, end=1.0, num_steps=4)
        >>> [round(schedule(step), 3) for step in range(6)]
        [3.0, 2.707, 2.0, 1.293, 1.0, 1.0]
    """

    start: float
    end: float
    num_steps: int

    def __post_init__(self) -> None:
        _check_ends(self.start, self.end)
        check_integer("num_steps", self.num_steps, low=1)

    def value_at(self, step: int) -> float:
        """The value on the cosine."""
        share = (1.0 + math.cos(math.pi * min(step / self.num_steps, 1.0))) / 2.0
        return self.start * share + self.end * (1.0 - share)
