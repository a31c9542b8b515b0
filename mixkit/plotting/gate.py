"""Gate weights over one covariate, and the map of experts over two."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..mixture import MixtureOfExperts
from .canvas import (
    as_array,
    column_names,
    data_for,
    expert_colors,
    feature_names,
    grid_over,
    new_axes,
    resolve_feature,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_gate", "plot_gate_map"]

_MAP_SIZE = 300


@torch.no_grad()
def plot_gate(
    model: MixtureOfExperts,
    x: Any,
    *,
    feature: int | str | None = None,
    at: Tensor | None = None,
    names: Sequence[str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Gate weights over the range of one covariate, stacked so that they fill the unit interval, with a legend.

    Args:
        model: a mixture of experts.
        x: covariates ``(n, d)``, of which the range counts; a tensor, an array or a frame. If the experts have an
            offset, it is one of the d columns, the last, which the gate does not see.
        feature: the covariate on the axis, a column or one of ``names``; may be left out where the gate sees one.
        at: with d > 1, the values of the other covariates ``(d,)``; their medians if None.
        names: names of the covariates ``(d,)``; those of a frame's columns if None.
        ax: where to draw; a new figure if None.

    Raises:
        TypeError: if ``model`` is a fitted estimator (pass ``.result_.model``), or ``x`` is not numeric.
        ValueError: if there is more than one covariate and no feature.

    Example:
        >>> import torch
        >>> from matplotlib import use
        >>> use("Agg")
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> settings = {"generator": torch.Generator().manual_seed(0)}
        >>> model = MixtureOfExperts(softmax_gate(1, 2, **settings), linear_gaussian_experts(1, 2, **settings))
        >>> plot_gate(model, torch.rand(50, 1, **settings)).get_ylabel()
        'gate weight'
    """
    names = column_names(names, x)
    x, _ = data_for(model, x)
    column = resolve_feature(feature, names, model.covariates(x) if feature is None else x)
    grid = grid_over(model, x, [column], at, 600)
    name = feature_names(names, x.shape[-1])[column]
    weights, ax = as_array(model.gate(model.covariates(grid)).exp()), new_axes(ax)
    labels = [f"expert {j}" for j in range(model.num_experts)]
    colors = expert_colors(model.num_experts)
    ax.stackplot(as_array(grid[:, column]), weights.T, colors=colors, labels=labels, alpha=0.8)
    ax.set(xlabel=name, ylabel="gate weight", ylim=(0.0, 1.0))
    ax.margins(x=0.0)
    ax.legend(
        fontsize="small", framealpha=0.85, loc="upper right", ncols=1 + (model.num_experts - 1) // 8, reverse=True
    )
    return ax


@torch.no_grad()
def plot_gate_map(
    model: MixtureOfExperts,
    x: Any,
    y: Any = None,
    *,
    features: tuple[int | str, int | str] = (0, 1),
    at: Tensor | None = None,
    names: Sequence[str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """The expert of the largest gate weight over the plane of two covariates, with the borders between experts.

    Args:
        model: a mixture of experts.
        x: covariates ``(n, d)``, d at least 2; a tensor, an array or a frame. If the experts have an offset, it is the
            last column, beside two covariates at least.
        y: responses ``(n,)`` or ``(n, p)``; with them each point takes the color of the expert with the largest
            responsibility, else points are gray.
        features: the covariates on the axes, columns or ``names``.
        at: with d > 2, the values of the other covariates ``(d,)``; their medians if None.
        names: names of the covariates ``(d,)``; those of a frame's columns if None.
        ax: where to draw; a new figure if None.

    Returns:
        The axes. A region has the color of its expert, the paler the smaller the largest weight; black lines are
        borders.

    Raises:
        TypeError: if ``model`` is a fitted estimator (pass ``.result_.model``), or the data are not numeric.
        ValueError: if there is one covariate, or the two features are one.

    Example:
        >>> import torch
        >>> from matplotlib import use
        >>> use("Agg")
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> settings = {"generator": torch.Generator().manual_seed(0)}
        >>> model = MixtureOfExperts(softmax_gate(2, 3, **settings), linear_gaussian_experts(2, 3, **settings))
        >>> plot_gate_map(model, torch.rand(50, 2, **settings), names=["age", "dose"]).get_xlabel()
        'age'
    """
    names = column_names(names, x)
    x, y = data_for(model, x, y)
    if x.ndim != 2 or model.covariates(x).shape[-1] < 2:
        raise ValueError(
            "x must have at least 2 covariates (and the offset, if any) in its last dimension, got shape "
            f"{tuple(x.shape)}"
        )
    columns = [resolve_feature(feature, names, x) for feature in features]
    if columns[0] == columns[1]:
        raise ValueError(f"features must be two different covariates, got {features}")
    grid, labels = grid_over(model, x, columns, at, _MAP_SIZE, margin=0.04), feature_names(names, x.shape[-1])
    weights = as_array(model.gate(model.covariates(grid.flatten(0, 1))).exp()).reshape(_MAP_SIZE, _MAP_SIZE, -1)
    ax = new_axes(ax, size=(6.0, 5.0))
    across, up = as_array(grid[0, :, columns[0]]), as_array(grid[:, 0, columns[1]])
    _draw_regions(ax, across, up, weights)
    _draw_points(ax, model, x.to(grid), None if y is None else y.to(grid), columns)
    ax.set(xlabel=labels[columns[0]], ylabel=labels[columns[1]])
    ax.set(xlim=(across[0], across[-1]), ylim=(up[0], up[-1]))
    return ax


def _draw_regions(ax: "Axes", across: np.ndarray, up: np.ndarray, weights: np.ndarray) -> None:
    from matplotlib.colors import to_rgb  # an extra
    from matplotlib.patches import Patch  # an extra

    k = weights.shape[-1]
    colors, owner, top = expert_colors(k), weights.argmax(-1), weights.max(-1)
    shades = np.array([to_rgb(color) for color in colors])[owner]
    strength = (0.12 + 0.38 * (top - 1.0 / k) / max(1.0 - 1.0 / k, 1e-9))[..., None]
    box = (across[0], across[-1], up[0], up[-1])
    image = 1.0 - strength * (1.0 - shades)
    ax.imshow(image, origin="lower", extent=box, aspect="auto", interpolation="bilinear")
    for j in np.unique(owner):
        rest = np.delete(weights, j, axis=-1).max(-1, initial=0.0)
        lead = weights[..., j] - rest
        if lead.min() < 0.0 < lead.max():
            ax.contour(across, up, lead, levels=[0.0], colors="black", linewidths=1.0)
    handles = [Patch(facecolor=colors[j], alpha=0.5, label=f"expert {j}") for j in np.unique(owner)]
    ax.legend(handles=handles, fontsize="small", frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4)


def _draw_points(ax: "Axes", model: MixtureOfExperts, x: Tensor, y: Tensor | None, columns: list[int]) -> None:
    shades: Any = "0.35"
    if y is not None:
        colors = expert_colors(model.num_experts)
        shades = [colors[j] for j in model(x).log_responsibilities(y).argmax(-1).tolist()]
    points = as_array(x[:, columns])
    ax.scatter(points[:, 0], points[:, 1], s=22, c=shades, edgecolors="black", linewidths=0.4, zorder=3)
