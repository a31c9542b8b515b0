"""Scores: what a gate thinks of each expert at each x, before temperature, selection and normalisation."""

from .base import Score
from .linear import ConstantScore, LinearScore

__all__ = ["ConstantScore", "LinearScore", "Score"]
