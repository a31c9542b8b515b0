"""How much a rule can accept: at one node (``bounds.py``), over whole drafts (``joint.py``), and a picture of it."""

from .bounds import (
    acceptance_bound,
    can_accept_always,
    linear_program_acceptance,
    optimal_acceptance,
    optimal_acceptance_different,
)
from .joint import antichain_optimum, joint_optimum

__all__ = [
    "acceptance_bound",
    "antichain_optimum",
    "can_accept_always",
    "joint_optimum",
    "linear_program_acceptance",
    "optimal_acceptance",
    "optimal_acceptance_different",
]
