"""Penalties and priors: what a fit maximizes besides the log-likelihood; start with ``base.py``."""

from .base import Penalty, PenaltyView
from .lasso import Lasso
from .minimum_share import MinimumShare
from .objective import PenalizedObjective
from .priors import LogPrior
from .ridge import Ridge

__all__ = [
    "Lasso",
    "LogPrior",
    "MinimumShare",
    "PenalizedObjective",
    "Penalty",
    "PenaltyView",
    "Ridge",
]
