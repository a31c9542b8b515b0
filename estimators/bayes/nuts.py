"""The No-U-Turn sampler (Pyro's) on the whitened posterior, from the mode."""

import time
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed
from pyro.infer import MCMC, NUTS
from torch import Tensor

from mixkit._validation import check_integer

from .labels import labeling
from .laplace import LaplaceApproximation, mode_of
from .model import BayesianMixtureOfExperts
from .posterior import DivergenceWarning, Posterior, name_experts
from .randomness import pyro_scope, spawn_seeds

__all__ = ["fit_nuts"]


class _Chain(NamedTuple):
    z: Tensor  # (draws, P)
    diverging: Tensor  # (draws,) bool


def fit_nuts(
    bayes: BayesianMixtureOfExperts,
    *,
    num_samples: int = 1000,
    warmup: int = 300,
    num_chains: int = 4,
    target_accept: float = 0.8,
    max_tree_depth: int = 8,
    at: LaplaceApproximation | None = None,
    random_state: int | np.random.Generator | None = None,
    n_jobs: int | None = None,
    progress: bool = False,
) -> Posterior:
    """Draw from the posterior by Hamiltonian Monte Carlo.

    Chains start at draws from the normal distribution at the posterior mode, and run on vectors whitened by that
    distribution, so that a short warm-up is enough. Experts are named after the sampling, as ``bayes.ordering`` says.
    The selection of top-K gates makes the density jump; the sampler remains valid there and loses efficiency.

    Args:
        bayes: model, data and priors.
        num_samples: draws kept of a chain.
        warmup: draws of a chain in which step size and masses adapt, discarded.
        num_chains: independent chains.
        target_accept: acceptance probability to which the step size adapts; raise it against divergences.
        max_tree_depth: a trajectory has at most 2 to this power steps.
        at: the mode; found from the maximum-likelihood estimate if None.
        random_state: seed; the chains' numbers do not depend on ``n_jobs``.
        n_jobs: processes of joblib.
        progress: whether to show a bar for each chain.

    Raises:
        TypeError: if ``bayes`` or ``at`` is of the wrong kind.
        ValueError: if a count is too small.

    Warns:
        DivergenceWarning: if trajectories diverged: the posterior has corners that the sampler could not enter.

    Source: Hoffman and Gelman (2014), JMLR 15, 1593-1623.

    Example:
        >>> import torch
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_tone
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = load_tone()
        >>> line = MixtureOfExperts(softmax_gate(1, 1, generator=g), linear_gaussian_experts(1, 1, generator=g))
        >>> posterior = fit_nuts(
        ...     BayesianMixtureOfExperts(line, x, y), num_samples=50, warmup=20, num_chains=1, random_state=0
        ... )
        >>> posterior.num_divergences, posterior.values.shape  # (chains, draws, parameters)
        (0, torch.Size([1, 50, 3]))
    """
    started = time.perf_counter()
    counts = {"num_samples": num_samples, "warmup": warmup, "num_chains": num_chains, "max_tree_depth": max_tree_depth}
    lows = {"num_samples": 4, "warmup": 0, "num_chains": 1, "max_tree_depth": 1}
    num_samples, warmup, num_chains, max_tree_depth = (check_integer(n, v, low=lows[n]) for n, v in counts.items())
    if not 0.0 < target_accept < 1.0:
        raise ValueError(f"target_accept must be strictly between 0 and 1, got {target_accept}")
    seeds = spawn_seeds(random_state, num_chains + 1)
    at = mode_of(bayes, at, seeds[-1])
    settings = {"target_accept_prob": target_accept, "max_tree_depth": max_tree_depth}
    chains = Parallel(n_jobs=n_jobs, prefer="processes")(
        delayed(_chain)(bayes, at, num_samples, warmup, settings, seed, progress) for seed in seeds[:-1]
    )
    return _collect(bayes, at, chains, time.perf_counter() - started)


def _collect(
    bayes: BayesianMixtureOfExperts, at: LaplaceApproximation, chains: list[_Chain], seconds: float
) -> Posterior:
    z = torch.stack([chain.z for chain in chains])
    draws = bayes.parameters(at.to_vector(z.flatten(0, 1)))
    diverging = torch.stack([chain.diverging for chain in chains])
    if bool(diverging.any()):
        warnings.warn(
            f"{int(diverging.sum())} of {diverging.numel()} trajectories diverged: raise target_accept, or give the "
            "parameters that the data do not determine narrower priors",
            DivergenceWarning,
            stacklevel=3,
        )
    named = name_experts(bayes, labeling(bayes, at.mode, at.factor), draws, len(chains))
    return Posterior(bayes, named, "NUTS", diverging=diverging, seconds=seconds)


def _chain(
    bayes: BayesianMixtureOfExperts,
    at: LaplaceApproximation,
    num_samples: int,
    warmup: int,
    settings: dict[str, Any],
    seed: int,
    progress: bool,
) -> _Chain:
    def potential(site: dict[str, Tensor]) -> Tensor:
        value = bayes.log_density(at.to_vector(site["z"]))
        return torch.where(value.isnan(), torch.inf, -value)

    with pyro_scope(seed):
        first = torch.randn(bayes.num_params, dtype=at.mode.dtype).to(at.mode)
        if not bool(torch.isfinite(potential({"z": first}))):
            first = torch.zeros_like(first)
        kernel = NUTS(potential_fn=potential, step_size=0.5, **settings)
        sampler = MCMC(kernel, num_samples, warmup, initial_params={"z": first}, disable_progbar=not progress)
        sampler.run()
        z = sampler.get_samples()["z"].detach()
        report = sampler.diagnostics()
    diverging = torch.zeros(num_samples, dtype=torch.bool)
    diverging[[int(index) for index in report["divergences"]["chain 0"]]] = True
    return _Chain(z, diverging)
