"""How a distribution is decoded: lossless speculative and multi-draft samplers."""

from .acceptance.bounds import (
    acceptance_bound,
    can_accept_always,
    linear_program_acceptance,
    optimal_acceptance,
    optimal_acceptance_different,
)
from .decoding import (
    Decoding,
    DecodingSession,
    Drafter,
    DraftLength,
    ExpectedGain,
    HeadDrafts,
    SampledDrafts,
    SampledTree,
    Scorer,
    SpeculativeDecoder,
    Statistics,
    TopTree,
)
from .decoding.ngrams import NGramModel
from .decoding.prompt_lookup import PromptLookup
from .processors import Chain, Epsilon, Eta, MinP, PerRow, Processor, Temperature, TopK, TopP, Typical
from .soft_tokens import (
    ComposedTokens,
    DirichletTokens,
    GumbelSoftmaxTokens,
    SoftTokenLaw,
    SoftTokenTrace,
    decode_soft_tokens,
    mixture_embedding,
)
from .verification.block import BlockVerification
from .verification.multiblock import MultiBlockVerifier
from .verification.multidraft import (
    GumbelListCoupling,
    ImportanceWeighted,
    KSequential,
    OptimalVerifier,
    RecursiveRejection,
    SamplerMatch,
    WeightedVerifier,
    list_matching_bound,
)
from .verification.node import Decision, Node
from .verification.results import Info, Verification
from .verification.sources import GeneratorSource, RandomSource
from .verification.speculative import SpeculativeSampling, accept_probability, acceptance, output_law, residual
from .verification.traversal import TraversalVerification
from .verification.tree import TreeVerification, TreeVerifier
from .verification.verifier import NodeVerifier, Verifier

__all__ = [
    "BlockVerification",
    "Chain",
    "ComposedTokens",
    "Decision",
    "Decoding",
    "DecodingSession",
    "DirichletTokens",
    "DraftLength",
    "Drafter",
    "Epsilon",
    "Eta",
    "ExpectedGain",
    "GeneratorSource",
    "GumbelListCoupling",
    "GumbelSoftmaxTokens",
    "HeadDrafts",
    "ImportanceWeighted",
    "Info",
    "KSequential",
    "MinP",
    "MultiBlockVerifier",
    "NGramModel",
    "Node",
    "NodeVerifier",
    "OptimalVerifier",
    "PerRow",
    "Processor",
    "PromptLookup",
    "RandomSource",
    "RecursiveRejection",
    "SampledDrafts",
    "SampledTree",
    "SamplerMatch",
    "Scorer",
    "SoftTokenLaw",
    "SoftTokenTrace",
    "SpeculativeDecoder",
    "SpeculativeSampling",
    "Statistics",
    "Temperature",
    "TopK",
    "TopP",
    "TopTree",
    "TraversalVerification",
    "TreeVerification",
    "TreeVerifier",
    "Typical",
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
