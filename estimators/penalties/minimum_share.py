"""A least share of the data for every expert."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from mixkit._validation import check_positive

from .base import Penalty, PenaltyView

__all__ = ["MinimumShare"]


@dataclass(frozen=True)
class MinimumShare(Penalty):
    r"""Keeps the mean gate weight of every expert above ``share``, by a barrier.

    .. math:: -\mu \sum_j \log\Big(\frac{\bar w_j - \delta}{1 - k \delta}\Big), \qquad
        \bar w_j = \frac{1}{n} \sum_i w_j(x_i)

    is subtracted from the log-likelihood, plus infinity where :math:`\bar w_j \le \delta`: a Dirichlet prior on what
    the shares have above :math:`\delta`, weak where they have much. No start or step leaves the allowed region.

    Args:
        share: delta, positive; less than one over the number of experts.
        strength: mu, positive.

    Raises:
        ValueError: if an argument is not positive; from a fit, if ``share`` is not below 1/k.

    Example:
        >>> from estimators import EM
        >>> from estimators.penalties import MinimumShare
        >>> EM(penalty=MinimumShare(0.05)).penalty
        MinimumShare(share=0.05, strength=1.0)
    """

    share: float
    strength: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_positive("share", self.share)
        check_positive("strength", self.strength)

    def value(self, view: PenaltyView) -> Tensor:
        """The barrier at the parameters of ``view``."""
        gate, prefix, records = view.model.gate, "gate.", view.records
        if self.share * gate.num_experts >= 1.0:
            raise ValueError(f"share must be below 1 / k = {1.0 / gate.num_experts:.4g}, got {self.share}")
        own = {name[len(prefix) :]: v for name, v in view.parameters.items() if records[name].family is None}
        weights = functional_call(gate, own, (view.x,)).exp()
        mean = (view.weight.unsqueeze(-1) * weights).sum(0) / view.weight.sum()
        room = (mean - self.share) / (1.0 - gate.num_experts * self.share)
        return -self.strength * torch.where(room > 0, room, torch.nan).log().sum()
