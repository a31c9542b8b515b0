"""Replicates on disk, one row a replicate."""

import json
from collections.abc import Iterable
from typing import Any

from .sqlite_file import DesignFile

__all__ = ["ReplicateStore"]


class ReplicateStore(DesignFile):
    """Records by replicate number, in a file or, without a path, in memory."""

    _FORMAT = "mixkit replicates 1"
    _TABLE = "replicates"
    _COLUMNS = "(replicate INTEGER PRIMARY KEY, record TEXT NOT NULL)"

    def done(self) -> set[int]:
        """Numbers of the replicates that are there."""
        return {number for (number,) in self._connection.execute("SELECT replicate FROM replicates")}

    def append(self, records: Iterable[tuple[int, dict[str, Any]]]) -> None:
        """Keep some replicates, all or none of them: when this returns they are on disk."""
        self._write((number, json.dumps(record)) for number, record in records)

    def records(self, count: int) -> list[dict[str, Any]]:
        """The records of replicates 0, ..., count - 1."""
        query = "SELECT record FROM replicates WHERE replicate < ? ORDER BY replicate"
        return [json.loads(text) for (text,) in self._connection.execute(query, (count,))]
