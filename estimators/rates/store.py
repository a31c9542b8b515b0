"""The results file: SQLite, one row a fit, written by one process.

SQLite and not Parquet, because a study appends one row at a time for hours and may be killed at any of them: a
transaction is on disk or not there at all, while a Parquet file is readable only once its footer is written. The
write-ahead log makes an append one sequential write, and lets a report read while a study runs.
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .tasks import Row, Task

__all__ = ["ResultStore", "ResultsFileError", "StudyMismatchError"]

_FORMAT = "mixkit rate study 1"
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE fits (
    candidate TEXT NOT NULL, n INTEGER NOT NULL, replicate INTEGER NOT NULL,
    losses TEXT NOT NULL, llf REAL, truth_llf REAL, converged INTEGER NOT NULL, grad_norm REAL, predicted_gain REAL,
    iterations INTEGER NOT NULL, seconds REAL NOT NULL, parameters TEXT NOT NULL, error TEXT NOT NULL,
    PRIMARY KEY (candidate, n, replicate)
) WITHOUT ROWID;
"""


class ResultsFileError(ValueError):
    """The results file cannot be used: unwritable, damaged, or not one of ours."""


class StudyMismatchError(ResultsFileError):
    """The results file belongs to a study of another design."""


class ResultStore:
    """An open results file.

    Args:
        path: the file; it is made if it does not exist.
        design: what identifies the study, by name. It is kept in a new file and compared with that of an old one.

    Raises:
        ResultsFileError: if the file cannot be written, is damaged, or holds something else.
        StudyMismatchError: if it belongs to another design.
    """

    def __init__(self, path: str | os.PathLike[str], design: dict[str, str]) -> None:
        self.path = Path(path)
        _check_path(self.path)
        try:
            self._connection = sqlite3.connect(self.path, timeout=30.0, isolation_level=None)
            self._open(design)
        except sqlite3.DatabaseError as error:
            raise ResultsFileError(f"path must be a results file or a new file, got {self.path}: {error}") from error

    def _open(self, design: dict[str, str]) -> None:
        damage = self._connection.execute("PRAGMA quick_check").fetchone()[0]
        if damage != "ok":
            raise ResultsFileError(f"path must be an undamaged results file, got {self.path}: {damage}")
        tables = {name for (name,) in self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and tables != {"meta", "fits"}:
            raise ResultsFileError(f"path must be a results file, got {self.path} with tables {sorted(tables)}")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        if not tables:
            self._create(design)
        self._check_design(design)

    def _create(self, design: dict[str, str]) -> None:
        meta = [("format", _FORMAT), ("design", json.dumps(design))]
        self._connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA}")
        self._connection.executemany("INSERT INTO meta VALUES (?, ?)", meta)
        self._connection.execute("COMMIT")

    def _check_design(self, design: dict[str, str]) -> None:
        meta = dict(self._connection.execute("SELECT key, value FROM meta"))
        if meta.get("format") != _FORMAT:
            raise ResultsFileError(f"path must be a results file of format {_FORMAT!r}, got {meta.get('format')!r}")
        stored = json.loads(meta["design"])
        different = sorted(key for key in stored.keys() | design.keys() if stored.get(key) != design.get(key))
        if different:
            key = different[0]
            raise StudyMismatchError(
                f"{self.path} holds a study of another design: {', '.join(different)} differ; "
                f"for example {key}: {stored.get(key)} there, {design.get(key)} here. Use another path"
            )

    def done(self) -> set[Task]:
        """The fits that are finished."""
        return {Task(*row) for row in self._connection.execute("SELECT candidate, n, replicate FROM fits")}

    def append(self, row: Row) -> None:
        """Keep one fit: when this returns it is on disk."""
        values = (
            *row.task,
            json.dumps(row.losses),
            _number(row.llf),
            _number(row.truth_llf),
            int(row.converged),
            _number(row.grad_norm),
            _number(row.predicted_gain),
            row.iterations,
            row.seconds,
            json.dumps(row.parameters),
            row.error,
        )
        marks = ", ".join("?" * len(values))
        self._connection.execute(f"INSERT OR REPLACE INTO fits VALUES ({marks})", values)

    def rows(self) -> Iterator[Row]:
        """All the fits, by candidate, size and replicate."""
        for record in self._connection.execute("SELECT * FROM fits"):
            yield _row(record)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> "ResultStore":
        """The store itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the file."""
        self.close()


def _check_path(path: Path) -> None:
    if path.is_dir():
        raise ResultsFileError(f"path must be a file, got the directory {path}")
    if not path.parent.is_dir():
        raise ResultsFileError(f"path must be in a directory that exists, got {path}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ResultsFileError(f"path must be writable, got {path}")


def _number(value: float) -> float | None:
    """SQLite has no NaN; NULL stands for it."""
    return None if value != value else value


def _float(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _row(record: tuple[Any, ...]) -> Row:
    candidate, n, replicate, losses, llf, truth, converged, gradient, gain, iterations, seconds, parameters, error = (
        record
    )
    return Row(
        Task(candidate, n, replicate),
        json.loads(losses),
        _float(llf),
        _float(truth),
        bool(converged),
        _float(gradient),
        _float(gain),
        iterations,
        seconds,
        json.loads(parameters),
        error,
    )
