"""Columns of any data frame as a pandas frame: pandas, polars, pyarrow, a mapping of columns."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .extras import frame_packages

__all__ = ["columns_of", "is_frame", "taken_columns"]


def is_frame(data: Any) -> bool:
    """Whether something has columns of different names and kinds: a data frame, or a mapping of columns."""
    nw, _ = frame_packages()
    return isinstance(data, Mapping) or nw.dependencies.is_into_dataframe(data)


def columns_of(data: Any) -> list[str]:
    """Names of the columns of a frame, as they print.

    Raises:
        TypeError: if ``data`` is no frame.
    """
    if not is_frame(data):
        raise TypeError(
            f"data must be a pandas, polars or pyarrow frame or a mapping of columns, got {type(data).__name__}"
        )
    nw, pd = frame_packages()
    if isinstance(data, Mapping | pd.DataFrame):
        return [str(name) for name in data]
    return list(nw.from_native(data, eager_only=True).columns)


def taken_columns(data: Any, names: Iterable[str], *, argument: str = "data") -> Any:
    """Some columns as a pandas frame with rows numbered from 0; missing values are NaN or None.

    Raises:
        TypeError: if ``data`` is no frame.
        ValueError: if a column is not in it or there twice, columns have different lengths, or there is no row.
    """
    nw, pd = frame_packages()
    names, own = list(names), columns_of(data)
    absent = sorted(name for name in names if name not in own)
    if absent:
        raise ValueError(f"{argument} must have the columns that the formula reads, got none of {absent} among {own}")
    repeated = sorted(name for name in names if own.count(name) > 1)
    if repeated:
        raise ValueError(f"{argument} must have columns of different names, got more than one of {repeated}")
    if isinstance(data, pd.DataFrame):
        taken = data.loc[:, [str(name) in names for name in data.columns]]
        frame = taken.set_axis([str(name) for name in taken.columns], axis=1).reset_index(drop=True)
    elif isinstance(data, Mapping):
        frame = _from_mapping({str(name): column for name, column in data.items() if str(name) in names}, argument)
    else:
        source = nw.from_native(data, eager_only=True)
        frame = pd.DataFrame({name: _column(source[name]) for name in names}, index=range(len(source)))
    if not len(frame):
        raise ValueError(f"{argument} must have at least one row, got none")
    return frame.infer_objects()  # numbers held as objects are numbers, not categories


def _from_mapping(columns: Mapping[str, Any], argument: str) -> Any:
    _, pd = frame_packages()
    try:
        arrays = {name: column if hasattr(column, "dtype") else list(column) for name, column in columns.items()}
        return pd.DataFrame(arrays).reset_index(drop=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{argument} must have columns of one length, got others: {error}") from error


def _column(series: Any) -> Any:
    """A column of any library as pandas holds it; the order of categories is kept."""
    nw, pd = frame_packages()
    if series.dtype in (nw.Categorical, nw.Enum):
        categories = series.cat.get_categories().to_list()
        if series.dtype == nw.Categorical and series.implementation.is_polars():
            categories = sorted(categories)  # which polars has in the order in which it met them, anywhere
        return pd.Categorical(series.cast(nw.String).to_list(), categories=categories)
    if series.dtype.is_numeric():
        values = series.to_list() if series.is_null().any() else series.to_numpy()
        return np.asarray(values, dtype=np.float64) if isinstance(values, list) else values
    return pd.Series(series.to_list(), dtype=object)
