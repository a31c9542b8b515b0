"""Files of one value: an npz of NumPy, read without pickles, whose entry ``header`` is JSON."""

import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mixkit._version import __version__

from .codec import decode, encode

__all__ = ["read_archive", "write_archive"]

_VERSION = 1
_DAMAGE = (zipfile.BadZipFile, zlib.error, ValueError, TypeError, KeyError, AttributeError, EOFError, OSError)


def write_archive(path: str | os.PathLike[str], kind: str, value: Any) -> None:
    """Write a value; a file of the name is replaced once the new one is whole.

    Args:
        path: of the file, taken as it is.
        kind: what the value is, in a word; reading asks for it.
        value: what :func:`~estimators.storage.codec.encode` takes.

    Raises:
        NotStorableError: if a part of the value cannot be stored.
    """
    arrays: dict[str, np.ndarray] = {}
    tree = encode(value, arrays)
    header = {"format": "mixkit", "kind": kind, "version": _VERSION, "written_by": __version__, "value": tree}
    target = Path(path)
    part = target.with_name(f".{target.name}.part")
    try:
        with part.open("wb") as file:
            np.savez_compressed(file, **(arrays | {"header": np.array(json.dumps(header))}))  # type: ignore[arg-type]
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def read_archive(path: str | os.PathLike[str], kind: str) -> Any:
    """The value of a file that :func:`write_archive` wrote.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is another file, damaged, of another kind, or of a later version.
    """
    arrays = _arrays(Path(path))
    try:
        header = json.loads(str(arrays.pop("header")))
        is_ours = header["format"] == "mixkit"
    except (KeyError, TypeError, ValueError) as error:
        raise _foreign(path, "it has no header") from error
    if not is_ours:
        raise _foreign(path, f"its format is {header['format']!r}")
    if header.get("kind") != kind:
        raise ValueError(f"path must be a file of a {kind}, got one of a {header.get('kind')}")
    if header.get("version") != _VERSION:
        raise ValueError(
            f"path must be a file of format version {_VERSION}, got {header.get('version')}, written by mixkit "
            f"{header.get('written_by')}; this is {__version__}"
        )
    return decode(header.get("value"), arrays)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except _DAMAGE as error:
        if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
            raise
        raise _foreign(path, str(error)) from error


def _foreign(path: Any, why: str) -> ValueError:
    return ValueError(f"path must be a whole file that mixkit wrote, got {os.fspath(path)!r}: {why}")
