"""Draws from a posterior: summaries, convergence of chains, predictions, ArviZ."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

from ..statistics.wald import check_level
from .export import inference_data, leave_one_out
from .importance import ImportanceSample
from .labels import Labeling, permute
from .model import BayesianMixtureOfExperts, over_draws
from .predictive import PosteriorPredictive, Waic, waic_of
from .summary import PosteriorSummary
from .user_parameters import reported

__all__ = ["DivergenceWarning", "Posterior", "name_experts"]


class DivergenceWarning(UserWarning):
    """Trajectories of the sampler diverged: what it drew may miss a part of the posterior."""


def name_experts(
    bayes: BayesianMixtureOfExperts, labels: Labeling, draws: Mapping[str, Tensor], num_chains: int
) -> dict[str, Tensor]:
    """Draws ``(chains, draws, *shape)`` with their experts in order, from ``(chains * draws, *shape)``."""
    named = permute(bayes, draws, labels.order(draws))
    return {name: value.unflatten(0, (num_chains, -1)) for name, value in named.items()}


@dataclass(eq=False, repr=False)
class Posterior(PosteriorPredictive):
    """Draws of equal weight from the posterior, or from an approximation to it.

    Attributes:
        bayes: model, data and priors.
        samples: parameters of the module by name, ``(chains, draws, *shape)``, experts in order.
        method: how they were drawn.
        diverging: whether the trajectory of each draw diverged, ``(chains, draws)``; None but for NUTS.
        history: objective of a variational fit after each step; None for NUTS.
        importance: weighted draws of a variational fit, with evidence and effective sample size; None for NUTS.
        seconds: time taken.
    """

    bayes: BayesianMixtureOfExperts
    samples: dict[str, Tensor]
    method: str
    diverging: Tensor | None = None
    history: np.ndarray | None = None
    importance: ImportanceSample | None = None
    seconds: float = float("nan")
    _reported: tuple[list[str], Tensor] | None = field(default=None, init=False)

    def __repr__(self) -> str:
        """The main figures in a line."""
        chains, draws = self.values.shape[:2]
        tail = "" if self.diverging is None else f", divergences={self.num_divergences}"
        return f"Posterior({self.method}, chains={chains}, draws={draws}, parameters={len(self.param_names)}{tail})"

    def draws(self) -> dict[str, Tensor]:
        """All draws of all chains, parameters of the module by name, ``(s, *shape)``."""
        return {name: value.flatten(0, 1) for name, value in self.samples.items()}

    def _users(self) -> tuple[list[str], Tensor]:
        if self._reported is None:
            self._reported = reported(self.bayes, self.samples)
        return self._reported

    @property
    def param_names(self) -> list[str]:
        """Names of the parameters as users read them, those of ``FitResult.param_names``."""
        return self._users()[0]

    @property
    def values(self) -> Tensor:
        """Draws of those parameters, ``(chains, draws, P)``: gates relative to the last expert, ``std`` not its log."""
        return self._users()[1]

    @property
    def mean(self) -> np.ndarray:
        """Posterior means ``(P,)``."""
        return self.values.flatten(0, 1).mean(0).numpy(force=True)

    @property
    def std(self) -> np.ndarray:
        """Posterior standard deviations ``(P,)``."""
        return self.values.flatten(0, 1).std(0).numpy(force=True)

    def interval(self, *, level: float = 0.95) -> np.ndarray:
        """Central credible intervals ``(P, 2)``.

        Raises:
            ValueError: if ``level`` is not strictly between 0 and 1.
        """
        ends = tail_quantiles(level).to(self.values)
        return torch.quantile(self.values.flatten(0, 1), ends, dim=0).mT.numpy(force=True)

    @property
    def num_divergences(self) -> int:
        """Trajectories that diverged."""
        return 0 if self.diverging is None else int(self.diverging.sum())

    @property
    def r_hat(self) -> np.ndarray:
        """Split R-hat ``(P,)``: near 1 where chains agree. Needs at least 4 draws (Gelman et al. 2013, BDA3, 11.4).

        NaN for draws that are no chains: those of variational fits, which are independent whatever they miss.
        """
        if self.importance is not None:
            return np.full(len(self.param_names), np.nan)
        return split_gelman_rubin(self.values, chain_dim=0, sample_dim=1).numpy(force=True)

    @property
    def ess(self) -> np.ndarray:
        """Effective sample size of the mean ``(P,)``, from the autocorrelations (Geyer 1992).

        Of variational fits that of the importance weights, at most the number of draws.
        """
        if self.importance is not None:
            size = float(self.values.shape[0] * self.values.shape[1])
            return np.full(len(self.param_names), min(self.importance.ess, size))
        return effective_sample_size(self.values, chain_dim=0, sample_dim=1).numpy(force=True)

    def summary(self, *, level: float = 0.95) -> PosteriorSummary:
        """A table of means, deviations, intervals and convergence; prints as text."""
        ends = self.interval(level=level)
        columns = [self.mean, self.std, ends[:, 0], ends[:, 1], self.ess, self.r_hat]
        return PosteriorSummary(self._head(), self.param_names, np.column_stack(columns), level, self._notes())

    def _head(self) -> list[tuple[str, str]]:
        chains, draws = self.values.shape[:2]
        head = [("Method", self.method), ("Observations", str(self.bayes.n)), ("Draws", f"{chains} x {draws}")]
        if self.diverging is not None:
            head.append(("Divergences", str(self.num_divergences)))
        if self.importance is not None:
            head += [
                ("Log-evidence", f"{self.importance.log_evidence:.3f}"),
                ("Importance ESS", f"{self.importance.ess:.0f} of {len(self.importance.log_weights)}"),
                ("Pareto k", f"{self.importance.pareto_k:.2f}"),
            ]
        return [*head, ("Time (s)", f"{self.seconds:.1f}")]

    def _notes(self) -> list[str]:
        last = self.bayes.model.num_experts - 1
        return [f"Gates are relative to expert {last}. Prior and data: estimators.bayes."]

    def expectation(self, function: Callable[[dict[str, Tensor]], Tensor]) -> Tensor:
        """Posterior mean of a function of the module's parameters by name."""
        return over_draws(function, self.draws()).mean(0)

    def waic(self) -> Waic:
        """The widely applicable information criterion on the data."""
        return waic_of(self.log_likelihood(self.bayes.x, self.bayes.y))

    def loo(self) -> Any:
        """PSIS leave-one-out cross-validation by ArviZ, as its ``ELPDData``.

        Its ``elpd`` is the expected log predictive density with standard error ``se``, ``p`` the effective number of
        parameters, ``elpd_i`` and ``pareto_k`` ``(n,)`` what each observation adds and Pareto's k of its weights.

        Raises:
            ImportError: without ArviZ (``pip install mixkit[bayes]``).

        Warns:
            UserWarning: ArviZ's own, if an observation's k is too large for its estimate to be trusted.

        Source: Vehtari, Gelman, Gabry (2017), Statistics and Computing 27, 1413-1432.
        """
        return leave_one_out(self.to_arviz())

    def to_arviz(self, *, predictive: bool = False, random_state: int | np.random.Generator | None = None) -> Any:
        """An ``xarray.DataTree`` for ArviZ: parameters, log-likelihoods, data and, if asked, predictive draws.

        Raises:
            ImportError: without ArviZ (``pip install mixkit[bayes]``).
        """
        bayes = self.bayes
        return inference_data(
            dict(zip(self.param_names, self.values.unbind(-1), strict=True)),
            log_likelihood=self.log_likelihood(bayes.x, bayes.y),
            data=(bayes.x, bayes.y),
            diverging=self.diverging,
            predictive=self.sample_y(bayes.x, random_state) if predictive else None,
        )


def tail_quantiles(level: float) -> Tensor:
    """Probabilities at the ends of a central interval."""
    level = check_level(level)
    return torch.tensor([0.5 - level / 2.0, 0.5 + level / 2.0], dtype=torch.float64)
