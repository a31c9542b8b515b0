"""Batches of rows from arrays larger than memory and from Parquet files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from mixkit._validation import check_integer

from ..data.tensors import check_not_masked

__all__ = ["ArrayBatches", "ParquetBatches", "array_batches", "read_batches"]


@dataclass(frozen=True, eq=False)
class ArrayBatches:
    """Batches of arrays, read a slice at a time; can be iterated again. See :func:`array_batches`."""

    x: Any
    y: Any
    sample_weight: Any
    batch_size: int
    random_state: int | None

    def __len__(self) -> int:
        """The number of batches."""
        return -(-len(self.y) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        """The batches, ``(x, y)`` or ``(x, y, sample_weight)``."""
        rng = None if self.random_state is None else np.random.default_rng(self.random_state)
        starts = np.arange(0, len(self.y), self.batch_size)
        for start in starts if rng is None else rng.permutation(starts):
            rows = slice(start, start + self.batch_size)
            arrays = [self.x[rows], self.y[rows]]
            if self.sample_weight is not None:
                arrays.append(self.sample_weight[rows])
            order: Any = slice(None) if rng is None else rng.permutation(len(arrays[1]))
            for name, array in zip(("x", "y", "sample_weight"), arrays, strict=False):
                check_not_masked(name, array)
            yield tuple(np.asarray(array)[order] for array in arrays)


def array_batches(
    x: Any, y: Any, sample_weight: Any = None, *, batch_size: int = 10_000, random_state: int | None = None
) -> ArrayBatches:
    """Batches of arrays that may be memory-mapped: only a slice is in memory at a time.

    Args:
        x: covariates ``(n, d)``: NumPy arrays, ``np.load(path, mmap_mode="r")``, HDF5 or Zarr arrays.
        y: responses ``(n,)`` or ``(n, p)``.
        sample_weight: ``(n,)`` or None.
        batch_size: rows of a batch.
        random_state: seed of a shuffle, of the batches and of the rows in each (reads stay consecutive); None for none.

    Raises:
        ValueError: if lengths disagree.

    Example:
        >>> import numpy as np
        >>> [len(y) for _, y in array_batches(np.zeros((5, 1)), np.zeros(5), batch_size=2)]
        [2, 2, 1]
    """
    check_integer("batch_size", batch_size, low=1)
    for name, array in (("y", y), ("sample_weight", sample_weight)):
        if array is not None and len(array) != len(x):
            raise ValueError(f"{name} must have as many rows as x, {len(x)}, got {len(array)}")
    return ArrayBatches(x, y, sample_weight, batch_size, random_state)


@dataclass(frozen=True, eq=False)
class ParquetBatches:
    """Batches of Parquet files; can be iterated again. See :func:`read_batches`."""

    paths: tuple[Any, ...]
    covariates: tuple[str, ...]
    response: str | tuple[str, ...]
    sample_weight: str | None
    batch_size: int

    def _responses(self) -> list[str]:
        return [self.response] if isinstance(self.response, str) else list(self.response)

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        """The batches, ``(x, y)`` or ``(x, y, sample_weight)``."""
        parquet = _parquet()
        weights = [] if self.sample_weight is None else [self.sample_weight]
        columns = [*self.covariates, *self._responses(), *weights]
        for path in self.paths:
            with parquet.ParquetFile(path) as file:
                missing = [name for name in columns if name not in file.schema_arrow.names]
                if missing:
                    raise ValueError(f"{path} must have the columns asked for, got none named {missing}")
                for batch in file.iter_batches(self.batch_size, columns=columns):
                    yield self._arrays(batch)

    def _arrays(self, batch: Any) -> tuple[np.ndarray, ...]:
        x = np.column_stack([_column(batch, name) for name in self.covariates])
        responses = [_column(batch, name) for name in self._responses()]
        y = responses[0] if isinstance(self.response, str) else np.column_stack(responses)
        return (x, y) if self.sample_weight is None else (x, y, _column(batch, self.sample_weight))


def _column(batch: Any, name: str) -> np.ndarray:
    column = batch.column(name)
    if column.null_count:
        raise ValueError(f"column {name} must have no missing values, got {column.null_count}")
    try:
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"column {name} must be numeric, got {column.type}") from error


def _parquet() -> Any:
    try:
        import pyarrow.parquet  # an extra
    except ImportError as error:
        raise ImportError("pyarrow is needed to read Parquet: pip install 'mixkit[parquet]'") from error
    return pyarrow.parquet


def read_batches(
    path: str | PathLike[str] | Sequence[str | PathLike[str]],
    covariates: Sequence[str],
    response: str | Sequence[str],
    *,
    sample_weight: str | None = None,
    batch_size: int = 10_000,
) -> ParquetBatches:
    """Batches of one or more Parquet files, read a row group at a time, in order.

    Args:
        path: a file, or several.
        covariates: names of the d columns of x.
        response: name of the column of y; a list of p names for a vector response.
        sample_weight: name of a column of weights, or None.
        batch_size: most rows of a batch.

    Raises:
        ValueError: if no covariate is named; while reading, if a column is absent or has missing values.
        TypeError: while reading, if a column is not numeric.
        ImportError: while reading, without pyarrow (``pip install mixkit[parquet]``).

    Example:
        >>> import tempfile
        >>> import pyarrow as pa, pyarrow.parquet as pq
        >>> with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        ...     pq.write_table(pa.table({"a": [1.0, 2.0, 3.0], "y": [0.0, 1.0, 0.0]}), file.name)
        ...     [x.shape for x, y in read_batches(file.name, ["a"], "y", batch_size=2)]
        [(2, 1), (1, 1)]
    """
    check_integer("batch_size", batch_size, low=1)
    if isinstance(covariates, str) or not covariates:
        raise ValueError(f"covariates must be a list of at least one name, got {covariates!r}")
    paths = (path,) if isinstance(path, str | PathLike) else tuple(path)
    target = response if isinstance(response, str) else tuple(response)
    return ParquetBatches(paths, tuple(covariates), target, sample_weight, batch_size)
