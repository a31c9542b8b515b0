"""Pictures of a study (extra ``plot``): losses against n on logarithmic axes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mixkit.plotting import expert_colors

from .slopes import median
from .theory import DeclaredRate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .results import StudyResults

__all__ = ["plot_study"]

_COLUMNS = 3
_MOST_SIZES = 5  # named on the axis of a panel


def plot_study(results: "StudyResults", names: list[str] | None = None) -> Any:
    """A panel for each loss: medians, bands from the 10% to the 90% quantile, fitted and declared lines.

    Args:
        results: a study's, with at least one finished fit.
        names: losses to draw; all that two sizes have if None.

    Returns:
        A matplotlib figure. Fitted lines are solid, declared exponents dashed through the first median.

    Raises:
        ValueError: if there is nothing to draw, or a name is not that of a loss.
    """
    from matplotlib import pyplot as plt

    shown = _shown(results, names)
    columns = min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    size = (4.3 * columns, 3.5 * rows + 0.5)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for ax, name in zip(axes.flat, shown, strict=False):
        _draw_panel(ax, results, name)
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    return figure


def _shown(results: "StudyResults", names: list[str] | None) -> list[str]:
    known = results.loss_names
    for name in names or []:
        if name not in known:
            raise ValueError(f"names must be among {known}, got {name!r}")
    drawable = [n for n in names or known if any(len(results.losses(c, n)[0]) > 1 for c in results.study.candidates)]
    if not drawable:
        raise ValueError("results must have a loss at two sizes or more to be drawn, got none")
    return drawable


def _draw_panel(ax: "Axes", results: "StudyResults", name: str) -> None:
    from matplotlib.ticker import NullLocator

    candidates = list(results.study.candidates)
    for candidate, color in zip(candidates, expert_colors(len(candidates)), strict=True):
        if len(results.losses(candidate, name)[0]) > 1:
            _draw_candidate(ax, results, candidate, name, color)
    ax.set(xscale="log", yscale="log", xlabel="n", title=name)
    ax.xaxis.set_minor_locator(NullLocator())
    sizes = _spread(results.study.sample_sizes, _MOST_SIZES)
    ax.set_xticks(sizes, [f"{n:,}" for n in sizes])
    _label_losses(ax)
    ax.grid(True, which="major", linewidth=0.4, alpha=0.5)
    ax.legend(frameon=False, fontsize="x-small")


def _label_losses(ax: "Axes") -> None:
    """Powers of ten where the axis holds two or more; else a few plain numbers, for minor ticks would crowd it."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator, StrMethodFormatter

    low, high = np.log10(ax.get_ylim())
    if np.floor(high) - np.ceil(low) >= 1:
        ax.yaxis.set_minor_formatter(NullFormatter())
        return
    subs = (1.0, 2.0, 5.0) if high - low > 0.5 else tuple(range(1, 10)) if high - low > 0.2 else None
    if subs is None:
        ax.yaxis.set_major_locator(MaxNLocator(4))
    else:
        ax.yaxis.set_major_locator(LogLocator(subs=subs))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:.3g}"))
    ax.yaxis.set_minor_locator(NullLocator())


def _spread(values: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the values, from first to last, as even as can be."""
    picked = np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int)
    return [values[i] for i in picked]


def _draw_candidate(ax: "Axes", results: "StudyResults", candidate: str, name: str, color: Any) -> None:
    sizes, samples = results.losses(candidate, name)
    n = np.array(sizes, dtype=float)
    slope = results.slope(candidate, name)
    middle = np.array([float(median(values)) for values in samples])
    low, high = (np.array([np.quantile(values, q) for values in samples]) for q in (0.1, 0.9))
    ax.fill_between(n, low, high, color=color, alpha=0.15, linewidth=0)
    ax.plot(n, middle, "o", color=color, markersize=3.5)
    label = f"{candidate}: {slope.value:.2f} ± {slope.std_error:.2f}"
    ax.plot(n, np.exp(slope.intercept + slope.value * np.log(n)), color=color, linewidth=1.4, label=label)
    exponent = results.declared(candidate).get(name, DeclaredRate(None, "")).exponent
    if exponent is not None:
        declared = f"declared {exponent:.3g}"
        ax.plot(n, middle[0] * (n / n[0]) ** exponent, color=color, linewidth=1.0, linestyle="--", label=declared)
