"""The rule of the house, over the syntax tree: ``estimators -> mixkit <- samplers``, and how imports are written."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("mixkit", "estimators", "samplers")
MAY_IMPORT = {"mixkit": set(), "estimators": {"mixkit"}, "samplers": {"mixkit"}}
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION = 500, 50


def every(files):
    return pytest.mark.parametrize("path", files, ids=[str(path.relative_to(ROOT)) for path in files])


def absolute_imports(tree: ast.AST) -> set[str]:
    """The top-level names of all absolute imports, those under ``if TYPE_CHECKING`` and inside functions included."""
    modules = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    return {module.split(".")[0] for module in modules}


def deepest_relative_import(tree: ast.AST) -> int:
    return max((node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)), default=0)


def test_there_is_something_to_check():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(PACKAGES)


@every(FILES)
def test_imports_follow_the_arrows(path):
    """Of the three packages a file imports absolutely none but those its own may; itself only relatively."""
    package = path.relative_to(ROOT).parts[0]
    assert absolute_imports(ast.parse(path.read_text())) & set(PACKAGES) <= MAY_IMPORT[package]


@every(FILES)
def test_relative_imports_stay_inside_the_package(path):
    depth = len(path.relative_to(ROOT).parts) - 1
    assert deepest_relative_import(ast.parse(path.read_text())) <= depth


@every([path for path in FILES if path.name == "__init__.py"])
def test_every_package_says_what_it_offers(path):
    assigned = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign | ast.AnnAssign)]
    targets = [target for node in assigned for target in getattr(node, "targets", [getattr(node, "target", None)])]
    imports = any(isinstance(node, ast.ImportFrom) for node in ast.parse(path.read_text()).body)
    assert not imports or "__all__" in [getattr(target, "id", "") for target in targets]


@every(FILES)
def test_pieces_are_small(path):
    source = path.read_text()
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    long = {f.name: code_lines(f) for f in functions if code_lines(f) > LONGEST_FUNCTION}
    assert not long
    assert source.count("\n") <= LONGEST_FILE


def code_lines(function: ast.FunctionDef) -> int:
    """Lines of the body without the docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


@every(FILES)
def test_input_is_never_checked_by_assert(path):
    assert not [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]


class TestTheChecksThemselves:
    """A check that cannot fail holds nothing."""

    def test_imports_are_found_wherever_they_hide(self):
        hidden = (
            "def f():\n    import samplers.base as b\nif TYPE_CHECKING:\n    from estimators import EM\nfrom . import x"
        )
        assert absolute_imports(ast.parse(hidden)) == {"samplers", "estimators"}

    def test_levels_are_counted(self):
        assert deepest_relative_import(ast.parse("from ...x import y\nfrom . import z")) == 3
        assert deepest_relative_import(ast.parse("import x")) == 0

    def test_docstrings_do_not_count_as_code(self):
        function = ast.parse('def f():\n    """One.\n\n    Two."""\n    x = 1\n    return x').body[0]
        assert code_lines(function) == 2
