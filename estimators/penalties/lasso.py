"""The lasso: slopes that are exactly zero."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..optimizers.parameter_map import Entry
from .base import PenaltyView
from .slopes import SlopePenalty

__all__ = ["Lasso"]


@dataclass(frozen=True)
class Lasso(SlopePenalty):
    r"""Lasso penalty on the slopes of gate and experts, in standardized units.

    .. math:: \lambda_g \sum_{j < k} \| \gamma_j \|_1 + \lambda_e \sum_j \| a_j \|_1

    is subtracted from the total (not the mean) log-likelihood. Units are those of
    :class:`~estimators.penalties.Ridge`; gate slopes are those relative to the reference expert, so that a slope of
    zero means that two experts' odds do not depend on a covariate. With one Gaussian expert the fit is ``Lasso(alpha)``
    of scikit-learn on standardized data with :math:`\alpha = \lambda_e \hat\sigma^2 / n`.

    Each slope is split into a positive and a negative part, both at least zero, in which the penalty is smooth;
    Newton's method with bounds then ends where zero slopes are held by their subgradients, strictly, and ``converged``
    certifies both. Standard errors are those of the parameters that are left, the zeros taken as known; zeros have
    none. They do not account for the choice.

    Adds to other penalties with ``+``. Only for softmax gates and experts with linear predictors.

    Args:
        gate: lambda of the gate, non-negative.
        experts: lambda of the experts, non-negative.

    Raises:
        ValueError: if one is negative or not finite; from a fit, for models without linear predictors and
            for Laplace experts, whose log-density has kinks.

    Source: Tibshirani (1996), JRSS B 58, 267-288; for mixtures of experts Khalili (2010), Canadian Journal of
    Statistics 38, 519-539.

    Example:
        >>> from estimators import EM
        >>> from estimators.penalties import Lasso, Ridge
        >>> EM(penalty=Lasso(experts=5.0) + Ridge(gate=1.0)).penalty
        Lasso(gate=0.0, experts=5.0) + Ridge(gate=1.0, experts=0.0, scaled=False)
    """

    is_smooth = False

    def strengths(self, entries: Sequence[Entry], like: Tensor) -> Tensor:
        """Lambda of each standardized coefficient, ``(P,)``; zero for what is not penalized."""
        values = [self.strength(record) for record, _ in entries]
        return torch.tensor(values, dtype=like.dtype, device=like.device)

    def value(self, view: PenaltyView) -> Tensor:
        """Not used: the objective of the lasso has other coordinates."""
        raise TypeError("the lasso has no smooth value; fit with an estimator's penalty=Lasso(...)")
