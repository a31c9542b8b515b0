"""Tables as pandas frames and series; pandas is an extra."""

from typing import Any

__all__ = ["new_frame", "new_series"]


def new_frame(values: Any, **options: Any) -> Any:
    """``pandas.DataFrame(values, **options)``.

    Raises:
        ImportError: without pandas (extra ``rates``).
    """
    return _pandas("tables as frames").DataFrame(values, **options)


def new_series(values: Any, **options: Any) -> Any:
    """``pandas.Series(values, **options)``.

    Raises:
        ImportError: without pandas (extra ``rates``).
    """
    return _pandas("estimates as a series").Series(values, **options)


def _pandas(what: str) -> Any:
    try:
        import pandas as pd  # an extra: imported where it is needed, so that all else works without
    except ImportError as error:
        raise ImportError(f"{what} need pandas: pip install 'mixkit[rates]'") from error
    return pd
