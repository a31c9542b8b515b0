"""Names of columns: read from frames, checked in order, and put in messages."""

import re
from collections.abc import Sequence
from numbers import Integral
from typing import Any

from torch import Tensor

from .tensors import numeric_tensor

__all__ = ["are_same", "column_names", "ordered_covariates", "renamed", "with_names"]


def column_names(x: Any) -> list[str] | None:
    """Names of a frame's columns, None for arrays; integers i are xi, as columns of arrays, and others as they print.

    Raises:
        ValueError: if two columns have one name.
    """
    names = [f"x{name}" if isinstance(name, Integral) else str(name) for name in getattr(x, "columns", [])]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"x must have columns of different names, got more than one of {repeated}")
    return names or None


def ordered_covariates(x: Any, names: Sequence[str] | None) -> Tensor:
    """``x`` as a tensor, the columns of a frame in the order of ``names (d,)``, those of the fit; others as they are.

    Raises:
        TypeError: if ``x`` is not numeric.
        ValueError: if it is not finite, or a frame of columns of other names.
    """
    own = column_names(x)
    if own is None or names is None or are_same(own, names):
        return numeric_tensor("x", x)
    missing, unknown = sorted(set(names) - set(own)), sorted(set(own) - set(names))
    if missing or unknown or len(own) != len(names):
        received = f"got none of {missing}, and {unknown} beside"
        raise ValueError(f"x must have the columns of the fit, {list(names)}, {received}")
    return numeric_tensor("x", x)[:, [own.index(name) for name in names]]


def are_same(own: Sequence[str], names: Sequence[str]) -> bool:
    """Whether columns stand as those of a fit do; a frame that numbers its columns is read as an array."""
    return list(own) == list(names) or (_are_numbers(own) and set(own) != set(names))


def _are_numbers(names: Sequence[str]) -> bool:
    return list(names) == [f"x{place}" for place in range(len(names))]


def renamed(text: str, old: Sequence[str], new: Sequence[str]) -> str:
    """``text`` on parameters with ``new (d,)`` names of covariates in place of the ``old (d,)`` ones."""
    name_of = dict(zip(old, new, strict=True))
    either = "|".join(re.escape(name) for name in sorted(old, key=len, reverse=True))
    return re.sub(rf",({either})\]", lambda match: f",{name_of[match[1]]}]", text)


def with_names(text: str, names: Sequence[str]) -> str:
    """``text`` on parameters or columns with ``names`` in place of x0, x1, ... and of the columns' numbers."""
    if _are_numbers(names):
        return text
    text = re.sub(r",x(\d+)\]", lambda match: f",{names[int(match[1])]}]", text)
    return re.sub(
        r"^columns \[(\d[\d, ]*)\]", lambda match: f"columns {[str(names[int(i)]) for i in match[1].split(',')]}", text
    )
