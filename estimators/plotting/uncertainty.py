"""How sure an estimate is: the profile of its likelihood, and its bootstrap."""

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from scipy.stats import chi2, norm

from mixkit._validation import check_choice, check_integer
from mixkit.plotting.canvas import new_axes

from ..results.fitted import Fitted
from ..results.profile import profile_intervals, profile_likelihood

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_bootstrap", "plot_profile"]

_LINE, _OTHER, _BAR, _BAND = "#0072B2", "#D55E00", "#56B4E9", "0.90"
_WIDE = 5.0  # ratio of the ends of an axis above which it is logarithmic
_MARGIN = 0.25  # beyond the ends of an interval, as a share of their distance from the estimate
_TAIL = 0.005  # of the replicates on either side that the axis need not reach


class Bootstrapped(Protocol):
    """What a picture of a bootstrap needs of it, as :class:`~estimators.inference.BootstrapResult` has it."""

    @property
    def param_names(self) -> list[str]:
        """Names of the parameters, P of them."""

    @property
    def params(self) -> np.ndarray:
        """Estimates ``(P,)``."""

    @property
    def bse(self) -> np.ndarray:
        """Bootstrap standard errors ``(P,)``."""

    @property
    def undetermined(self) -> np.ndarray:
        """Which parameters the data do not determine, ``(P,)`` bool."""

    @property
    def replicates(self) -> np.ndarray:
        """Estimates of each replicate, ``(m, P)``."""

    @property
    def llf(self) -> np.ndarray:
        """Log-likelihoods of the refits ``(m,)``; NaN where a refit failed."""

    def conf_int(self, *, level: float = 0.95, method: str = "bca") -> np.ndarray:
        """Confidence intervals ``(P, 2)``."""


def plot_profile(
    result: Fitted, parameter: str, *, level: float = 0.95, num_points: int = 40, ax: "Axes | None" = None
) -> "Axes":
    r"""The deviance :math:`2 (\hat\ell - \ell_p(c))` of one parameter, beside that of Wald's normal approximation.

    Where the two curves part, Wald's interval is not to be trusted; where the profile is flat, the data do not bound
    the parameter.

    Args:
        result: a converged fit with its data.
        parameter: one of ``result.param_names``.
        level: of the interval, shaded: where the deviance is below the quantile of chi-square (1).
        num_points: how many values of the parameter are refitted, 5 or more, besides the search for the ends.
        ax: where to draw; a new figure if None.

    Returns:
        The axes. Values whose refits were lost leave a gap.

    Raises:
        ValueError: if there is no such parameter, or it has neither a finite interval nor a standard error.

    Source: Venzon and Moolgavkar (1988), Applied Statistics 37, 87-94.

    Example:
        >>> from matplotlib import use
        >>> use("Agg")
        >>> from estimators.model_selection import select_experts
        >>> from mixkit.datasets import load_tone
        >>> fit = select_experts(*load_tone(), [2], random_state=0).best
        >>> plot_profile(fit, "std[0]", num_points=5).get_xlabel()
        'std[0]'
    """
    check_integer("num_points", num_points, low=5)
    low, high = profile_intervals(result, [parameter], level=level)[0]
    index = result.param_names.index(parameter)
    estimate, error, is_log = result.params[index], result.bse[index], bool(result.is_positive[index])
    center, scale = _scaled(estimate, is_log), error / estimate if is_log else error
    values = _around(center, [_scaled(low, is_log), _scaled(high, is_log)], scale, level, num_points, parameter)
    values = np.exp(values) if is_log else values
    deviance = 2.0 * (result.objective_value - profile_likelihood(result, parameter, values.tolist()))
    quantile = float(chi2.ppf(level, 1))
    ax = new_axes(ax, size=(5.0, 3.6))
    ends = [
        low if np.isfinite(low) and (low > 0 or not is_log) else values[0],
        high if np.isfinite(high) else values[-1],
    ]
    ax.axvspan(*ends, color=_BAND, linewidth=0, zorder=0, label=f"{100 * level:.4g}% interval")
    wald = np.square((_scaled(values, is_log) - center) / scale)
    ax.plot(values, wald, color=_OTHER, linewidth=1.4, linestyle="--", label="Wald")
    ax.plot(values, np.maximum(deviance, 0.0), color=_LINE, linewidth=1.8, marker=".", markersize=4, label="profile")
    ax.axhline(quantile, color="black", linewidth=0.9, linestyle=":")
    ax.axvline(estimate, color="black", linewidth=0.9)
    ax.set(xlabel=parameter, ylabel="deviance", ylim=(0.0, 2.5 * quantile), xlim=(values[0], values[-1]))
    if is_log and values[-1] > _WIDE * values[0]:
        ax.set_xscale("log")
    else:
        ax.locator_params(axis="x", nbins=6)
    _legend(ax)
    return ax


