"""Checks of settings."""

import math
from numbers import Real
from typing import Any


def check_unit_interval(name: str, value: Any, *, is_open: bool = False) -> float:
    """Return ``value`` as a float if it is in ``[0, 1]``, or in ``(0, 1)`` if ``is_open``."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    number = float(value)
    if not (0 < number < 1 if is_open else 0 <= number <= 1):
        raise ValueError(f"{name} must be in {'(0, 1)' if is_open else '[0, 1]'}, got {value}")
    return number


def check_temperature(value: Any) -> float:
    """Return ``value`` as a float if it is non-negative and finite."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"temperature must be a number, got {type(value).__name__}")
    temperature = float(value)
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be non-negative and finite, got {value}")
    return temperature
