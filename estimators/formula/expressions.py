"""What terms of a formula may compute: arithmetic, comparisons and transforms of columns, no other code.

``formulaic`` evaluates terms as Python. Formulas come from files too, so every term is read first, and only what is
listed here is evaluated.
"""

import ast
import re
from collections.abc import Iterable

import numpy as np

from .extras import formulaic_package

__all__ = ["check_expressions", "names_in"]

_NODES = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Constant, ast.Name, ast.Call, ast.keyword, ast.Load,
    ast.List, ast.Tuple, ast.Dict, ast.Attribute, ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip
_CODINGS = {"treatment", "sum", "helmert", "diff", "poly", "SAS", "custom"}
_OF_ROWS = {"lag", "hashed"}  # depend on the order of rows, or on a hash: no encoding of other frames
_QUOTED = re.compile(r"`([^`]*)`")


def check_expressions(argument: str, expressions: Iterable[str]) -> None:
    """Raise ``ValueError`` for a term that does more than compute with columns.

    Example:
        >>> check_expressions("formula", ["log(x + 0.5)", "C(g, contr.sum)", "np.sqrt(x) > 2"])
        >>> check_expressions("formula", ["open('a')"])
        Traceback (most recent call last):
            ...
        ValueError: formula may call only ..., got open in "open('a')"; compute other columns beforehand
    """
    known = _functions()
    for expression in expressions:
        for node in ast.walk(_tree(argument, expression)):
            _check(argument, node, expression, known)


def names_in(expression: str) -> set[str]:
    """Names that a term reads, quoted ones among them; not those of functions that it calls.

    Example:
        >>> sorted(names_in("log(`a b` + x) * np.pi"))
        ['a b', 'x']
    """
    tree = _tree("formula", expression)
    owners = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    owners |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in owners}
    by_word = {word for node in ast.walk(tree) for word in _words_of_q(node)}
    return (names - {"_quoted"}) | set(_QUOTED.findall(expression)) | by_word


def _words_of_q(node: ast.AST) -> list[str]:
    """The column that ``Q("...")`` names."""
    if not isinstance(node, ast.Call) or _name(node.func) != "Q":
        return []
    return [str(part.value) for part in node.args if isinstance(part, ast.Constant)]


def _functions() -> set[str]:
    return set(formulaic_package().transforms.TRANSFORMS) - {"np", "contr"} - _OF_ROWS


def _tree(argument: str, expression: str) -> ast.AST:
    try:
        return ast.parse(_QUOTED.sub("_quoted", expression).strip(), mode="eval")
    except SyntaxError as error:
        raise ValueError(f"{argument} must have terms that can be read, got {expression!r}") from error


def _check(argument: str, node: ast.AST, expression: str, known: set[str]) -> None:
    if not isinstance(node, _NODES):
        raise ValueError(
            f"{argument} may compute with arithmetic, comparisons and transforms alone, got "
            f"{type(node).__name__} in {expression!r}"
        )
    if isinstance(node, ast.Attribute) and not _is_known(node):
        raise ValueError(f"{argument} may use functions of np and codings of contr alone, got {expression!r}")
    if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Attribute) or _name(node.func) in known):
        raise ValueError(
            f"{argument} may call only {', '.join(sorted(known))} and functions of np, got {_name(node.func)} in "
            f"{expression!r}; compute other columns beforehand"
        )


def _is_known(node: ast.Attribute) -> bool:
    owner = _name(node.value)
    if owner == "np":
        return isinstance(getattr(np, node.attr, None), np.ufunc) or node.attr in ("pi", "e")
    return owner == "contr" and node.attr in _CODINGS


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else ast.unparse(node)