def _scaled(value: Any, is_log: bool) -> Any:
    with np.errstate(divide="ignore"):
        return np.log(value) if is_log else value


def _around(center: float, ends: list[float], scale: float, level: float, count: int, parameter: str) -> np.ndarray:
    """Values over an interval and a margin; Wald's ends stand in for ends that are not finite."""
    reach = float(norm.ppf(0.5 + 0.5 * level)) * scale
    sides = [end - center if np.isfinite(end) else sign * reach for end, sign in zip(ends, (-1, 1), strict=True)]
    if not np.isfinite(sides).all():
        raise ValueError(f"parameter must have a standard error or two finite profile ends, got {parameter!r}")
    return center + (1.0 + _MARGIN) * np.linspace(sides[0], sides[1], count)


def _legend(ax: "Axes") -> None:
    """A legend that can be read, and shows its gray, over a shaded interval."""
    ax.legend(framealpha=0.85, edgecolor="none", fontsize="small")


def plot_bootstrap(
    found: Bootstrapped, parameter: str, *, level: float = 0.95, method: str = "bca", ax: "Axes | None" = None
) -> "Axes":
    """Histogram of one parameter's replicates, its interval shaded, and the normal density of its standard error.

    Args:
        found: a bootstrap.
        parameter: one of ``found.param_names``.
        level: of the interval.
        method: as in :meth:`~estimators.inference.BootstrapResult.conf_int`.
        ax: where to draw; a new figure if None.

    Returns:
        The axes. They reach over the interval and all replicates but half a percent on either side.

    Raises:
        ValueError: if there is no such parameter or method, or the data do not determine the parameter.

    Example:
        >>> from matplotlib import use
        >>> use("Agg")
        >>> from estimators.inference import bootstrap
        >>> from estimators.model_selection import select_experts
        >>> from mixkit.datasets import load_tone
        >>> fit = select_experts(*load_tone(), [2], random_state=0).best
        >>> plot_bootstrap(bootstrap(fit, 99, random_state=0), "slope[1,x0]").get_xlabel()
        'slope[1,x0]'
    """
    index = found.param_names.index(check_choice("parameter", parameter, found.param_names))
    if found.undetermined[index]:
        raise ValueError(f"parameter must be one that the data determine, got {parameter!r}")
    low, high = found.conf_int(level=level, method=method)[index]
    estimate, error = found.params[index], found.bse[index]
    values = found.replicates[~np.isnan(found.llf), index]
    left, right = np.quantile(values, [_TAIL, 1.0 - _TAIL])
    left, right = min(left, low, estimate), max(right, high, estimate)
    left, right = left - 0.03 * (right - left), right + 0.03 * (right - left)
    shown = values[(values >= left) & (values <= right)]
    ax = new_axes(ax, size=(5.0, 3.6))
    ax.axvspan(low, high, color=_BAND, linewidth=0, zorder=0, label=f"{100 * level:.4g}% interval, {method}")
    counts, edges = np.histogram(shown, "fd")
    heights = counts / len(values) / np.diff(edges)
    ax.bar(edges[:-1], heights, np.diff(edges), align="edge", color=_BAR, edgecolor="white", linewidth=0.5)
    line = np.linspace(left, right, 200)
    ax.plot(line, norm.pdf(line, estimate, error), color=_OTHER, linewidth=1.4, linestyle="--", label="normal density")
    ax.axvline(estimate, color="black", linewidth=0.9)
    ax.set(xlabel=parameter, ylabel="density of the replicates", xlim=(left, right))
    _legend(ax)
    return ax
