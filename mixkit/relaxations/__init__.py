"""Differentiable stand-ins for discrete choices."""

from .distributions import LogRelaxedOneHot, harden, log_simplex
from .enumeration import Enumeration, joint_choices
from .estimator import Estimator, PathEstimator, expectation
from .gumbel_rao import GumbelRao, gumbel_rao
from .gumbel_softmax import GumbelSoftmax, StraightThroughGumbelSoftmax, gumbel_softmax
from .noise import conditional_gumbel, gumbel, gumbel_like, sample_one_hot
from .rebar import Rebar
from .reinmax import ReinMax, reinmax
from .score_function import LeaveOneOut, choice_log_prob
from .straight_through import StraightThrough, straight_through
from .subsets import (
    ExponentialFamilySubset,
    ImplicitMLE,
    PerturbedTopK,
    PlackettLuceSubset,
    RelaxedSubset,
    SampledTopK,
    Simple,
    SoftTopK,
    SubsetLaw,
    SubsetSampler,
    all_subsets,
    ordered_log_prob,
    soft_top_k,
    subset_log_marginals,
    subset_log_partition,
    subset_log_prob,
    successive_softmax,
)

__all__ = [
    "Enumeration",
    "Estimator",
    "ExponentialFamilySubset",
    "GumbelRao",
    "GumbelSoftmax",
    "ImplicitMLE",
    "LeaveOneOut",
    "LogRelaxedOneHot",
    "PathEstimator",
    "PerturbedTopK",
    "PlackettLuceSubset",
    "Rebar",
    "ReinMax",
    "RelaxedSubset",
    "SampledTopK",
    "Simple",
    "SoftTopK",
    "StraightThrough",
    "StraightThroughGumbelSoftmax",
    "SubsetLaw",
    "SubsetSampler",
    "all_subsets",
    "choice_log_prob",
    "conditional_gumbel",
    "expectation",
    "gumbel",
    "gumbel_like",
    "gumbel_rao",
    "gumbel_softmax",
    "harden",
    "joint_choices",
    "log_simplex",
    "ordered_log_prob",
    "reinmax",
    "sample_one_hot",
    "soft_top_k",
    "straight_through",
    "subset_log_marginals",
    "subset_log_partition",
    "subset_log_prob",
    "successive_softmax",
]
