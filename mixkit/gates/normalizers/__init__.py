"""Normalizers: scores to log-weights that sum to 1 after exp, -inf staying -inf; start with ``base.py``."""

from .base import Normalizer
from .links import LinkNormalizer, NormalizedSigmoid, Softmax, SoftplusL1, StableMax
from .sinkhorn import Sinkhorn
from .sparse import Entmax, Sparsemax
from .spherical import SphericalSoftmax, TaylorSoftmax

__all__ = [
    "Entmax",
    "LinkNormalizer",
    "NormalizedSigmoid",
    "Normalizer",
    "Sinkhorn",
    "Softmax",
    "SoftplusL1",
    "Sparsemax",
    "SphericalSoftmax",
    "StableMax",
    "TaylorSoftmax",
]
