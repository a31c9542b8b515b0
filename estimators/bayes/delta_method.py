"""A normal distribution of the real vector in users' parameters, to first order."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..statistics.wald import wald_intervals
from .model import BayesianMixtureOfExperts
from .user_parameters import reported, user_entries

__all__ = ["UserMoments", "user_moments"]


class UserMoments(NamedTuple):
    """Names, values at the mode ``(P,)``, covariance ``(P, P)``, and which parameters are scales, ``(P,)`` bool."""

    names: list[str]
    values: np.ndarray
    covariance: np.ndarray
    is_positive: np.ndarray

    @property
    def std(self) -> np.ndarray:
        """Standard deviations ``(P,)``."""
        return np.sqrt(np.diag(self.covariance))

    def interval(self, *, level: float) -> np.ndarray:
        """Central intervals ``(P, 2)``, those of scales on the log scale."""
        return wald_intervals(self.values, self.std, self.is_positive, level=level)


def user_moments(bayes: BayesianMixtureOfExperts, mode: Tensor, factor: Tensor) -> UserMoments:
    """The distribution of ``mode + factor z``, z standard normal, in the parameters of fits (the delta method).

    Args:
        bayes: gives the parameters.
        mode: real vector ``(P,)``.
        factor: ``(P, P)``.
    """

    def users(vector: Tensor) -> Tensor:
        return reported(bayes, bayes.parameters(vector))[1]

    names = reported(bayes, bayes.parameters(mode))[0]
    jacobian = torch.autograd.functional.jacobian(users, mode)
    spread = jacobian @ factor
    positive = [
        bool(record.transform.is_positive(tuple(bayes.shapes[record.name]))[index])
        for record, index in user_entries(bayes)
    ]
    covariance = (spread @ spread.mT).numpy(force=True)
    return UserMoments(names, users(mode).numpy(force=True), covariance, np.array(positive, dtype=bool))
