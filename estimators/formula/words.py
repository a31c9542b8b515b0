"""The parts of a formula, split where its signs stand outside brackets and quotes."""

from typing import NamedTuple

__all__ = ["FormulaWords", "has_arithmetic", "split_formula"]

_OPEN, _CLOSE, _QUOTES = "([{", ")]}", "'\"`"


class FormulaWords(NamedTuple):
    """``response ~ experts | gate``.

    Attributes:
        response: what is left of ``~``.
        experts: terms of the experts.
        gate: terms of the gate; None without ``|``.
    """

    response: str
    experts: str
    gate: str | None


def split_formula(formula: str) -> FormulaWords:
    """The three parts of a formula.

    Raises:
        TypeError: if ``formula`` is no string.
        ValueError: if it has not one ``~`` and at most one ``|``, or a part is empty.

    Example:
        >>> split_formula("art ~ fem + log(ment + 1) | phd")
        FormulaWords(response='art', experts='fem + log(ment + 1)', gate='phd')
    """
    if not isinstance(formula, str):
        raise TypeError(f"formula must be a string, got {type(formula).__name__}")
    sides = _split(formula, "~")
    if len(sides) != 2:
        raise ValueError(
            f"formula must be 'response ~ terms of experts | terms of the gate' with one ~, got {formula!r}"
        )
    parts = _split(sides[1], "|")
    if len(parts) > 2:
        raise ValueError(f"formula must have one | at most, terms of experts | terms of the gate, got {formula!r}")
    words = FormulaWords(sides[0], parts[0], parts[1] if len(parts) == 2 else None)
    needed = ("a response", "terms of the experts (1 for an intercept alone)", "terms of the gate (1 for constants)")
    for name, part in zip(needed, words, strict=True):
        if part == "":
            raise ValueError(f"formula must have {name}, got {formula!r}")
    return words


def has_arithmetic(text: str, signs: str) -> bool:
    """Whether one of some signs stands outside brackets and quotes.

    Signs there are those of terms: ``y**2`` and ``y - 1`` are the term y, ``I(y**2)`` is the square.

    Example:
        >>> has_arithmetic("y**2", "*"), has_arithmetic("I(y**2)", "*")
        (True, False)
    """
    return any(len(_split(text, sign)) > 1 for sign in signs)


def _split(text: str, sign: str) -> list[str]:
    """Pieces of a text between signs outside brackets and quotes, without spaces around them."""
    pieces, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in _QUOTES:
            quote = character
        else:
            depth += (character in _OPEN) - (character in _CLOSE)
        if character == sign and not quote and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += character
    return [piece.strip() for piece in pieces]
