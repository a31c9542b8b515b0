"""Terms as columns of numbers: an encoding learned from one frame and applied to others."""

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .expressions import check_expressions, names_in
from .extras import formulaic_package, frame_packages

__all__ = ["Encoder", "Terms", "check_seen", "plain_level", "read_terms"]

_COLORS = re.compile(r"\x1b\[[0-9;]*m|⧛(\[[0-9;]*m)?|⧚")


@dataclass(frozen=True)
class Terms:
    """Terms of one part of a formula, in words.

    Attributes:
        argument: which argument they are of, for messages.
        words: the terms without the intercept, main effects first.
        intercept: whether there is an intercept.
    """

    argument: str
    words: tuple[str, ...]
    intercept: bool

    @property
    def text(self) -> str:
        """The terms as a formula."""
        return " + ".join([str(int(self.intercept)), *self.words])

    def __add__(self, other: "Terms") -> "Terms":
        """The terms of both, the intercept of the first."""
        return read_terms(self.argument, " + ".join([self.text, *other.words]))

    @cached_property
    def variables(self) -> frozenset[str]:
        """Names that the terms read: columns of data, but for codings such as ``Treatment``."""
        return frozenset(name for expression in _factors(_parsed(self.argument, self.text)) for name in expression)


def read_terms(argument: str, text: str) -> Terms:
    """The terms of one part of a formula, an intercept among them unless it is taken away.

    Raises:
        TypeError: if ``text`` is no string.
        ValueError: if the text cannot be read, or a term is more than arithmetic and transforms of columns.

    Example:
        >>> read_terms("formula", "a * b - 1")
        Terms(argument='formula', words=('a', 'b', 'a:b'), intercept=False)
    """
    if not isinstance(text, str):
        raise TypeError(f"{argument} must be a string of terms, got {type(text).__name__}")
    words = [_word(term) for term in _parsed(argument, text)]
    return Terms(argument, tuple(word for word in words if word not in ("0", "1")), "1" in words)


def _parsed(argument: str, text: str) -> Any:
    package = formulaic_package()
    try:
        formula = package.Formula(text)
    except (package.errors.FormulaicError, SyntaxError, ValueError) as error:
        raise ValueError(f"{argument} must have terms that can be read, got {text!r}: {_words(error)}") from error
    if not isinstance(formula, package.formula.SimpleFormula):
        raise ValueError(f"{argument} must have terms without ~ and |, got {text!r}")
    python = package.parser.types.Factor.EvalMethod.PYTHON
    factors = [factor for term in formula for factor in term.factors]
    check_expressions(argument, [factor.expr for factor in factors if factor.eval_method is python])
    return formula


def _word(term: Any) -> str:
    """A term as it is written; names that are no identifiers are quoted, as they must be to be read again."""
    lookup = formulaic_package().parser.types.Factor.EvalMethod.LOOKUP
    return ":".join(
        f"`{factor.expr}`" if factor.eval_method is lookup and not factor.expr.isidentifier() else factor.expr
        for factor in term.factors
    )


def _factors(formula: Any) -> Iterable[set[str]]:
    method = formulaic_package().parser.types.Factor.EvalMethod
    for term in formula:
        for factor in term.factors:
            if factor.eval_method is method.PYTHON:
                yield names_in(factor.expr)
            elif factor.eval_method is method.LOOKUP:
                yield {factor.expr.strip("`")}


