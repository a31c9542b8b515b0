"""What every argument passes: checks that name the argument, the rule and what was received; working precision."""

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


def check_tensor(name: str, value: Any, *, floating: bool = True) -> Tensor:
    """Return ``value`` if it is a tensor (of floating dtype unless told), else raise ``TypeError``."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if floating and not value.is_floating_point():
        raise TypeError(f"{name} must have a floating dtype, got {value.dtype}")
    return value


def check_finite(name: str, value: Tensor) -> Tensor:
    """Return ``value`` if every entry is finite, else say how many are not and where the first one is."""
    bad = ~torch.isfinite(value)
    if bad.any():
        first = tuple(bad.nonzero()[0].tolist())
        raise ValueError(
            f"{name} must be finite, got {int(bad.sum())} NaN or infinite entries, the first at index {first}"
        )
    return value


def check_no_nan(name: str, value: Tensor) -> Tensor:
    """Return ``value`` if no entry is NaN or +inf (log weights and scores may be -inf)."""
    bad = torch.isnan(value) | (value == torch.inf)
    if bad.any():
        first = tuple(bad.nonzero()[0].tolist())
        raise ValueError(
            f"{name} must hold no NaN and no +inf, got {int(bad.sum())} such entries, the first at index {first}"
        )
    return value


def check_positive(name: str, value: float | Tensor) -> float | Tensor:
    """Return ``value`` if it is a finite number (or tensor of such) above zero."""
    if isinstance(value, Tensor):
        check_finite(name, value)
        if not (value > 0).all():
            raise ValueError(f"{name} must be positive, got a smallest entry of {float(value.min())}")
        return value
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a positive number, got {type(value).__name__}")
    if not 0 < float(value) < float("inf"):
        raise ValueError(f"{name} must be positive and finite, got {value}")
    return value


def check_non_negative(name: str, value: Any) -> float:
    """Return ``value`` as a float if it is a finite number of at least zero."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a non-negative number, got {type(value).__name__}")
    if not 0 <= float(value) < float("inf"):
        raise ValueError(f"{name} must be non-negative and finite, got {value}")
    return float(value)


def check_integer(name: str, value: Any, *, low: int | None = None, high: int | None = None) -> int:
    """Return ``value`` as an int if it is an integer in ``[low, high]``."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__} {value!r}")
    number = int(value)
    if low is not None and number < low:
        raise ValueError(f"{name} must be at least {low}, got {number}")
    if high is not None and number > high:
        raise ValueError(f"{name} must be at most {high}, got {number}")
    return number


def check_choice(name: str, value: Any, options: Iterable[Any]) -> Any:
    """Return ``value`` if it is one of ``options``."""
    allowed = list(options)
    if value not in allowed:
        raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
    return value


def check_last_dim(name: str, value: Tensor, size: int, what: str) -> Tensor:
    """Return ``value`` if its last dimension is ``size``; ``what`` names what that dimension counts."""
    if value.ndim == 0 or value.shape[-1] != size:
        raise ValueError(f"{name} must have {size} {what} in its last dimension, got shape {tuple(value.shape)}")
    return value


def check_indices(name: str, value: Tensor, size: int) -> Tensor:
    """Return ``value`` if it is a tensor of integers from 0 to ``size - 1``."""
    check_tensor(name, value, floating=False)
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{name} must have an integer dtype, got {value.dtype}")
    if can_read_values(value) and value.numel():
        low, high = (int(end) for end in torch.aminmax(value))
        if low < 0 or high >= size:
            raise ValueError(f"{name} must lie in [0, {size}), got entries from {low} to {high}")
    return value


def can_read_values(value: Tensor) -> bool:
    """Whether checks may look at the entries of ``value``: not on the meta device, nor while traced or made up."""
    if torch.compiler.is_compiling() or value.is_meta:
        return False
    return not (torch._C._functorch.is_functorch_wrapped_tensor(value) or isinstance(value, FakeTensor))


def at_least_float32(value: Tensor) -> Tensor:
    """``value`` in float32 if its dtype is narrower, else as it is: float16 and bfloat16 are not computed in."""
    return value.float() if torch.finfo(value.dtype).bits < 32 else value
