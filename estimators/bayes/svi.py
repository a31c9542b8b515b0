"""Stochastic variational inference with Pyro's guides, on the whitened posterior."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import (
    AutoContinuous,
    AutoGuide,
    AutoIAFNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    init_to_value,
)
from pyro.optim import ClippedAdam
from torch import Tensor
from tqdm.auto import tqdm

from mixkit._validation import check_choice, check_integer, check_positive

from .importance import importance_sample, warn_of_weights
from .labels import folding, labeling
from .laplace import LaplaceApproximation, mode_of
from .model import BayesianMixtureOfExperts
from .posterior import Posterior, name_experts
from .randomness import pyro_scope, spawn_seeds

__all__ = ["fit_svi"]

_FALL = 0.02  # last learning rate over the first
_INITIAL_SCALE = 0.7
_GUIDES: dict[str, Callable[..., AutoGuide]] = {
    "auto_normal": AutoNormal,
    "auto_multivariate": AutoMultivariateNormal,
    "auto_lowrank": AutoLowRankMultivariateNormal,
    "auto_iaf": AutoIAFNormal,
}


def fit_svi(
    bayes: BayesianMixtureOfExperts,
    *,
    guide: str | Callable[..., AutoGuide] = "auto_multivariate",
    steps: int = 1000,
    lr: float = 0.02,
    num_particles: int = 1,
    num_samples: int = 1000,
    at: LaplaceApproximation | None = None,
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
) -> Posterior:
    r"""Maximize the evidence lower bound :math:`E_q \log p(\theta, y) - E_q \log q(\theta)` by stochastic gradients.

    The guide is over vectors whitened by the normal distribution at the posterior mode: with "auto_normal"
    correlations are those of that distribution, and only the spread along each of its axes is learned. The result's
    ``importance`` weighs draws of the guide by the posterior: evidence, and an effective sample size that
    says how good the guide is.

    Args:
        bayes: model, data and priors.
        guide: "auto_normal", "auto_multivariate", "auto_lowrank", "auto_iaf", or a class (or function) that makes one
            of Pyro's autoguides from a model.
        steps: gradient steps; the learning rate falls to a fiftieth on the way.
        lr: first learning rate of Adam.
        num_particles: draws that estimate one gradient.
        num_samples: draws of the result.
        at: the mode; found from the maximum-likelihood estimate if None.
        random_state: seed.
        progress: whether to show a bar.

    Raises:
        TypeError: if ``bayes`` or ``at`` is of the wrong kind.
        ValueError: for an unknown guide, or a count or rate that is not positive.

    Source: Kucukelbir et al. (2017), JMLR 18(14), 1-45, for automatic guides.

    Example:
        >>> import torch
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_tone
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = load_tone()
        >>> line = MixtureOfExperts(softmax_gate(1, 1, generator=g), linear_gaussian_experts(1, 1, generator=g))
        >>> posterior = fit_svi(BayesianMixtureOfExperts(line, x, y), steps=100, num_samples=200, random_state=0)
        >>> posterior.importance.ess > 100  # of 200
        True
    """
    started = time.perf_counter()
    steps, num_samples = check_integer("steps", steps, low=1), check_integer("num_samples", num_samples, low=4)
    num_particles = check_integer("num_particles", num_particles, low=1)
    rate = float(check_positive("lr", lr))
    make = _GUIDES[check_choice("guide", guide, _GUIDES)] if isinstance(guide, str) else guide
    seeds = spawn_seeds(random_state, 2)
    at = mode_of(bayes, at, seeds[1])
    model = _whitened(bayes, at)
    with pyro_scope(seeds[0]):
        fitted = _guide(make, model, at)
        optimizer = ClippedAdam({"lr": rate, "lrd": _FALL ** (1.0 / steps)})
        svi = SVI(model, fitted, optimizer, Trace_ELBO(num_particles=num_particles))
        bar = tqdm(range(steps), disable=not progress, desc="SVI")
        history = np.array([-svi.step() for _ in bar])
        z, log_q = _draw(fitted, num_samples)
    sample = importance_sample(bayes, at, folding(bayes, at.mode, at.factor), z, log_q)
    warn_of_weights(sample)
    labels = labeling(bayes, at.mode, at.factor)
    named = name_experts(bayes, labels, sample.draws, 1)
    seconds = time.perf_counter() - started
    name = guide if isinstance(guide, str) else getattr(guide, "__name__", "guide")
    return Posterior(bayes, named, f"SVI, {name}", history=history, importance=sample, seconds=seconds)


def _whitened(bayes: BayesianMixtureOfExperts, at: LaplaceApproximation) -> Callable[[], None]:
    """The posterior as a Pyro model of one site."""
    zero = torch.zeros_like(at.mode)

    def model() -> None:
        z = pyro.sample("z", dist.Normal(zero, 1.0).to_event(1).mask(False))
        pyro.factor("posterior", bayes.log_density(at.to_vector(z)) + at.log_determinant)

    return model


def _guide(make: Callable[..., AutoGuide], model: Callable[[], None], at: LaplaceApproximation) -> AutoGuide:
    start: dict[str, Any] = {"init_loc_fn": init_to_value(values={"z": torch.zeros_like(at.mode)})}
    if make in (AutoNormal, AutoMultivariateNormal, AutoLowRankMultivariateNormal):
        start["init_scale"] = _INITIAL_SCALE
    guide = make(model) if make is AutoIAFNormal else make(model, **start)
    guide()  # creates the parameters
    return guide.to(at.mode.dtype) if isinstance(guide, AutoContinuous) else guide


@torch.no_grad()
def _draw(guide: AutoGuide, count: int) -> tuple[Tensor, Tensor]:
    """Draws ``(s, P)`` of a guide and their log-densities ``(s,)``."""
    draws, log_q = [], []
    for _ in range(count):
        trace = poutine.trace(guide).get_trace()
        draws.append(trace.nodes["z"]["value"])
        log_q.append(trace.log_prob_sum())
    return torch.stack(draws), torch.stack(log_q)
