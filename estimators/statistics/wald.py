"""Wald intervals and the delta method."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from ..data.tensors import shared_tensor
from .covariance import propagate_variances

__all__ = ["DeltaEstimate", "check_level", "delta_method", "wald_intervals"]


def check_level(level: float) -> float:
    """Return ``level`` if it is a probability strictly between 0 and 1."""
    if not isinstance(level, Real) or isinstance(level, bool):
        raise TypeError(f"level must be a number, got {type(level).__name__}")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be strictly between 0 and 1, got {level}")
    return float(level)


def wald_intervals(values: np.ndarray, errors: np.ndarray, is_positive: np.ndarray, *, level: float) -> np.ndarray:
    r"""Intervals :math:`\hat\theta \pm z\,\mathrm{se}`, or :math:`\hat\theta \exp(\pm z\,\mathrm{se} / \hat\theta)`.

    Args:
        values: estimates ``(P,)``.
        errors: standard errors ``(P,)``.
        is_positive: which parameters are positive, and have the second form, ``(P,)`` bool.
        level: probability of covering the truth, in (0, 1).

    Returns:
        ``(P, 2)``: lower and upper ends; NaN where the standard error is.

    Raises:
        TypeError: if ``level`` is not a number.
        ValueError: if it is not strictly between 0 and 1.

    Example:
        >>> import numpy as np
        >>> wald_intervals(np.array([1.0, 1.0]), np.array([0.1, 0.1]), np.array([False, True]), level=0.95).round(3)
        array([[0.804, 1.196],
               [0.822, 1.217]])
    """
    quantile = norm.ppf(0.5 + 0.5 * check_level(level))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        factor = np.exp(quantile * errors / values)
        low = np.where(is_positive, values / factor, values - quantile * errors)
        high = np.where(is_positive, values * factor, values + quantile * errors)
    return np.stack([low, high], -1)


@dataclass(frozen=True, eq=False)
class DeltaEstimate:
    """A function of the estimates, with its uncertainty to first order.

    Attributes:
        value: of the function, any shape, here ``(*shape)``.
        std_error: standard errors ``(*shape)``; NaN where the function depends on an undetermined parameter.
        interval: ``(*shape, 2)``, the value plus and minus the normal quantile times the standard error.
        level: probability with which each interval covers, to first order.
    """

    value: np.ndarray
    std_error: np.ndarray
    interval: np.ndarray
    level: float

    def __repr__(self) -> str:
        """The figures of a scalar; the shape of others."""
        if self.value.ndim:
            return f"DeltaEstimate(shape={self.value.shape}, level={self.level:g})"
        low, high = self.interval
        return f"DeltaEstimate({self.value:.6g}, std_error={self.std_error:.4g}, interval=[{low:.6g}, {high:.6g}])"


class _Named(dict[str, Tensor]):
    """Parameters by name; a wrong name is told the right ones."""

    def __missing__(self, name: str) -> Tensor:
        raise KeyError(f"no parameter is named {name!r}; the names are {list(self)}")


def delta_method(
    function: Callable[[Mapping[str, Tensor]], Tensor],
    parameters: Mapping[str, float],
    covariance: np.ndarray,
    *,
    level: float = 0.95,
) -> DeltaEstimate:
    r"""Standard errors of a function of parameters, :math:`\sqrt{\mathrm{diag}(J C J^\top)}`, J by autograd.

    Args:
        function: of a mapping from names to scalar tensors; returns a tensor of any shape.
        parameters: estimates by name, P of them.
        covariance: of the estimates, ``(P, P)``; may hold NaN.
        level: of the intervals, in (0, 1).

    Raises:
        KeyError: if ``function`` asks for another name.
        TypeError: if ``function`` does not return a tensor.
        ValueError: if the value does not depend on the parameters by differentiable operations.

    Example:
        >>> import numpy as np
        >>> delta_method(lambda p: p["a"] / p["b"], {"a": 1.0, "b": 2.0}, np.diag([0.04, 0.0]))
        DeltaEstimate(0.5, std_error=0.1, interval=[0.304004, 0.695996])
    """
    names = list(parameters)
    point = torch.tensor(list(parameters.values()), dtype=torch.float64)

    def flat(vector: Tensor) -> Tensor:
        value = function(_Named(zip(names, vector.unbind(), strict=True)))
        if not isinstance(value, Tensor):
            raise TypeError(f"function must return a torch.Tensor of the parameters, got {type(value).__name__}")
        return value

    return estimate_at(flat, point, shared_tensor(np.asarray(covariance, dtype=np.float64)), level=level)


def estimate_at(
    function: Callable[[Tensor], Tensor], point: Tensor, covariance: Tensor, *, level: float
) -> DeltaEstimate:
    """The delta method for a ``function`` of one vector ``(P,)``."""
    leaf = point.detach().clone().requires_grad_()
    value = function(leaf)
    if not value.requires_grad:
        raise ValueError("function must depend on the parameters by differentiable torch operations, got a constant")
    variance = propagate_variances(_jacobian(value.flatten(), leaf), covariance)
    estimate = value.detach().numpy(force=True)
    error = variance.clamp(min=0.0).sqrt().reshape(value.shape).numpy(force=True)
    quantile = norm.ppf(0.5 + 0.5 * check_level(level))
    interval = np.stack([estimate - quantile * error, estimate + quantile * error], -1)
    return DeltaEstimate(estimate, error, interval, level)


def _jacobian(values: Tensor, leaf: Tensor) -> Tensor:
    """Derivatives ``(m, P)`` of ``values (m,)`` in ``leaf (P,)``, by m passes of autograd, or P if these are fewer."""
    if len(values) <= len(leaf):
        return torch.stack([torch.autograd.grad(value, leaf, retain_graph=True)[0] for value in values])
    weights = torch.ones_like(values, requires_grad=True)  # the gradient of their weighted sum is linear in the weights
    (gradient,) = torch.autograd.grad(values, leaf, weights, create_graph=True)
    columns = [torch.autograd.grad(entry, weights, retain_graph=True)[0] for entry in gradient]
    return torch.stack(columns, -1)
