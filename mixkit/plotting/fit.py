"""Data, experts and predictive bands over one covariate."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..mixture import ExpertMixture, MixtureOfExperts
from .canvas import (
    as_array,
    as_values,
    column_names,
    data_for,
    expert_colors,
    feature_names,
    grid_over,
    new_axes,
    resolve_feature,
    scalar_law,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_fit"]

_BANDS = ((0.95, 0.18), (0.5, 0.30))
_FAINTEST = 0.03  # an expert's line is drawn where its weight is above this
_OPACITY = (0.08, 0.85)  # of the points farthest from a slice and on it


@torch.no_grad()
def plot_fit(
    model: MixtureOfExperts,
    x: Any,
    y: Any,
    *,
    feature: int | str | None = None,
    at: Tensor | None = None,
    names: Sequence[str] | None = None,
    response: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Data over one covariate colored by expert, the experts' means, the conditional mean and predictive bands.

    Args:
        model: a fitted model of a scalar response.
        x: covariates ``(n, d)``, a tensor, an array or a frame.
        y: responses ``(n,)``, likewise.
        feature: the covariate on the axis, a column or one of ``names``; may be left out where d = 1.
        at: with d > 1, where the slice is taken ``(d,)``; the medians of the columns if None.
        names: names of the covariates ``(d,)``; those of a frame's columns if None.
        response: name of the response; that of a pandas series, or y, if None.
        ax: where to draw; a new figure if None.

    Returns:
        The axes. Points take the color of the expert with the largest responsibility; an expert's line is drawn where
        its weight exceeds 3%, and the more opaque the larger the weight; bands hold 50% and 95% of y given x.
        With d > 1 lines and bands are those of a slice, and points pale with their distance from it.

    Raises:
        TypeError: if ``model`` is a fitted estimator (pass ``.result_.model``), or the data are not numeric.
        ValueError: if there is more than one covariate and no feature, or the response is a vector.

    Example:
        >>> import torch
        >>> from matplotlib import use
        >>> use("Agg")
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_faithful
        >>> settings = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(0)}
        >>> model = MixtureOfExperts(softmax_gate(1, 2, **settings), linear_gaussian_experts(1, 2, **settings))
        >>> plot_fit(model, *load_faithful()).get_legend_handles_labels()[1][-1]
        'conditional mean'
    """
    names = column_names(names, x)
    title = response if response is not None else _name_of(y)
    (x, _), y = data_for(model, x), as_values("y", y)
    column = resolve_feature(feature, names, x)
    grid = grid_over(model, x, [column], at, 600)
    labels = feature_names(names, x.shape[-1])
    law, colors = scalar_law(model, grid), expert_colors(model.num_experts)
    ax = new_axes(ax)
    line = as_array(grid[:, column])
    _draw_bands(ax, line, law)
    owner = model(x.to(grid)).log_responsibilities(y.to(grid)).argmax(-1)
    point_colors = [colors[j] for j in owner.tolist()]
    opacity = _closeness(x.to(grid), grid[0], column)
    ax.scatter(as_array(x[:, column]), as_array(y), s=16, c=point_colors, linewidths=0, alpha=opacity, zorder=3)
    _draw_means(ax, line, law, colors)
    ax.set(xlabel=labels[column], ylabel=title)
    rest = "their medians" if at is None else "the slice"
    note = None if len(labels) == 1 else f"lines: others at {rest}"
    ax.legend(framealpha=0.85, edgecolor="none", fontsize="small", title=note, title_fontsize="small")
    return ax


def _name_of(y: Any) -> str:
    name = None if isinstance(y, Tensor) else getattr(y, "name", None)
    return name if isinstance(name, str) else "y"


def _closeness(x: Tensor, center: Tensor, column: int) -> Any:
    """Opacity of points by their distance from a slice in the other covariates, standardized."""
    low, high = _OPACITY
    others = [c for c in range(x.shape[-1]) if c != column]
    if not others:
        return high
    scale = x[:, others].std(0, correction=0).clamp(min=torch.finfo(x.dtype).tiny)
    distance = ((x - center)[:, others] / scale).square().mean(-1)
    return as_array(low + (high - low) * torch.exp(-0.5 * distance.square() / distance.median().clamp(min=1e-30) ** 2))


def _draw_bands(ax: "Axes", line: np.ndarray, law: ExpertMixture) -> None:
    for coverage, opacity in _BANDS:
        tail = 0.5 - coverage / 2
        low, high = as_array(law.icdf(torch.tensor([[tail], [1.0 - tail]], dtype=torch.float64)))
        band = ax.fill_between(line, low, high, color="0.55", alpha=opacity, linewidth=0)
        band.set_label(f"{coverage:.0%} predictive band")


def _draw_means(ax: "Axes", line: np.ndarray, law: ExpertMixture, colors: list[Any]) -> None:
    """The experts' means, as opaque as their weights are large, and the mean of the mixture."""
    from matplotlib.collections import LineCollection  # an extra
    from matplotlib.colors import to_rgba  # an extra

    weights, means = as_array(law.log_weights.exp()), as_array(law.components.mean)
    for j, color in enumerate(colors):
        points = np.stack([line, means[:, j]], -1)
        opacity = np.where(weights[:, j] > _FAINTEST, 0.25 + 0.75 * weights[:, j], 0.0)[1:]
        shades = np.array([(*to_rgba(color)[:3], alpha) for alpha in opacity])
        segments = np.stack([points[:-1], points[1:]], 1)[opacity > 0]
        ax.add_collection(LineCollection(list(segments), colors=shades[opacity > 0], linewidths=3.0, zorder=4))
        ax.plot([], [], color=color, linewidth=3.0, label=f"expert {j}")
    ax.plot(line, as_array(law.mean), color="black", linewidth=1.0, linestyle="--", label="conditional mean", zorder=5)
