"""Pictures of a fitted mixture of experts (extra ``plot``); nothing here changes matplotlib's global style."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ._validation import check_last_dim
from .mixture import ExpertMixture, MixtureOfExperts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["expert_colors", "plot_fit", "plot_gate"]

# Okabe and Ito's palette for colour-blind readers, without its black and yellow.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_BANDS = ((0.95, 0.18), (0.5, 0.30))
_FAINTEST = 0.03  # an expert's line is drawn where its weight is above this


def expert_colors(k: int) -> list[Any]:
    """One colour an expert: a colour-blind-safe palette, matplotlib's viridis when there are more than six."""
    if k <= len(_COLORS):
        return list(_COLORS[:k])
    from matplotlib import colormaps

    return [colormaps["viridis"](value) for value in np.linspace(0.0, 0.95, k)]


def _axes(ax: "Axes | None") -> "Axes":
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=(7.0, 4.5), layout="constrained")[1]


def _grid(model: MixtureOfExperts, x: Tensor) -> Tensor:
    check_last_dim("x", x, 1, "covariate")
    own = next(model.parameters())
    low, high = float(x.min()), float(x.max())
    return torch.linspace(low, high, 600, dtype=own.dtype, device=own.device).unsqueeze(-1)


def _array(values: Tensor) -> np.ndarray:
    """For drawing; float64 so that NumPy knows bfloat16 too."""
    return values.detach().double().cpu().numpy()


@torch.no_grad()
def plot_fit(model: MixtureOfExperts, x: Tensor, y: Tensor, *, ax: "Axes | None" = None) -> "Axes":
    """Data of one covariate coloured by expert, the experts' means, the conditional mean and predictive bands.

    Args:
        model: a fitted model of a scalar response.
        x: covariates ``(n, 1)``.
        y: responses ``(n,)``.
        ax: where to draw; a new figure if None.

    Returns:
        The axes. Points take the colour of the expert with the largest responsibility; an expert's line is drawn where
        its weight exceeds 3%, and the more opaque the larger the weight; bands hold 50% and 95% of the conditional law.

    Raises:
        ValueError: if there is more than one covariate, or the response is a vector.

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
    grid = _grid(model, x)
    law, colors = model(grid), expert_colors(model.num_experts)
    if law.event_shape:
        raise ValueError(f"model must have a scalar response, got event shape {tuple(law.event_shape)}")
    ax = _axes(ax)
    _draw_bands(ax, grid, law)
    owner = model(x.to(grid)).log_responsibilities(y.to(grid)).argmax(-1)
    point_colors = [colors[j] for j in owner.tolist()]
    ax.scatter(_array(x[:, 0]), _array(y), s=16, c=point_colors, linewidths=0, alpha=0.85, zorder=3)
    _draw_means(ax, grid, law, colors)
    ax.set(xlabel="x", ylabel="y")
    ax.legend(frameon=False, fontsize="small")
    return ax


def _draw_bands(ax: "Axes", grid: Tensor, law: ExpertMixture) -> None:
    for coverage, opacity in _BANDS:
        tail = 0.5 - coverage / 2
        low, high = _array(law.icdf(torch.tensor([[tail], [1.0 - tail]], dtype=torch.float64)))
        band = ax.fill_between(_array(grid[:, 0]), low, high, color="0.55", alpha=opacity, linewidth=0)
        band.set_label(f"{coverage:.0%} predictive band")


def _draw_means(ax: "Axes", grid: Tensor, law: ExpertMixture, colors: list[Any]) -> None:
    """The experts' means, as opaque as their weights are large, and the mean of the mixture."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    line, weights, means = _array(grid[:, 0]), _array(law.log_weights.exp()), _array(law.components.mean)
    for j, color in enumerate(colors):
        points = np.stack([line, means[:, j]], -1)
        opacity = np.where(weights[:, j] > _FAINTEST, 0.25 + 0.75 * weights[:, j], 0.0)[1:]
        shades = np.array([(*to_rgba(color)[:3], alpha) for alpha in opacity])
        segments = np.stack([points[:-1], points[1:]], 1)[opacity > 0]
        ax.add_collection(LineCollection(list(segments), colors=shades[opacity > 0], linewidths=2.0, zorder=4))
        ax.plot([], [], color=color, linewidth=2.0, label=f"expert {j}")
    ax.plot(line, _array(law.mean), color="black", linewidth=1.2, linestyle="--", label="conditional mean", zorder=5)


@torch.no_grad()
def plot_gate(model: MixtureOfExperts, x: Tensor, *, ax: "Axes | None" = None) -> "Axes":
    """Gate weights over the range of one covariate, ``x (n, 1)``, stacked so that they fill the unit interval.

    Args:
        model: a model of one covariate.
        x: covariates ``(n, 1)``, of which the range counts.
        ax: where to draw; a new figure if None.

    Raises:
        ValueError: if there is more than one covariate.

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
    grid = _grid(model, x)
    weights, ax = _array(model.gate(grid).exp()), _axes(ax)
    labels = [f"expert {j}" for j in range(model.num_experts)]
    colors = expert_colors(model.num_experts)
    ax.stackplot(_array(grid[:, 0]), weights.T, colors=colors, labels=labels, alpha=0.8)
    ax.set(xlabel="x", ylabel="gate weight", ylim=(0.0, 1.0))
    ax.margins(x=0.0)
    return ax
