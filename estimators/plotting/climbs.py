"""How a fit climbed, and where its starts ended."""

from typing import TYPE_CHECKING, Protocol

import numpy as np

from mixkit.plotting.canvas import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_history", "plot_starts"]

_BLUE, _GRAY = "#0072B2", "0.55"
_SMALLEST_GAP = 1e-12
_LINEAR_RANGE = 20.0


class Climbed(Protocol):
    """What a picture of a fit's climbs needs of it, as :class:`~estimators.FitResult` has it."""

    @property
    def history(self) -> np.ndarray:
        """Values after each iteration of the start that won."""

    @property
    def start_llf(self) -> np.ndarray:
        """Values at the end of every start."""

    @property
    def objective_value(self) -> float:
        """The value at the end of the best; NaN where it is the log-likelihood."""

    @property
    def llf(self) -> float:
        """The log-likelihood there."""


def plot_history(result: Climbed, *, ax: "Axes | None" = None) -> "Axes":
    """How far below its end the log-likelihood (less the penalty, if any) was after each iteration.

    Args:
        result: a fit.
        ax: where to draw; a new figure if None.

    Returns:
        The axes, logarithmic: a straight line is the linear convergence of EM, a fall that steepens Newton's method.
        The last iteration, at no distance, is not drawn.

    Example:
        >>> from matplotlib import use
        >>> use("Agg")
        >>> from estimators.model_selection import select_experts
        >>> from mixkit.datasets import load_faithful
        >>> fit = select_experts(*load_faithful(), [2], random_state=0).best
        >>> plot_history(fit).get_xlabel()
        'iteration'
    """
    ax = new_axes(ax, size=(5.0, 3.4))
    history = np.asarray(result.history, dtype=np.float64)
    end = result.objective_value if np.isfinite(result.objective_value) else result.llf
    gap = np.maximum(end - history, 0.0)
    iteration = np.arange(1, len(gap) + 1)
    shown = gap > _SMALLEST_GAP * (1.0 + abs(end))
    ax.plot(iteration[shown], gap[shown], color=_BLUE, marker="o", markersize=3.5, linewidth=1.4)
    ax.set(yscale="log", xlabel="iteration", ylabel="log-likelihood below the end")
    _count(ax)
    return ax


def _count(ax: "Axes") -> None:
    """Ticks of the horizontal axis at whole numbers."""
    from matplotlib.ticker import MaxNLocator  # an extra

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def plot_starts(result: Climbed, *, ax: "Axes | None" = None) -> "Axes":
    """Log-likelihoods at the ends of all starts, sorted, below the best.

    Args:
        result: a fit.
        ax: where to draw; a new figure if None.

    Returns:
        The axes. Ends within 1e-6 (relative) of the best are one maximum and drawn filled; a single filled point says
        that more starts may find a higher one. For large data these are ends on the subsample.

    Example:
        >>> from matplotlib import use
        >>> use("Agg")
        >>> from estimators.model_selection import select_experts
        >>> from mixkit.datasets import load_faithful
        >>> fit = select_experts(*load_faithful(), [2], random_state=0).best
        >>> plot_starts(fit).get_ylabel()
        'log-likelihood below the best'
    """
    ax = new_axes(ax, size=(5.0, 3.4))
    ends = np.sort(np.asarray(result.start_llf, dtype=np.float64))[::-1]
    finite = ends[np.isfinite(ends)]
    below, rank = finite[0] - finite, np.arange(1, len(finite) + 1)
    best = below <= 1e-6 * (1.0 + abs(finite[0]))
    ax.plot(rank[~best], below[~best], "o", markerfacecolor="white", markeredgecolor=_GRAY, label="lower maximum")
    ax.plot(rank[best], below[best], "o", color=_BLUE, label=f"best maximum ({best.sum()} of {len(ends)} starts)")
    ax.set(xlabel="start, sorted by its end", ylabel="log-likelihood below the best")
    _scale_below(ax, below[~best])
    _count(ax)
    ax.legend(frameon=False, fontsize="small")
    return ax


def _scale_below(ax: "Axes", below: np.ndarray) -> None:
    """Downwards from zero; logarithmic past the least of distances that differ by more than an order of magnitude."""
    least, most = (float(below.min()), float(below.max())) if len(below) else (1.0, 1.0)
    if most <= _LINEAR_RANGE * least:
        ax.set_ylim(bottom=1.1 * most, top=-0.1 * most)
        return
    first = max(least / 2.0, _SMALLEST_GAP)
    ax.set_yscale("symlog", linthresh=first)
    decades = np.arange(np.ceil(np.log10(first)), np.ceil(np.log10(most)) + 1)
    ax.set_yticks([0.0, *10.0**decades])
    ax.minorticks_off()
    ax.set_ylim(top=-0.25 * least, bottom=2.0 * most)
