"""Results files: opened by several at once."""

import math
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from estimators.replication.record_store import RecordStore, ResultsFileError, StudyMismatchError, _excerpt

WORKERS = 8


def test_first_opens_at_once_all_succeed(tmp_path):
    for attempt in range(5):
        path, gate = tmp_path / f"{attempt}.sqlite", Barrier(WORKERS)

        def append(number, path=path, gate=gate):
            gate.wait()
            with RecordStore(path, {"a": "b"}, content="tests") as store:
                store.append([((number,), {"value": number})])

        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(append, range(WORKERS)))
        with RecordStore(path, {"a": "b"}, content="tests") as store:
            assert dict(store.items()) == {(number,): {"value": number} for number in range(WORKERS)}


def test_the_design_of_whoever_was_first_stays(tmp_path):
    path = tmp_path / "file.sqlite"
    with RecordStore(path, {"a": "first"}, content="tests") as store:
        store._create({"a": "second"})  # as by a process that saw no tables yet
        with pytest.raises(StudyMismatchError, match="a: first there, second here"):
            RecordStore(path, {"a": "second"}, content="tests")
    with RecordStore(path, {"a": "first"}, content="tests") as store:
        assert store.keys() == set()


def test_long_settings_are_shown_where_they_begin_to_differ():
    long = "EM(" + ", ".join(f"setting_{i}={i}" for i in range(30))
    one, other = (
        f"{long}, n_init=2, starts=None) on a module {'x' * 500}",
        f"{long}, n_init=10, starts=None) on a module",
    )
    assert _excerpt("short", other) == "short"
    assert _excerpt(one, other).startswith("...n_init=2, starts=None")
    assert _excerpt(other, one) == "...n_init=10, starts=None) on a module"
    assert len(_excerpt(one, other)) == 126


def test_numbers_and_keys_come_back_as_they_were(tmp_path):
    """Bit for bit, what is no number among them; a record that is written again replaces the first."""
    path, record = tmp_path / "file.sqlite", {"third": 1 / 3, "nan": float("nan"), "least": 5e-324, "words": ["é", ""]}
    with RecordStore(path, {}, content="tests") as store:
        store.append([(("a", 1), {"old": 0}), (("1", 1), {}), ((1, 1), {})])
        store.append([(("a", 1), record)])
    with RecordStore(path, {}, content="tests") as store:
        assert store.keys() == {("a", 1), ("1", 1), (1, 1)}
        found = dict(store.items())["a", 1]
    assert found.keys() == record.keys()
    assert math.isnan(found.pop("nan"))
    assert found == {key: value for key, value in record.items() if key != "nan"}


def test_a_file_of_other_content_is_refused(tmp_path):
    path = tmp_path / "file.sqlite"
    RecordStore(path, {}, content="replicates").close()
    with pytest.raises(ResultsFileError, match="format 'mixkit rate study 2', got 'mixkit replicates 2'"):
        RecordStore(path, {}, content="rate study")
