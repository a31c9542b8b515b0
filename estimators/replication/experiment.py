"""Replicated computations: seeds of their own, joblib workers, a file that takes them up again."""

import os
import secrets
from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from .parallel import as_completed, one_thread
from .record_store import RecordStore

__all__ = ["Experiment", "run_experiment", "seed_of"]


class Experiment(ABC):
    """Replicates 0, 1, ..., computed in whole groups of ``group_size`` consecutive ones.

    A group is the unit of work: what it computes does not depend on which worker runs it, nor on how many replicates
    were asked for, so neither do the numbers.

    Attributes:
        seed: of all replicates.
        group_size: replicates computed together.
    """

    seed: int
    group_size: int = 1

    @abstractmethod
    def design(self) -> dict[str, str]:
        """What two experiments must share for their replicates to belong together."""

    @abstractmethod
    def run(self, replicates: list[int]) -> list[dict[str, Any]]:
        """A record of plain numbers and words for each replicate of a group."""

    def generator(self, replicate: int) -> np.random.Generator:
        """The random stream of one replicate."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(replicate,)))


def seed_of(random_state: int | np.random.Generator | None, *, is_resumable: bool) -> int:
    """A seed, drawn afresh for None.

    Raises:
        TypeError: if ``random_state`` is of another kind.
        ValueError: if it is negative, or None where a file is to be resumed.
    """
    if random_state is None and is_resumable:
        raise ValueError("random_state must be a seed where there is a path that may be resumed, got None")
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63))
    if random_state is None:
        return secrets.randbits(128)
    if isinstance(random_state, bool) or not isinstance(random_state, int | np.integer):
        raise TypeError(f"random_state must be an int, a numpy Generator or None, got {type(random_state).__name__}")
    if random_state < 0:
        raise ValueError(f"random_state must not be negative, got {random_state}")
    return int(random_state)


def run_experiment(
    experiment: Experiment,
    count: int,
    *,
    path: str | os.PathLike[str] | None,
    n_jobs: int | None,
    progress: bool,
    label: str,
) -> list[dict[str, Any]]:
    """Records of replicates 0, ..., count - 1; those that ``path`` holds are not run again."""
    size = experiment.group_size
    with RecordStore(path, experiment.design(), content="replicates") as store:
        done = store.keys()
        groups = [list(range(start, start + size)) for start in range(0, count, size)]
        left = [group for group in groups if not done.issuperset((i,) for i in group if i < count)]
        with tqdm(total=size * len(left), disable=not progress, unit="replicate", desc=label) as bar:
            for group, records in as_completed(partial(_run, experiment), left, n_jobs):
                store.append(((i,), record) for i, record in zip(group, records, strict=True))
                bar.update(len(group))
        found = dict(store.items())
        return [found[i,] for i in range(count)]


def _run(experiment: Experiment, group: list[int]) -> tuple[list[int], list[dict[str, Any]]]:
    with one_thread():
        return group, experiment.run(group)
