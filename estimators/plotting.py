"""Pictures of fits (extra ``plot``): how they climbed, criteria against k, dendrograms. No global style is changed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mixkit._validation import check_choice
from mixkit.plotting.canvas import expert_colors, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .result import FitResult
    from .selection.dendrogram import Dendrogram
    from .selection.results import ExpertSelection

__all__ = ["plot_dendrogram", "plot_history", "plot_selection", "plot_starts"]

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "0.55"
_SMALLEST_GAP = 1e-12
_LINEAR_RANGE = 20.0
_DECISIVE = 10.0  # a difference in BIC above which the evidence is very strong (Kass and Raftery 1995)


def plot_history(result: "FitResult", *, ax: "Axes | None" = None) -> "Axes":
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
        >>> from estimators.selection import select_experts
        >>> from mixkit.datasets import load_faithful
        >>> fit = select_experts(*load_faithful(), k=[2], random_state=0).best
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
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def plot_starts(result: "FitResult", *, ax: "Axes | None" = None) -> "Axes":
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
        >>> from estimators.selection import select_experts
        >>> from mixkit.datasets import load_faithful
        >>> fit = select_experts(*load_faithful(), k=[2], random_state=0).best
        >>> plot_starts(fit).get_ylabel()
        'log-likelihood below the best'
    """
    ax = new_axes(ax, size=(5.0, 3.4))
    ends = np.sort(np.asarray(result.start_llf, dtype=np.float64))[::-1]
    finite = ends[np.isfinite(ends)]
    below, rank = finite[0] - finite, np.arange(1, len(finite) + 1)
    best = below <= 1e-6 * (1.0 + abs(finite[0]))
    ax.plot(rank[~best], below[~best], "o", markerfacecolor="white", markeredgecolor=_GREY, label="lower maximum")
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


def plot_selection(
    selection: "ExpertSelection", criteria: Sequence[str] | None = None, *, ax: "Axes | None" = None
) -> "Axes":
    """Criteria against the number of experts, each above its smallest value; rings mark what each chooses.

    Args:
        selection: what :func:`~estimators.selection.select_experts` found.
        criteria: which to draw, of ``selection.criteria``; all but "cv-max" if None. Cross-validated log-densities are
            drawn as ``2 n`` times what they lie below the best, the scale of the others, with one standard error.
        ax: where to draw; a new figure if None.

    Raises:
        ValueError: for a criterion that was not computed.

    Example:
        >>> from matplotlib import use
        >>> use("Agg")
        >>> from estimators.selection import select_experts
        >>> from mixkit.datasets import load_faithful
        >>> selection = select_experts(*load_faithful(), k=range(1, 3), random_state=0)
        >>> plot_selection(selection).get_xlabel()
        'number of experts k'
    """
    shown = [name for name in selection.criteria if name != "cv-max"] if criteria is None else list(criteria)
    for name in shown:
        check_choice("criteria", name, selection.criteria)
    ax = new_axes(ax, size=(6.0, 4.0))
    for rank, (name, color) in enumerate(zip(shown, expert_colors(len(shown)), strict=True)):
        heights, errors = _above_best(selection, name)
        ax.errorbar(
            selection.k, heights, errors, color=color, marker="o", markersize=4, linewidth=1.6, label=_label(name)
        )
        best = selection.k.index(selection.choose(name))
        ax.plot(
            selection.k[best],
            heights[best],
            "o",
            markersize=10 + 4 * rank,
            mfc="none",
            mec=color,
            mew=1.5,
            clip_on=False,
        )
    ax.set(xlabel="number of experts k", ylabel="criterion above its smallest value", xticks=selection.k)
    _focus(ax, [_above_best(selection, name)[0] for name in shown])
    ax.legend(frameon=False, fontsize="small")
    return ax


def _label(name: str) -> str:
    return {"cv": "cross-validation, 1 s.e.", "cv-max": "cross-validation"}.get(
        name, name.upper() if len(name) <= 4 else name
    )


