"""Normalisers: scores to log-weights that sum to 1 after exp, -inf staying -inf."""

from .base import Normalizer
from .links import Softmax

__all__ = ["Normalizer", "Softmax"]
