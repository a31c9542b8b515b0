"""Selections: which experts a gate keeps at each x; others get a score of -inf; start with ``base.py``."""

from .base import Dense, Selection, keep, top_k_mask
from .biased import BiasedTopK
from .noisy import NoisyTopK
from .topk import TopKByScore, TopKBySlope

__all__ = ["BiasedTopK", "Dense", "NoisyTopK", "Selection", "TopKByScore", "TopKBySlope", "keep", "top_k_mask"]
