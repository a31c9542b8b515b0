"""Pictures of a fitted mixture of experts (extra ``plot``); nothing here changes matplotlib's global style."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ._validation import check_last_dim
from .mixture import MixtureOfExperts

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
    dtype = next(model.parameters()).dtype
    low, high = float(x.min()), float(x.max())
    return torch.linspace(low, high, 600, dtype=dtype).unsqueeze(-1)


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
        ValueError: if there is more than one covariate.
    """
    ax, grid = _axes(ax), _grid(model, x)
    colors, law, line = expert_colors(model.num_experts), model(grid), grid[:, 0].numpy()
    for coverage, opacity in _BANDS:
        ends = law.icdf(torch.tensor([[0.5 - coverage / 2], [0.5 + coverage / 2]], dtype=grid.dtype))
        band = {"color": "0.55", "alpha": opacity, "linewidth": 0, "label": f"{coverage:.0%} predictive band"}
        ax.fill_between(line, ends[0].numpy(), ends[1].numpy(), **band)
    owner = model(x.to(grid)).log_responsibilities(y.to(grid)).argmax(-1)
    ax.scatter(x[:, 0], y, s=16, c=[colors[j] for j in owner.tolist()], linewidths=0, alpha=0.85, zorder=3)
    weights, means = law.log_weights.exp().numpy(), law.components.mean.numpy()
    for j, color in enumerate(colors):
        shown = np.where(weights[:, j] > _FAINTEST, means[:, j], np.nan)
        ax.plot(line, shown, color=color, linewidth=2.0, label=f"expert {j}", zorder=4)
    ax.plot(line, law.mean.numpy(), color="black", linewidth=1.2, linestyle="--", label="conditional mean", zorder=5)
    ax.set(xlabel="x", ylabel="y")
    ax.legend(frameon=False, fontsize="small")
    return ax


@torch.no_grad()
def plot_gate(model: MixtureOfExperts, x: Tensor, *, ax: "Axes | None" = None) -> "Axes":
    """Gate weights over the range of one covariate, ``x (n, 1)``, stacked so that they fill the unit interval."""
    ax, grid = _axes(ax), _grid(model, x)
    weights = model.gate(grid).exp().numpy()
    labels = [f"expert {j}" for j in range(model.num_experts)]
    ax.stackplot(grid[:, 0].numpy(), weights.T, colors=expert_colors(model.num_experts), labels=labels, alpha=0.8)
    ax.set(xlabel="x", ylabel="gate weight", ylim=(0.0, 1.0))
    ax.margins(x=0.0)
    return ax
