"""Starts: first guesses of the responsibilities, from which every fit takes its first M-step.

A start proposes responsibilities ``(s, k, n)``, several guesses at once. To add one, subclass :class:`Start`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from mixkit.mixture import MixtureOfExperts

from ..data.unit_posterior import log_joint, unit_log_responsibilities
from ..data.units import Units

__all__ = [
    "GivenResponsibilities",
    "KMeansX",
    "KMeansXY",
    "LocalLines",
    "MoveAtom",
    "RandomPartition",
    "SplitAtom",
    "Start",
    "default_starts",
]

_SMOOTHING = 0.05  # share of each observation spread over all experts
_LARGEST_KMEANS_SAMPLE = 2000
_LEAST_SHARE = 1e-6  # of a row, so that one row alone rules out no expert for its unit
_KEPT_ON_AVERAGE = 0.1


class Start(ABC):
    """A way to guess responsibilities from data."""

    @abstractmethod
    def responsibilities(self, x: Tensor, y: Tensor, k: int, rng: np.random.Generator) -> Tensor:
        """Guesses ``(s, k, n)``, non-negative and summing to one over k, for ``x (n, d)`` and ``y (n, ...)``."""

    def unit_responsibilities(self, x: Tensor, y: Tensor, units: Units, k: int, rng: np.random.Generator) -> Tensor:
        """Guesses ``(s, k, n)`` that give all rows of a unit to the same experts.

        A unit goes to the expert that the guesses of its rows favor together, but for a tenth of it, which stays as
        they are on average.
        """
        guesses = self.responsibilities(x, y, k, rng)
        return units.on_rows(_pooled(guesses, units))

    def at(self, rows: Tensor, n: int) -> "Start":
        """The start for some ``rows`` of n observations; another where the start holds a guess of every observation."""
        return self


def _pooled(guesses: Tensor, units: Units) -> Tensor:
    """Responsibilities of units ``(..., k, g)`` from those of their rows ``(..., k, n)``."""
    together = torch.softmax(units.total(guesses.clamp(min=_LEAST_SHARE).log()), -2)
    mean = units.total(guesses) / units.total(torch.ones_like(guesses))
    return (1.0 - _KEPT_ON_AVERAGE) * together + _KEPT_ON_AVERAGE * mean


def _standardized(columns: Tensor) -> np.ndarray:
    scale = columns.std(0, correction=0)
    centered = (columns - columns.mean(0)) / torch.where(scale > 0, scale, torch.ones_like(scale))
    return np.asarray(centered.detach().cpu(), dtype=np.float64)


def _from_labels(labels: np.ndarray, k: int, like: Tensor) -> Tensor:
    """Smoothed one-hot responsibilities ``(1, k, n)``."""
    onehot = torch.nn.functional.one_hot(torch.as_tensor(labels, dtype=torch.long), k).mT.to(like)
    return ((1.0 - _SMOOTHING) * onehot + _SMOOTHING / k).unsqueeze(0)


def _kmeans_labels(points: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    if k == 1 or len(np.unique(points, axis=0)) < k:
        return rng.integers(k, size=len(points))
    sample = points
    if len(points) > _LARGEST_KMEANS_SAMPLE:
        sample = points[rng.choice(len(points), _LARGEST_KMEANS_SAMPLE, replace=False)]
    if len(np.unique(sample, axis=0)) < k:
        return rng.integers(k, size=len(points))
    return KMeans(k, n_init=1, random_state=int(rng.integers(2**31))).fit(sample).predict(points)


@dataclass(frozen=True)
class KMeansX(Start):
    """Clusters of the standardized covariates (scikit-learn's ``KMeans``)."""

    def responsibilities(self, x: Tensor, y: Tensor, k: int, rng: np.random.Generator) -> Tensor:
        """One guess, ``(1, k, n)``."""
        return _from_labels(_kmeans_labels(_standardized(x), k, rng), k, x)


@dataclass(frozen=True)
class KMeansXY(Start):
    """Clusters of the standardized covariates and response together (scikit-learn's ``KMeans``)."""

    def responsibilities(self, x: Tensor, y: Tensor, k: int, rng: np.random.Generator) -> Tensor:
        """One guess, ``(1, k, n)``."""
        points = torch.cat([x, y.reshape(len(y), -1).to(x)], -1)
        return _from_labels(_kmeans_labels(_standardized(points), k, rng), k, x)


@dataclass(frozen=True)
class RandomPartition(Start):
    """Every observation to an expert drawn at random."""

    def responsibilities(self, x: Tensor, y: Tensor, k: int, rng: np.random.Generator) -> Tensor:
        """One guess, ``(1, k, n)``."""
        return _from_labels(rng.integers(k, size=len(x)), k, x)


@dataclass(frozen=True)
class LocalLines(Start):
    """Linear regressions on neighborhoods of k random observations; each observation goes to the nearest line.

    Finds regressions that cross, which clusters of points cannot.

    Args:
        share: size of a neighborhood as a share of the data (at least twice the number of coefficients).
    """

    share: float = 0.1

    def responsibilities(self, x: Tensor, y: Tensor, k: int, rng: np.random.Generator) -> Tensor:
        """One guess, ``(1, k, n)``."""
        points, response = _standardized(x), _standardized(y.reshape(len(y), -1))
        design = np.column_stack([points, np.ones(len(points))])
        size = min(len(points), max(int(self.share * len(points)), 2 * design.shape[1]))
        residuals = np.empty((k, len(points)))
        for expert, center in enumerate(rng.choice(len(points), k, replace=False)):
            distance = np.square(points - points[center]).sum(1)
            near = np.argpartition(distance, size - 1)[:size] if size < len(points) else np.arange(len(points))
            solution, *_ = np.linalg.lstsq(design[near], response[near], rcond=None)
            residuals[expert] = np.square(response - design @ solution).sum(1)
        return _from_labels(residuals.argmin(0), k, x)


@dataclass(frozen=True, eq=False)
class GivenResponsibilities(Start):
    """Responsibilities chosen by the caller.

    Args:
        values: ``(k, n)`` or ``(s, k, n)``, non-negative, summing to one over k.
    """

    values: Tensor

    def at(self, rows: Tensor, n: int) -> "GivenResponsibilities":
        """The responsibilities of ``rows``."""
        values = torch.as_tensor(self.values)
        if values.ndim == 0 or values.shape[-1] != n:
            raise ValueError(f"values must have shape (k, n) with n = {n} at the end, got {tuple(values.shape)}")
        return GivenResponsibilities(values[..., rows.to(values.device)])

    def unit_responsibilities(self, x: Tensor, y: Tensor, units: Units, k: int, rng: np.random.Generator) -> Tensor:
        """Means over the rows of each unit: the values themselves where they agree."""
        values = self.responsibilities(x, y, k, rng)
        return units.on_rows(units.total(values) / units.total(torch.ones_like(values)))

    def responsibilities(self, x: Tensor, y: Tensor, k: int, rng: np.random.Generator) -> Tensor:
        """The values, ``(s, k, n)``.

        Raises:
            ValueError: if they have another shape, a negative entry, or do not sum to one.
        """
        values = torch.as_tensor(self.values).to(x)
        values = values.unsqueeze(0) if values.ndim == 2 else values
        if values.ndim != 3 or values.shape[1:] != (k, len(x)):
            raise ValueError(f"values must have shape (k, n) = {(k, len(x))} at the end, got {tuple(values.shape)}")
        if not bool((values >= 0).all()) or not bool(((values.sum(1) - 1.0).abs() < 1e-6).all()):
            raise ValueError("values must be non-negative and sum to one over the experts, got others")
        return values


@dataclass(frozen=True, eq=False)
class SplitAtom(Start):
    """Each expert of a smaller fitted model split in two, in three ways: by sign and by size of residual, and along x.

    Args:
        model: a fitted mixture of k - 1 experts.
    """

    model: MixtureOfExperts

    def responsibilities(self, x: Tensor, y: Tensor, k: int, rng: np.random.Generator) -> Tensor:
        """``3 (k - 1)`` guesses, ``(3 (k - 1), k, n)``.

        Raises:
            ValueError: if the model has not k - 1 experts.
        """
        return self._guesses(x, y, None, k)

    def unit_responsibilities(self, x: Tensor, y: Tensor, units: Units, k: int, rng: np.random.Generator) -> Tensor:
        """The same for units: their posterior, and sides by the mean residuals and covariates of their rows."""
        return self._guesses(x, y, units, k)

    def _guesses(self, x: Tensor, y: Tensor, units: Units | None, k: int) -> Tensor:
        if self.model.num_experts != k - 1:
            raise ValueError(f"model must have k - 1 = {k - 1} experts, got {self.model.num_experts}")
        log_resp, residual = _posterior(self.model, x, y, units)
        resp = log_resp.exp()
        return torch.stack([guess for expert in range(k - 1) for guess in _splits(x, resp, residual, expert, units)])


@dataclass(frozen=True, eq=False)
class MoveAtom(Start):
    """Each expert of a fitted model left out in turn, and each of the others split in two, as by :class:`SplitAtom`.

    What a local maximum needs to become a better one: an expert where none is needed goes where one is missing (the
    split and merge moves of Ueda, Nakano, Ghahramani, Hinton 2000, Neural Computation 12, 2109-2128).

    Args:
        model: a fitted mixture of k experts, k at least 2.
        most: guesses to make, drawn by chance from all ``3 k (k - 1)`` if those are more; None for all.
    """

    model: MixtureOfExperts
    most: int | None = None

    def responsibilities(self, x: Tensor, y: Tensor, k: int, rng: np.random.Generator) -> Tensor:
        """``min(most, 3 k (k - 1))`` guesses, ``(s, k, n)``.

        Raises:
            ValueError: if the model has not k experts, or k is 1.
        """
        return self._guesses(x, y, None, k, rng)

    def unit_responsibilities(self, x: Tensor, y: Tensor, units: Units, k: int, rng: np.random.Generator) -> Tensor:
        """The same for units."""
        return self._guesses(x, y, units, k, rng)

    def _guesses(self, x: Tensor, y: Tensor, units: Units | None, k: int, rng: np.random.Generator) -> Tensor:
        if k < 2 or self.model.num_experts != k:
            raise ValueError(f"model must have k = {k} experts, at least 2, got {self.model.num_experts}")
        log_resp, residual = _posterior(self.model, x, y, units)
        guesses = []
        for left_out in range(k):
            rest = [j for j in range(k) if j != left_out]
            resp = _renormalized(log_resp[rest])
            own = None if residual is None else residual[:, rest]
            guesses += [guess for expert in range(k - 1) for guess in _splits(x, resp, own, expert, units)]
        if self.most is not None and self.most < len(guesses):
            guesses = [guesses[i] for i in np.sort(rng.choice(len(guesses), self.most, replace=False))]
        return torch.stack(guesses)


@torch.no_grad()
def _posterior(model: MixtureOfExperts, x: Tensor, y: Tensor, units: Units | None) -> tuple[Tensor, Tensor | None]:
    """Log posterior probabilities ``(k, n)`` of rows or their units, and residuals ``(n, k)`` of scalar responses."""
    law = model(x)
    residual = y.unsqueeze(-1) - law.components.mean if y.ndim == 1 else None
    if units is None:
        return law.log_responsibilities(y).mT, residual
    return units.on_rows(unit_log_responsibilities(log_joint(law, y, units)).mT), residual


def _renormalized(log_resp: Tensor) -> Tensor:
    """Probabilities ``(k, n)`` from their logarithms up to a constant; uniform where no expert is left."""
    lost = torch.isneginf(log_resp).all(0)
    return torch.softmax(torch.where(lost, torch.zeros_like(log_resp), log_resp), 0)


def _splits(x: Tensor, resp: Tensor, residual: Tensor | None, expert: int, units: Units | None) -> list[Tensor]:
    """Responsibilities ``(k + 1, n)`` of k experts of whom one is split, once along x and twice by its residual."""
    rest = [resp[j] for j in range(len(resp)) if j != expert]
    guesses = []
    # 0.9 and not 1: both halves keep a share of every observation, so that the first M-step has enough rows for each,
    # and EM can give observations back.
    for side in _sides(x, None if residual is None else residual[:, expert], resp[expert], units):
        first = torch.where(side, 0.9, 0.1) * resp[expert]
        guesses.append(torch.stack([*rest, first, resp[expert] - first]))
    return guesses


def _sides(x: Tensor, residual: Tensor | None, weight: Tensor, units: Units | None) -> list[Tensor]:
    centered = x - (weight.unsqueeze(-1) * x).sum(0) / weight.sum().clamp(min=1e-300)
    # An expert stands for two where their lines cross or jump (halves along x), lie side by side (the sign of the
    # residual), or differ in spread (its size).
    axis = torch.linalg.svd(centered * weight.sqrt().unsqueeze(-1), full_matrices=False).Vh[0]
    sides = [_unit_means(centered @ axis, units) > 0]
    if residual is not None:
        size = _unit_means(residual.abs(), units)
        sides += [_unit_means(residual, units) > 0, size > size.median()]
    return sides


def _unit_means(values: Tensor, units: Units | None) -> Tensor:
    """The mean of each unit at its rows, ``(n,)``."""
    if units is None:
        return values
    return units.on_rows(units.total(values) / units.total(torch.ones_like(values)))


def default_starts(n_init: int) -> Sequence[Start]:
    """``n_init`` starts that take turns: k-means on (x, y), lines through neighborhoods, k-means on x, chance."""
    cycle = (KMeansXY(), LocalLines(), KMeansX(), LocalLines(0.2), LocalLines(0.05), RandomPartition())
    return [cycle[i % len(cycle)] for i in range(n_init)]
