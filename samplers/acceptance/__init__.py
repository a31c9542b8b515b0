"""How much a rule can accept: bounds and the optimum (``bounds.py``), and a picture of them (``plotting.py``)."""

from .bounds import (
    acceptance_bound,
    can_accept_always,
    linear_program_acceptance,
    optimal_acceptance,
    optimal_acceptance_different,
)

__all__ = [
    "acceptance_bound",
    "can_accept_always",
    "linear_program_acceptance",
    "optimal_acceptance",
    "optimal_acceptance_different",
]
