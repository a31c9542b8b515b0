"""The packages of the extra ``formula``, imported when a formula is read and not before."""

from typing import Any

__all__ = ["formulaic_package", "frame_packages"]

_ADVICE = "formulas need formulaic: pip install 'mixkit[formula]'"


def formulaic_package() -> Any:
    """The package ``formulaic``.

    Raises:
        ImportError: without it (extra ``formula``).
    """
    try:
        import formulaic
        import formulaic.transforms
    except ImportError as error:
        raise ImportError(_ADVICE) from error
    return formulaic


def frame_packages() -> tuple[Any, Any]:
    """The packages ``narwhals`` and ``pandas``, which ``formulaic`` brings.

    Raises:
        ImportError: without them (extra ``formula``).
    """
    try:
        import narwhals.stable.v1 as narwhals
        import pandas
    except ImportError as error:
        raise ImportError(_ADVICE) from error
    return narwhals, pandas
