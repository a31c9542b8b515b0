"""Experts of different families behind one gate."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from ..distributions import PerComponentDistribution
from ..parameters import ParameterRecord
from .base import Experts
from .dominating_measure import DominatingMeasure
from .several_families import SeveralFamilies

__all__ = ["MixedExperts"]


class MixedExperts(SeveralFamilies):
    r"""Families of experts side by side, so that the gate selects the family: :math:`p(y \mid x) = \sum_j w_j(x) f_j`.

    All densities must be taken with respect to one measure: counts with counts, continuous distributions with
    continuous ones, a point mass with counts or with distributions that give its value density zero. A log-normal
    density goes with a point mass at zero, a Gaussian one with none.

    Args:
        families: experts of scalar responses; the k of this container is the sum of theirs, in their order.

    Raises:
        TypeError: if one is no family of experts.
        ValueError: if there is none, one does not say its ``dominating_measure``, or two are of measures that clash
            (:class:`~mixkit.experts.DominatingMeasure`), or two know different columns of x (an offset, numbers of
            trials).

    Source: the gate as selector of a distribution: Weng et al. (2024), arXiv 2408.08585, section 4.

    Example:
        >>> import torch
        >>> from mixkit.experts import PointMassExperts, LogNormalExperts
        >>> from mixkit.experts.predictors import LinearPredictor
        >>> log_normal = LogNormalExperts(LinearPredictor(1, 2, generator=torch.Generator().manual_seed(0)))
        >>> experts = MixedExperts([PointMassExperts(0.0), log_normal])
        >>> experts.num_experts, experts(torch.zeros(4, 1)).log_prob(torch.zeros(4, 1))[0].tolist()
        (3, [0.0, -inf, -inf])
    """

    def __init__(self, families: Sequence[Experts]) -> None:
        super().__init__(families)
        _check_measures(families)
        self.num_experts = sum(family.num_experts for family in families)

    @property
    def dominating_measure(self) -> DominatingMeasure:  # type: ignore[override]
        """The measures of all families together; of their intervals the hull."""
        parts = [_declared(family) for family in self._parts()]
        intervals = [part.interval for part in parts if part.interval is not None]
        ends = [min(low for low, _ in intervals), max(high for _, high in intervals)] if intervals else []
        values = tuple(dict.fromkeys(value for part in parts for value in part.values))
        has_counts = any(part.has_counts for part in parts)
        return DominatingMeasure((ends[0], ends[1]) if ends else None, values, has_counts)

    def forward(self, x: Tensor) -> PerComponentDistribution:
        """The distributions of all families, batch shape ``(*batch, n, k)``."""
        laws = [family(rows) for family, rows in zip(self._parts(), self._rows(x), strict=True)]
        return PerComponentDistribution(laws, validate_args=False)

    def adapt_record(self, record: ParameterRecord) -> ParameterRecord:
        """A record, its experts numbered among those of all families; generic ones keep their whole name."""
        family = record.family or ""
        before = 0
        for index, own in enumerate(self._parts()):
            if family == f"families.{index}":
                break
            before += own.num_experts
        block = record.name if record.is_generic else record.block
        return replace(record, first_expert=record.first_expert + before, block=block, is_part=len(self.families) > 1)

    def check_response(self, y: Tensor) -> Tensor:
        """Return ``y`` if every family takes it."""
        for family in self._parts():
            family.check_response(y)
        return super().check_response(y)

    def check_rows(self, x: Tensor, y: Tensor) -> Tensor:
        """Return ``y`` if every family takes it at ``x``."""
        for family, rows in zip(self._parts(), self._rows(x), strict=True):
            family.check_rows(rows, y)
        return super().check_rows(x, y)

    def extra_repr(self) -> str:
        """The size shown by ``repr``."""
        return f"num_experts={self.num_experts}"


def _check_measures(families: Sequence[Experts]) -> None:
    """Refuse families whose densities cannot be added."""
    measures = [_declared(family) for family in families]
    for (one, own), (other, its) in itertools.combinations(zip(families, measures, strict=True), 2):
        value = own.clash(its)
        if value is not None:
            raise ValueError(
                "families must have densities with respect to one measure, got "
                f"{type(one).__name__} and {type(other).__name__}, of which one has a mass at {value:g} and the other "
                "a density there"
            )


def _declared(family: Experts) -> DominatingMeasure:
    if family.dominating_measure is None:
        raise ValueError(
            f"families must say their dominating_measure, as REAL_LINE or COUNTS, got {type(family).__name__} with None"
        )
    return family.dominating_measure