def _above_best(selection: "ExpertSelection", name: str) -> tuple[np.ndarray, np.ndarray | None]:
    if name not in ("cv", "cv-max") or selection.held_out is None:
        values = selection.values[name]
        return values - values.min(), None
    scale = 2.0 * selection.fits[0].nobs
    gaps = np.array([selection.held_out.deficit(index) for index in range(len(selection.k))])
    return scale * gaps[:, 0], scale * gaps[:, 1]


def _focus(ax: "Axes", curves: list[np.ndarray]) -> None:
    """A scale that is linear up to 10, where criteria still agree, and logarithmic above if need be."""
    top = max(float(curve.max()) for curve in curves)
    if top > 10.0 * _DECISIVE:
        ax.set_yscale("symlog", linthresh=_DECISIVE)
        ticks = [0.0, *10.0 ** np.arange(1, np.ceil(np.log10(top)) + 1)]
        ax.set_yticks(ticks, [f"{tick:,.0f}" for tick in ticks])
        ax.set_ylim(bottom=-0.15 * _DECISIVE, top=2.0 * top)
        ax.grid(True, axis="y", linewidth=0.4, alpha=0.6)


def plot_dendrogram(dendrogram: "Dendrogram", k: int | None = None, *, ax: "Axes | None" = None) -> "Axes":
    """The tree of merges; the branches below a cut at k atoms in the colours of experts.

    Args:
        dendrogram: what :func:`~estimators.selection.mixing_dendrogram` found, of two atoms or more.
        k: where to cut; ``dendrogram.choose()`` if None.
        ax: where to draw; a new figure if None.

    Raises:
        ValueError: for a dendrogram of one atom, or k outside 1 to K.

    Example:
        >>> from matplotlib import use
        >>> use("Agg")
        >>> from estimators.selection import mixing_dendrogram, select_experts
        >>> from mixkit.datasets import load_faithful
        >>> x, y = load_faithful()
        >>> tree = mixing_dendrogram(select_experts(x, y, k=[3], random_state=0).best, x)
        >>> plot_dendrogram(tree).get_title()
        'cut at k = 2'
    """
    from scipy.cluster.hierarchy import dendrogram as draw

    size = dendrogram.num_experts
    if size < 2:
        raise ValueError("dendrogram must have at least 2 atoms to be drawn, got 1")
    cut = dendrogram.choose() if k is None else k
    node_colors = _node_colors(dendrogram, cut)
    labels = [f"{j}\n{mass:.1%}" for j, mass in enumerate(dendrogram.masses)]
    ax = new_axes(ax, size=(max(5.0, 0.9 * size), 4.0))
    draw(
        dendrogram.linkage,
        ax=ax,
        labels=labels,
        leaf_font_size=9,
        link_color_func=lambda node: node_colors[node],
        above_threshold_color=_GREY,
    )
    for line in ax.collections:
        line.set_linewidth(2.0)
    if 1 < cut < size:
        level = 0.5 * (dendrogram.height(cut) + dendrogram.height(cut + 1))
        ax.axhline(level, color="black", linewidth=0.9, linestyle="--")
    ax.set(xlabel="expert and its share of the data", ylabel="height of the merge", title=f"cut at k = {cut}")
    for side in ("top", "right", "bottom"):
        ax.spines[side].set_visible(False)
    return ax


def _node_colors(dendrogram: "Dendrogram", k: int) -> dict[int, Any]:
    """The colour of every cluster: its expert's if it lies below the cut, else grey."""
    size, labels = dendrogram.num_experts, dendrogram.labels(k)
    colors = expert_colors(k)
    leaves: dict[int, list[int]] = {j: [j] for j in range(size)}
    found: dict[int, Any] = {}
    for step, row in enumerate(dendrogram.linkage):
        leaves[size + step] = leaves[int(row[0])] + leaves[int(row[1])]
        owners = set(labels[leaves[size + step]].tolist())
        found[size + step] = colors[owners.pop()] if len(owners) == 1 else _GREY
    return found
