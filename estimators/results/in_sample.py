"""What a fit says of the observations that it was fitted to."""

import numpy as np
import torch

from .likelihood_inference import LikelihoodInference

__all__ = ["InSample"]


class InSample(LikelihoodInference):
    """The part of a result that needs its data: rows of positive weight, in their order.

    Raises:
        DataRemovedError: after ``remove_data``, and for results read from a file; ``predict`` takes any covariates.
    """

    @property
    def fittedvalues(self) -> np.ndarray:
        """Conditional means at the covariates of the fit, ``(n,)`` or ``(n, p)``; of classes, of their indices."""
        with torch.no_grad():
            return self._law(self.maximum.data.x[0]).mean.numpy(force=True)

    @property
    def resid(self) -> np.ndarray:
        """Responses less :attr:`fittedvalues`; those of ``residuals(x, y)`` are standard normal for any family."""
        return self.maximum.data.y[0].numpy(force=True) - self.fittedvalues
