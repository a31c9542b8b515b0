"""Scores: what a gate thinks of each expert at each x, before all else; start with ``base.py``."""

from .base import Score
from .linear import ActivationScore, ConstantScore, LinearScore, QuadraticScore
from .metric import CosineScore, DistanceScore
from .module import ModuleScore

__all__ = [
    "ActivationScore",
    "ConstantScore",
    "CosineScore",
    "DistanceScore",
    "LinearScore",
    "ModuleScore",
    "QuadraticScore",
    "Score",
]
