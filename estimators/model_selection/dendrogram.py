r"""The dendrogram of a mixing measure: an over-specified fit merged atom by atom, and what it says of k.

One fit with more experts than needed replaces a sweep over k. At each level the two nearest atoms merge; the height of
a merge is the dissimilarity of the two, mass-weighted. Atoms that share a true expert lie within :math:`O(n^{-1/4})` of
each other up to logarithms (the squared distance of parameters that converge like :math:`n^{-1/8}`), true experts at a
distance that does not vanish: the heights fall off a cliff at the true k.

Source: Hai et al. (2025), arXiv 2510.12744, for softmax-gated Gaussian experts; Do et al. (2024), arXiv 2403.01684, for
mixtures without covariates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from mixkit._validation import check_choice, check_integer
from mixkit.experts import GaussianExperts
from mixkit.experts.predictors import LinearPredictor
from mixkit.gates.normalizers import Softmax
from mixkit.gates.scores import LinearScore
from mixkit.gates.selections import Dense
from mixkit.gates.temperatures import FixedTemperature
from mixkit.measure import MixingMeasure
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import has_form, patterned_parts

from ..plotting.selection import plot_dendrogram
from ..results.fit_result import FitResult
from ..results.maximum import DataRemovedError
from .merging import (
    Atoms,
    bhattacharyya_gap,
    harmonic_mass,
    merge_by_moments,
    merge_by_projection,
    parameter_gap,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Dendrogram", "mixing_dendrogram"]

Array = NDArray[np.float64]
_RULES = ["gap", "dsc"]
_FLOOR = 0.3
_HIGHEST = 0.25  # height of a merge of two atoms of equal mass that do not overlap
_MARGIN = 2.0


@dataclass(frozen=True, eq=False, repr=False)
class Dendrogram:
    """A mixing measure of K atoms merged down to one; prints as a table.

    Attributes:
        measures: the measures with K, K - 1, ..., 1 atoms.
        linkage: merges as SciPy writes them, ``(K - 1, 4)``: the numbers of the two clusters (atoms are 0 to K - 1, the
            t-th merge makes cluster K + t), the height, and how many atoms the new cluster has. Heights need not
            increase: a merged atom may lie nearer to a third than the two did to each other.
        masses: mass of every atom of the largest measure ``(K,)``, summing to 1.
        mean_log_density: of the data under every measure, from K atoms to 1, ``(K,)``; None if there was no y.
        num_rows: the number n of observations, None if there were none.
        dissimilarity: "overlap" or "parameters".
    """

    measures: tuple[MixingMeasure, ...]
    linkage: Array
    masses: Array
    mean_log_density: Array | None
    num_rows: int | None
    dissimilarity: str = "parameters"

    @property
    def num_experts(self) -> int:
        """The number K of atoms at the start."""
        return len(self.measures)

    @property
    def heights(self) -> Array:
        """Heights of the merges ``(K - 1,)``: entry t is that of the merge from K - t atoms to K - t - 1."""
        return self.linkage[:, 2].copy()

    def height(self, num_experts: int) -> float:
        """The height of the merge from ``num_experts`` atoms, 2 to K, to one fewer."""
        size = self.num_experts
        return float(self.linkage[size - check_integer("num_experts", num_experts, low=2, high=size), 2])

    def measure(self, num_experts: int) -> MixingMeasure:
        """The measure with ``num_experts`` atoms, 1 to K."""
        size = self.num_experts
        return self.measures[size - check_integer("num_experts", num_experts, low=1, high=size)]

    def labels(self, num_experts: int) -> NDArray[np.int64]:
        """For every atom of the largest measure the atom of ``measure(num_experts)`` that it is part of, ``(K,)``."""
        size = self.num_experts
        clusters = [(j, [j]) for j in range(size)]
        for step in range(size - check_integer("num_experts", num_experts, low=1, high=size)):
            pair = [int(number) for number in self.linkage[step, :2]]
            joined = [leaf for number, leaves in clusters if number in pair for leaf in leaves]
            clusters = [cluster for cluster in clusters if cluster[0] not in pair] + [(size + step, joined)]
        labels = np.empty(size, dtype=np.int64)
        for atom, (_, leaves) in enumerate(clusters):
            labels[leaves] = atom
        return labels

    def gaps(self, floor: float | None = None) -> Array:
        r""":math:`\log ((h_k + c) / (h_{k+1} + c))` for k = 2, ..., K, where :math:`h_{K+1} = 0` and c is the floor.

        Args:
            floor: c, positive; :math:`0.3 n^{-1/4}` if None.

        Raises:
            ValueError: if the floor is not positive, or None while n is not known.
        """
        raised = np.log(np.append(self.heights[::-1], 0.0) + self._floor(floor))
        return np.asarray(raised[:-1] - raised[1:])

    def _floor(self, floor: float | None) -> float:
        if floor is None:
            if self.num_rows is None:
                raise ValueError("floor must be given for a dendrogram without data, got None")
            floor = _FLOOR * self.num_rows**-0.25
        if not floor > 0:
            raise ValueError(f"floor must be positive, got {floor}")
        return floor

    def _is_single(self, floor: float | None) -> bool:
        """Whether the last two atoms are as near to each other as if they shared one expert."""
        if self.dissimilarity != "overlap":
            return False
        c = self._floor(floor)
        below = np.log((_HIGHEST + c) / (self.height(2) + c))
        return bool(below > _MARGIN * self.gaps(floor).max())

    def dsc(self) -> Array:
        r"""The dendrogram selection criterion :math:`-(h_k + \log n \; \bar\ell_k)` for k = 2, ..., K; to be minimized.

        :math:`\bar\ell_k` is the mean log-density under ``measure(k)``, which is merged and not fitted again.

        Raises:
            ValueError: for a dendrogram made without y.

        Source: arXiv 2510.12744 and 2403.01684 (there DIC), with :math:`\omega_n = \log n`.
        """
        if self.mean_log_density is None or self.num_rows is None:
            raise ValueError("dsc needs the log-density of data: give x and y to mixing_dendrogram")
        return -(self.heights + np.log(self.num_rows) * self.mean_log_density[:-1])[::-1]

    def choose(self, rule: str = "gap", *, floor: float | None = None) -> int:
        r"""The number of experts.

        Args:
            rule: "gap", the k of the largest of :meth:`gaps`, or 1, see below; "dsc", the k of the smallest
                :meth:`dsc`, from 2 to K.
            floor: of "gap".

        Above the true k heights and floor are of order :math:`n^{-1/4}` or less and the gaps stay bounded, at the true
        k the gap grows like :math:`\tfrac14 \log n`, below it heights and gaps are constants: "gap" is consistent
        wherever heights converge at that rate (three and more atoms on one true expert converge more slowly; raise the
        floor). The factor 0.3 was set on simulated mixtures of two to four experts.

        Heights of "overlap" cannot exceed 1/4. So there is a gap at k = 1 too, from 1/4 down to :math:`h_2`. It grows
        like :math:`\tfrac14 \log n` if there is one expert and else is a constant: "gap" takes k = 1 if it is more than
        twice all others (twice, as experts that overlap or hold little of the data leave a gap there as well). Heights
        of "parameters" have no bound, and never say that there is one expert.
        """
        check_choice("rule", rule, _RULES)
        if self.num_experts == 1 or (rule == "gap" and self._is_single(floor)):
            return 1
        return 2 + int(np.argmax(self.gaps(floor)) if rule == "gap" else np.argmin(self.dsc()))

    def plot(self, num_experts: int | None = None, *, ax: "Axes | None" = None) -> "Axes":
        """Draw the tree, see :func:`estimators.plotting.plot_dendrogram`."""
        return plot_dendrogram(self, num_experts, ax=ax)

    def __repr__(self) -> str:
        """A row for every number of experts."""
        lines = [f"Dendrogram(K={self.num_experts}, n={self.num_rows})", f"{'k':>4}{'height':>12}{'log-density':>14}"]
        for k in range(self.num_experts, 0, -1):
            height = f"{self.height(k):.4g}" if k > 1 else ""
            density = "" if self.mean_log_density is None else f"{self.mean_log_density[self.num_experts - k]:.4f}"
            lines.append(f"{k:>4}{height:>12}{density:>14}".rstrip())
        return "\n".join(lines)


def mixing_dendrogram(
    fit: FitResult | MixtureOfExperts | MixingMeasure, x: Any = None, y: Any = None, *, dissimilarity: str | None = None
) -> Dendrogram:
    r"""Merge the atoms of a softmax-gated mixture of linear Gaussian experts two by two.

    The height of a merge is :math:`d_{ij} / (1 / p_i + 1 / p_j)` with masses p and one of two distances d:

    - "overlap" (the default with x): one minus the overlap of the two experts where their gates are
      (:func:`~estimators.model_selection.merging.bhattacharyya_gap`), p the mean gate weights over x, merging by
      projection. Heights lie between 0 and 1/4 whatever the units of x and y, so an expert of a few outliers, far away
      but light, stays low.
    - "parameters" (the default without x): distances of parameters
      (:func:`~estimators.model_selection.merging.parameter_gap`) and masses proportional to :math:`e^{\beta_0}`, after
      the code published with the paper. With x these masses are the mean gate weights and merging is by projection;
      without x, by moments, and heights depend on where x has its origin.

    Args:
        fit: an over-specified fit, of K experts; or a model, or a single mixing measure.
        x: covariates ``(n, d)``, which count alike; those of the fit if None and it has them.
        y: responses ``(n,)``, for the log-densities that "dsc" needs; likewise.
        dissimilarity: "overlap" or "parameters".

    Raises:
        TypeError: for a model that is not softmax-gated with linear Gaussian experts.
        ValueError: for a batch of measures, data of another shape, "overlap" without x, or a fit with sample weights
            without x.

    Example:
        >>> from estimators.model_selection import select_experts
        >>> from mixkit.datasets import load_faithful
        >>> x, y = load_faithful()
        >>> fit = select_experts(x, y, [4], random_state=0).best
        >>> mixing_dendrogram(fit).choose()
        2
    """
    atoms = _atoms(fit)
    if isinstance(fit, FitResult) and x is None and y is None:
        x, y = _data_of(fit)
    name = dissimilarity or ("parameters" if x is None else "overlap")
    check_choice("dissimilarity", name, ["overlap", "parameters"])
    if x is None and name == "overlap":
        raise ValueError('x must be given for dissimilarity "overlap", got None')
    if x is None and y is not None:
        raise ValueError("x must be given where y is, got None")
    rows = None if x is None else _rows("x", x, (None, atoms.slope.shape[1]))
    response = None if y is None or rows is None else _rows("y", y, (len(rows),))
    return _merge_all(atoms, rows, response, name)


def _data_of(fit: FitResult) -> tuple[Any, Any]:
    try:
        data = fit.maximum.data
    except DataRemovedError:
        return None, None
    if data.units is not None:
        raise ValueError("x must be given for a fit with groups, which a dendrogram does not use")
    if data.weight is not None:
        raise ValueError("x must be given for a fit with sample weights, which a dendrogram does not use")
    return data.x[0], data.y[0]


def _atoms(fit: Any) -> Atoms:
    model = fit.model if isinstance(fit, FitResult) else fit
    if isinstance(model, MixtureOfExperts):
        _check_gate(model)
        _check_experts(model)
        if patterned_parts(model):
            raise TypeError(
                "fit must have experts with coefficients of their own, since merged ones follow no pattern, got a "
                f"pattern in {', '.join(name for name, _ in patterned_parts(model))}"
            )
        model = MixingMeasure.from_module(model)
    if not isinstance(model, MixingMeasure):
        raise TypeError(f"fit must be a FitResult, a MixtureOfExperts or a MixingMeasure, got {type(fit).__name__}")
    if model.batch_shape:
        raise ValueError(f"fit must be a single measure, got a batch of shape {tuple(model.batch_shape)}")
    return Atoms.of(model)


def _check_gate(model: MixtureOfExperts) -> None:
    gate, temperature = model.gate, model.gate.temperature
    parts = (gate.score, gate.normalizer, gate.selection, temperature)
    kinds: tuple[type, ...] = (LinearScore, Softmax, Dense, FixedTemperature)
    is_plain = all(has_form(part, kind) for part, kind in zip(parts, kinds, strict=True))
    if not is_plain or float(getattr(temperature, "value", 0.0)) != 1.0:
        names = ", ".join(type(part).__name__ for part in parts)
        raise TypeError(f"fit must have the dense softmax gate of linear scores at temperature 1, got {names}")


def _check_experts(model: MixtureOfExperts) -> None:
    experts = model.experts
    predictor = getattr(experts, "predictor", None)
    if not has_form(experts, GaussianExperts) or not has_form(predictor, LinearPredictor) or experts.has_offset:
        of = f" of {'an offset and ' if experts.has_offset else ''}{type(predictor).__name__}" if predictor else ""
        raise TypeError(
            "fit must have Gaussian experts with linear means and no offset, for which merging is defined, got "
            f"{type(experts).__name__}{of}"
        )


def _rows(name: str, value: Any, shape: tuple[int | None, ...]) -> Array:
    values = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value, dtype=np.float64)
    if values.ndim != len(shape) or any(s is not None and s != v for s, v in zip(shape, values.shape, strict=True)):
        wanted = ", ".join("n" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} must have shape ({wanted}), got {values.shape}")
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite and have at least one row")
    return values


def _merge_all(atoms: Atoms, x: Array | None, y: Array | None, dissimilarity: str) -> Dendrogram:
    size = len(atoms.gate_bias)
    levels, numbers, counts = [atoms], list(range(size)), dict.fromkeys(range(size), 1)
    linkage = np.empty((size - 1, 4))
    for step in range(size - 1):
        height, (i, j) = _nearest(atoms, x, dissimilarity)
        atoms = merge_by_moments(atoms, (i, j)) if x is None else merge_by_projection(atoms, (i, j), x)
        counts[size + step] = counts[numbers[i]] + counts[numbers[j]]
        linkage[step] = numbers[i], numbers[j], height, counts[size + step]
        numbers = [number for at, number in enumerate(numbers) if at not in (i, j)] + [size + step]
        levels.append(atoms)
    densities = None
    if x is not None and y is not None:
        densities = np.array([float(level.log_density(x, y).mean()) for level in levels])
    measures = tuple(MixingMeasure(*(torch.as_tensor(part) for part in level)) for level in levels)
    rows = None if x is None else len(x)
    return Dendrogram(measures, linkage, _masses(levels[0], x), densities, rows, dissimilarity)


def _masses(atoms: Atoms, x: Array | None) -> Array:
    """Mean gate weights; without covariates the weights at their origin."""
    return atoms.weights(np.zeros((1, atoms.slope.shape[1])) if x is None else x).mean(0)


def _nearest(atoms: Atoms, x: Array | None, dissimilarity: str) -> tuple[float, tuple[int, int]]:
    masses = _masses(atoms, x)
    gap: Callable[[int, int], float] = partial(parameter_gap, atoms)
    if dissimilarity == "overlap" and x is not None:
        gap = partial(bhattacharyya_gap, atoms, x=x, weights=atoms.weights(x))
    pairs = combinations(range(len(masses)), 2)
    return min((harmonic_mass(float(masses[i]), float(masses[j])) * gap(i, j), (i, j)) for i, j in pairs)
