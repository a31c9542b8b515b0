"""Selections: which experts a gate keeps at each x; the scores of the others become -inf."""

from .base import Dense, Selection, keep, top_k_mask
from .biased import BiasedTopK
from .noisy import NoisyTopK
from .topk import TopKByScore, TopKBySlope

__all__ = ["BiasedTopK", "Dense", "NoisyTopK", "Selection", "TopKByScore", "TopKBySlope", "keep", "top_k_mask"]
