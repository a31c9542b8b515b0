"""The design matrix of a model with linear predictors: standardized, transposed, cut into chunks."""

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ...data.units import Units
from ..packed_symmetric import outer_products

__all__ = [
    "NEGLIGIBLE_SPREAD",
    "Chunk",
    "Design",
    "Scaling",
    "UnitRows",
    "moments",
    "response_moments",
]

_CACHE_ENTRIES = 2**25  # at most 256 MiB of stored outer products in float64
_CHUNK_ENTRIES = 2**21
_SHORTEST_CHUNK = 64
_LEAST_SPREAD = 1e-150
NEGLIGIBLE_SPREAD = 1e-13  # of the largest value: what varies by less is constant but for rounding


class Scaling(NamedTuple):
    """Location and scale of covariates and response: the fit runs on ``(value - mean) / std``."""

    x_mean: Tensor  # (r, d)
    x_std: Tensor  # (r, d)
    y_mean: Tensor  # (r,)
    y_std: Tensor  # (r,)

    @classmethod
    def of(cls, x: Tensor, y: Tensor, weight: Tensor | None, *, scale_response: bool) -> "Scaling":
        """Weighted moments of each data set; constants get scale 1, and an unscaled response mean 0 and scale 1."""
        x_mean, x_std = moments(x, None if weight is None else weight.unsqueeze(-1), -2)
        if not scale_response:
            return cls(x_mean, x_std, torch.zeros_like(y[:, 0]), torch.ones_like(y[:, 0]))
        return cls(x_mean, x_std, *response_moments(y, weight))

    def centered_at_zero(self, columns: Tensor, x: Tensor) -> "Scaling":
        """The scaling that leaves the zero of some ``columns (d,)`` bool of ``x (r, n, d)``; constants become ones."""
        highest, lowest = x.amax(-2), x.amin(-2)
        size = torch.maximum(highest, -lowest)
        is_constant = (highest - lowest <= NEGLIGIBLE_SPREAD * size) & (size > 0)
        mean, unit = torch.where(columns, 0.0, self.x_mean), torch.where(is_constant, size, self.x_std)
        return self._replace(x_mean=mean, x_std=torch.where(columns, unit, self.x_std))


def moments(values: Tensor, weight: Tensor | None, dim: int) -> tuple[Tensor, Tensor]:
    """Weighted means and standard deviations over one dimension; constants get scale 1, and their value as mean.

    Deviations are squared in units of the largest, a power of two, so that neither tiny nor huge ones leave float64 and
    no digit changes.
    """
    total = torch.ones_like(values.sum(dim)) if weight is None else weight.sum(dim)
    mean = values.mean(dim) if weight is None else (weight * values).sum(dim) / total
    highest, lowest = values.amax(dim), values.amin(dim)
    mean = torch.where(highest == lowest, highest, mean)  # a rest by rounding would get a coefficient of 1e16
    unit = _power_of_two((values - mean.unsqueeze(dim)).abs().amax(dim, keepdim=True))
    scaled = values / unit
    if weight is None:
        variance = scaled.var(dim, correction=0)
    else:
        variance = (weight * (scaled - mean.unsqueeze(dim) / unit).square()).sum(dim) / total
    std = unit.squeeze(dim) * variance.sqrt()
    negligible = std <= NEGLIGIBLE_SPREAD * torch.maximum(highest, -lowest)
    return mean, torch.where(negligible, torch.ones_like(std), std)


def _power_of_two(size: Tensor) -> Tensor:
    """The least power of two above each number, 1 for zero."""
    _, exponent = torch.frexp(size)
    return torch.where(size > 0, torch.ldexp(torch.ones_like(size), exponent), 1.0)


