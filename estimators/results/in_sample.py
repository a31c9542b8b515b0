"""What a fit says of the observations that it was fitted to."""

import numpy as np
import torch
from torch import Tensor

from .likelihood_inference import LikelihoodInference

__all__ = ["InSample"]


class InSample(LikelihoodInference):
    """The part of a result that needs its data: rows of positive weight, in their order.

    Raises:
        DataRemovedError: after ``remove_data``, and for results read from a file; ``predict`` takes any covariates.
    """

    _fitted_rows: Tensor | None

    @property
    def fittedvalues(self) -> np.ndarray:
        """Conditional means at the covariates of the fit, ``(n,)`` or ``(n, p)``; of classes, of their indices."""
        with torch.no_grad():
            return self._in_order(self._law(self.maximum.data.x[0]).mean)

    @property
    def resid(self) -> np.ndarray:
        """Responses less :attr:`fittedvalues`; those of ``residuals(x, y)`` are standard normal for any family."""
        return self._in_order(self.maximum.data.y[0]) - self.fittedvalues

    def _in_order(self, values: Tensor) -> np.ndarray:
        """Values ``(n, ...)`` of the rows of the fit, which has those of a group together, in the order of the data."""
        return (values if self._fitted_rows is None else values[self._fitted_rows.argsort()]).numpy(force=True)
