"""Selections: which experts a gate keeps at each x; the scores of the others become -inf."""

from .base import Dense, Selection, top_k_mask
from .topk import TopKByScore, TopKBySlope

__all__ = ["Dense", "Selection", "TopKByScore", "TopKBySlope", "top_k_mask"]
