"""Verification of a whole tree of drafts; start with ``verifier.py``, then read the rule in ``two_phase.py``."""

from .verifier import MultiBlockVerifier

__all__ = ["MultiBlockVerifier"]
