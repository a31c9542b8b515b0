"""Verifiers of many drafts."""

from .base import CanonicalVerifier, Selection
from .gumbel import GumbelListCoupling, list_matching_bound
from .importance import ImportanceWeighted
from .kseq import KSequential
from .match import SamplerMatch
from .optimal import OptimalVerifier
from .recursive import RecursiveRejection
from .weighted import WeightedVerifier

__all__ = [
    "CanonicalVerifier",
    "GumbelListCoupling",
    "ImportanceWeighted",
    "KSequential",
    "OptimalVerifier",
    "RecursiveRejection",
    "SamplerMatch",
    "Selection",
    "WeightedVerifier",
    "list_matching_bound",
]
