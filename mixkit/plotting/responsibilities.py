"""How clearly each observation belongs to one expert."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..mixture import MixtureOfExperts
from .canvas import as_array, expert_colors, new_axes, pairs_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_responsibilities"]


@torch.no_grad()
def plot_responsibilities(model: MixtureOfExperts, x: Any, y: Any, *, ax: "Axes | None" = None) -> "Axes":
    """Responsibilities of all observations as stacked bars, sorted by expert and by how sure it is.

    Args:
        model: a fitted mixture.
        x: covariates ``(n, d)``, a tensor, an array or a frame.
        y: responses ``(n,)`` or ``(n, p)``.
        ax: where to draw; a new figure if None.

    Returns:
        The axes: one column an observation. Solid blocks are experts told apart; slopes between blocks are observations
        that two experts share. The number above a block says how many observations are the expert's.

    Example:
        >>> import torch
        >>> from matplotlib import use
        >>> use("Agg")
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_faithful
        >>> settings = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(0)}
        >>> model = MixtureOfExperts(softmax_gate(1, 2, **settings), linear_gaussian_experts(1, 2, **settings))
        >>> plot_responsibilities(model, *load_faithful()).get_ylabel()
        'responsibility'
    """
    x, y = pairs_for(model, x, y)
    resp = as_array(model(x).log_responsibilities(y).exp())
    owner = resp.argmax(1)
    order = np.lexsort((-resp.max(1), owner))
    ax = new_axes(ax, size=(7.0, 3.0))
    k, colors = resp.shape[1], expert_colors(resp.shape[1])
    edges = np.arange(len(resp) + 1)
    stacked = np.repeat(resp[order], 2, axis=0)
    labels = [f"expert {j}" for j in range(k)]
    ax.stackplot(np.repeat(edges, 2)[1:-1], stacked.T, colors=colors, labels=labels, linewidth=0)
    counts = np.bincount(owner, minlength=k)
    for j, (end, count) in enumerate(zip(np.cumsum(counts), counts, strict=True)):
        if count:
            ax.axvline(end, color="white", linewidth=1.0)
            ax.text(end - count / 2, 1.02, f"expert {j}\n{count}", ha="center", va="bottom", fontsize="small")
    ax.set(xlabel="observations, sorted", ylabel="responsibility", ylim=(0.0, 1.0), xlim=(0, len(resp)))
    return ax
