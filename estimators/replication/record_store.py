"""Results on disk as they come: a SQLite file that knows of which design it is, written by one process.

SQLite and not Parquet, because a long run appends a little at a time for hours and may be killed at any moment: a
transaction is on disk or not there at all, while a Parquet file is readable only once its footer is written. The
write-ahead log makes an append one sequential write, and lets others read while a run goes on.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

__all__ = ["Key", "RecordStore", "ResultsFileError", "StudyMismatchError"]

Key = tuple[str | int, ...]
"""What a record goes by: numbers and words."""

_MEMORY = ":memory:"
_LONGEST_SHOWN = 120  # letters of a setting in a message
_VERSION = 2  # of the format
_META = "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
_RECORDS = "CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID"


class ResultsFileError(ValueError):
    """The results file cannot be used: unwritable, damaged, or not one of ours."""


class StudyMismatchError(ResultsFileError):
    """The results file belongs to a study of another design."""


class RecordStore:
    """An open results file: records of numbers and words, as JSON, each under a key.

    Args:
        path: the file; it is made if it does not exist. None for memory.
        design: what identifies the run, by name. It is kept in a new file and compared with that of an old one.
        content: what the records are, in a word or two; a file of other content is refused.

    Raises:
        ResultsFileError: if the file cannot be written, is damaged, or holds something else.
        StudyMismatchError: if it belongs to another design.

    Example:
        >>> with RecordStore(None, {"seed": "0"}, content="example") as store:
        ...     store.append([(("a", 1), {"value": 0.5})])
        ...     store.keys(), dict(store.items())
        ({('a', 1)}, {('a', 1): {'value': 0.5}})
    """

    def __init__(self, path: str | os.PathLike[str] | None, design: dict[str, str], *, content: str) -> None:
        self.name = _MEMORY if path is None else str(path)
        self._format = f"mixkit {content} {_VERSION}"
        if path is not None:
            _check_path(Path(path))
        try:
            self._connection = sqlite3.connect(self.name, timeout=30.0, isolation_level=None)
            self._open(design)
        except sqlite3.Error as error:
            raise ResultsFileError(f"path must be a results file or a new file, got {self.name}: {error}") from error

    def _open(self, design: dict[str, str]) -> None:
        damage = self._connection.execute("PRAGMA quick_check").fetchone()[0]
        if damage != "ok":
            raise ResultsFileError(f"path must be an undamaged results file, got {self.name}: {damage}")
        tables = {name for (name,) in self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and tables != {"meta", "records"}:
            raise ResultsFileError(f"path must be a results file, got {self.name} with tables {sorted(tables)}")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        if not tables:
            self._create(design)
        self._check_design(design)

    def _create(self, design: dict[str, str]) -> None:
        """Make the tables, unless another process has in the meantime: the design of the first one stays."""
        meta = [("format", self._format), ("design", json.dumps(design))]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(_META)
        self._connection.execute(_RECORDS)
        self._connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", meta)
        self._connection.execute("COMMIT")

    def _check_design(self, design: dict[str, str]) -> None:
        meta = dict(self._connection.execute("SELECT key, value FROM meta"))
        if meta.get("format") != self._format:
            raise ResultsFileError(
                f"path must be a results file of format {self._format!r}, got {meta.get('format')!r}"
            )
        stored = json.loads(meta["design"])
        different = sorted(key for key in stored.keys() | design.keys() if stored.get(key) != design.get(key))
        if different:
            key = different[0]
            old, new = str(stored.get(key)), str(design.get(key))
            raise StudyMismatchError(
                f"{self.name} holds results of another design: {', '.join(different)} differ; "
                f"for example {key}: {_excerpt(old, new)} there, {_excerpt(new, old)} here. Use another path"
            )

    def keys(self) -> set[Key]:
        """Keys of the records that are there."""
        return {tuple(json.loads(key)) for (key,) in self._connection.execute("SELECT key FROM records")}

    def append(self, records: Iterable[tuple[Key, Mapping[str, Any]]]) -> None:
        """Keep some records, all or none of them: when this returns they are on disk."""
        rows = [(json.dumps(key), json.dumps(record)) for key, record in records]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT OR REPLACE INTO records VALUES (?, ?)", rows)
        self._connection.execute("COMMIT")

    def items(self) -> Iterator[tuple[Key, dict[str, Any]]]:
        """All the records with their keys, in no order."""
        for key, record in self._connection.execute("SELECT key, record FROM records"):
            yield tuple(json.loads(key)), json.loads(record)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        """The file itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the file."""
        self.close()


def _excerpt(text: str, other: str) -> str:
    """A text, or if it is long the part in which it begins to differ from another."""
    if len(text) <= _LONGEST_SHOWN:
        return text
    pairs = enumerate(zip(text, other, strict=False))
    same = next((place for place, (one, two) in pairs if one != two), min(len(text), len(other)))
    start = text.rfind(" ", 0, same) + 1
    end = start + _LONGEST_SHOWN
    return f"{'...' if start else ''}{text[start:end]}{'...' if end < len(text) else ''}"


def _check_path(path: Path) -> None:
    if path.is_dir():
        raise ResultsFileError(f"path must be a file, got the directory {path}")
    if not path.resolve().parent.is_dir():
        raise ResultsFileError(f"path must be in a directory that exists, got {path}")
    if not os.access(path if path.exists() else path.resolve().parent, os.W_OK):
        raise ResultsFileError(f"path must be writable, got {path}")
