"""The design matrix in chunks: every pass sees every observation once."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from estimators.objectives.softmax_gate import design as module
from estimators.objectives.softmax_gate.design import Design, Scaling

from .models import DTYPE, seeded

N = 1000


@pytest.fixture
def design(monkeypatch):
    """A design of several chunks."""
    monkeypatch.setattr(module, "_CHUNK_ENTRIES", 2000)
    x, y = torch.randn(1, N, 2, dtype=DTYPE, generator=seeded(0)), torch.randn(1, N, dtype=DTYPE, generator=seeded(1))
    made = Design(x, y, None, Scaling.of(x, y, None, scale_response=True), 4)
    assert made.chunk_length < N // 4
    return made


def starts(chunks):
    return [chunk.rows.start for chunk in chunks]


def test_a_pass_that_stops_early_leaves_later_passes_whole(design):
    whole = list(range(0, N, design.chunk_length))
    interrupted = design.chunks()
    next(interrupted)
    interrupted.close()
    assert starts(design.chunks()) == whole
    assert starts(design.chunks()) == whole


def test_passes_at_once_see_every_row_once(design):
    whole = list(range(0, N, design.chunk_length))
    first, second = design.chunks(), design.chunks()
    interleaved = [(a.rows.start, b.rows.start) for a, b in zip(first, second, strict=True)]
    assert interleaved == [(start, start) for start in whole]
    assert starts(design.chunks()) == whole
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: starts(design.chunks()), range(8))) == [whole] * 8


def test_chunks_are_made_once(design):
    first = list(design.chunks())
    assert all(a is b for a, b in zip(first, design.chunks(), strict=True))
