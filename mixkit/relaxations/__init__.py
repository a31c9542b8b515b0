"""Differentiable stand-ins for discrete choices."""

from .enumeration import Enumeration, joint_choices
from .estimator import Estimator, PathEstimator, expectation
from .gumbel_rao import GumbelRao, gumbel_rao
from .gumbel_softmax import GumbelSoftmax, StraightThroughGumbelSoftmax, gumbel_softmax
from .noise import conditional_gumbel, gumbel, gumbel_like, sample_one_hot
from .rebar import Rebar
from .reinmax import ReinMax, reinmax
from .score_function import LeaveOneOut, choice_log_prob
from .straight_through import StraightThrough, straight_through

__all__ = [
    "Enumeration",
    "Estimator",
    "GumbelRao",
    "GumbelSoftmax",
    "LeaveOneOut",
    "PathEstimator",
    "Rebar",
    "ReinMax",
    "StraightThrough",
    "StraightThroughGumbelSoftmax",
    "choice_log_prob",
    "conditional_gumbel",
    "expectation",
    "gumbel",
    "gumbel_like",
    "gumbel_rao",
    "gumbel_softmax",
    "joint_choices",
    "reinmax",
    "sample_one_hot",
    "straight_through",
]
