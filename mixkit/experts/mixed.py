"""Experts of different families behind one gate."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from ..distributions import PerComponentDistribution
from ..parameters import ParameterRecord
from .base import Experts

__all__ = ["MixedExperts"]


class MixedExperts(Experts):
    r"""Families of experts side by side, so that the gate selects the family: :math:`p(y \mid x) = \sum_j w_j(x) f_j`.

    All densities must be taken with respect to one measure, and no two families may overlap in part of it: counts
    with counts, continuous laws with continuous laws, a point mass with laws that give its value density zero.

    Args:
        families: experts of scalar responses; the k of this container is the sum of theirs, in their order.

    Raises:
        TypeError: if one is no family of experts.
        ValueError: if there is none.

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
        super().__init__()
        if not len(families):
            raise ValueError("families must hold at least one family of experts, got none")
        for family in families:
            if not isinstance(family, Experts):
                raise TypeError(f"families must hold mixkit.experts.Experts, got {type(family).__name__}")
        self.families = nn.ModuleList(families)
        self.num_experts = sum(family.num_experts for family in families)

    def forward(self, x: Tensor) -> PerComponentDistribution:
        """The laws of all families, batch shape ``(*batch, n, k)``."""
        covariates = x[..., :-1] if self.has_offset else x
        laws = [family(x if family.has_offset else covariates) for family in self.families]
        return PerComponentDistribution(laws, validate_args=False)

    def adapt_record(self, record: ParameterRecord) -> ParameterRecord:
        """A record, its experts numbered among those of all families; generic ones keep their whole name."""
        family = record.family or ""
        before = 0
        for index, own in enumerate(self.families):
            if family == f"families.{index}":
                break
            before += int(own.num_experts)  # type: ignore[arg-type]
        block = record.name if record.is_generic else record.block
        return replace(record, first_expert=record.first_expert + before, block=block)

    @property
    def has_offset(self) -> bool:
        """Whether the last column of x is an offset of some family; the others do not see it."""
        return any(family.has_offset for family in self.families)

    def check_response(self, y: Tensor) -> Tensor:
        """Return ``y`` if every family takes it."""
        for family in self.families:
            family.check_response(y)  # type: ignore[operator]
        return super().check_response(y)

    def extra_repr(self) -> str:
        """The size shown by ``repr``."""
        return f"num_experts={self.num_experts}"
