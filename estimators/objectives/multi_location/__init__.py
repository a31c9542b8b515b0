"""Experts of several linear locations, or of several families: matrix products; start with ``objective.py``."""
