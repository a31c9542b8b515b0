"""The decoding loop: draft, score, verify, keep."""

from .decoder import SpeculativeDecoder
from .drafting import Drafter, Drafts, SampledDrafts
from .histories import Histories
from .scoring import CallableScorer, Model, Scorer
from .state import Decoding
from .statistics import Statistics
from .stopping import StopCondition
from .tree import SampledTree, TreeDrafts

__all__ = [
    "CallableScorer",
    "Decoding",
    "Drafter",
    "Drafts",
    "Histories",
    "Model",
    "SampledDrafts",
    "SampledTree",
    "Scorer",
    "SpeculativeDecoder",
    "Statistics",
    "StopCondition",
    "TreeDrafts",
]
