"""Run a function in a fresh process and say how much memory it took at its peak."""

import multiprocessing
import resource
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["in_fresh_process", "peak_memory"]


def peak_memory() -> int:
    """The largest resident size this process has had, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _child(connection: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        connection.send((True, function(*arguments)))
    except Exception as error:
        connection.send((False, f"{type(error).__name__}: {error}"))


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function run in a process of its own; ``RuntimeError`` if it fails there."""
    context = multiprocessing.get_context("spawn")
    mine, other = context.Pipe()
    process = context.Process(target=_child, args=(other, function, arguments))
    process.start()
    other.close()
    try:
        is_done, result = mine.recv()
    except EOFError:
        is_done, result = False, "the process ended without an answer"
    process.join()
    if not is_done:
        raise RuntimeError(result)
    return result
