"""Work spread over joblib's workers, its results one by one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from joblib import Parallel, delayed, effective_n_jobs

__all__ = ["as_completed", "one_thread"]

Item = TypeVar("Item")
Result = TypeVar("Result")
_WAVE = 4  # tasks of a worker before results are handed on, where a backend has no generators


def as_completed(
    function: Callable[[Item], Result], items: Sequence[Item], n_jobs: int | None = None
) -> Iterator[Result]:
    """``function`` of each item, in the order in which workers finish.

    Backends that return lists alone, as Ray's does, work in waves of four tasks a worker: a few results wait for the
    slowest of their wave.

    Args:
        function: runs on the workers; it must pickle, as must items and results.
        items: what it is applied to.
        n_jobs: workers, as in joblib; those of the enclosing ``parallel_config``, or 1, if None.

    Example:
        >>> sorted(as_completed(abs, [-2, 1]))
        [1, 2]
    """
    calls = [delayed(function)(item) for item in items]
    try:
        parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=1)
    except ValueError:  # the backend has no generators; what else is wrong is raised again
        with Parallel(n_jobs=n_jobs, batch_size=1) as parallel:
            size = _WAVE * effective_n_jobs(n_jobs)
            for start in range(0, len(calls), size):
                yield from parallel(calls[start : start + size])
    else:
        yield from parallel(calls)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch: sums split among threads differ in their last bits, and one gives one answer everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
