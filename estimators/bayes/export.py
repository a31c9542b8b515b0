"""To ArviZ, which is an extra: arviz-base for the draws, arviz-stats for cross-validation."""

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .posterior import Posterior

__all__ = ["loo_of", "to_arviz"]


def _arviz(name: str) -> Any:
    """One of ArviZ's packages."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError("ArviZ is needed here: pip install 'mixkit[bayes]'") from error


def _by_chain(values: Any, chains: int) -> np.ndarray:
    return values.unflatten(0, (chains, -1)).numpy(force=True)


def to_arviz(
    posterior: "Posterior", *, predictive: bool = False, random_state: int | np.random.Generator | None = None
) -> Any:
    """Draws, divergences, log-likelihoods, data and, if asked, posterior predictive draws as a tree of data sets."""
    bayes, chains = posterior.bayes, posterior.values.shape[0]
    groups: dict[str, Any] = {
        "posterior": {n: posterior.values[..., i].numpy(force=True) for i, n in enumerate(posterior.param_names)},
        "log_likelihood": {"y": _by_chain(posterior.log_likelihood(bayes.x, bayes.y), chains)},
        "observed_data": {"y": bayes.y.numpy(force=True)},
        "constant_data": {"x": bayes.x.numpy(force=True)},
    }
    if posterior.diverging is not None:
        groups["sample_stats"] = {"diverging": posterior.diverging.numpy(force=True)}
    if predictive:
        groups["posterior_predictive"] = {"y": _by_chain(posterior.sample_y(bayes.x, random_state), chains)}
    return _arviz("arviz_base").from_dict(groups)


def loo_of(posterior: "Posterior") -> Any:
    """``arviz_stats.loo`` of the data, with its pointwise values."""
    loo = _arviz("arviz_stats").loo
    return loo(to_arviz(posterior), pointwise=True)
