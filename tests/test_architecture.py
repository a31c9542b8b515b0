"""The rule of the house, over the syntax tree: ``estimators -> mixkit <- samplers``, and how imports are written."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("mixkit", "estimators", "samplers")
MAY_IMPORT = {"mixkit": set(), "estimators": {"mixkit"}, "samplers": {"mixkit"}}
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION, MOST_AT_THE_ROOT = 500, 50, 6


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


Modules = dict[str, tuple[ast.AST, bool]]
"""By dotted name: the syntax tree, and whether it is a package's ``__init__``."""


def modules_of(files: list[Path], root: Path) -> Modules:
    found = {}
    for path in files:
        parts = path.relative_to(root).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        found[".".join(parts[:-1] if is_package else parts)] = ast.parse(path.read_text()), is_package
    return found


def imported(name: str, modules: Modules) -> set[str]:
    """The modules that a module imports: at its top, in functions, and under ``if TYPE_CHECKING``.

    ``from .results import build`` is an import of ``results.build`` if there is such a module, and of the package
    ``results``, with all that its ``__init__`` imports, if ``build`` is a name that it offers.
    """
    tree, is_package = modules[name]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")[: len(name.split(".")) - node.level + is_package] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            found |= {
                f"{source}.{alias.name}" if f"{source}.{alias.name}" in modules else source for alias in node.names
            }
    return found & modules.keys() - {name}


def circles(modules: Modules) -> list[list[str]]:
    """Modules that import each other, directly or through others: strongly connected components of two and more."""
    edges = {name: imported(name, modules) for name in modules}
    reach = {name: set(_reached(name, edges)) for name in modules}
    mutual = {frozenset([name, *(other for other in reach[name] if name in reach[other])]) for name in modules}
    return sorted(sorted(group) for group in mutual if len(group) > 1)


def _reached(start: str, edges: dict[str, set[str]]) -> Iterator[str]:
    seen, waiting = {start}, [start]
    while waiting:
        new = edges[waiting.pop()] - seen
        seen |= new
        waiting += new
        yield from new


def at_the_root(files: list[Path], package: Path) -> list[str]:
    return [path.name for path in files if path.parent == package and path.name != "__init__.py"]


def test_no_module_imports_itself_through_others():
    """A package's ``__init__`` may import its modules; a module that imports its own ``__init__`` closes a circle."""
    assert not circles(modules_of(FILES, ROOT))


@pytest.mark.parametrize("package", PACKAGES)
def test_few_modules_stand_at_the_root_of_a_package(package):
    assert len(at_the_root(FILES, ROOT / package)) <= MOST_AT_THE_ROOT


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

    @pytest.mark.parametrize(
        "hidden",
        [
            "from .b import f",
            "def f():\n    from .b import g",
            "if TYPE_CHECKING:\n    from .b import G",
            "class C:\n    def f(self):\n        import p.b",
            "from . import b",
            "from . import name",
            "import p",
        ],
    )
    def test_circles_are_found_wherever_imports_hide(self, hidden):
        """Modules a and b of a package p, whose ``__init__`` offers names of both; b imports a."""
        sources = {
            "p": "from .a import x\nfrom .b import name",
            "p.a": hidden,
            "p.b": "from .a import x",
            "q": "import p",
        }
        modules = {name: (ast.parse(source), name == "p") for name, source in sources.items()}
        assert [group for group in circles(modules) if "p.a" in group]
        modules["p.a"] = ast.parse("import torch\nfrom .c import d"), False
        assert circles(modules) == []

    def test_modules_are_named_by_their_place(self, tmp_path):
        (tmp_path / "p" / "q").mkdir(parents=True)
        files = [tmp_path / "p" / "__init__.py", tmp_path / "p" / "a.py", tmp_path / "p" / "q" / "b.py"]
        for path in files:
            path.write_text("from ..a import x" if path.name == "b.py" else "")
        modules = modules_of(files, tmp_path)
        assert {name: is_package for name, (_, is_package) in modules.items()} == {
            "p": True,
            "p.a": False,
            "p.q.b": False,
        }
        assert imported("p.q.b", modules) == {"p.a"}
        assert at_the_root(files, tmp_path / "p") == ["a.py"]

    def test_docstrings_do_not_count_as_code(self):
        function = ast.parse('def f():\n    """One.\n\n    Two."""\n    x = 1\n    return x').body[0]
        assert code_lines(function) == 2
