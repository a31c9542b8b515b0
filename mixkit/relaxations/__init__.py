"""Differentiable stand-ins for discrete choices."""

from .concepts import ConceptBottleneck, ConceptReport
from .distributions import LogRelaxedOneHot, harden, log_simplex
from .enumeration import Enumeration, joint_choices
from .flows import (
    GumbelSoftmaxPath,
    StraightThroughGuidance,
    denoising_loss,
    flow_matching_loss,
    gumbel_softmax_path,
    sample_flow,
    score_matching_loss,
)
from .gradient_estimator import GradientEstimator, PathEstimator, expectation
from .gumbel_rao import GumbelRao, gumbel_rao
from .gumbel_softmax import GumbelSoftmax, StraightThroughGumbelSoftmax, gumbel_softmax
from .masks import (
    NMMask,
    PatternMask,
    SubsetMask,
    add_masks,
    advance_masks,
    harden_masks,
    is_nm_mask,
    magnitude_mask,
    retained_energy,
)
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
    "ConceptBottleneck",
    "ConceptReport",
    "Enumeration",
    "ExponentialFamilySubset",
    "GradientEstimator",
    "GumbelRao",
    "GumbelSoftmax",
    "GumbelSoftmaxPath",
    "ImplicitMLE",
    "LeaveOneOut",
    "LogRelaxedOneHot",
    "NMMask",
    "PathEstimator",
    "PatternMask",
    "PerturbedTopK",
    "PlackettLuceSubset",
    "Rebar",
    "ReinMax",
    "RelaxedSubset",
    "SampledTopK",
    "Simple",
    "SoftTopK",
    "StraightThrough",
    "StraightThroughGuidance",
    "StraightThroughGumbelSoftmax",
    "SubsetLaw",
    "SubsetMask",
    "SubsetSampler",
    "add_masks",
    "advance_masks",
    "all_subsets",
    "choice_log_prob",
    "conditional_gumbel",
    "denoising_loss",
    "expectation",
    "flow_matching_loss",
    "gumbel",
    "gumbel_like",
    "gumbel_rao",
    "gumbel_softmax",
    "gumbel_softmax_path",
    "harden",
    "harden_masks",
    "is_nm_mask",
    "joint_choices",
    "log_simplex",
    "magnitude_mask",
    "ordered_log_prob",
    "reinmax",
    "retained_energy",
    "sample_flow",
    "sample_one_hot",
    "score_matching_loss",
    "soft_top_k",
    "straight_through",
    "subset_log_marginals",
    "subset_log_partition",
    "subset_log_prob",
    "successive_softmax",
]
