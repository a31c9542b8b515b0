"""Estimates that are read by the names of their parameters."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..data.frames import new_series

__all__ = ["NamedVector"]


class NamedVector(np.ndarray):
    """An array ``(P,)`` whose entries have names: ``v["slope[0,bmi]"]``, ``v[["a", "b"]]``, ``"a" in v``.

    In everything else it is the array: positions, masks and arithmetic work as ever, and give plain arrays without
    names. ``dict(v)`` has the names as keys; :meth:`to_series` gives a pandas series. The entries cannot be changed.

    Args:
        values: ``(P,)``.
        names: as many, all different.

    Raises:
        KeyError: if a name is asked for that is none of them.
        ValueError: if there is not one name for each value, or two are equal.

    Example:
        >>> import numpy as np
        >>> v = NamedVector([1.5, -2.25], ["a", "b"])
        >>> v
        a    1.5
        b   -2.25
        >>> float(v["b"]), 2.0 * v, v[["b", "a"]].names
        (-2.25, array([ 3. , -4.5]), ('b', 'a'))
    """

    names: tuple[str, ...] | None

    def __new__(cls, values: Any, names: Iterable[str]) -> "NamedVector":
        """A vector of its own copy of the values."""
        array = np.array(values, dtype=np.float64)
        names = tuple(names)
        if array.shape != (len(names),):
            raise ValueError(f"names must be one for each value, got {len(names)} for values of shape {array.shape}")
        if len(set(names)) < len(names):
            raise ValueError(f"names must all be different, got {sorted(n for n in names if names.count(n) > 1)}")
        array.flags.writeable = False
        vector = array.view(cls)
        vector.names = names
        return vector

    def __array_finalize__(self, source: Any) -> None:
        """Views and copies that NumPy makes may have another order: they have no names."""
        self.names = None

    def __array_wrap__(self, array: np.ndarray, context: Any = None, return_scalar: bool = False) -> Any:
        """What is computed from the vector is a plain array, or a number."""
        return array[()] if return_scalar else np.asarray(array)

    def __getitem__(self, key: Any) -> Any:
        """The entry of a name, a vector of the entries of several names, or what a plain array has at ``key``."""
        if self.names is not None:
            if isinstance(key, str):
                return np.asarray(self)[self._position(key)]
            if isinstance(key, list) and key and all(isinstance(name, str) for name in key):
                return NamedVector(np.asarray(self)[[self._position(name) for name in key]], key)
        return np.asarray(self)[key]

    def _position(self, name: str) -> int:
        names: Sequence[str] = self.names or ()
        if name not in names:
            raise KeyError(f"no parameter is named {name!r}; the names are {list(names)}")
        return names.index(name)

    def __contains__(self, key: Any) -> bool:
        """Whether a word is one of the names, or a number one of the values."""
        return key in (self.names or ()) if isinstance(key, str) else bool(np.asarray(self).__contains__(key))

    def keys(self) -> tuple[str, ...]:
        """The names."""
        return self.names or ()

    def to_series(self) -> Any:
        """A pandas series with the names as its index; ``ImportError`` without pandas."""
        return new_series(np.asarray(self), index=list(self.keys()))

    def __reduce__(self) -> Any:
        """Pickles and copies keep the names."""
        if self.names is None:
            return np.asarray(self).__reduce__()
        return NamedVector, (np.asarray(self), self.names)

    def __copy__(self) -> Any:
        """The vector itself, for it does not change."""
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: Any) -> Any:
        """The vector itself, for it does not change."""
        return self if self.names is not None else np.array(self)

    def copy(self, order: Any = "C") -> Any:
        """The values as a plain array of its own, which may be changed."""
        return np.array(np.asarray(self), order=order)

    def __repr__(self) -> str:
        """A line for each entry, the name and the value; without names as an array."""
        if not self.names:
            return repr(np.asarray(self))
        return "\n".join(_lines(self.names, np.asarray(self)))

    __str__ = __repr__


def _lines(names: Sequence[str], values: np.ndarray) -> list[str]:
    # NumPy writes a column in one format, the decimal points below each other: take its lines without the brackets
    lines = np.array2string(values[:, None], threshold=values.size + 1).split("\n")
    width = max(map(len, names))
    return [f"{name:<{width}}   {line[2:].rstrip(']')}".rstrip() for name, line in zip(names, lines, strict=True)]
