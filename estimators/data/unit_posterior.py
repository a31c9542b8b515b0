"""What a mixture says of units: joint log-densities and posteriors, where rows share an expert."""

import math

import torch
from torch import Tensor

from mixkit.mixture import ExpertMixture

from .units import Units

__all__ = ["draw", "log_joint", "unit_log_prob", "unit_log_responsibilities"]


def log_joint(distribution: ExpertMixture, y: Tensor, units: Units | None, power: Tensor | None = None) -> Tensor:
    """Log weight plus log-density of each unit under each expert, ``(g, k)``; -inf where that is not possible.

    Args:
        distribution: of the responses, batch shape ``(n,)``.
        y: responses ``(n,)`` or ``(n, p)``.
        units: which rows share an expert; None where each has its own.
        power: to what power each row's density is raised, ``(n,)``; None for ones.
    """
    log_weights = distribution.log_weights
    densities = distribution.components.log_prob(y.unsqueeze(1))
    selected = log_weights > -torch.inf
    densities = torch.where(selected, densities, 0.0)
    if units is None:
        return densities + log_weights
    return units.pooled(densities.mT, power).mT + log_weights[units.first.to(densities.device)]


def _is_impossible(joint: Tensor) -> Tensor:
    """Units without an expert that could have made them, ``(g, 1)``."""
    return torch.isneginf(joint).all(-1, keepdim=True)


def unit_log_prob(joint: Tensor) -> Tensor:
    """Log-likelihood ``(g,)`` of each unit from what :func:`log_joint` gives."""
    lost = _is_impossible(joint)
    return torch.where(lost[:, 0], -torch.inf, torch.logsumexp(torch.where(lost, 0.0, joint), -1))


def unit_log_responsibilities(joint: Tensor) -> Tensor:
    """Log posterior probability of each expert ``(g, k)``; uniform where no expert is possible."""
    return torch.log_softmax(torch.where(_is_impossible(joint), 0.0, joint), -1)


def draw(
    distribution: ExpertMixture, units: Units | None, shape: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """Responses ``(*shape, n, *event)``, all rows of a unit from one expert, drawn by the weights at its first row."""
    if units is None:
        return distribution.sample(shape, generator=generator)
    log_weights = distribution.log_weights
    first, index = (part.to(log_weights.device) for part in (units.first, units.index))
    weights, draws = log_weights[first].exp(), []
    for _ in range(math.prod(shape)):
        expert = torch.multinomial(weights, 1, generator=generator)[index]
        sharp = torch.full_like(log_weights, -torch.inf).scatter(-1, expert, 0.0)
        known = ExpertMixture(sharp, distribution.components, validate_args=False)
        draws.append(known.sample(generator=generator))
    return torch.stack(draws).reshape(*shape, *draws[0].shape)
