"""The choice of the number of experts: criteria against k, and dendrograms."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mixkit._validation import check_choice
from mixkit.plotting.canvas import expert_colors, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_dendrogram", "plot_selection"]

_GRAY = "0.55"
_DECISIVE = 10.0  # a difference in BIC above which the evidence is very strong (Kass and Raftery 1995)


class Criteria(Protocol):
    """Criteria for several numbers of experts, as :class:`~estimators.ExpertSelection` has them."""

    @property
    def num_experts(self) -> tuple[int, ...]:
        """The numbers of experts."""

    @property
    def criteria(self) -> list[str]:
        """Names of the criteria."""

    def choose(self, criterion: str) -> int:
        """The number of experts by one of them."""

    def above_best(self, criterion: str) -> tuple[np.ndarray, np.ndarray | None]:
        """How far each number of experts lies above the best, and standard errors where there are any."""


class Tree(Protocol):
    """A tree of merges, as :class:`~estimators.Dendrogram` is one."""

    @property
    def num_experts(self) -> int:
        """The number K of atoms at the start."""

    @property
    def linkage(self) -> np.ndarray:
        """Merges as SciPy writes them, ``(K - 1, 4)``."""

    @property
    def masses(self) -> np.ndarray:
        """Mass of every atom ``(K,)``."""

    def labels(self, num_experts: int) -> np.ndarray:
        """The cluster of every atom when so many are left, ``(K,)``."""

    def height(self, num_experts: int) -> float:
        """The height of the merge from so many atoms."""

    def choose(self) -> int:
        """The number of experts that the tree suggests."""


def plot_selection(selection: Criteria, criteria: Sequence[str] | None = None, *, ax: "Axes | None" = None) -> "Axes":
    """Criteria against the number of experts, each above its smallest value; rings mark what each chooses.

    Args:
        selection: criteria by number of experts: what :func:`~estimators.model_selection.select_experts` found.
        criteria: which to draw, of ``selection.criteria``; all but "cv-max" if None. Cross-validated log-densities are
            drawn as ``2 n`` times what they lie below the best, the scale of the others, with one standard error.
        ax: where to draw; a new figure if None.

    Raises:
        ValueError: for a criterion that was not computed.

    Example:
        >>> from matplotlib import use
        >>> use("Agg")
        >>> from estimators.model_selection import select_experts
        >>> from mixkit.datasets import load_faithful
        >>> selection = select_experts(*load_faithful(), range(1, 3), random_state=0)
        >>> plot_selection(selection).get_xlabel()
        'number of experts k'
    """
    shown = [name for name in selection.criteria if name != "cv-max"] if criteria is None else list(criteria)
    for name in shown:
        check_choice("criteria", name, selection.criteria)
    ax = new_axes(ax, size=(6.0, 4.0))
    curves = [selection.above_best(name) for name in shown]
    for rank, (name, (heights, errors), color) in enumerate(zip(shown, curves, expert_colors(len(shown)), strict=True)):
        ax.errorbar(
            selection.num_experts,
            heights,
            errors,
            color=color,
            marker="o",
            markersize=4,
            linewidth=1.6,
            label=_label(name),
        )
        best = selection.num_experts.index(selection.choose(name))
        ax.plot(
            selection.num_experts[best],
            heights[best],
            "o",
            markersize=10 + 4 * rank,
            mfc="none",
            mec=color,
            mew=1.5,
            clip_on=False,
        )
    ax.set(xlabel="number of experts k", ylabel="criterion above its smallest value", xticks=selection.num_experts)
    _focus(ax, [heights for heights, _ in curves])
    ax.legend(frameon=False, fontsize="small")
    return ax


def _label(name: str) -> str:
    return {"cv": "cross-validation, 1 s.e.", "cv-max": "cross-validation"}.get(
        name, name.upper() if len(name) <= 4 else name
    )


def _focus(ax: "Axes", curves: list[np.ndarray]) -> None:
    """A scale that is linear up to 10, where criteria still agree, and logarithmic above if need be."""
    top = max(float(curve.max()) for curve in curves)
    if top > 10.0 * _DECISIVE:
        ax.set_yscale("symlog", linthresh=_DECISIVE)
        ticks = [0.0, *10.0 ** np.arange(1, np.ceil(np.log10(top)) + 1)]
        ax.set_yticks(ticks, [f"{tick:,.0f}" for tick in ticks])
        ax.set_ylim(bottom=-0.15 * _DECISIVE, top=2.0 * top)
        ax.grid(True, axis="y", linewidth=0.4, alpha=0.6)


def plot_dendrogram(dendrogram: Tree, num_experts: int | None = None, *, ax: "Axes | None" = None) -> "Axes":
    """The tree of merges; the branches below a cut at ``num_experts`` atoms in the colors of experts.

    Args:
        dendrogram: what :func:`~estimators.model_selection.mixing_dendrogram` found, of two atoms or more.
        num_experts: where to cut; ``dendrogram.choose()`` if None.
        ax: where to draw; a new figure if None.

    Raises:
        ValueError: for a dendrogram of one atom, or ``num_experts`` outside 1 to K.

    Example:
        >>> from matplotlib import use
        >>> use("Agg")
        >>> from estimators.model_selection import mixing_dendrogram, select_experts
        >>> from mixkit.datasets import load_faithful
        >>> x, y = load_faithful()
        >>> tree = mixing_dendrogram(select_experts(x, y, [3], random_state=0).best, x)
        >>> plot_dendrogram(tree).get_title()
        'cut at k = 2'
    """
    from scipy.cluster.hierarchy import dendrogram as draw  # late: its import costs more than all else here

    size = dendrogram.num_experts
    if size < 2:
        raise ValueError("dendrogram must have at least 2 atoms to be drawn, got 1")
    cut = dendrogram.choose() if num_experts is None else num_experts
    node_colors = _node_colors(dendrogram, cut)
    labels = [f"{j}\n{mass:.1%}" for j, mass in enumerate(dendrogram.masses)]
    ax = new_axes(ax, size=(max(5.0, 0.9 * size), 4.0))
    draw(
        dendrogram.linkage,
        ax=ax,
        labels=labels,
        leaf_font_size=9,
        link_color_func=lambda node: node_colors[node],
        above_threshold_color=_GRAY,
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


def _node_colors(dendrogram: Tree, k: int) -> dict[int, Any]:
    """The color of every cluster: its expert's if it lies below the cut, else gray."""
    size, labels = dendrogram.num_experts, dendrogram.labels(k)
    colors = expert_colors(k)
    leaves: dict[int, list[int]] = {j: [j] for j in range(size)}
    found: dict[int, Any] = {}
    for step, row in enumerate(dendrogram.linkage):
        leaves[size + step] = leaves[int(row[0])] + leaves[int(row[1])]
        owners = set(labels[leaves[size + step]].tolist())
        found[size + step] = colors[owners.pop()] if len(owners) == 1 else _GRAY
    return found
