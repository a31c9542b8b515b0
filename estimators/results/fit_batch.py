"""Fits of many data sets at once."""

from dataclasses import dataclass

import numpy as np

from mixkit.measure import MixingMeasure
from mixkit.mixture import MixtureOfExperts

__all__ = ["FitBatch", "NoFiniteStartWarning"]


class NoFiniteStartWarning(UserWarning):
    """A data set of several fitted together has no start with a finite log-likelihood; its results are NaN."""


@dataclass(eq=False)
class FitBatch:
    """Fits of one model to ``r`` data sets; of one on which no start has a finite log-likelihood, all numbers are NaN.

    Attributes:
        models: the fitted model of each data set, float64.
        llf: total log-likelihoods ``(r,)``.
        converged: whether each end is a maximum ``(r,)``.
        grad_norm: largest gradient entry per observation ``(r,)``.
        predicted_gain: what one more Newton step would add to each log-likelihood ``(r,)``.
        num_iterations: Newton or EM iterations of the batch.
    """

    models: list[MixtureOfExperts]
    llf: np.ndarray
    converged: np.ndarray
    grad_norm: np.ndarray
    predicted_gain: np.ndarray
    num_iterations: int

    @property
    def measure(self) -> MixingMeasure:
        """All the fits as one batched mixing measure."""
        return MixingMeasure.stack([MixingMeasure.from_module(model).detach() for model in self.models])

    def __len__(self) -> int:
        """The number r of data sets."""
        return len(self.models)
