"""How many experts: a path of fits and its criteria, or one dendrogram; start with ``select_experts.py``."""

from ..results.effective_df import effective_df
from .criteria import CRITERIA, Criterion, aic, bic, icl
from .cross_validation import HeldOut
from .dendrogram import Dendrogram, mixing_dendrogram
from .expert_selection import ExpertSelection
from .nesting import duplicate_expert
from .select_experts import select_experts

__all__ = [
    "CRITERIA",
    "Criterion",
    "Dendrogram",
    "ExpertSelection",
    "HeldOut",
    "aic",
    "bic",
    "duplicate_expert",
    "effective_df",
    "icl",
    "mixing_dendrogram",
    "responsibility_entropy",
    "select_experts",
]
