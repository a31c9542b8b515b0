"""How a law is decoded: lossless speculative and multi-draft samplers."""

from .base import NodeVerifier, Verifier
from .node import Decision, Node
from .results import Info, Verification
from .sources import GeneratorSource, Source
from .speculative import SpeculativeSampling, accept_probability, acceptance, output_law, residual

__all__ = [
    "Decision",
    "GeneratorSource",
    "Info",
    "Node",
    "NodeVerifier",
    "Source",
    "SpeculativeSampling",
    "Verification",
    "Verifier",
    "accept_probability",
    "acceptance",
    "output_law",
    "residual",
]
