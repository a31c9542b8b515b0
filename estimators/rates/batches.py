"""Which fits of a study are one computation."""

from collections.abc import Iterable

from .design import StudyDesign, Task
from .starts import BatchedStart

__all__ = ["blocks_of", "is_batched"]

_LARGEST_BATCHED = 2000  # observations times experts; above it arithmetic outweighs what a batch saves


def is_batched(design: StudyDesign, candidate: str, n: int) -> bool:
    """Whether replicates of a size are fitted in blocks: where that is faster, and starts see all of the data."""
    settings = design.candidates[candidate]
    return (
        design.batch_size > 1
        and isinstance(settings.start or design.start, BatchedStart)
        and n * design.experts_of(candidate) <= _LARGEST_BATCHED
        and n <= 2 * settings.estimator.subsample
    )


def blocks_of(design: StudyDesign, tasks: Iterable[Task]) -> list[tuple[Task, ...]]:
    """The blocks that hold ``tasks``, in their order.

    With a batch size of 8, replicates 0 to 7 of a size are a block, 8 to 15 another, and each is fitted whole, even if
    fewer are asked for or left: the last bits of a fit depend on what it is batched with, and so on the design alone.
    """
    found: dict[tuple[Task, ...], None] = {}
    for task in tasks:
        found.setdefault(_block(design, task))
    return list(found)


def _block(design: StudyDesign, task: Task) -> tuple[Task, ...]:
    if not is_batched(design, task.candidate, task.n):
        return (task,)
    first = task.replicate - task.replicate % design.batch_size
    return tuple(task._replace(replicate=first + i) for i in range(design.batch_size))
