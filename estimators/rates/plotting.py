"""Pictures of a study (extra ``plot``): losses against n on logarithmic axes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mixkit.plotting import expert_colors

from .slopes import Slope, median

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Curve", "plot_losses"]

_COLUMNS = 3
_MOST_SIZES = 5  # named on the axis of a panel


class Curve(NamedTuple):
    """One loss of one candidate: its values at each size, the slope fitted to them, the theoretical exponent if any."""

    sizes: Sequence[int]
    samples: Sequence[np.ndarray]
    slope: Slope
    exponent: float | None


def plot_losses(
    panels: Mapping[str, Mapping[str, Curve]], candidates: Sequence[str], sample_sizes: Sequence[int]
) -> Any:
    """A panel for each loss: medians, bands from the 10% to the 90% quantile, fitted and theoretical lines.

    Args:
        panels: by loss, the curves by candidate.
        candidates: in the order of their colors.
        sample_sizes: of the study, for the ticks.

    Returns:
        A matplotlib figure. Fitted lines are solid, theoretical exponents dashed through the first median.
    """
    from matplotlib import pyplot as plt  # an extra

    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    size = (4.3 * columns, 3.5 * rows + 0.5)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    colors = dict(zip(candidates, expert_colors(len(candidates)), strict=True))
    for ax, (name, curves) in zip(axes.flat, panels.items(), strict=False):
        for candidate, curve in curves.items():
            _draw_curve(ax, candidate, curve, colors[candidate])
        _dress(ax, name, sample_sizes)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    return figure


def _dress(ax: "Axes", name: str, sample_sizes: Sequence[int]) -> None:
    from matplotlib.ticker import NullLocator  # an extra

    ax.set(xscale="log", yscale="log", xlabel="n", title=name)
    ax.xaxis.set_minor_locator(NullLocator())
    sizes = _spread(sample_sizes, _MOST_SIZES)
    ax.set_xticks(sizes, [f"{n:,}" for n in sizes])
    _label_losses(ax)
    ax.grid(True, which="major", linewidth=0.4, alpha=0.5)
    ax.legend(frameon=False, fontsize="x-small")


def _label_losses(ax: "Axes") -> None:
    """Powers of ten where the axis holds two or more; else a few plain numbers, for minor ticks would crowd it."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator, StrMethodFormatter  # an extra

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


def _draw_curve(ax: "Axes", candidate: str, curve: Curve, color: Any) -> None:
    n, slope = np.array(curve.sizes, dtype=float), curve.slope
    middle = np.array([float(median(values)) for values in curve.samples])
    low, high = (np.array([np.quantile(values, q) for values in curve.samples]) for q in (0.1, 0.9))
    ax.fill_between(n, low, high, color=color, alpha=0.15, linewidth=0)
    ax.plot(n, middle, "o", color=color, markersize=3.5)
    label = f"{candidate}: {slope.value:.2f} ± {slope.std_error:.2f}"
    ax.plot(n, np.exp(slope.intercept + slope.value * np.log(n)), color=color, linewidth=1.4, label=label)
    if curve.exponent is not None:
        theory = middle[0] * (n / n[0]) ** curve.exponent
        ax.plot(n, theory, color=color, linewidth=1.0, linestyle="--", label=f"theory {curve.exponent:.3g}")
