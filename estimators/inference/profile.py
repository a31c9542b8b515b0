"""Profile likelihoods: one parameter held, all others refitted."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import chi2
from torch import Tensor

from ..maximum import Maximum
from ..result import FitResult
from ..wald import check_level
from .alignment import is_renumbered
from .batching import is_batched, without_penalty
from .restriction import Restricted, Restriction, climb_restricted
from .search import EndSearch

__all__ = ["ProfileWarning", "profile_intervals", "profile_likelihood"]

_MAX_ITER = 100
_TOL = 1e-9


class ProfileWarning(UserWarning):
    """Some ends of profile-likelihood intervals could not be found."""


def profile_likelihood(result: FitResult, parameter: str, values: Sequence[float]) -> np.ndarray:
    r"""The profile :math:`\max \{\ell(\theta) : \theta_i = c\}` of one parameter at several values c.

    Args:
        result: a converged fit with its data.
        parameter: one of ``result.param_names``.
        values: c ``(m,)``; positive for positive parameters.

    Returns:
        Log-likelihoods ``(m,)``; NaN where the refit, which starts at the estimate, did not reach a maximum, or reached
        one whose experts are numbered otherwise.

    Raises:
        ValueError: if there is no such parameter, or a value is out of its range.

    Example:
        >>> import numpy as np, torch
        >>> from estimators import MLE
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_tone
        >>> g = torch.Generator().manual_seed(0)
        >>> model = MixtureOfExperts(softmax_gate(1, 2, generator=g), linear_gaussian_experts(1, 2, generator=g))
        >>> result = MLE(random_state=0).fit(model, *load_tone())
        >>> drop = result.llf - profile_likelihood(result, "std[0]", [0.1, 0.2, 0.3])
        >>> bool((drop > 0).all())
        True
    """
    index = _indices(result, [parameter])
    levels = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if result.is_positive[index[0]]:
        if not (levels > 0).all():
            raise ValueError(f"values of {parameter} must be positive, got {levels.min()}")
        levels = np.log(levels)
    if levels.ndim != 1 or not np.isfinite(levels).all():
        raise ValueError(f"values must be a list of finite numbers, got {values!r}")
    rows, offset = _lines(result.maximum, index.repeat(len(levels)))
    target = torch.as_tensor(levels).to(rows) - offset
    start = _shifted(result.maximum, rows, target)
    found = _climb(result.maximum, rows, target, start)
    switched = is_renumbered(without_penalty(result.maximum.objective), found.theta, result.maximum.theta, result.model)
    return torch.where(found.converged & ~switched, found.value, torch.nan).numpy(force=True)


def profile_intervals(result: FitResult, parameters: Sequence[str] | None = None, *, level: float = 0.95) -> np.ndarray:
    r"""Intervals of the values that a likelihood-ratio test does not reject.

    The ends solve :math:`2 (\hat\ell - \max \{\ell(\theta) : \theta_i = c\}) = \chi^2_{1, level}`. They do not change
    when the parameter is transformed, and hold where the likelihood is far from quadratic. Each step of the search
    refits all other parameters by Newton's method from the last step's; where objectives are evaluated in batches, all
    ends are sought together. A refit that numbers the experts otherwise is on another branch and counts as outside.

    Args:
        result: a converged fit with its data.
        parameters: names among ``result.param_names``; None for all P.
        level: probability of covering the truth, in (0, 1).

    Returns:
        ``(len(parameters), 2)``. An end is infinite (0 for the lower end of a positive parameter) where the profile
        never drops that far: a gate that jumps has no largest weight. It is NaN, with a :class:`ProfileWarning`, where
        a refit did not converge or found a higher likelihood than the fit's.

    Raises:
        ValueError: for an unknown parameter, a level outside (0, 1), or a result without a Hessian or data.

    Source: Venzon and Moolgavkar (1988), Applied Statistics 37, 87-94.

    Example:
        >>> import torch
        >>> from estimators import MLE
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_tone
        >>> g = torch.Generator().manual_seed(0)
        >>> model = MixtureOfExperts(softmax_gate(1, 2, generator=g), linear_gaussian_experts(1, 2, generator=g))
        >>> result = MLE(random_state=0).fit(model, *load_tone())
        >>> profile_intervals(result, ["std[0]", "std[1]"]).shape
        (2, 2)
    """
    maximum, index = result.maximum, _indices(result, parameters)
    if not maximum.hessian.numel():
        raise ValueError(
            f"profile intervals need second derivatives, which a model of {result.df_model} parameters lacks"
        )
    root = float(np.sqrt(chi2.ppf(check_level(level), 1)))
    sides = 2 * len(index)
    batch = sides if is_batched(maximum.objective) else 1
    sign = np.tile([-1.0, 1.0], len(index))
    parts = [
        _ends(result, index.repeat(2)[start : start + batch], sign[start : start + batch], root)
        for start in range(0, sides, batch)
    ]
    ends, rose = (np.concatenate(columns).reshape(-1, 2) for columns in zip(*parts, strict=True))
    _warn(result, index, np.isnan(ends).any(axis=1), np.asarray(rose.any(axis=1)))
    positive = result.is_positive[index, None]
    with np.errstate(over="ignore"):
        return np.where(positive, np.exp(ends), ends)


def _indices(result: FitResult, parameters: Sequence[str] | None) -> np.ndarray:
    if parameters is None:
        return np.arange(result.df_model)
    names = [parameters] if isinstance(parameters, str) else list(parameters)
    unknown = [name for name in names if name not in result.param_names]
    if unknown:
        raise ValueError(f"parameters must be among {result.param_names}, got {unknown}")
    return np.array([result.param_names.index(name) for name in names], dtype=np.intp)


def _lines(maximum: Maximum, index: np.ndarray) -> tuple[Tensor, Tensor]:
    """Coefficients ``(m, P)`` and offsets ``(m,)`` of some of users' parameters as affine functions of the vector."""
    to_user, chosen = maximum.to_user, torch.as_tensor(index)
    identity = torch.eye(len(maximum.theta), dtype=maximum.theta.dtype, device=maximum.theta.device)
    matrix = identity if to_user.matrix is None else to_user.matrix
    return matrix[chosen], to_user.offset[chosen]


