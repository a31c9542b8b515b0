"""To ArviZ, which is an extra: arviz-base for the draws, arviz-stats for cross-validation."""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

__all__ = ["inference_data", "leave_one_out"]


def _arviz(name: str) -> Any:
    """One of ArviZ's packages."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError("ArviZ is needed here: pip install 'mixkit[bayes]'") from error


def _by_chain(values: Tensor, chains: int) -> np.ndarray:
    return values.unflatten(0, (chains, -1)).numpy(force=True)


def inference_data(
    draws: Mapping[str, Tensor],
    *,
    log_likelihood: Tensor,
    data: tuple[Tensor, Tensor],
    diverging: Tensor | None = None,
    predictive: Tensor | None = None,
) -> Any:
    """Draws and what goes with them as the tree of data sets that ArviZ works on.

    Args:
        draws: of each of users' parameters by name, ``(chains, draws)``.
        log_likelihood: of each observation under all draws of all chains, ``(s, n)``.
        data: x and y.
        diverging: whether the trajectory of each draw diverged, ``(chains, draws)``; None for other methods.
        predictive: a response at each row of x for each draw, ``(s, n)``; None for none.
    """
    chains = len(next(iter(draws.values())))
    groups: dict[str, Any] = {
        "posterior": {name: values.numpy(force=True) for name, values in draws.items()},
        "log_likelihood": {"y": _by_chain(log_likelihood, chains)},
        "observed_data": {"y": data[1].numpy(force=True)},
        "constant_data": {"x": data[0].numpy(force=True)},
    }
    if diverging is not None:
        groups["sample_stats"] = {"diverging": diverging.numpy(force=True)}
    if predictive is not None:
        groups["posterior_predictive"] = {"y": _by_chain(predictive, chains)}
    return _arviz("arviz_base").from_dict(groups)


def leave_one_out(exported: Any) -> Any:
    """``arviz_stats.loo`` of what :func:`inference_data` made, with its pointwise values."""
    return _arviz("arviz_stats").loo(exported, pointwise=True)
