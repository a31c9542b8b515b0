"""What pictures share: data in any form, axes, colors, grids of covariates."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .._validation import check_integer
from ..mixture import ExpertMixture, MixtureOfExperts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "as_array",
    "as_values",
    "column_names",
    "data_for",
    "expert_colors",
    "feature_names",
    "grid_over",
    "new_axes",
    "pairs_for",
    "resolve_feature",
    "scalar_law",
]

# Okabe and Ito's palette for color-blind readers, without its black and yellow.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def expert_colors(k: int) -> list[Any]:
    """One color an expert: a color-blind-safe palette, matplotlib's viridis when there are more than six."""
    if k <= len(_COLORS):
        return list(_COLORS[:k])
    from matplotlib import colormaps  # an extra

    return [colormaps["viridis"](value) for value in np.linspace(0.0, 0.95, k)]


def new_axes(ax: "Axes | None", *, size: tuple[float, float] = (7.0, 4.5)) -> "Axes":
    """The given axes, or those of a new figure.

    Raises:
        ImportError: without matplotlib (extra ``plot``).
    """
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot as plt  # an extra
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "mixkit[plot]"') from error
    return plt.subplots(figsize=size, layout="constrained")[1]


def as_array(values: Tensor) -> np.ndarray:
    """For drawing; float64 so that NumPy knows bfloat16 too."""
    return values.detach().double().cpu().numpy()


def as_values(name: str, values: Any) -> Tensor:
    """A tensor as it is; else a float64 tensor of an array, a frame or a list.

    Raises:
        TypeError: if ``values`` is not numeric.
    """
    if isinstance(values, Tensor):
        return values
    try:
        return torch.as_tensor(np.array(values, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a numeric tensor, array or frame, got {type(values).__name__}") from error


def column_names(names: Sequence[str] | None, x: Any) -> Sequence[str] | None:
    """The given names, else those of the columns of a frame, else None."""
    columns = getattr(x, "columns", None)
    return names if names is not None or columns is None else [str(column) for column in columns]


def data_for(model: Any, x: Any, y: Any = None) -> tuple[Tensor, Tensor | None]:
    """Covariates and responses as tensors.

    Raises:
        TypeError: if ``model`` is no module, such as an estimator that holds one, or the data are not numeric.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(
            "model must be a MixtureOfExperts (of a fitted regressor pass .result_.model, of a result .model), got "
            f"{type(model).__name__}"
        )
    return as_values("x", x), None if y is None else as_values("y", y)


def pairs_for(model: MixtureOfExperts, x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Covariates and responses in dtype and on device of the model; raises as :func:`data_for`."""
    covariates, _ = data_for(model, x)
    own = next(model.parameters())
    return covariates.to(own), as_values("y", y).to(own)


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
        if x.ndim == 0 or x.shape[-1] != 1:
            raise ValueError(
                f"x must have 1 covariate in its last dimension, got shape {tuple(x.shape)}; of several, pass feature= "
                "to say which is on the axis, by number or name"
            )
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
    center = x.median(0).values if at is None else torch.as_tensor(at)
    if center.shape != x.shape[-1:]:
        raise ValueError(f"at must have shape ({x.shape[-1]},), got {tuple(center.shape)}")
    ends = [(float(x[:, feature].min()), float(x[:, feature].max())) for feature in features]
    ends = [(low - margin * (high - low), high + margin * (high - low)) for low, high in ends]
    lines = [torch.linspace(low, high, count, dtype=own.dtype, device=own.device) for low, high in ends]
    columns = torch.meshgrid(*lines, indexing="xy")
    grid = center.to(own).expand(*columns[0].shape, -1).clone()
    for feature, column in zip(features, columns, strict=True):
        grid[..., feature] = column
    return grid


def scalar_law(model: MixtureOfExperts, x: Tensor) -> ExpertMixture:
    """The conditional distribution of a scalar response; ``ValueError`` for a vector."""
    law = model(x)
    if law.event_shape:
        raise ValueError(f"model must have a scalar response, got event shape {tuple(law.event_shape)}")
    return law
