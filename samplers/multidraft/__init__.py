"""Verifiers of many drafts."""

from .base import CanonicalVerifier, Selection
from .kseq import KSequential
from .match import SamplerMatch
from .optimal import OptimalVerifier
from .recursive import RecursiveRejection

__all__ = ["CanonicalVerifier", "KSequential", "OptimalVerifier", "RecursiveRejection", "SamplerMatch", "Selection"]
