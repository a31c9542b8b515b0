"""What every test runs under: a generator of its own, and a global random state that it must leave alone."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded generator of its own for each test."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def _distributions_check_their_arguments() -> Iterator[None]:
    """Torch's default, which Pyro's inference switches off on its way out."""
    torch.distributions.Distribution.set_default_validate_args(True)
    yield
    torch.distributions.Distribution.set_default_validate_args(True)


@pytest.fixture(autouse=True)
def _global_random_state_is_untouched() -> Iterator[None]:
    before_torch, before_numpy = torch.get_rng_state(), _numpy_state()
    yield
    assert torch.equal(before_torch, torch.get_rng_state()), "the test changed torch's global random state"
    assert before_numpy == _numpy_state(), "the test changed NumPy's"


def _numpy_state() -> tuple[bytes, int]:
    _, keys, position, *_ = np.random.get_state()  # noqa: NPY002
    return keys.tobytes(), position
