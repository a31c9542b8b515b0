"""Scores: what a gate thinks of each expert at each x, before all else; start with ``base.py``."""

from .base import Score
from .kmeans import OnlineKMeansScore, balanced_top_w
from .linear import ActivationScore, ConstantScore, LinearScore, QuadraticScore
from .metric import CosineScore, DistanceScore
from .module import ModuleScore
from .query_key import QueryKeyNormScore

__all__ = [
    "ActivationScore",
    "ConstantScore",
    "CosineScore",
    "DistanceScore",
    "LinearScore",
    "ModuleScore",
    "OnlineKMeansScore",
    "QuadraticScore",
    "QueryKeyNormScore",
    "Score",
    "balanced_top_w",
]
