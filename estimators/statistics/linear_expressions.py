"""Linear expressions in names that may hold any characters: a scanner that knows the names, and a small parser."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

__all__ = ["Linear", "read_restrictions"]


class Linear(NamedTuple):
    """A linear expression ``coefficients @ params + constant``."""

    coefficients: np.ndarray
    constant: float

    def times(self, factor: float) -> "Linear":
        """The expression times a number."""
        return Linear(self.coefficients * factor, self.constant * factor)

    def plus(self, other: "Linear") -> "Linear":
        """The sum of two."""
        return Linear(self.coefficients + other.coefficients, self.constant + other.constant)


def read_restrictions(text: str, names: Sequence[str]) -> list[tuple[Linear, str]]:
    """Restrictions separated by commas, each as an expression that is to be zero, and its words.

    At each place of the text the longest name is read; after a comma in a name there may be spaces.

    Args:
        text: expressions with ``+ - * / ( ) =``; ``a = b = c`` is two restrictions, one without ``=`` is zero.
        names: of the parameters, P of them.

    Raises:
        ValueError: if the text cannot be read, holds other names, or is not linear.

    Example:
        >>> (difference, words), = read_restrictions("2 * (a - b) = 3", ["a", "b"])
        >>> difference.coefficients, difference.constant, words
        (array([ 2., -2.]), -3.0, '2 * (a - b) = 3')
    """
    return _Parser(text, names).restrictions()


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


_NUMBER = re.compile(r"(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_WORD = re.compile(r"\w+(\[[^\]]*\])?")
_SIGNS = "+-*/()=,"


def _tokens(text: str, names: Sequence[str]) -> Iterator[_Token]:
    patterns = {name: _pattern(name) for name in sorted(names, key=len, reverse=True)}
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        token, at = _token(text, at, patterns)
        yield token
    yield _Token("end", "", at)


def _pattern(name: str) -> re.Pattern[str]:
    """The name, spaces allowed after its commas; not the beginning of a longer word."""
    end = r"(?!\w)" if _is_word(name[-1:]) else ""
    return re.compile(r",\s*".join(re.escape(part.lstrip()) for part in name.split(",")) + end)


def _token(text: str, at: int, patterns: dict[str, re.Pattern[str]]) -> tuple[_Token, int]:
    """What stands at a place, and where it ends."""
    for name, pattern in patterns.items():
        if found := pattern.match(text, at):
            return _Token("name", name, at), found.end()
    if text[at] in _SIGNS:
        return _Token(text[at], text[at], at), at + 1
    if number := _NUMBER.match(text, at):
        return _Token("number", number[0], at), number.end()
    word = _WORD.match(text, at)
    received = repr(word[0]) if word else f"{text[at]!r} at position {at} of {text!r}"
    raise ValueError(f"restrictions must use the names of the parameters, {sorted(patterns)}, got {received}")


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


class _Parser:
    """Recursive descent: restrictions, sides, terms, factors."""

    def __init__(self, text: str, names: Sequence[str]) -> None:
        self.text, self.names = text, list(names)
        self.tokens = list(_tokens(text, names))
        self.place = 0

    def restrictions(self) -> list[tuple[Linear, str]]:
        """Differences that are to be zero, and the words of each."""
        found = self._chain()
        while self._accept(","):
            found += self._chain()
        if self._next.kind != "end":
            raise self._unreadable()
        return found

    def _chain(self) -> list[tuple[Linear, str]]:
        sides = [self._side()]
        while self._accept("="):
            sides.append(self._side())
        if len(sides) == 1:
            sides.append((self._constant(0.0), "0"))
        return [
            (left.plus(right.times(-1.0)), f"{words} = {other}") for (left, words), (right, other) in pairwise(sides)
        ]

    def _side(self) -> tuple[Linear, str]:
        start = self._next.at
        value = self._sum()
        return value, self.text[start : self._next.at].strip()

    def _sum(self) -> Linear:
        value = self._product()
        while sign := self._accept("+") or self._accept("-"):
            value = value.plus(self._product().times(1.0 if sign == "+" else -1.0))
        return value

    def _product(self) -> Linear:
        value = self._factor()
        while sign := self._accept("*") or self._accept("/"):
            other = self._factor()
            if sign == "/":
                value = value.times(1.0 / self._number(other, is_divisor=True))
            elif not other.coefficients.any():
                value = value.times(other.constant)
            else:
                value = other.times(self._number(value))
        return value

    def _factor(self) -> Linear:
        if self._accept("-"):
            return self._factor().times(-1.0)
        if self._accept("+"):
            return self._factor()
        if self._accept("("):
            value = self._sum()
            if not self._accept(")"):
                raise self._unreadable()
            return value
        token = self._next
        if token.kind not in ("name", "number"):
            raise self._unreadable()
        self.place += 1
        return self._constant(float(token.text)) if token.kind == "number" else self._parameter(token.text)

    def _parameter(self, name: str) -> Linear:
        coefficients = np.zeros(len(self.names))
        coefficients[self.names.index(name)] = 1.0
        return Linear(coefficients, 0.0)

    def _constant(self, value: float) -> Linear:
        return Linear(np.zeros(len(self.names)), value)

    def _number(self, value: Linear, *, is_divisor: bool = False) -> float:
        if value.coefficients.any() or (is_divisor and not value.constant):
            raise ValueError(f"restrictions must be linear in the parameters, got {self.text!r}")
        return value.constant

    @property
    def _next(self) -> _Token:
        return self.tokens[self.place]

    def _accept(self, kind: str) -> str:
        """The sign, passed over, if it stands next; else nothing."""
        if self._next.kind != kind:
            return ""
        self.place += 1
        return kind

    def _unreadable(self) -> ValueError:
        token = self._next
        received = f"{token.text!r} at position {token.at}" if token.text else "the end"
        return ValueError(
            f"restrictions must be linear expressions with =, separated by commas, got {received} of {self.text!r}"
        )
