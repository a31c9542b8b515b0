"""Penalties and priors: what a fit maximises besides the log-likelihood."""

from .base import Penalty, PenaltyView
from .minimum_share import MinimumShare
from .objective import PenalizedObjective
from .priors import LogPrior
from .ridge import Ridge

__all__ = ["LogPrior", "MinimumShare", "PenalizedObjective", "Penalty", "PenaltyView", "Ridge"]
