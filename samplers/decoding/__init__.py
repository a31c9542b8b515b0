"""The decoding loop: draft, score, verify, keep."""

from .decoder import SpeculativeDecoder
from .drafting import Drafter, Drafts, SampledDrafts
from .histories import Histories
from .lengths import DraftLength, ExpectedGain
from .scoring import CallableScorer, Model, Scorer
from .state import Decoding
from .statistics import Statistics
from .stopping import StopCondition
from .tree import SampledTree, TreeDrafts

__all__ = [
    "CallableScorer",
    "Decoding",
    "DraftLength",
    "Drafter",
    "Drafts",
    "ExpectedGain",
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
