"""What EM needs beside the log-likelihood: expected counts of the experts, and M-steps."""

from abc import abstractmethod

import torch
from torch import Tensor

from ..data.dataset import Data
from .function import SmoothFunction

__all__ = ["EMSteps"]


class EMSteps(SmoothFunction):
    """A log-likelihood that EM raises.

    Attributes:
        data: the observations.
        total_weight: sum of the observations' weights, ``(r,)``.
    """

    data: Data
    total_weight: Tensor

    @abstractmethod
    def em_step(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Log-likelihood at ``theta`` and the parameters after one E-step and M-step from there."""

    @abstractmethod
    def damped_m_step(self, theta: Tensor, candidate: Tensor, fraction: float) -> Tensor:
        """A shorter step from ``theta`` towards ``candidate``, never lowering the likelihood as ``fraction`` -> 0."""

    @abstractmethod
    def from_responsibilities(self, responsibilities: Tensor) -> Tensor:
        """Parameters fitted to given responsibilities ``(r, s, k, n)``: how a fit starts."""

    @abstractmethod
    def expected_counts(self, theta: Tensor) -> Tensor:
        """Total responsibility of each expert, ``(r, s, k)``, each observation's times its weight."""

    @property
    def mean_weight(self) -> Tensor:
        """Mean of the positive weights of each data set, ``(r,)``."""
        weight = self.data.weight
        return torch.ones_like(self.total_weight) if weight is None else self.total_weight / (weight > 0).sum(-1)

    def observations(self, theta: Tensor) -> Tensor:
        """Total responsibility of each expert in observations of mean weight, ``(r, s, k)``.

        It does not change when all weights are multiplied by a number.
        """
        return self.expected_counts(theta) / self.mean_weight[:, None, None]
