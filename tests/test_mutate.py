"""The tool that looks for changes which no test notices."""

from pathlib import Path

import pytest

from .mutate import mutants, nearest_tests, survivors

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("x < y", ["x < y -> x <= y"]),
        ("not x", ["not x -> x"]),
        ("x and y", ["x and y -> x or y"]),
        ("a * b ** c", ["a * b ** c -> a / b ** c", "b ** c -> b * c"]),
        ("f(1, True)", ["1 -> 2", "1 -> 0", "True -> False"]),
        ("x.amax(d) + min(y)", ["x.amax(d) + min(y) -> x.amax(d) - min(y)", "x.amax -> x.amin", "min -> max"]),
        ("def f(x: Literal[1]) -> Literal[2]:\n    'words'\n    return x", []),
    ],
)
def test_every_place_is_changed_once(source, changes):
    notes = [note for note, _ in mutants(source)]
    assert notes == [f"1: {change}" for change in changes]
    assert all(changed != source for _, changed in mutants(source))


def test_the_nearest_tests_come_first():
    nearest = nearest_tests(ROOT, ROOT / "mixkit/gates/normalizers/links.py", 3)
    assert nearest[0] == ROOT / "tests/mixkit/test_normalizers.py"
    assert len(nearest) == 3


@pytest.mark.parametrize(("cases", "alive"), [("[(2, True)]", 1), ("[(2, True), (1, True)]", 0)])
def test_survivors_are_the_changes_that_no_test_notices(tmp_path, cases, alive):
    (tmp_path / "tests").mkdir()
    (tmp_path / "mixkit").mkdir()
    (tmp_path / "mixkit/__init__.py").write_text("")
    (tmp_path / "mixkit/least.py").write_text("def at_least(x, low):\n    return x >= low\n")
    (tmp_path / "tests/test_least.py").write_text(
        "from mixkit.least import at_least\n\n"
        f"def test_at_least():\n    for x, expected in {cases}:\n        assert at_least(x, 1) == expected\n"
    )
    file = tmp_path / "mixkit/least.py"
    tests = nearest_tests(tmp_path, file, 5)
    assert tests == [tmp_path / "tests/test_least.py"]
    found = list(survivors(tmp_path, file, mutants(file.read_text()), tests))
    assert found == ["mixkit/least.py:2: x >= low -> x > low"][:alive]
