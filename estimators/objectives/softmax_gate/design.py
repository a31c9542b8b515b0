"""The design matrix of a model with linear predictors: standardized, transposed, cut into chunks."""

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..packed_symmetric import outer_products

__all__ = [
    "NEGLIGIBLE_SPREAD",
    "Chunk",
    "Design",
    "Scaling",
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


class Chunk(NamedTuple):
    """Some consecutive observations of every data set, observations last."""

    rows: slice
    design: Tensor  # (r, D, c): standardized covariates, then a row of ones
    outer: Tensor  # (r, c, q): products of pairs of design rows, q = D (D + 1) / 2
    y: Tensor  # (r, 1, 1, c), standardized; several numbers of a row first, (q, r, 1, 1, c), as they are
    weight: Tensor | None  # (r, 1, 1, c)
    offset: Tensor | None = None  # (r, 1, 1, c), added to the experts' locations


class Design:
    """Observations of ``r`` data sets as estimators with linear predictors read them.

    Args:
        x: ``(r, n, d)``.
        y: ``(r, n)``, or ``(r, n, q)`` if densities read several numbers of a row, which are not standardized.
        weight: ``(r, n)``, non-negative, or None for ones.
        scaling: how to standardize.
        rows_per_observation: working numbers an evaluation needs per observation; sets the chunk length.
        offset: what is added to the experts' locations, ``(r, n)``, or None.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        weight: Tensor | None,
        scaling: Scaling,
        rows_per_observation: int,
        offset: Tensor | None = None,
    ) -> None:
        self.x, self.y, self.weight, self.scaling, self.offset = x, y, weight, scaling, offset
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
        for start in range(0, self.n, self.chunk_length):
            chunk = self._make(slice(start, min(start + self.chunk_length, self.n)))
            if stored is not None:
                made.append(chunk)
            yield chunk
        if stored is not None:
            self._cache = made

    def on_sets(self, sets: Tensor) -> "Design":
        """Some of the data sets, in chunks of the same length."""
        twin = copy.copy(self)
        twin.num_sets, twin.scaling = len(sets), Scaling(*(part[sets] for part in self.scaling))
        twin.x, twin.y = self.x[sets], self.y[sets]
        twin.weight, twin.offset = (None if part is None else part[sets] for part in (self.weight, self.offset))
        return twin

    def _make(self, rows: slice) -> Chunk:
        scaling = self.scaling
        x = ((self.x[:, rows] - scaling.x_mean.unsqueeze(-2)) / scaling.x_std.unsqueeze(-2)).mT
        design = torch.cat([x, x.new_ones((x.shape[0], 1, x.shape[-1]))], -2).contiguous()
        y = self.y[:, rows].movedim(2, 0) if self.y.ndim == 3 else self._standardized(self.y[:, rows])
        weight = None if self.weight is None else self.weight[:, None, None, rows]
        offset = None if self.offset is None else self.offset[:, None, None, rows]
        return Chunk(rows, design, outer_products(design), y.unsqueeze(-2).unsqueeze(-2), weight, offset)

    def _standardized(self, y: Tensor) -> Tensor:
        return (y - self.scaling.y_mean.unsqueeze(-1)) / self.scaling.y_std.unsqueeze(-1)
