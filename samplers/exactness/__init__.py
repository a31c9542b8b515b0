"""Is a verifier lossless? Its joint distribution by enumeration, and a chi-square test; start with ``lossless.py``."""

from .lossless import (
    BlackBox,
    ChiSquare,
    Enumeration,
    Laws,
    chi_square,
    chi_square_test,
    enumerate_law,
    joint_law,
    random_laws,
    target_law,
)

__all__ = [
    "BlackBox",
    "ChiSquare",
    "Enumeration",
    "Laws",
    "chi_square",
    "chi_square_test",
    "enumerate_law",
    "joint_law",
    "random_laws",
    "target_law",
]
