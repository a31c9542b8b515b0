"""Verifiers: drafts and two distributions in, tokens that follow the target out; start with ``verifier.py``."""
