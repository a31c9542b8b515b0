"""Component distributions that torch lacks a distribution function for."""

from typing import Any

import scipy.special
import torch
from torch import Tensor, distributions

__all__ = ["Poisson", "StudentT"]


class Poisson(distributions.Poisson):
    r"""The Poisson law with its distribution function, :math:`F(y) = Q(\lfloor y \rfloor + 1, \lambda)`.

    Here Q is the regularised upper incomplete gamma function. Differentiable in ``value`` nowhere and in ``rate``
    not supported by torch; log-probabilities are torch's own.

    Example:
        >>> import torch
        >>> Poisson(torch.tensor(2.0)).cdf(torch.tensor(1.0))  # 3 exp(-2)
        tensor(0.4060)
    """

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of a count of at most ``value``."""
        counts = torch.floor(value).clamp(min=0.0)
        below = torch.special.gammaincc(counts + 1.0, self.rate)
        return torch.where(value < 0, torch.zeros_like(below), below)


class StudentT(distributions.StudentT):
    """Student's t law with its distribution and quantile functions (SciPy's ``stdtr`` and ``stdtrit``).

    ``cdf`` and ``icdf`` leave the autograd graph: they are for intervals, not for training.

    Example:
        >>> import torch
        >>> law = StudentT(torch.tensor(3.0), torch.tensor(0.0), torch.tensor(2.0))
        >>> law.cdf(law.icdf(torch.tensor(0.9)))
        tensor(0.9000)
    """

    def _numpy(self, function: Any, value: Tensor) -> Tensor:
        result = function(self.df.detach().cpu().double().numpy(), value.detach().cpu().double().numpy())
        return torch.as_tensor(result, dtype=value.dtype, device=value.device)

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of a value of at most ``value``."""
        return self._numpy(scipy.special.stdtr, (value - self.loc) / self.scale)

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile at probability ``value``."""
        return self.loc + self.scale * self._numpy(scipy.special.stdtrit, value)
