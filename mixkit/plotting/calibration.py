"""Whether a fitted distribution is right: its probability integral transforms and quantile residuals."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import beta, binom, norm

from .._validation import check_integer
from ..mixture import MixtureOfExperts
from ..residuals import probability_integral_transform, quantile_residuals
from .canvas import as_array, new_axes, pairs_for, scalar_law
from .weights import Weights

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_calibration", "plot_qq", "plot_residuals"]

_BAR, _LINE, _BAND = "#56B4E9", "#0072B2", "0.85"
_QUANTILES = (0.1, 0.5, 0.9)
_FEWEST_IN_A_BIN = 15


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def plot_calibration(
    model: MixtureOfExperts,
    x: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    bins: int = 20,
    seed: int = 0,
    ax: "Axes | None" = None,
) -> "Axes":
    r"""Histogram of the probability integral transforms, with the band that a true model would keep to.

    Args:
        model: a fitted model of a scalar response.
        x: covariates ``(n, d)``, a tensor, an array or a frame; those of new observations make the check sharp,
            those of the fit flatter it.
        y: responses ``(n,)``.
        sample_weight: ``(n,)``, non-negative, for observations that stand for others; None for ones.
        bins: number of bins m.
        seed: of the draws that distributions with atoms need (:func:`mixkit.residuals.probability_integral_transform`).
        ax: where to draw; a new figure if None.

    Returns:
        The axes. The band holds all bins of a true model at once with probability at least 95%: each has a
        binomial(n, 1 / m) count and level 0.05 / m (Bonferroni); weights w have the share of the count of
        ``(sum w)^2 / sum w^2`` observations. A heap in the middle says the distribution is too wide, heaps at the ends
        too narrow, a slope that it lies too low or too high.

    Source: Gneiting, Balabdaoui, Raftery (2007), JRSS B 69, 243-268.

    Example:
        >>> import torch
        >>> from matplotlib import use
        >>> use("Agg")
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_faithful
        >>> settings = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(0)}
        >>> model = MixtureOfExperts(softmax_gate(1, 2, **settings), linear_gaussian_experts(1, 2, **settings))
        >>> plot_calibration(model, *load_faithful()).get_xlabel()
        'probability integral transform'
    """
    check_integer("bins", bins, low=2)
    x, y = pairs_for(model, x, y)
    weights = Weights.of(sample_weight, len(x))
    level = as_array(probability_integral_transform(model, x, y, generator=_seeded(seed)))
    counts, edges = np.histogram(level, bins=bins, range=(0.0, 1.0), weights=weights.values)
    scale = weights.total / weights.count
    low, high = scale * binom.ppf([0.025 / bins, 1.0 - 0.025 / bins], round(weights.count), 1.0 / bins)
    ax = new_axes(ax, size=(5.0, 3.6))
    ax.bar(edges[:-1], counts, np.diff(edges), align="edge", color=_BAR, edgecolor="white", linewidth=0.7)
    ax.axhspan(low, high, color="0.87", linewidth=0, zorder=0, label="95% band of a true model")
    for edge in (low, high):
        ax.axhline(edge, color="0.3", linewidth=0.8)
    ax.axhline(weights.total / bins, color="black", linewidth=1.0, linestyle="--")
    top = 1.25 * max(float(counts.max()), float(high))
    unit = "observations" if sample_weight is None else "weight"
    ax.set(xlabel="probability integral transform", ylabel=unit, xlim=(0.0, 1.0), ylim=(0.0, top))
    ax.legend(frameon=False, fontsize="small", loc="upper right")
    return ax


@torch.no_grad()
def plot_qq(
    model: MixtureOfExperts,
    x: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    seed: int = 0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Quantile residuals in order against normal quantiles, with a 95% band at each point.

    Args:
        model: a fitted model of a scalar response.
        x: covariates ``(n, d)``, a tensor, an array or a frame.
        y: responses ``(n,)``, likewise.
        sample_weight: as in :func:`plot_calibration`.
        seed: of the draws that distributions with atoms need.
        ax: where to draw; a new figure if None.

    Returns:
        The axes. The i-th smallest of n uniform numbers is beta(i, n + 1 - i): the band is its normal quantiles. With
        weights i is the share below, times n, plus 1/2, and n is ``(sum w)^2 / sum w^2``.

    Example:
        >>> import torch
        >>> from matplotlib import use
        >>> use("Agg")
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_faithful
        >>> settings = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(0)}
        >>> model = MixtureOfExperts(softmax_gate(1, 2, **settings), linear_gaussian_experts(1, 2, **settings))
        >>> plot_qq(model, *load_faithful()).get_ylabel()
        'quantile residual'
    """
    x, y = pairs_for(model, x, y)
    weights = Weights.of(sample_weight, len(x))
    values = as_array(quantile_residuals(model, x, y, generator=_seeded(seed)))
    residuals, below = weights.sorted(values)
    expected, rank, n = norm.ppf(below), below * weights.count + 0.5, weights.count
    low, high = (norm.ppf(beta.ppf(level, rank, n + 1.0 - rank)) for level in (0.025, 0.975))
    ax = new_axes(ax, size=(4.2, 4.0))
    ax.fill_between(expected, low, high, color=_BAND, linewidth=0, label="95% band at each point")
    ends = [expected[0], expected[-1]]
    ax.plot(ends, ends, color="black", linewidth=1.0, linestyle="--")
    ax.plot(expected, residuals, ".", color=_LINE, markersize=4)
    ax.set(xlabel="normal quantile", ylabel="quantile residual")
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    return ax


