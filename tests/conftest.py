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
    before_torch, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    assert torch.equal(before_torch, torch.get_rng_state()), "the test changed torch's global random state"
    assert np.array_equal(before_numpy, np.random.get_state()[1]), "the test changed NumPy's"  # noqa: NPY002
