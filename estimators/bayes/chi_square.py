"""Variational importance sampling: the proposal of least variance, by the forward chi-square divergence."""

import math
import time

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from mixkit._validation import check_integer, check_positive

from .importance import importance_sample, log_target, resample, warn_of_weights
from .labels import folding, labeling
from .laplace import LaplaceApproximation, mode_of
from .model import BayesianMixtureOfExperts
from .posterior import Posterior, name_experts
from .randomness import spawn_seeds

__all__ = ["fit_chi_square"]

_FALL = 0.05
_PROPOSALS = 8  # proposals drawn for one draw of the result


class _StudentProposal(nn.Module):
    """A multivariate t distribution of location m and scale L L', its draws a given noise moved and stretched."""

    def __init__(self, like: Tensor, df: float) -> None:
        super().__init__()
        self.df, self.size = df, len(like)
        self.location = nn.Parameter(torch.zeros_like(like))
        self.factor = nn.Parameter(torch.zeros((self.size, self.size), dtype=like.dtype, device=like.device))

    def scale_tril(self) -> Tensor:
        return self.factor.tril(-1) + torch.diag_embed(self.factor.diagonal().exp())

    def draw(self, count: int, rng: np.random.Generator) -> Tensor:
        normal = rng.standard_normal((count, self.size))
        mixing = np.sqrt(self.df / rng.chisquare(self.df, (count, 1)))
        with torch.no_grad():
            return self.location + torch.as_tensor(normal * mixing).to(self.location) @ self.scale_tril().mT

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density ``(s,)`` of ``z (s, P)``."""
        residual = torch.linalg.solve_triangular(self.scale_tril(), (z - self.location).mT, upper=False)
        half = 0.5 * (self.df + self.size)
        constant = math.lgamma(half) - math.lgamma(0.5 * self.df) - 0.5 * self.size * math.log(self.df * math.pi)
        return constant - self.factor.diagonal().sum() - half * torch.log1p(residual.square().sum(0) / self.df)


def fit_chi_square(
    bayes: BayesianMixtureOfExperts,
    *,
    steps: int = 300,
    particles: int = 200,
    lr: float = 0.02,
    df: float = 10.0,
    num_samples: int = 1000,
    at: LaplaceApproximation | None = None,
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
) -> Posterior:
    r"""Fit the proposal q of least :math:`\chi^2(p \,\|\, q) = E_q w^2 / (E_q w)^2 - 1`, where :math:`w = p / q`.

    The variance of the evidence's estimate is proportional to this divergence, so its minimizer is the best importance
    sampler of its family, and no narrower than the posterior, as the minimizer of SVI is. q is a multivariate t
    distribution on vectors whitened at the posterior mode. The gradient of :math:`\log E_q w^2` is :math:`-E_q w^2
    \nabla \log q / E_q w^2`: with draws held fixed, a self-normalized average weighted by squares, in log space.

    Args:
        bayes: model, data and priors.
        steps: gradient steps of Adam; the learning rate falls to a twentieth on the way. With 0, q stays the t
            distribution around the posterior mode, and ``history`` is empty.
        particles: draws that estimate one gradient.
        lr: first learning rate.
        df: degrees of freedom of q, at least 2: tails heavier than the posterior's bound the weights.
        num_samples: draws of the result, resampled from 8 times as many weighted proposals.
        at: the mode; found from the maximum-likelihood estimate if None.
        random_state: seed.
        progress: whether to show a bar.

    Returns:
        A posterior whose ``importance`` holds the weighted proposals, the log-evidence with its standard error, and the
        effective sample size; ``history`` has :math:`\log(1 + \chi^2)` at each step, estimated from its particles.

    Raises:
        TypeError: if ``bayes`` or ``at`` is of the wrong kind.
        ValueError: if a count, rate or the degrees of freedom is too small.

    Source: Li, Wang, Li, Wu (2024), Forward chi-square divergence based variational importance sampling,
        arXiv 2311.02516, for the objective; the t family and the fold over permutations are ours.

    Example:
        >>> import torch
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_tone
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = load_tone()
        >>> line = MixtureOfExperts(softmax_gate(1, 1, generator=g), linear_gaussian_experts(1, 1, generator=g))
        >>> posterior = fit_chi_square(BayesianMixtureOfExperts(line, x, y), steps=30, random_state=0)
        >>> posterior.importance.standard_error < 0.02
        True
    """
    started = time.perf_counter()
    steps, particles = check_integer("steps", steps, low=0), check_integer("particles", particles, low=2)
    num_samples, rate = check_integer("num_samples", num_samples, low=4), float(check_positive("lr", lr))
    if not float(check_positive("df", df)) >= 2.0:
        raise ValueError(f"df must be at least 2, got {df}")
    (seed,) = spawn_seeds(random_state, 1)
    rng = np.random.default_rng(seed)
    at = mode_of(bayes, at, seed)
    folds = folding(bayes, at.mode, at.factor)

    def log_density(z: Tensor) -> Tensor:
        inside = folds.holds(bayes.parameters(at.to_vector(z)))
        return torch.where(inside, log_target(bayes, at, z), -math.inf)

    proposal = _StudentProposal(at.mode, float(df))
    optimizer = torch.optim.Adam(proposal.parameters(), lr=rate)
    fall = torch.optim.lr_scheduler.ExponentialLR(optimizer, _FALL ** (1.0 / max(steps, 1)))
    history = []
    for _ in tqdm(range(steps), disable=not progress, desc="chi-square"):
        z = proposal.draw(particles, rng)
        log_q = proposal.log_prob(z)
        log_w = log_density(z) - log_q.detach()
        history.append(_log_moments(log_w))
        optimizer.zero_grad()
        (-(torch.softmax(2.0 * log_w, 0) * log_q).sum()).backward()
        optimizer.step()
        fall.step()
    with torch.no_grad():
        z = proposal.draw(_PROPOSALS * num_samples, rng)
        sample = importance_sample(bayes, at, folds, z, proposal.log_prob(z))
    warn_of_weights(sample)
    labels = labeling(bayes, at.mode, at.factor)
    named = name_experts(bayes, labels, resample(sample, num_samples, rng), 1)
    seconds = time.perf_counter() - started
    return Posterior(
        bayes, named, "variational importance", history=np.array(history), importance=sample, seconds=seconds
    )


def _log_moments(log_w: Tensor) -> float:
    """``log E w^2 - 2 log E w``, the logarithm of 1 plus the divergence."""
    size = math.log(len(log_w))
    return float(torch.logsumexp(2.0 * log_w, 0) + size - 2.0 * torch.logsumexp(log_w, 0))
