"""How a law is decoded: lossless speculative and multi-draft samplers."""

from .base import NodeVerifier, Verifier
from .block import BlockVerification
from .limits import (
    acceptance_bound,
    can_accept_always,
    linear_program_acceptance,
    optimal_acceptance,
    optimal_acceptance_different,
)
from .multidraft import (
    GumbelListCoupling,
    ImportanceWeighted,
    KSequential,
    OptimalVerifier,
    RecursiveRejection,
    SamplerMatch,
    WeightedVerifier,
    list_matching_bound,
)
from .node import Decision, Node
from .results import Info, Verification
from .soft_tokens import (
    ComposedTokens,
    DirichletTokens,
    GumbelSoftmaxTokens,
    SoftTokenLaw,
    SoftTokenTrace,
    decode_soft_tokens,
    mixture_embedding,
)
from .sources import GeneratorSource, Source
from .speculative import SpeculativeSampling, accept_probability, acceptance, output_law, residual
from .tree import TreeVerification, TreeVerifier

__all__ = [
    "BlockVerification",
    "ComposedTokens",
    "Decision",
    "DirichletTokens",
    "GeneratorSource",
    "GumbelListCoupling",
    "GumbelSoftmaxTokens",
    "ImportanceWeighted",
    "Info",
    "KSequential",
    "Node",
    "NodeVerifier",
    "OptimalVerifier",
    "RecursiveRejection",
    "SamplerMatch",
    "SoftTokenLaw",
    "SoftTokenTrace",
    "Source",
    "SpeculativeSampling",
    "TreeVerification",
    "TreeVerifier",
    "Verification",
    "Verifier",
    "WeightedVerifier",
    "accept_probability",
    "acceptance",
    "acceptance_bound",
    "can_accept_always",
    "decode_soft_tokens",
    "linear_program_acceptance",
    "list_matching_bound",
    "mixture_embedding",
    "optimal_acceptance",
    "optimal_acceptance_different",
    "output_law",
    "residual",
]
