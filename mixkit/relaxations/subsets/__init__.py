"""Choices of K out of k: two distributions, kept apart, and differentiable samplers of masks."""

from .exponential_family import ExponentialFamilySubset, Simple, subset_log_marginals, subset_log_partition
from .gate_selection import SampledTopK
from .implicit import ImplicitMLE
from .laws import SubsetLaw, all_subsets
from .perturbed import PerturbedTopK
from .plackett_luce import PlackettLuceSubset, ordered_log_prob, subset_log_prob
from .relaxed import RelaxedSubset, successive_softmax
from .sampler import SubsetSampler
from .soft_top_k import SoftTopK, soft_top_k

__all__ = [
    "ExponentialFamilySubset",
    "ImplicitMLE",
    "PerturbedTopK",
    "PlackettLuceSubset",
    "RelaxedSubset",
    "SampledTopK",
    "Simple",
    "SoftTopK",
    "SubsetLaw",
    "SubsetSampler",
    "all_subsets",
    "ordered_log_prob",
    "soft_top_k",
    "subset_log_marginals",
    "subset_log_partition",
    "subset_log_prob",
    "successive_softmax",
]
