"""What functions of a fit need of it: a form, not a class, so that they stand below the class that calls them."""

from typing import Protocol

import numpy as np

from mixkit.mixture import MixtureOfExperts

from .maximum import Maximum

__all__ = ["Fitted"]


class Fitted(Protocol):
    """A fitted model with users' parameters ``(P,)`` and the maximum that they stand at."""

    @property
    def model(self) -> MixtureOfExperts:
        """The fitted model."""

    @property
    def param_names(self) -> list[str]:
        """Names of the parameters, P of them."""

    @property
    def params(self) -> np.ndarray:
        """Estimates ``(P,)``."""

    @property
    def objective_value(self) -> float:
        """What the fit maximized: the log-likelihood less the penalty."""

    @property
    def maximum(self) -> Maximum:
        """The parameter vector, its derivatives and the data."""

    @property
    def is_positive(self) -> np.ndarray:
        """Which parameters are positive by construction, ``(P,)`` bool."""

    @property
    def bse(self) -> np.ndarray:
        """Standard errors ``(P,)``."""
