"""Where a verifier's randomness comes from, so that the same code can sample a distribution or enumerate it."""

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Generator, Tensor

from .._validation import check_generator

_CHUNK = 256  # about the root of the longest vocabularies: as many chunks as entries in one
_LONG = 1 << 14  # entries of a row that fills a good part of a cache


def invert_cdf(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Return the index that each uniform picks from its row of unnormalized weights.

    The index is the first whose running sum exceeds ``uniform * total``, so an entry of weight zero is never picked.
    Running sums are in float64 and two-level: chunks of 256 first, then inside one chunk.

    Args:
        weights: Weights ``(..., n)``, not negative, with a positive sum in every row.
        uniforms: Numbers ``(...)`` in ``[0, 1)``.

    Returns:
        Indices ``(...)`` in ``0..n-1``.

    Example:
        >>> import torch
        >>> invert_cdf(torch.tensor([[0.0, 0.3, 0.0, 0.7]]), torch.tensor([0.5]))
        tensor([3])
    """
    n = weights.shape[-1]
    if uniforms.numel() == 1 and n > 4 * _CHUNK:
        return torch.full_like(uniforms, invert_one(weights.detach().reshape(n), float(uniforms)), dtype=torch.long)
    uniforms = uniforms.double()[..., None]
    if n <= 4 * _CHUNK:
        total = weights.cumsum(-1, dtype=torch.float64)
        return _first_above(total, uniforms * total[..., -1:])[..., 0]
    sums = _chunk_sums(weights, n // _CHUNK * _CHUNK)
    total = sums.cumsum(-1)
    point = uniforms * total[..., -1:]
    chunk = _first_above(total, point)
    before = total.gather(-1, chunk) - sums.gather(-1, chunk)
    index = chunk * _CHUNK + torch.arange(_CHUNK, device=weights.device)
    inside = weights.gather(-1, index.clamp_max_(n - 1)).cumsum(-1, dtype=torch.float64)
    place = _first_above(inside, (point - before).clamp_min_(0.0))
    return index.gather(-1, place)[..., 0]


def invert_one(weights: Tensor, uniform: float) -> int:
    """One row ``(n,)`` of `invert_cdf`: the same arithmetic with less overhead."""
    whole = weights.shape[0] // _CHUNK * _CHUNK
    sums = weights[:whole].view(-1, _CHUNK).sum(-1) if whole == weights.shape[0] else _chunk_sums(weights, whole)
    by_chunk = sums.tolist()
    total = list(accumulate(by_chunk))
    point = uniform * total[-1]
    chunk = bisect_right(total, min(point, math.nextafter(total[-1], 0.0)))
    inside = list(accumulate(weights[chunk * _CHUNK : (chunk + 1) * _CHUNK].tolist()))
    point = max(point - (total[chunk] - by_chunk[chunk]), 0.0)
    return chunk * _CHUNK + bisect_right(inside, min(point, math.nextafter(inside[-1], 0.0)))


def _chunk_sums(weights: Tensor, whole: int) -> Tensor:
    sums = weights[..., :whole].unflatten(-1, (-1, _CHUNK)).sum(-1)
    if whole < weights.shape[-1]:
        sums = torch.cat([sums, weights[..., whole:].sum(-1, keepdim=True)], -1)
    return sums.double()


def _first_above(total: Tensor, point: Tensor) -> Tensor:
    """First index ``(..., 1)`` whose running sum exceeds the point ``(..., 1)``, which is kept below the last one."""
    end = total[..., -1:]
    point = torch.minimum(point, torch.nextafter(end, torch.zeros_like(end)))
    return torch.searchsorted(total, point, right=True)


class RandomSource(ABC):
    """Random decisions for ``r`` rows at once. Subclasses say where uniforms come from.

    Attributes:
        stops_early: Whether `choose_in_turn` leaves the probabilities after the chosen one unmade.
    """

    stops_early: bool = False

    @abstractmethod
    def uniform(self, count: int) -> Tensor:
        """Draw float64 uniforms ``(r, count)`` in ``[0, 1)``."""

    @abstractmethod
    def rows(self, index: Tensor) -> "RandomSource":
        """Return the source of the rows ``index (s,)`` alone."""

    def accept(self, probability: Tensor) -> Tensor:
        """Return a boolean ``(r,)``, true with the given probability ``(r,)``."""
        return self.uniform(1)[:, 0] < probability

    def accept_one(self, probability: float) -> bool:
        """`accept` for a source of one row."""
        return bool(self.accept(torch.tensor([probability], dtype=torch.float64)))

    def choose(self, weights: Tensor) -> Tensor:
        """Return an index ``(r,)`` with probability proportional to ``weights (r, n)``."""
        return invert_cdf(weights, self.uniform(1)[:, 0])

    def choose_one(self, weights: Tensor) -> int:
        """`choose` for a source of one row, from ``weights (n,)``."""
        return int(self.choose(weights[None]))

    def choose_in_turn(self, probabilities: Iterator[float]) -> int:
        """Return an index of probabilities that sum to 1, for a source of one row; those after it need not be made."""
        return self.choose_one(torch.tensor(list(probabilities), dtype=torch.float64))

    def highest(self, laws: "CellLaws", active: Tensor) -> Tensor:
        """Draw a cell for each of ``m`` contestants; return who holds the highest, ties broken uniformly.

        Args:
            laws: Laws of the contestants' cells.
            active: Contestants that take part ``(r, m)``, at least one a row.

        Returns:
            Index of the winner ``(r,)``.
        """
        count = active.shape[-1]
        first, second, third = self.uniform(3 * count).unflatten(-1, (3, count)).unbind(1)
        pool = invert_cdf(laws.choice, first) - 1
        cells = laws.own
        row, column = (active & (pool >= 0)).nonzero(as_tuple=True)
        if row.numel():
            drawn = invert_cdf(laws.pool(row, pool[row, column]), second[row, column])
            cells = cells.index_put((row, column), drawn)
        cells = cells.masked_fill(~active, -1)
        return torch.where(cells == cells.amax(-1, keepdim=True), third, -1.0).argmax(-1)


@dataclass(frozen=True)
class CellLaws:
    """Laws of the ordered cells that ``m`` contestants hold: each its own cell, or one drawn from a pool.

    Attributes:
        own: Own cells ``(r, m)``.
        choice: Probabilities of the own cell and of each pool ``(r, m, 1 + k)``.
        pool: Maps rows ``(s,)`` and pools ``(s,)`` to weights over cells ``(s, n)``.
    """

    own: Tensor
    choice: Tensor
    pool: Callable[[Tensor, Tensor], Tensor]


class GeneratorSource(RandomSource):
    """Uniforms from torch generators.

    Args:
        generator: One generator for all rows, one (or None) for each row, or None for torch's default generator. With
            one for each row, what a row draws depends on that row alone.
        num_rows: Number of rows ``r``.
        device: Where results live; draws are made where the generator lives.

    Example:
        >>> source = GeneratorSource(torch.Generator().manual_seed(0), 2, torch.device("cpu"))
        >>> source.accept(torch.tensor([0.0, 1.0]))
        tensor([False,  True])
    """

    stops_early = True

    def __init__(self, generator: Generator | Sequence[Generator | None] | None, num_rows: int, device: torch.device):
        self.generator = generator if generator is None or isinstance(generator, Generator) else list(generator)
        self.num_rows = num_rows
        self.device = device

    def uniform(self, count: int) -> Tensor:
        """Draw float64 uniforms ``(r, count)`` in ``[0, 1)``."""
        if isinstance(self.generator, list):
            return torch.cat([self._draw(1, count, generator) for generator in self.generator])
        return self._draw(self.num_rows, count, self.generator)

    def accept_one(self, probability: float) -> bool:
        """`accept` for a source of one row."""
        return self.uniform(1).item() < probability

    def choose_one(self, weights: Tensor) -> int:
        """`choose` for a source of one row, from ``weights (n,)``."""
        return invert_one(weights, self.uniform(1).item())

    def _draw(self, rows: int, count: int, generator: Generator | None) -> Tensor:
        device = self.device if generator is None else generator.device
        return torch.rand(rows, count, dtype=torch.float64, generator=generator, device=device).to(self.device)

    def choose_in_turn(self, probabilities: Iterator[float]) -> int:
        """Return an index of probabilities that sum to 1; the first whose running sum exceeds a uniform."""
        uniform, total, place, last = self.uniform(1).item(), 0.0, 0, 0
        for place, probability in enumerate(probabilities):
            total += probability
            if total > uniform:
                return place
            last = place if probability > 0 else last
        return last

    def rows(self, index: Tensor) -> "GeneratorSource":
        """Return the source of the rows ``index (s,)`` alone."""
        generator = self.generator
        if isinstance(generator, list):
            generator = [generator[i] for i in index.tolist()]
        return GeneratorSource(generator, index.numel(), self.device)


def is_long(rows: Tensor) -> bool:
    """Whether rows ``(..., v)`` are best taken one at a time: on a CPU, when one fills a good part of its cache."""
    return rows.device.type == "cpu" and rows.shape[-1] >= _LONG


def source_of(row: int, batch: int, source: RandomSource) -> RandomSource:
    """The source of one row of a batch."""
    return source if batch == 1 else source.rows(torch.tensor([row]))


def one_by_one(rows: Tensor, batch: int, source: RandomSource) -> bool:
    """Whether rows of a batch are best verified one after the other, with no work on what is not visited.

    So it is on a CPU where there is one row, or where the vocabulary is most of the work; sources that look at all ends
    of a draft gain nothing.
    """
    return source.stops_early and rows.device.type == "cpu" and (batch == 1 or (batch > 1 and is_long(rows)))


Seed = Generator | int
"""A generator, or what seeds one."""

Randomness = Seed | Sequence[Seed | None] | RandomSource | None
"""One seed for all rows, one (or None) for each row, a source, or None for torch's default generator."""


def as_source(generator: Randomness, num_rows: int, device: torch.device) -> RandomSource:
    """Return the source of randomness of ``num_rows`` rows.

    Args:
        generator: A `RandomSource` as it is; a generator or a seed for all rows; a sequence of one for each row, or
            None for rows that draw from torch's default generator; or None. A seed makes a generator on the CPU, so
            that it draws the same on every device.
        num_rows: Number of rows ``r``.
        device: Where results live.

    Raises:
        TypeError: If ``generator`` is nothing of these.
        ValueError: If a sequence has another length than ``num_rows``, or a seed is negative.

    Example:
        >>> import torch
        >>> uniforms = as_source([0, 0, 1], 3, torch.device("cpu")).uniform(2)
        >>> torch.equal(uniforms[0], uniforms[1]), torch.equal(uniforms[0], uniforms[2])
        (True, False)
    """
    if isinstance(generator, RandomSource):
        return generator
    return GeneratorSource(check_generator(generator, num_rows), num_rows, device)
