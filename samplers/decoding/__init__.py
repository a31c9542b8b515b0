"""The decoding loop: draft, score, verify, keep."""

from .decoder import SpeculativeDecoder
from .drafting import Drafter, Drafts, SampledDrafts
from .hidden import HeadDrafts
from .histories import Histories
from .lengths import DraftLength, ExpectedGain
from .scoring import CallableScorer, Model, Scorer
from .session import DecodingSession, Emission
from .state import Decoding
from .statistics import Statistics
from .stopping import StopCondition
from .top_tree import TopTree
from .tree import SampledTree, TreeDrafter, TreeDrafts

__all__ = [
    "CallableScorer",
    "Decoding",
    "DecodingSession",
    "DraftLength",
    "Drafter",
    "Drafts",
    "Emission",
    "ExpectedGain",
    "HeadDrafts",
    "Histories",
    "Model",
    "SampledDrafts",
    "SampledTree",
    "Scorer",
    "SpeculativeDecoder",
    "Statistics",
    "StopCondition",
    "TopTree",
    "TreeDrafter",
    "TreeDrafts",
]