def _shifted(maximum: Maximum, rows: Tensor, levels: Tensor) -> Tensor:
    """Where a quadratic log-likelihood would have its restricted maxima, ``(m, P)``: first guesses."""
    return maximum.theta + (levels - rows @ maximum.theta).unsqueeze(-1) * _directions(maximum, rows)


def _directions(maximum: Maximum, rows: Tensor) -> Tensor:
    """How the restricted maximum moves with the level, to first order, ``(m, P)``."""
    covariance = maximum.covariance("observed").nan_to_num(0.0)
    direction = rows @ covariance
    size = (direction * rows).sum(-1, keepdim=True)
    along = direction / torch.where(size > 0, size, 1.0)
    return torch.where(size > 0, along, rows / rows.square().sum(-1, keepdim=True))


def _climb(maximum: Maximum, rows: Tensor, levels: Tensor, start: Tensor) -> Restricted:
    return climb_restricted(Restriction(maximum.objective, rows, levels), start, max_iter=_MAX_ITER, tol=_TOL)


def _ends(result: FitResult, index: np.ndarray, sign: np.ndarray, root: float) -> tuple[np.ndarray, np.ndarray]:
    """The ends on the sides given by ``sign (m,)`` of the parameters at ``index (m,)``, logarithms of positive ones.

    Returns:
        The ends ``(m,)``, and which profiles rose above the fit on the way, ``(m,)`` bool.
    """
    maximum = result.maximum
    rows, offset = _lines(maximum, index)
    directions = _directions(maximum, rows)
    centre = rows @ maximum.theta
    variance = (rows * (rows @ maximum.covariance("observed").nan_to_num(0.0))).sum(-1)
    determined = torch.as_tensor(~np.isnan(result.bse[index])).to(variance.device) & (variance > 0)
    unit = torch.where(determined, variance.clamp(min=0.0).sqrt(), rows.norm(dim=-1) + 0.5 * centre.abs())
    search = EndSearch(torch.as_tensor(sign).to(unit) * unit, root)
    path = _Path(maximum, directions)
    for active, distance in search.rounds():
        found = _best_refit(result, rows[active], centre[active] + distance, path.starts(active, distance), root)
        drop = result.objective_value - found.value
        drop[is_renumbered(without_penalty(maximum.objective), found.theta, maximum.theta, result.model)] = torch.inf
        is_inside = search.tell(active, distance, drop, found.converged)
        path.move(active[is_inside], distance[is_inside], found.theta[is_inside])
    return (centre + offset + search.ends()).numpy(force=True), search.rose.numpy(force=True)


class _Path:
    """The last two restricted maxima inside each interval, from which the next refit starts."""

    def __init__(self, maximum: Maximum, directions: Tensor) -> None:
        self.directions = directions
        self.theta = maximum.theta.expand(len(directions), -1).clone()
        self.at = torch.zeros_like(directions[:, 0])
        self.slope = directions.clone()

    def starts(self, active: Tensor, distance: Tensor) -> list[Tensor]:
        """First guesses ``(a, P)`` at new distances: along the secant, and along the first tangent."""
        step = (distance - self.at[active]).unsqueeze(-1)
        return [self.theta[active] + step * slope[active] for slope in (self.slope, self.directions)]

    def move(self, index: Tensor, distance: Tensor, theta: Tensor) -> None:
        """Take in new points inside."""
        self.slope[index] = (theta - self.theta[index]) / (distance - self.at[index]).unsqueeze(-1)
        self.theta[index], self.at[index] = theta, distance


def _best_refit(result: FitResult, rows: Tensor, levels: Tensor, starts: list[Tensor], root: float) -> Restricted:
    """Refits from the first start, and from the second where the first ends outside the interval or at no maximum."""
    first = _climb(result.maximum, rows, levels, starts[0])
    outside = ~(2.0 * (result.objective_value - first.value) < root**2)
    again = (outside | ~first.converged).nonzero().squeeze(-1)
    if not len(again):
        return first
    second = _climb(result.maximum, rows[again], levels[again], starts[1][again])
    better = (second.value > first.value[again]) | (second.converged & ~first.converged[again])
    for whole, part in zip(first, second, strict=True):
        whole[again[better]] = part[better]
    return first


def _warn(result: FitResult, index: np.ndarray, lost: np.ndarray, rose: np.ndarray) -> None:
    names = np.array(result.param_names)[index]
    if lost.any():
        higher = f"; those of {', '.join(names[rose])} met a higher likelihood than the fit's: use more starts"
        warnings.warn(
            f"no end of a profile interval for {', '.join(names[lost])}, where refits did not reach a maximum or rose "
            f"above the fit{higher if rose.any() else ''}",
            ProfileWarning,
            stacklevel=3,
        )
