"""Profile likelihoods: one parameter held, all others refitted."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import chi2
from torch import Tensor

from ..penalties.build import without_penalty
from ..statistics.wald import check_level
from .alignment import is_renumbered
from .fitted import Fitted
from .maximum import Maximum
from .profile_refits import best_refit, is_of_gate, with_scaled_gate
from .profile_roots import EndSearch
from .restriction import Restricted

__all__ = ["ProfileWarning", "profile_intervals", "profile_likelihood"]

_SAME = 1e-6  # relative difference of log-likelihoods that is rounding
_MAX_SWEEPS = 20


class ProfileWarning(UserWarning):
    """Some ends of profile-likelihood intervals could not be found."""


def profile_likelihood(result: Fitted, parameter: str, values: Sequence[float]) -> np.ndarray:
    r"""The profile :math:`\max \{\ell(\theta) : \theta_i = c\}` of one parameter at several values c.

    Args:
        result: a converged fit with its data.
        parameter: one of ``result.param_names``.
        values: c ``(m,)``; positive for positive parameters.

    Returns:
        Log-likelihoods ``(m,)``, less the penalty if there is one. NaN, with a :class:`ProfileWarning`, where no refit
        reached a maximum or where its experts are numbered otherwise. Where the profile is lower than farther from the
        estimate it is sought again from both neighbors among the values, until neither leads higher: so what falls
        and rises again is the profile itself, as far as steps from value to value can tell.

    Raises:
        ValueError: if there is no such parameter, the lasso set it to zero, or a value is out of its range.

    Example:
        >>> import numpy as np, torch
        >>> from estimators import MLE
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_tone
        >>> g = torch.Generator().manual_seed(0)
        >>> model = MixtureOfExperts(softmax_gate(1, 2, generator=g), linear_gaussian_experts(1, 2, generator=g))
        >>> result = MLE(random_state=0).fit(model, *load_tone())
        >>> drop = result.llf - profile_likelihood(result, "std[0]", [0.04, 0.05, 0.06])
        >>> bool((drop > 0).all())
        True
    """
    index = _indices(result, [parameter])
    if not bool(result.maximum.to_user.is_affine[int(index[0])]):
        raise ValueError(f"parameter must be a function of one of the model's own, got {parameter!r}, one of several")
    if bool(result.maximum.objective.is_zeroed[int(index[0])]):
        raise ValueError(f"parameter must not be one that the lasso set to zero, got {parameter!r}")
    given = levels = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if result.is_positive[index[0]]:
        if not (levels > 0).all():
            raise ValueError(f"values of {parameter} must be positive, got {levels.min()}")
        levels = np.log(levels)
    if levels.ndim != 1 or not np.isfinite(levels).all():
        raise ValueError(f"values must be a list of finite numbers, got {values!r}")
    found = _refits(result, index.repeat(len(levels)), levels)
    lost = _is_lost(result, found)
    if lost.any():
        warnings.warn(
            f"no profile of {parameter} at {', '.join(f'{given[i]:g}' for i in lost.nonzero()[0])}: refits did not "
            "reach a maximum or numbered the experts otherwise",
            ProfileWarning,
            stacklevel=2,
        )
    return np.where(lost, np.nan, found.value.numpy(force=True))


def profile_intervals(result: Fitted, parameters: Sequence[str] | None = None, *, level: float = 0.95) -> np.ndarray:
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
        a refit did not converge or found a higher likelihood than the fit's, where the profile jumps past the level,
        and for coefficients that the lasso set to zero. Where the profile rises again and crosses the level more than
        once, an end is one of the crossings: :func:`profile_likelihood` shows them all.

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
            f"profile intervals need second derivatives, which a model of {len(result.params)} parameters lacks"
        )
    root = float(np.sqrt(chi2.ppf(check_level(level), 1)))
    sides = 2 * len(index)
    batch = sides if maximum.objective.is_batched else 1
    sign = np.tile([-1.0, 1.0], len(index))
    ends, rose = np.full(sides, np.nan), np.zeros(sides, dtype=bool)
    zeroed = maximum.objective.is_zeroed.numpy(force=True)[index]
    bent = ~maximum.to_user.is_affine.numpy(force=True)[index]
    open_sides = (~(zeroed | bent).repeat(2)).nonzero()[0]
    for start in range(0, len(open_sides), batch):
        part = open_sides[start : start + batch]
        ends[part], rose[part] = _ends(result, index.repeat(2)[part], sign[part], root)
    pairs = ends.reshape(-1, 2)
    _warn(result, index, np.isnan(pairs).any(axis=1) & ~zeroed, rose[0::2] | rose[1::2], zeroed)
    positive = result.is_positive[index, None]
    with np.errstate(over="ignore"):
        return np.where(positive, np.exp(pairs), pairs)


def _indices(result: Fitted, parameters: Sequence[str] | None) -> np.ndarray:
    if parameters is None:
        return np.arange(len(result.params))
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


def _refits(result: Fitted, index: np.ndarray, levels: np.ndarray) -> Restricted:
    """Restricted maxima from the fit; lost ones again from those at the next values, until that helps no more."""
    maximum, which = result.maximum, torch.as_tensor(index)
    rows, offset = _lines(maximum, index)
    target = torch.as_tensor(levels).to(rows)
    which, held = which.to(rows.device), target - offset
    fit, enough = maximum.theta.expand_as(rows), torch.full_like(held, torch.inf)
    starts = _ordered(with_scaled_gate(maximum, fit, which, target), [_shifted(maximum, rows, held), fit])
    found, order = best_refit(maximum, rows, held, starts, enough), target.argsort()
    directions, tried = _directions(maximum, rows), {step: torch.full_like(rows, torch.nan) for step in (1, -1)}
    idle = 0
    for sweep in range(_MAX_SWEEPS if len(order) > 1 else 0):
        step = 1 - 2 * (sweep % 2)
        neighbor = torch.empty_like(order)
        neighbor[order] = order.roll(step)
        near = found.theta[neighbor]
        is_open = torch.as_tensor(_is_suspect(result, index[0], levels, found)).to(rows.device)
        lost = (is_open & (near != tried[step]).any(-1)).nonzero().squeeze(-1)  # what was tried would end as before
        tried[step] = near.clone()
        idle = 0 if len(lost) else idle + 1
        if idle == 2:
            break
        if idle:
            continue
        move = (held - (rows * near).sum(-1)).unsqueeze(-1) * directions
        starts = _ordered(with_scaled_gate(maximum, near, which, target), [near + move])
        again = best_refit(maximum, rows[lost], held[lost], [start[lost] for start in starts], enough[lost])
        _keep_better(found, again, lost)
    return found


def _keep_better(found: Restricted, again: Restricted, at: Tensor) -> None:
    """Put refits in the places ``at`` where they end higher, or as high where none had reached a maximum."""
    before = found.value[at]
    gain = again.value - before
    better = gain > _SAME * (1.0 + before.abs())
    better |= again.converged & ~found.converged[at] & (gain > -_SAME)
    better |= torch.isfinite(again.value) & ~torch.isfinite(before)
    for whole, part in zip(found, again, strict=True):
        whole[at[better]] = part[better]


def _ordered(scaled: Tensor, others: list[Tensor]) -> list[Tensor]:
    """The scaled gates first where there are any, with the next start after them in their stead elsewhere."""
    has_scaled = torch.isfinite(scaled).all(-1, keepdim=True)
    first = torch.where(has_scaled, scaled, others[0])
    return [first, torch.where(has_scaled, others[0], torch.nan), *others[1:]]


def _is_lost(result: Fitted, found: Restricted) -> np.ndarray:
    """Which refits reached no maximum, or one of another numbering, ``(m,)``."""
    maximum = result.maximum
    switched = is_renumbered(without_penalty(maximum.objective), found.theta, maximum.theta, result.model)
    return (~found.converged | switched | ~torch.isfinite(found.value)).numpy(force=True)


def _is_suspect(result: Fitted, index: int, levels: np.ndarray, found: Restricted) -> np.ndarray:
    """Which refits are lost, or lower than one farther from the fit on the same side, ``(m,)``."""
    lost, maximum = _is_lost(result, found), result.maximum
    value = found.value.numpy(force=True)
    away = levels - float(maximum.to_user.linear(maximum.theta)[index])
    farther = (away * away[:, None] > 0) & (np.abs(away) > np.abs(away)[:, None]) & ~lost
    rises = value > (value + _SAME * (1.0 + np.abs(value)))[:, None]
    return np.asarray(lost | (farther & rises).any(axis=1))


def _ends(result: Fitted, index: np.ndarray, sign: np.ndarray, root: float) -> tuple[np.ndarray, np.ndarray]:
    """The ends on the sides given by ``sign (m,)`` of the parameters at ``index (m,)``, logarithms of positive ones.

    Returns:
        The ends ``(m,)``, and which profiles rose above the fit on the way, ``(m,)`` bool.
    """
    maximum = result.maximum
    rows, offset = _lines(maximum, index)
    directions = _directions(maximum, rows)
    center = rows @ maximum.theta
    variance = (rows * (rows @ maximum.covariance("observed").nan_to_num(0.0))).sum(-1)
    determined = torch.as_tensor(~np.isnan(result.bse[index])).to(variance.device) & (variance > 0)
    unit = torch.where(determined, variance.clamp(min=0.0).sqrt(), rows.norm(dim=-1) + 0.5 * center.abs())
    search = EndSearch(torch.as_tensor(sign).to(unit) * unit, root)
    path, which = _Path(maximum, directions), torch.as_tensor(index).to(rows.device)
    # what is well inside stays there whatever its rivals find; refits of gates have many ends
    enough = result.objective_value - 0.5 * root**2 * torch.where(is_of_gate(maximum, which), 0.5, 0.999).to(rows)
    for active, distance in search.rounds():
        held = center[active] + distance
        scaled = [
            with_scaled_gate(maximum, theta, which[active], held + offset[active])
            for theta in (path.theta[active], maximum.theta.expand(len(active), -1))
        ]
        tangents = path.starts(active, distance)
        starts = [*_ordered(scaled[0], tangents), scaled[1]]
        found = best_refit(maximum, rows[active], held, starts, enough[active])
        drop = result.objective_value - found.value
        drop[is_renumbered(without_penalty(maximum.objective), found.theta, maximum.theta, result.model)] = torch.inf
        is_inside = search.tell(active, distance, drop, found.converged)
        path.move(active[is_inside], distance[is_inside], found.theta[is_inside])
    return (center + offset + search.ends()).numpy(force=True), search.rose.numpy(force=True)


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


def _warn(result: Fitted, index: np.ndarray, lost: np.ndarray, rose: np.ndarray, zeroed: np.ndarray) -> None:
    names, reasons = np.array(result.param_names)[index], []
    if lost.any():
        higher = f"; those of {', '.join(names[rose])} met a higher likelihood than the fit's: use more starts"
        reasons.append(
            f"no end of a profile interval for {', '.join(names[lost])}, where refits did not reach a maximum, jumped "
            f"or rose above the fit{higher if rose.any() else ''}"
        )
    if zeroed.any():
        reasons.append(f"no profile interval for {', '.join(names[zeroed])}, which the lasso set to zero")
    for reason in reasons:
        warnings.warn(reason, ProfileWarning, stacklevel=3)
