"""Results files: opened by several at once."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from estimators.replication.replicate_store import ReplicateStore
from estimators.replication.sqlite_file import StudyMismatchError, _excerpt

WORKERS = 8


def test_first_opens_at_once_all_succeed(tmp_path):
    for attempt in range(5):
        path, gate = tmp_path / f"{attempt}.sqlite", Barrier(WORKERS)

        def append(number, path=path, gate=gate):
            gate.wait()
            with ReplicateStore(path, {"a": "b"}) as store:
                store.append([(number, {"value": number})])

        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(append, range(WORKERS)))
        with ReplicateStore(path, {"a": "b"}) as store:
            assert store.records(WORKERS) == [{"value": number} for number in range(WORKERS)]


def test_the_design_of_whoever_was_first_stays(tmp_path):
    path = tmp_path / "file.sqlite"
    with ReplicateStore(path, {"a": "first"}) as store:
        store._create({"a": "second"})  # as by a process that saw no tables yet
        with pytest.raises(StudyMismatchError, match="a: first there, second here"):
            ReplicateStore(path, {"a": "second"})
    with ReplicateStore(path, {"a": "first"}) as store:
        assert store.done() == set()


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
