"""How much a rule can accept: at a node (``bounds.py``), in all (``joint.py``), on data at a cost (``shapes.py``)."""

from .bounds import (
    acceptance_bound,
    can_accept_always,
    linear_program_acceptance,
    optimal_acceptance,
    optimal_acceptance_different,
)
from .joint import antichain_optimum, joint_optimum
from .shapes import ExpectedTokens, RoundCost, ShapeSpeed, expected_tokens, rank_shapes

__all__ = [
    "ExpectedTokens",
    "RoundCost",
    "ShapeSpeed",
    "acceptance_bound",
    "antichain_optimum",
    "can_accept_always",
    "expected_tokens",
    "joint_optimum",
    "linear_program_acceptance",
    "optimal_acceptance",
    "optimal_acceptance_different",
    "rank_shapes",
]
