"""Ways to make new data sets like one that was observed."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mixkit.mixture import MixtureOfExperts

from ..data.dataset import Data
from ..data.unit_posterior import draw
from ..data.units import Units

__all__ = ["RESAMPLINGS", "Cases", "Parametric", "RandomWeights", "Resampling"]

_SAMPLING = threading.Lock()  # sampling seeds torch's global generator for a moment, which threads share


class Resampling(ABC):
    """A way to draw data sets."""

    def check(self, data: Data) -> None:  # noqa: B027 (most resamplings take any data)
        """Raise ``ValueError`` if there is no such resampling of ``data`` (r = 1)."""

    @abstractmethod
    def draw(self, model: MixtureOfExperts, data: Data, rngs: Sequence[np.random.Generator]) -> Data:
        """One data set for each of m generators: ``r = m``.

        Args:
            model: the fitted model.
            data: the observations, r = 1.
            rngs: a generator for each data set.
        """


@dataclass(frozen=True)
class Cases(Resampling):
    """Rows drawn with replacement, each with its response and weight: right whatever the distribution of y given x.

    Where groups of rows share an expert, whole groups are drawn.

    Source: Efron (1979), Annals of Statistics 7, 1-26.
    """

    def draw(self, model: MixtureOfExperts, data: Data, rngs: Sequence[np.random.Generator]) -> Data:
        """Data sets of n rows; of groups as many as there are, each counted as often as it is drawn."""
        if data.units is not None:
            g = data.num_units
            counts = np.stack([np.bincount(rng.integers(g, size=g), minlength=g) for rng in rngs])
            return data.with_unit_factors(torch.as_tensor(counts).to(data.x))
        n = data.x.shape[1]
        rows = torch.as_tensor(np.stack([rng.integers(n, size=n) for rng in rngs])).to(data.x.device)
        return _each(data, lambda part: part[0][rows])


@dataclass(frozen=True)
class Parametric(Resampling):
    """Responses drawn from the fitted model at the covariates observed: sharper than cases if the model holds."""

    def check(self, data: Data) -> None:
        """Weights other than one are refused: a weighted row has no one distribution to draw from."""
        if data.weight is not None and not bool((data.weight == 1.0).all()):
            raise ValueError(
                "resampling 'parametric' needs observations without weights, got sample weights; use 'case'"
            )

    def draw(self, model: MixtureOfExperts, data: Data, rngs: Sequence[np.random.Generator]) -> Data:
        """The same covariates, new responses."""
        with torch.no_grad(), _SAMPLING:
            law = model(data.x[0])
            y = torch.stack([draw(law, data.units, (), _torch_generator(rng, data.x)) for rng in rngs])
        size = (len(rngs),)
        return _each(data, lambda part: part.expand(size + part.shape[1:]))._replace(y=y.to(data.y))


@dataclass(frozen=True)
class RandomWeights(Resampling):
    """Every row kept, its weight times an exponential variable (scaled to mean one): no row is ever lost.

    For small samples and rare experts, where resampled cases may leave an expert without data.

    Source: Newton and Raftery (1994), JRSS B 56, 3-48.
    """

    def draw(self, model: MixtureOfExperts, data: Data, rngs: Sequence[np.random.Generator]) -> Data:
        """The same rows, new weights; one for all rows of a group that shares an expert."""
        n, size = data.num_units, (len(rngs),)
        factors = torch.as_tensor(np.stack([rng.exponential(size=n) for rng in rngs])).to(data.x)
        factors = factors / factors.mean(-1, keepdim=True)
        if data.units is not None:
            return data.with_unit_factors(factors)
        return _each(data, lambda part: part.expand(size + part.shape[1:]))._replace(
            weight=factors if data.weight is None else factors * data.weight
        )


def _each(data: Data, function: Callable[[Tensor], Tensor]) -> Data:
    """A function of every part there is."""
    x, y, weight, units = data
    if units is not None:
        parts = (None if part is None else function(part) for part in (units.weight, units.power))
        units = Units(units.index, *parts)
    return Data(function(x), function(y), None if weight is None else function(weight), units)


def _torch_generator(rng: np.random.Generator, like: Tensor) -> torch.Generator:
    return torch.Generator(device=like.device).manual_seed(int(rng.integers(2**63)))


RESAMPLINGS: dict[str, Resampling] = {"case": Cases(), "parametric": Parametric(), "weights": RandomWeights()}
"""Resamplings by name."""
