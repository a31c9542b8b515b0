"""What a study measures of each fit; to add a measure, subclass :class:`Loss`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mixkit.gates.temperatures import FixedTemperature, LearnableTemperature
from mixkit.measure import MixingMeasure
from mixkit.mixture import MixtureOfExperts

from ..voronoi import atom_errors, block_errors, density_distances, rbar, voronoi_loss
from .covariates import Covariates

__all__ = ["BlockLoss", "DensityLoss", "ExactLoss", "Fitted", "Loss", "OverspecifiedLoss", "TemperatureLoss"]

_DENSITY_SEED = 20230305
_GATE_BLOCKS = ("mass", "gate")
_EXPERT_BLOCKS = ("slope", "intercept", "variance")


class Fitted(NamedTuple):
    """What a loss sees: the fitted model, the true one, and the covariates of the study."""

    model: MixtureOfExperts
    truth: MixtureOfExperts
    covariates: Covariates

    @property
    def measures(self) -> tuple[MixingMeasure, MixingMeasure]:
        """The mixing measures of the two."""
        return MixingMeasure.from_module(self.model).detach(), MixingMeasure.from_module(self.truth).detach()


class Loss(ABC):
    """One or more numbers, each with a name, that say how far a fit is from the truth."""

    @abstractmethod
    def values(self, fitted: Fitted) -> dict[str, float]:
        """Non-negative numbers by name; NaN where a number is not defined for this fit."""


def _count(num_selected: int | None, truth: MixingMeasure) -> int | None:
    return None if num_selected is None else min(num_selected, truth.num_experts)


@dataclass(frozen=True)
class ExactLoss(Loss):
    """The Voronoi loss D1 (:func:`~estimators.voronoi.voronoi_loss` with every exponent 1).

    It is for fits with as many experts as the truth. With more it is a number, of which theory says no rate:
    :class:`OverspecifiedLoss` is theirs.

    Args:
        num_selected: experts that the true top-K gate keeps; None for other gates.

    Example:
        >>> import torch
        >>> truth, fit = (MixingMeasure(*(torch.tensor(v).double() for v in ([0.0, 0.0], [[4.0], [0.0]], [[2.0],
        ...     [-2.0]], [0.0, b], [0.1, 0.2]))).to_module() for b in (1.0, 1.1))
        >>> from estimators.rates import UniformCovariates
        >>> fitted = Fitted(fit, truth, UniformCovariates())
        >>> round(ExactLoss().values(fitted)["D1"], 3)
        0.05
    """

    num_selected: int | None = None

    def values(self, fitted: Fitted) -> dict[str, float]:
        """``D1``."""
        own, truth = fitted.measures
        loss = voronoi_loss(own, truth, gate=fitted.truth.gate, num_selected=_count(self.num_selected, truth))
        return {"D1": float(loss.total)}


@dataclass(frozen=True)
class OverspecifiedLoss(Loss):
    """The Voronoi loss D2, with exponents rbar(m) in cells of m atoms.

    Args:
        num_selected: experts that the true top-K gate keeps; None for other gates.

    Example:
        >>> import torch
        >>> truth, fit = (MixingMeasure(*(torch.tensor(v).double() for v in ([0.0, 0.0], [[4.0], [0.0]], [[2.0],
        ...     [-2.0]], [0.0, b], [0.1, 0.2]))).to_module() for b in (1.0, 1.1))
        >>> from estimators.rates import UniformCovariates
        >>> fitted = Fitted(fit, truth, UniformCovariates())
        >>> round(OverspecifiedLoss().values(fitted)["D2"], 3)
        0.05
    """

    num_selected: int | None = None

    def values(self, fitted: Fitted) -> dict[str, float]:
        """``D2``."""
        own, truth = fitted.measures
        count = _count(self.num_selected, truth)
        return {"D2": float(voronoi_loss(own, truth, gate=fitted.truth.gate, rbar=rbar, num_selected=count).total)}


@dataclass(frozen=True)
class BlockLoss(Loss):
    """Errors of each block of parameters (:func:`~estimators.voronoi.block_errors`): the largest over true atoms.

    Those of slope, intercept and variance apart for atoms alone in their cell and atoms that share one, for their rates
    differ; NaN where there are none. Those of mass and gate together, for only differences between atoms mean anything.

    An atom counts by its share of its cell's mass. ``farthest`` are the errors of the worst of the atoms that share a
    cell, whatever its mass, which may vanish: no rate is declared for those.

    Example:
        >>> import torch
        >>> truth, fit = (MixingMeasure(*(torch.tensor(v).double() for v in ([0.0, 0.0], [[4.0], [0.0]], [[2.0],
        ...     [-2.0]], [0.0, b], [0.1, 0.2]))).to_module() for b in (1.0, 1.1))
        >>> from estimators.rates import UniformCovariates
        >>> fitted = Fitted(fit, truth, UniformCovariates())
        >>> found = BlockLoss().values(fitted)
        >>> round(found["intercept alone"], 3), found["intercept shared"]
        (0.1, nan)
    """

    def values(self, fitted: Fitted) -> dict[str, float]:
        """``mass``, ``gate``, ``slope alone``, ``slope shared``, ``slope farthest`` and so on."""
        own, truth = fitted.measures
        atoms = atom_errors(own, truth, gate=fitted.truth.gate)
        shared = atoms.cell_size > 1
        farthest = {f"{name} farthest": _largest(getattr(atoms, name)[shared]) for name in ("gate", *_EXPERT_BLOCKS)}
        return _by_sharing(own, truth, fitted) | farthest


def _by_sharing(own: MixingMeasure, truth: MixingMeasure, fitted: Fitted) -> dict[str, float]:
    errors = block_errors(own, truth, gate=fitted.truth.gate)
    found = {name: _largest(getattr(errors, name)[errors.cell_size > 0]) for name in _GATE_BLOCKS}
    for name in _EXPERT_BLOCKS:
        error = getattr(errors, name)
        found[f"{name} alone"] = _largest(error[errors.cell_size == 1])
        found[f"{name} shared"] = _largest(error[errors.cell_size > 1])
    return found


def _largest(values: Tensor) -> float:
    return float(values.max()) if values.numel() else float("nan")


@dataclass(frozen=True)
class DensityLoss(Loss):
    """Distances between the fitted and the true conditional density, averaged over covariates.

    Args:
        points: covariates averaged over, drawn once for the whole study by its own law.

    Raises:
        ValueError: if ``points`` is less than 1.

    Example:
        >>> import torch
        >>> truth, fit = (MixingMeasure(*(torch.tensor(v).double() for v in ([0.0, 0.0], [[4.0], [0.0]], [[2.0],
        ...     [-2.0]], [0.0, b], [0.1, 0.2]))).to_module() for b in (1.0, 1.1))
        >>> from estimators.rates import UniformCovariates
        >>> fitted = Fitted(fit, truth, UniformCovariates())
        >>> found = DensityLoss(points=8).values(fitted)
        >>> 0 < found["hellinger"] < 0.2
        True
    """

    points: int = 64

    def __post_init__(self) -> None:
        if self.points < 1:
            raise ValueError(f"points must be at least 1, got {self.points}")

    def values(self, fitted: Fitted) -> dict[str, float]:
        """``hellinger``, ``total variation`` and ``kl``."""
        d = MixingMeasure.from_module(fitted.truth).num_features
        x = fitted.covariates.draw(self.points, d, np.random.default_rng(_DENSITY_SEED))
        found = density_distances(fitted.model, fitted.truth, torch.as_tensor(x))
        return {
            "hellinger": float(found.hellinger.mean()),
            "total variation": float(found.total_variation.mean()),
            "kl": float(found.kl.mean()),
        }


@dataclass(frozen=True)
class TemperatureLoss(Loss):
    """Errors of a gate with temperature tau, in the parameters as written and in those that are identified.

    A linear gate divides ``beta`` by ``tau``, and nothing but ``beta / tau`` is identified: ``beta_1`` and ``tau``
    by themselves are what the optimizer left them at. An activation gate identifies ``beta_1`` and ``tau`` apart.

    Raises:
        ValueError: from :meth:`values`, if a gate's temperature is not one number.

    Example:
        >>> import torch
        >>> truth, fit = (MixingMeasure(*(torch.tensor(v).double() for v in ([0.0, 0.0], [[4.0], [0.0]], [[2.0],
        ...     [-2.0]], [0.0, b], [0.1, 0.2]))).to_module() for b in (1.0, 1.1))
        >>> from estimators.rates import UniformCovariates
        >>> fitted = Fitted(fit, truth, UniformCovariates())
        >>> TemperatureLoss().values(fitted)["tau"]
        0.0
    """

    def values(self, fitted: Fitted) -> dict[str, float]:
        """``tau``, ``beta_1`` and ``beta_1 / tau``: the largest error over true atoms, ``tau`` of the absolute gap."""
        own, truth = fitted.measures
        temperatures = [_temperature(model) for model in (fitted.model, fitted.truth)]
        divided = [_divided(m, tau) for m, tau in zip((own, truth), temperatures, strict=True)]
        pairs = {"beta_1": (own, truth), "beta_1 / tau": tuple(divided)}
        found = {"tau": abs(temperatures[0] - temperatures[1])}
        for name, (a, b) in pairs.items():
            gate = block_errors(a, b, gate=fitted.truth.gate).gate
            found[name] = float(gate[~gate.isnan()].max())
        return found


def _temperature(model: MixtureOfExperts) -> float:
    temperature = model.gate.temperature
    if not isinstance(temperature, FixedTemperature | LearnableTemperature):
        raise ValueError(f"gate must have one temperature for all x, got {temperature!r}")
    with torch.no_grad():
        return float(temperature(torch.zeros(1, 1, dtype=torch.float64)))


def _divided(measure: MixingMeasure, temperature: float) -> MixingMeasure:
    return replace(measure, gate_bias=measure.gate_bias / temperature, gate_weight=measure.gate_weight / temperature)
