"""What a posterior says of new observations, and how well it predicts the data."""

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mixkit._validation import check_finite

from ..data.columns import column_names, ordered_covariates
from ..statistics.wald import check_level
from .model import BayesianMixtureOfExperts, over_draws

__all__ = ["PosteriorPredictive", "Waic", "waic_of"]


class Waic(NamedTuple):
    """The widely applicable information criterion on the scale of log-densities (larger is better).

    ``elpd`` is ``lppd - p_waic``, ``se`` its standard error over the observations, ``p_waic`` the effective number of
    parameters, ``pointwise (n,)`` what each observation adds to ``elpd``.
    """

    elpd: float
    se: float
    lppd: float
    p_waic: float
    pointwise: np.ndarray


def waic_of(log_likelihood: Tensor) -> Waic:
    r"""WAIC from log-densities ``(s, n)`` of n observations under s draws.

    .. math:: \sum_i \Bigl( \log \tfrac1S \sum_s p(y_i \mid \theta_s) - \mathrm{var}_s \log p(y_i \mid \theta_s) \Bigr)

    Source: Watanabe (2010), JMLR 11, 3571-3594; Gelman, Hwang, Vehtari (2014), Statistics and Computing 24, eq. (13).

    Example:
        >>> import torch
        >>> round(waic_of(torch.zeros(10, 3)).elpd, 3)
        0.0
    """
    lppd = _log_mean(log_likelihood)
    penalty = log_likelihood.var(0)
    pointwise = (lppd - penalty).numpy(force=True)
    se = math.sqrt(len(pointwise) * pointwise.var())
    return Waic(float(pointwise.sum()), se, float(lppd.sum()), float(penalty.sum()), pointwise)


def _log_mean(values: Tensor) -> Tensor:
    return torch.logsumexp(values, 0) - math.log(len(values))


class PosteriorPredictive(ABC):
    """Predictions averaged over draws of the parameters.

    Covariates and responses may be tensors, or anything that NumPy takes for an array: lists, frames of pandas. The
    columns of a frame go by their names if the data came in a frame too.
    """

    bayes: BayesianMixtureOfExperts

    @abstractmethod
    def draws(self) -> dict[str, Tensor]:
        """Parameters of the module by name, ``(s, *shape)``."""

    def _covariates(self, x: Any) -> Tensor:
        names = self.bayes.feature_names
        if names is not None and column_names(x) is not None:
            x = ordered_covariates(x, names)
        rows = _numbers("x", x, self.bayes.x)
        if rows.ndim != 2 or rows.shape[1] != self.bayes.x.shape[1]:
            raise ValueError(f"x must have shape (n, {self.bayes.x.shape[1]}), got {tuple(rows.shape)}")
        return rows

    def predict_means(self, x: Any) -> Tensor:
        """Conditional means at ``x (n, d)`` under each draw, ``(s, n)`` or ``(s, n, p)``."""
        rows = self._covariates(x)
        with torch.no_grad():
            return over_draws(lambda draw: self.bayes.law(draw, rows).mean, self.draws(), terms=self._terms(rows))

    def _terms(self, rows: Tensor) -> int:
        return len(rows) * self.bayes.model.num_experts

    def predict(self, x: Any) -> np.ndarray:
        """Posterior mean of the conditional mean, ``(n,)`` or ``(n, p)``."""
        return self.predict_means(x).mean(0).numpy(force=True)

    def mean_interval(self, x: Any, *, level: float = 0.95) -> np.ndarray:
        """Central credible interval of the conditional mean, ``(n, 2)`` (``(n, p, 2)``)."""
        return _central(self.predict_means(x), level)

    def sample_y(self, x: Any, random_state: int | np.random.Generator | None = None) -> Tensor:
        """One response at each row of ``x`` for each draw, ``(s, n)`` or ``(s, n, p)``: draws of the predictive law."""
        rows, draws = self._covariates(x), self.draws()
        seed = int(np.random.default_rng(random_state).integers(2**62))
        generator = torch.Generator(rows.device).manual_seed(seed)
        laws = ({n: v[i] for n, v in draws.items()} for i in range(len(next(iter(draws.values())))))
        with torch.no_grad():
            return torch.stack([self.bayes.law(draw, rows).sample(generator=generator) for draw in laws])

    def predict_interval(
        self, x: Any, *, level: float = 0.9, random_state: int | np.random.Generator | None = None
    ) -> np.ndarray:
        """Central predictive interval of a new response, ``(n, 2)``: its noise and the doubt on the parameters."""
        return _central(self.sample_y(x, random_state), level)

    def log_likelihood(self, x: Any, y: Any) -> Tensor:
        """Log-density of each observation under each draw, ``(s, n)``."""
        rows, responses = self._covariates(x), _numbers("y", y, self.bayes.y)
        shape = rows.shape[:1] + self.bayes.y.shape[1:]
        if responses.shape != shape:
            raise ValueError(f"y must have shape {tuple(shape)}, one row for each of x, got {tuple(responses.shape)}")
        self.bayes.model.experts.check_rows(rows, responses)
        with torch.no_grad():
            return over_draws(
                lambda draw: self.bayes.law(draw, rows).log_prob(responses), self.draws(), terms=self._terms(rows)
            )

    def log_predictive_density(self, x: Any, y: Any) -> np.ndarray:
        """Log of the posterior predictive density of each observation, ``(n,)``."""
        return _log_mean(self.log_likelihood(x, y)).numpy(force=True)


def _numbers(name: str, value: Any, like: Tensor) -> Tensor:
    """What NumPy takes for an array (lists, frames of pandas), or a tensor, as finite numbers on the model's device."""
    try:
        tensor = value.detach() if isinstance(value, Tensor) else torch.as_tensor(np.array(value, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be numeric, got {type(value).__name__}") from error
    return check_finite(name, tensor.to(like))


def _central(draws: Tensor, level: float) -> np.ndarray:
    level = check_level(level)
    values = np.quantile(draws.numpy(force=True), [0.5 - level / 2.0, 0.5 + level / 2.0], axis=0)
    return np.moveaxis(values, 0, -1)