@dataclass(frozen=True, eq=False)
class Encoder:
    """Terms and what they need to encode a frame: numbers and words alone.

    Attributes:
        terms: what is encoded.
        columns: names of the columns it makes.
        categories: levels of each factor that has some.
        state: what transforms have learned, knots and means.
    """

    terms: Terms
    columns: tuple[str, ...]
    categories: dict[str, list[Any]]
    state: dict[str, Any]

    @classmethod
    def learned(cls, terms: Terms, frame: Any) -> tuple["Encoder", Any, dict[str, tuple[str, ...]]]:
        """The encoder of terms from the frame of a fit, its columns there, and the columns of each term.

        Raises:
            ValueError: if a term cannot be computed, or is not finite.
        """
        package = formulaic_package()
        spec = package.ModelSpec(package.Formula(terms.text), materializer="pandas", output="pandas")
        matrix = _materialized(terms.argument, spec, _without_unused_levels(frame))
        found = matrix.model_spec
        kinds = {name: state["categories"] for name, (_, state) in found.encoder_state.items() if "categories" in state}
        categories = {name: [plain_level(level) for level in levels] for name, levels in kinds.items()}
        made = {_word(part.term): tuple(part.columns) for part in found.structure}
        encoder = cls(terms, tuple(matrix.columns), categories, dict(found.transform_state))
        return encoder, _checked(terms.argument, matrix), made

    @cached_property
    def _spec(self) -> Any:
        package = formulaic_package()
        formula = _parsed(self.terms.argument, self.terms.text)  # which may come from a file: checked again
        kind = package.parser.types.Factor.Kind
        expressions = {factor.expr for term in formula for factor in term.factors}
        encoder_state = {
            name: (kind.CATEGORICAL, {"categories": levels})
            for name, levels in self.categories.items()
            if name in expressions
        }
        return package.ModelSpec(
            formula,
            materializer="pandas",
            output="pandas",
            transform_state=self.state,
            encoder_state=encoder_state,
        )

    def encoded(self, frame: Any) -> Any:
        """The columns of another pandas frame.

        Raises:
            ValueError: if a category has a level that the fit did not see, or a value is not finite.
        """
        for name, levels in self.categories.items():
            own = next((v for v in self.terms.variables if name in (v, f"`{v}`") or name.startswith(f"C({v}")), None)
            if own is not None:
                check_seen(frame[own], levels, own)
        matrix = _materialized(self.terms.argument, self._spec, frame)
        if tuple(matrix.columns) != self.columns:
            raise ValueError(
                f"data must give the columns of the fit, {list(self.columns)}, got {list(matrix.columns)}: a column "
                "may hold numbers where the fit had categories"
            )
        return _checked(self.terms.argument, matrix)


def _without_unused_levels(frame: Any) -> Any:
    """Categories without levels that no row has: they would have no coefficient, and are as unseen as others."""
    kinds = {name: column for name, column in frame.items() if hasattr(column, "cat")}
    return frame.assign(**{name: column.cat.remove_unused_categories() for name, column in kinds.items()})


def plain_level(level: Any) -> Any:
    """A level of a factor as Python has it, not as a scalar of NumPy."""
    return level.item() if isinstance(level, np.generic) else level


def check_seen(column: Any, levels: Sequence[Any], name: str) -> None:
    """Raise ``ValueError`` if a column has a level that is not among those of the fit."""
    unseen = [level for level in column.unique() if level not in levels]
    if unseen:
        raise ValueError(f"data must have levels of {name!r} that the fit has seen, {levels}, got {unseen[0]!r}")


def _materialized(argument: str, spec: Any, frame: Any) -> Any:
    package = formulaic_package()
    errors = (package.errors.FormulaicError, ArithmeticError, TypeError, ValueError, KeyError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of logarithms: what is not finite is told by its name
        warnings.simplefilter("error", package.errors.DataMismatchWarning)
        try:
            return spec.get_model_matrix(frame, context={}, na_action="ignore")
        except package.errors.DataMismatchWarning as error:
            raise ValueError(f"data must have levels that the fit has seen: {_words(error)}") from error
        except errors as error:
            raise ValueError(f"{argument} must have terms that the data can give: {_words(error)}") from error


def _words(error: Exception) -> str:
    return " ".join(_COLORS.sub("", str(error)).split())


def _checked(argument: str, matrix: Any) -> Any:
    """The columns as a plain frame of float64, all finite."""
    _, pandas = frame_packages()
    plain = pandas.DataFrame({name: np.asarray(matrix[name], dtype=np.float64) for name in matrix.columns})
    is_bad = ~np.isfinite(plain.to_numpy())
    if is_bad.any():
        row, column = (int(place) for place in np.argwhere(is_bad)[0])
        name, value = plain.columns[column], plain.iloc[row, column]
        raise ValueError(f"{argument} must have finite terms, got {value} for {name!r} in row {row}")
    return plain