def response_moments(y: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Means and standard deviations ``(r, ...)`` of responses ``(r, n, ...)``.

    Raises:
        ValueError: if a variance, in the units of the data, would leave float64, and standard errors with it.
    """
    mean, std = moments(y, weight if weight is None or y.ndim == 2 else weight.unsqueeze(-1), 1)
    extreme = (std < _LEAST_SPREAD) | (std > 1.0 / _LEAST_SPREAD)
    if bool(extreme.any()):
        raise ValueError(
            f"y must have a standard deviation between {_LEAST_SPREAD:g} and {1.0 / _LEAST_SPREAD:g}, of which float64 "
            f"holds the square, got {float(std[extreme][0]):.3g}; rescale it"
        )
    return mean, std


class UnitRows(NamedTuple):
    """The b units of a chunk whose rows share experts, as the gate sees them."""

    of_row: Tensor  # (c,): the unit of each row, from 0 on
    first: Tensor  # (b,): a row of each unit
    design: Tensor  # (r, D, b)
    outer: Tensor  # (r, b, q)
    weight: Tensor | None  # (r, 1, 1, b): how often each unit counts
    power: Tensor | None  # (r, 1, 1, c): to what power each row's density is raised


class Chunk(NamedTuple):
    """Some consecutive observations of every data set, observations last.

    Experts read its rows and gates its units, which are rows, too, where ``units`` is None.
    """

    rows: slice
    design: Tensor  # (r, D, c): standardized covariates, then a row of ones
    outer: Tensor  # (r, c, q): products of pairs of design rows, q = D (D + 1) / 2
    y: Tensor  # (r, 1, 1, c), standardized; several numbers of a row first, (q, r, 1, 1, c), as they are
    weight: Tensor | None  # (r, 1, 1, c): the unit's, times the power of the row's density
    offset: Tensor | None = None  # (r, 1, 1, c), added to the experts' locations
    units: UnitRows | None = None

    @property
    def gate_design(self) -> Tensor:
        """What the gate reads, ``(r, D, b)``."""
        return self.design if self.units is None else self.units.design

    @property
    def gate_outer(self) -> Tensor:
        """Products of pairs of rows of it, ``(r, b, q)``."""
        return self.outer if self.units is None else self.units.outer

    @property
    def unit_weight(self) -> Tensor | None:
        """How often each unit counts, ``(r, 1, 1, b)``."""
        return self.weight if self.units is None else self.units.weight

    def pooled(self, values: Tensor) -> Tensor:
        """Sums over each unit of what its rows say, times their powers: ``(..., b)`` from ``(..., c)``."""
        units = self.units
        if units is None:
            return values
        if units.power is not None:
            power = units.power.reshape(len(units.power), *(1,) * (values.ndim - 2), -1)
            values = torch.where(power > 0, power * values, 0.0)
        sums = values.new_zeros((*values.shape[:-1], len(units.first)))
        return sums.index_add(-1, units.of_row, values)

    def on_rows(self, values: Tensor) -> Tensor:
        """What holds of units at each of their rows: ``(..., c)`` from ``(..., b)``."""
        return values if self.units is None else values.index_select(-1, self.units.of_row)

    def of_units(self, values: Tensor) -> Tensor:
        """One row's value for each unit: ``(..., b)`` from ``(..., c)``."""
        return values if self.units is None else values.index_select(-1, self.units.first)


class Design:
    """Observations of ``r`` data sets as estimators with linear predictors read them.

    Args:
        x: ``(r, n, d)``.
        y: ``(r, n)``, or ``(r, n, q)`` if densities read several numbers of a row, which are not standardized.
        weight: ``(r, n)``, non-negative, or None for ones.
        scaling: how to standardize.
        rows_per_observation: working numbers an evaluation needs per observation; sets the chunk length.
        offset: what is added to the experts' locations, ``(r, n)``, or None.
        units: which rows share an expert; those of a unit stand together. None where each has its own.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        weight: Tensor | None,
        scaling: Scaling,
        rows_per_observation: int,
        offset: Tensor | None = None,
        units: Units | None = None,
    ) -> None:
        self.x, self.y, self.weight, self.scaling, self.offset = x, y, weight, scaling, offset
        self.units, self._first = units, None if units is None else units.first
        self.num_sets, self.n, d = x.shape
        self.width = d + 1
        pairs = self.width * (self.width + 1) // 2
        per_row = self.num_sets * (pairs + rows_per_observation)
        count = -(-self.n * per_row // _CHUNK_ENTRIES)
        self.chunk_length = max(_SHORTEST_CHUNK, -(-self.n // count))
        self._cache: list[Chunk] | None = [] if self.num_sets * self.n * pairs <= _CACHE_ENTRIES else None

    def __getstate__(self) -> dict[str, object]:
        """What is copied and pickled: the data, without the stored chunks."""
        return self.__dict__ | {"_cache": None if self._cache is None else []}

    def chunks(self) -> Iterator[Chunk]:
        """All observations in order, stored at the end of the first pass if they are few enough.

        A pass that stops early stores nothing, and several threads may pass at once.
        """
        stored = self._cache
        if stored:
            yield from stored
            return
        made: list[Chunk] = []
        for rows in self._slices():
            chunk = self._make(rows)
            if stored is not None:
                made.append(chunk)
            yield chunk
        if stored is not None:
            self._cache = made

    def _slices(self) -> Iterator[slice]:
        """The rows of each chunk; no unit is cut."""
        start = 0
        while start < self.n:
            stop = min(start + self.chunk_length, self.n)
            if self._first is not None and stop < self.n:
                later = self._first[torch.searchsorted(self._first, stop) :]
                stop = int(later[0]) if len(later) else self.n
            yield slice(start, stop)
            start = stop

    def on_sets(self, sets: Tensor) -> "Design":
        """Some of the data sets, in chunks of the same length."""
        twin = copy.copy(self)
        twin.num_sets, twin.scaling = len(sets), Scaling(*(part[sets] for part in self.scaling))
        twin.x, twin.y = self.x[sets], self.y[sets]
        twin.weight, twin.offset = (None if part is None else part[sets] for part in (self.weight, self.offset))
        twin.units = None if self.units is None else self.units.sets(sets)
        return twin

    def _make(self, rows: slice) -> Chunk:
        scaling = self.scaling
        x = ((self.x[:, rows] - scaling.x_mean.unsqueeze(-2)) / scaling.x_std.unsqueeze(-2)).mT
        design = torch.cat([x, x.new_ones((x.shape[0], 1, x.shape[-1]))], -2).contiguous()
        y = self.y[:, rows].movedim(2, 0) if self.y.ndim == 3 else self._standardized(self.y[:, rows])
        weight = None if self.weight is None else self.weight[:, None, None, rows]
        offset = None if self.offset is None else self.offset[:, None, None, rows]
        outer = outer_products(design)
        units = None if self.units is None else self._unit_rows(self.units, rows, design, outer)
        return Chunk(rows, design, outer, y.unsqueeze(-2).unsqueeze(-2), weight, offset, units)

    def _standardized(self, y: Tensor) -> Tensor:
        return (y - self.scaling.y_mean.unsqueeze(-1)) / self.scaling.y_std.unsqueeze(-1)

    def _unit_rows(self, units: Units, rows: slice, design: Tensor, outer: Tensor) -> UnitRows:
        index = units.index[rows]
        own = slice(int(index[0]), int(index[-1]) + 1)
        index = index - own.start
        first = self._first[own] - rows.start  # type: ignore[index]
        weight = None if units.weight is None else units.weight[:, None, None, own]
        power = None if units.power is None else units.power[:, None, None, rows]
        return UnitRows(index, first, design[..., first], outer[:, first], weight, power)
