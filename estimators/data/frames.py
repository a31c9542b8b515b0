"""Tables as pandas frames; pandas is an extra."""

from typing import Any

__all__ = ["new_frame"]


def new_frame(values: Any, **options: Any) -> Any:
    """``pandas.DataFrame(values, **options)``.

    Raises:
        ImportError: without pandas (extra ``rates``).
    """
    try:
        import pandas as pd  # an extra: imported where it is needed, so that all else works without
    except ImportError as error:
        raise ImportError("tables as frames need pandas: pip install 'mixkit[rates]'") from error
    return pd.DataFrame(values, **options)
