"""Replicates on disk: SQLite, one row a replicate, written by one process as they are done."""

import json
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..rates.store import ResultsFileError, StudyMismatchError

__all__ = ["ReplicateStore"]

_FORMAT = "mixkit replicates 1"
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE replicates (replicate INTEGER PRIMARY KEY, record TEXT NOT NULL);
"""


class ReplicateStore:
    """Records by replicate number, in a file or, without a path, in memory.

    Args:
        path: the file, new or old; None for memory.
        design: what identifies the experiment, by name. A new file keeps it; an old one must have the same.

    Raises:
        ResultsFileError: if the file cannot be written, is damaged, or holds something else.
        StudyMismatchError: if it belongs to another design.
    """

    def __init__(self, path: str | os.PathLike[str] | None, design: dict[str, str]) -> None:
        self.name = ":memory:" if path is None else str(path)
        if path is not None and not Path(path).resolve().parent.is_dir():
            raise ResultsFileError(f"path must be in a directory that exists, got {path}")
        try:
            self._connection = sqlite3.connect(self.name, timeout=30.0, isolation_level=None)
            self._open(design)
        except sqlite3.Error as error:
            raise ResultsFileError(f"path must be a file of replicates or a new file, got {path}: {error}") from error

    def _open(self, design: dict[str, str]) -> None:
        tables = {name for (name,) in self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and tables != {"meta", "replicates"}:
            raise ResultsFileError(f"path must be a file of replicates, got {self.name} with tables {sorted(tables)}")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        if not tables:
            meta = [("format", _FORMAT), ("design", json.dumps(design))]
            self._connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA}")
            self._connection.executemany("INSERT INTO meta VALUES (?, ?)", meta)
            self._connection.execute("COMMIT")
        self._check(design)

    def _check(self, design: dict[str, str]) -> None:
        meta = dict(self._connection.execute("SELECT key, value FROM meta"))
        if meta.get("format") != _FORMAT:
            raise ResultsFileError(f"path must be a file of format {_FORMAT!r}, got {meta.get('format')!r}")
        stored = json.loads(meta["design"])
        different = sorted(key for key in stored.keys() | design.keys() if stored.get(key) != design.get(key))
        if different:
            raise StudyMismatchError(
                f"{self.name} holds replicates of another design: {', '.join(different)} differ; for example "
                f"{different[0]}: {stored.get(different[0])} there, {design.get(different[0])} here. Use another path"
            )

    def done(self) -> set[int]:
        """Numbers of the replicates that are there."""
        return {number for (number,) in self._connection.execute("SELECT replicate FROM replicates")}

    def append(self, records: Iterable[tuple[int, dict[str, Any]]]) -> None:
        """Keep some replicates, all or none of them: when this returns they are on disk."""
        rows = [(number, json.dumps(record)) for number, record in records]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT OR REPLACE INTO replicates VALUES (?, ?)", rows)
        self._connection.execute("COMMIT")

    def records(self, count: int) -> list[dict[str, Any]]:
        """The records of replicates 0, ..., count - 1."""
        query = "SELECT record FROM replicates WHERE replicate < ? ORDER BY replicate"
        return [json.loads(text) for (text,) in self._connection.execute(query, (count,))]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> "ReplicateStore":
        """The store itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the file."""
        self.close()
