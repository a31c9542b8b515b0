"""The fits of a study on disk, one row a fit."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from ..replication.sqlite_file import DesignFile
from .replicates import Row, Task

__all__ = ["ResultStore"]


class ResultStore(DesignFile):
    """The fits of a study, by candidate, size and replicate."""

    _FORMAT = "mixkit rate study 1"
    _TABLE = "fits"
    _COLUMNS = """(
        candidate TEXT NOT NULL, n INTEGER NOT NULL, replicate INTEGER NOT NULL,
        losses TEXT NOT NULL, llf REAL, truth_llf REAL, converged INTEGER NOT NULL, grad_norm REAL, predicted_gain REAL,
        iterations INTEGER NOT NULL, seconds REAL NOT NULL, parameters TEXT NOT NULL, error TEXT NOT NULL,
        PRIMARY KEY (candidate, n, replicate)
    ) WITHOUT ROWID"""

    def done(self) -> set[Task]:
        """The fits that are finished."""
        return {Task(*row) for row in self._connection.execute("SELECT candidate, n, replicate FROM fits")}

    def append(self, rows: Iterable[Row]) -> None:
        """Keep some fits, all or none of them: when this returns they are on disk."""
        self._write(_record(row) for row in rows)

    def rows(self) -> Iterator[Row]:
        """All the fits, by candidate, size and replicate."""
        for record in self._connection.execute("SELECT * FROM fits"):
            yield _row(record)


def _record(row: Row) -> tuple[Any, ...]:
    return (
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
