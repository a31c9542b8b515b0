"""What pictures share: axes, colours, grids of covariates."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .._validation import check_integer, check_last_dim
from ..mixture import ExpertMixture, MixtureOfExperts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["as_array", "expert_colors", "feature_names", "grid_over", "new_axes", "resolve_feature", "scalar_law"]

# Okabe and Ito's palette for colour-blind readers, without its black and yellow.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def expert_colors(k: int) -> list[Any]:
    """One colour an expert: a colour-blind-safe palette, matplotlib's viridis when there are more than six."""
    if k <= len(_COLORS):
        return list(_COLORS[:k])
    from matplotlib import colormaps

    return [colormaps["viridis"](value) for value in np.linspace(0.0, 0.95, k)]


def new_axes(ax: "Axes | None", *, size: tuple[float, float] = (7.0, 4.5)) -> "Axes":
    """The given axes, or those of a new figure.

    Raises:
        ImportError: without matplotlib (extra ``plot``).
    """
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "mixkit[plot]"') from error
    return plt.subplots(figsize=size, layout="constrained")[1]


def as_array(values: Tensor) -> np.ndarray:
    """For drawing; float64 so that NumPy knows bfloat16 too."""
    return values.detach().double().cpu().numpy()


def feature_names(names: Sequence[str] | None, d: int) -> list[str]:
    """Names of d covariates: those given, or x (x0, x1, ... if there are several)."""
    if names is None:
        return ["x"] if d == 1 else [f"x{i}" for i in range(d)]
    if len(names) != d:
        raise ValueError(f"names must hold one name for each of the {d} covariates, got {len(names)}")
    return [str(name) for name in names]


def resolve_feature(feature: int | str | None, names: Sequence[str] | None, x: Tensor) -> int:
    """The column that a number, a name or (with one covariate) None stands for."""
    if feature is None:
        check_last_dim("x", x, 1, "covariate")
        return 0
    if isinstance(feature, str):
        known = feature_names(names, x.shape[-1])
        if feature not in known:
            raise ValueError(f"feature must be one of {known}, got {feature!r}")
        return known.index(feature)
    return check_integer("feature", feature, low=0, high=x.shape[-1] - 1)


def grid_over(
    model: MixtureOfExperts,
    x: Tensor,
    features: Sequence[int],
    at: Tensor | None,
    count: int,
    *,
    margin: float = 0.0,
) -> Tensor:
    """A grid over the range of one or two columns of ``x (n, d)``, the others at ``at (d,)`` or their medians.

    ``margin`` widens the range on either side, as a share of it. Returns ``(count, d)`` or ``(count, count, d)``, in
    dtype and on device of the model.
    """
    own = next(model.parameters())
    centre = x.median(0).values if at is None else torch.as_tensor(at)
    if centre.shape != x.shape[-1:]:
        raise ValueError(f"at must have shape ({x.shape[-1]},), got {tuple(centre.shape)}")
    ends = [(float(x[:, feature].min()), float(x[:, feature].max())) for feature in features]
    ends = [(low - margin * (high - low), high + margin * (high - low)) for low, high in ends]
    lines = [torch.linspace(low, high, count, dtype=own.dtype, device=own.device) for low, high in ends]
    columns = torch.meshgrid(*lines, indexing="xy")
    grid = centre.to(own).expand(*columns[0].shape, -1).clone()
    for feature, column in zip(features, columns, strict=True):
        grid[..., feature] = column
    return grid


def scalar_law(model: MixtureOfExperts, x: Tensor) -> ExpertMixture:
    """The conditional law of a scalar response; ``ValueError`` for a vector."""
    law = model(x)
    if law.event_shape:
        raise ValueError(f"model must have a scalar response, got event shape {tuple(law.event_shape)}")
    return law
