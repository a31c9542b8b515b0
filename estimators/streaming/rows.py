"""Rows on their way into a stream: checked, then cut into blocks whose length does not depend on how they arrived."""

from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor

from mixkit.mixture import MixtureOfExperts

from ..data.dataset import Data
from ..data.tensors import numeric_tensor

__all__ = ["Rows", "checked_rows"]


def checked_rows(model: MixtureOfExperts, x: Any, y: Any, weight: Any, num_features: int | None) -> Data:
    """Rows as float64 tensors on the model's device: ``x (1, n, d)``, ``y (1, n)`` or ``(1, n, p)``, ``weight (1, n)``.

    Raises:
        TypeError: if an argument is not numeric.
        ValueError: if an entry is not finite, shapes disagree, there are other covariates than before, a weight is
            negative, or y is no response of the model's family.
    """
    device = next(model.parameters()).device
    rows, response = (_tensor(name, value, device) for name, value in (("x", x), ("y", y)))
    if rows.ndim != 2 or rows.shape[1] == 0 or num_features not in (None, rows.shape[1]):
        expected = "d" if num_features is None else str(num_features)
        raise ValueError(f"x must have shape (n, {expected}), got {tuple(rows.shape)}")
    if response.ndim == 0 or len(response) != len(rows):
        raise ValueError(f"y must have one row for each of the {len(rows)} of x, got shape {tuple(response.shape)}")
    model.experts.check_rows(rows, response)
    if weight is None:
        return Data(rows[None], response[None], None)
    weights = _tensor("sample_weight", weight, device)
    if weights.shape != rows.shape[:1] or not bool((weights >= 0).all()):
        received = f"shape {tuple(weights.shape)}" if weights.shape != rows.shape[:1] else f"{float(weights.min())}"
        raise ValueError(f"sample_weight must be non-negative, one for each of the {len(rows)} rows, got {received}")
    return Data(rows[None], response[None], weights[None])


def _tensor(name: str, value: Any, device: torch.device) -> Tensor:
    tensor = numeric_tensor(name, value)
    # The rows wait for their block, while the caller may write on.
    return tensor.to(device) if tensor.device != device else tensor.clone()


class Rows:
    """Rows that wait; :meth:`blocks` gives them back in the order of arrival, cut to any length."""

    def __init__(self) -> None:
        self._parts: list[Data] = []
        self.count = 0

    def add(self, data: Data) -> None:
        """Append rows."""
        if data.x.shape[1]:
            self._parts.append(data)
            self.count += data.x.shape[1]

    def all(self) -> Data:
        """All rows in one; weights of one stand in where some rows have none.

        Raises:
            ValueError: if there are no rows.
        """
        if not self._parts:
            raise ValueError("the stream must have at least one row, got none")
        if len(self._parts) == 1:
            return self._parts[0]
        weight = None
        if any(part.weight is not None for part in self._parts):
            weight = torch.cat([_weights(part) for part in self._parts], 1)
        return Data(torch.cat([p.x for p in self._parts], 1), torch.cat([p.y for p in self._parts], 1), weight)

    def first(self, count: int) -> Data:
        """A copy of the first ``count`` rows, which stay."""
        return _part(self.all(), slice(None, count))

    def drop(self, count: int) -> None:
        """Remove the first ``count`` rows."""
        rest = _part(self.all(), slice(count, None))
        self._parts, self.count = [], 0
        self.add(rest)

    def blocks(self, length: int) -> Generator[Data, None, None]:
        """As many whole blocks of ``length`` rows as there are, each removed when the next one is asked for.

        Whoever stops in the middle of a block, by an error or an interrupt, leaves it and all later ones here.
        """
        if self.count < length:
            return
        data, done = self.all(), 0
        try:
            while self.count - done >= length:
                yield _part(data, slice(done, done + length))
                done += length
        finally:
            self.drop(done)


def _weights(data: Data) -> Tensor:
    return torch.ones_like(data.x[..., 0]) if data.weight is None else data.weight


def _part(data: Data, rows: slice) -> Data:
    """Some rows, copied, so that they do not hold on to the rest."""
    weight = None if data.weight is None else data.weight[:, rows].clone()
    return Data(data.x[:, rows].clone(), data.y[:, rows].clone(), weight)
