"""Changes one place of a file at a time, and lists the changes that no test notices: ``python -m tests.mutate FILE``.

The tests run on a copy of the repository: those that import the file most directly, and the file's own examples.
"""

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_OPERATORS = [
    (ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot), (ast.In, ast.NotIn),
    (ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.And, ast.Or), (ast.BitAnd, ast.BitOr),
]  # fmt: skip
_NAMES = [("min", "max"), ("amin", "amax"), ("argmin", "argmax"), ("minimum", "maximum"), ("any", "all")]
_SWAPS = {a: b for pair in _OPERATORS for a, b in (pair, pair[::-1])} | {ast.FloorDiv: ast.Mult, ast.Pow: ast.Mult}
_RENAMES = {a: b for pair in _NAMES for a, b in (pair, pair[::-1])}
_PACKAGES = ("mixkit", "estimators", "samplers")


def _variants(node: ast.AST) -> Iterator[ast.AST]:
    """The node with one thing changed, in every way."""
    new = copy.deepcopy(node)
    match new:
        case ast.Compare(ops=[op]) if type(op) in _SWAPS:
            yield ast.Compare(new.left, [_SWAPS[type(op)]()], new.comparators)
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in _SWAPS:
            new.op = _SWAPS[type(op)]()
            yield new
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield new.operand
        case ast.Constant(value=bool()):
            yield ast.Constant(not new.value)
        case ast.Constant(value=int() | float()):
            yield from (ast.Constant(new.value + step) for step in (1, -1))
        case ast.Name(id=name) if name in _RENAMES:
            yield ast.Name(_RENAMES[name], new.ctx)
        case ast.Attribute(attr=name) if name in _RENAMES:
            yield ast.Attribute(new.value, _RENAMES[name], new.ctx)


def _places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Parents, fields, positions and nodes of all expressions but annotations."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for position, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                yield node, name, position, child
                yield from _places(child)


def mutants(source: str) -> list[tuple[str, str]]:
    """What was changed, with its line, and the changed source."""
    tree, found = ast.parse(source), []
    for parent, name, position, node in list(_places(tree)):
        for variant in _variants(node):
            _put(parent, name, position, variant)
            note = f"{node.lineno}: {ast.unparse(node)} -> {ast.unparse(variant)}"
            found.append((note, ast.unparse(ast.fix_missing_locations(tree))))
            _put(parent, name, position, node)
    return found


def _put(parent: ast.AST, name: str, position: int | None, node: ast.AST) -> None:
    if position is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[position] = node


def _imports(root: Path, file: Path) -> set[Path]:
    """Files of the repository from which a file takes names; a package's ``__init__`` stands for where it has them."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = root if not node.level else file.parents[node.level - 1]
            found |= {path for alias in node.names for path in _origin(root, base, node.module or "", alias.name)}
    return found - {file}


def _origin(root: Path, base: Path, module: str, name: str) -> set[Path]:
    folder = base.joinpath(*module.split(".")) if module else base
    for path in (folder / f"{name}.py", folder / name / "__init__.py", folder.with_suffix(".py")):
        if path.is_file():
            return {path}
    start = folder / "__init__.py"
    if not start.is_file():
        return set()
    for node in ast.walk(ast.parse(start.read_text())):
        if isinstance(node, ast.ImportFrom) and name in {alias.asname or alias.name for alias in node.names}:
            return _origin(root, folder if node.level else root, node.module or "", name)
    return {start}


def nearest_tests(root: Path, file: Path, count: int) -> list[Path]:
    """The test files from which the fewest imports lead to ``file``, those of like name first, at most ``count``."""
    importers: dict[Path, set[Path]] = {}
    for name in (*_PACKAGES, "tests"):
        for path in (root / name).rglob("*.py"):
            for target in _imports(root, path):
                importers.setdefault(target, set()).add(path)
    words = _words(root, file)
    seen, layer = [file], [file]
    while layer:
        found = {path for target in layer for path in importers.get(target, ())} - set(seen)
        layer = sorted(found, key=lambda path: (-_likeness(words, _words(root, path)), path))
        seen += layer
    return [path for path in seen if path.name.startswith("test_")][:count]


def _words(root: Path, file: Path) -> list[str]:
    return [word for part in file.relative_to(root).with_suffix("").parts for word in part.split("_")]


def _likeness(words: list[str], others: list[str]) -> int:
    """Where in a path the last word stands that another has too: folders further down say more."""
    return max((position for position, word in enumerate(words) if word in others), default=-1)


def survivors(root: Path, file: Path, chosen: list[tuple[str, str]], tests: list[Path]) -> Iterator[str]:
    """Run the tests on each of the chosen mutants, in a copy of the repository; yield those that pass."""
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / "copy"
        shutil.copytree(root, copied, ignore=shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "shared"))
        target = copied / file.relative_to(root)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        command += [str(copied / path.relative_to(root)) for path in tests]
        command += [str(target)]  # last, so that its module is the one that the tests import
        settings = {"cwd": copied, "env": {**os.environ, "PYTHONPATH": str(copied)}, "capture_output": True}
        before = subprocess.run(command, text=True, **settings)
        if before.returncode not in (0, 5):  # 5: there are no tests
            raise SystemExit(f"the tests fail before any change:\n{before.stdout[-2000:]}")
        for note, source in chosen:
            target.write_text(source)
            try:
                code = subprocess.run(command, timeout=600, **settings).returncode
            except subprocess.TimeoutExpired:
                continue
            if code in (0, 5):
                yield f"{file.relative_to(root)}:{note}"


def main(arguments: list[str] | None = None) -> None:
    """Mutate, test, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--sample", type=int, metavar="N", help="try N of the changes, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tests", type=int, default=5, metavar="N", help="run at most N test files (default 5)")
    options = parser.parse_args(arguments)
    root, file = Path(__file__).resolve().parents[1], options.file.resolve()
    chosen = mutants(file.read_text())
    if options.sample is not None and options.sample < len(chosen):
        chosen = random.Random(options.seed).sample(chosen, options.sample)
    tests = nearest_tests(root, file, options.tests)
    print(f"{len(chosen)} changes; tests: {', '.join(str(path.relative_to(root)) for path in tests)}")
    alive = 0
    for survivor in survivors(root, file, chosen, tests):
        alive += 1
        print(survivor, flush=True)
    print(f"{len(chosen) - alive} of {len(chosen)} were noticed")


if __name__ == "__main__":
    main()