@torch.no_grad()
def plot_residuals(
    model: MixtureOfExperts,
    x: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    seed: int = 0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Quantile residuals against the conditional mean, with their deciles and medians in bins of equal weight.

    Args:
        model: a fitted model of a scalar response.
        x: covariates ``(n, d)``, a tensor, an array or a frame.
        y: responses ``(n,)``, likewise.
        sample_weight: as in :func:`plot_calibration`.
        seed: of the draws that distributions with atoms need.
        ax: where to draw; a new figure if None.

    Returns:
        The axes. Of a true model the three solid lines stay near the dashed ones, the normal quantiles at 10%, 50% and
        90%; there are none with fewer than 45 observations.

    Example:
        >>> import torch
        >>> from matplotlib import use
        >>> use("Agg")
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_faithful
        >>> settings = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(0)}
        >>> model = MixtureOfExperts(softmax_gate(1, 2, **settings), linear_gaussian_experts(1, 2, **settings))
        >>> plot_residuals(model, *load_faithful()).get_xlabel()
        'conditional mean'
    """
    x, y = pairs_for(model, x, y)
    weights = Weights.of(sample_weight, len(x))
    residuals = as_array(quantile_residuals(model, x, y, generator=_seeded(seed)))
    fitted = as_array(scalar_law(model, x).mean)
    ax = new_axes(ax, size=(5.5, 4.0))
    for level in _QUANTILES:
        ax.axhline(norm.ppf(level), color="black", linewidth=0.9, linestyle="--")
    ax.plot(fitted[weights.values > 0], residuals[weights.values > 0], ".", color="0.6", markersize=4)
    bins = min(10, int(weights.count) // _FEWEST_IN_A_BIN)
    if bins >= 3:
        parts = weights.bins(fitted, bins)
        middle = [weights.quantile(fitted, part, 0.5) for part in parts]
        for level in _QUANTILES:
            heights = [weights.quantile(residuals, part, level) for part in parts]
            label = "10%, 50%, 90% of the residuals" if level == _QUANTILES[0] else None
            ax.plot(middle, heights, color="#D55E00", linewidth=1.8, marker="o", markersize=3.5, label=label)
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + 0.15 * (high - low))
        ax.legend(frameon=False, fontsize="small", loc="upper right")
    ax.set(xlabel="conditional mean", ylabel="quantile residual")
    return ax
