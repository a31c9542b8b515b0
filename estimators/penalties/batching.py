"""Which objectives evaluate many parameter vectors at once."""

from ..optimizers.objective import Objective
from .objective import PenalizedObjective

__all__ = ["is_batched", "without_penalty"]


def without_penalty(objective: Objective) -> Objective:
    """The log-likelihood inside a penalized one; any other objective itself."""
    return objective.base if isinstance(objective, PenalizedObjective) else objective


def is_batched(objective: Objective) -> bool:
    """Whether vectors and data sets are one computation; plain autograd runs them one after another."""
    return without_penalty(objective).is_batched
