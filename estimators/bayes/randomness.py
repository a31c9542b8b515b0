"""Pyro draws from the global generators and leaves settings behind; here is where both are put back."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyro
import torch
from torch.distributions import Distribution

__all__ = ["pyro_scope", "spawn_seeds"]


@contextmanager
def pyro_scope(seed: int) -> Iterator[None]:
    """Seed Pyro inside; afterwards the states of torch, NumPy and random, Pyro's parameters and checks are as before.

    Example:
        >>> import torch
        >>> with pyro_scope(0):
        ...     first = torch.rand(3)
        >>> with pyro_scope(0):
        ...     second = torch.rand(3)
        >>> torch.equal(first, second)
        True
    """
    states = np.random.get_state(), random.getstate()  # noqa: NPY002 (Pyro seeds the global one)
    validate = Distribution._validate_args
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    try:
        fork, store = torch.random.fork_rng(devices=list(devices)), pyro.get_param_store().scope()
        with fork, pyro.validation_enabled(False), store:
            pyro.set_rng_seed(seed)
            yield
    finally:
        np.random.set_state(states[0])  # noqa: NPY002
        random.setstate(states[1])
        Distribution.set_default_validate_args(validate)


def spawn_seeds(random_state: int | np.random.Generator | None, count: int) -> list[int]:
    """``count`` seeds of independent streams.

    Example:
        >>> spawn_seeds(0, 3) == spawn_seeds(0, 3)
        True
    """
    rng = np.random.default_rng(random_state)
    return [int(seed) for seed in rng.integers(2**31 - 1, size=count)]
