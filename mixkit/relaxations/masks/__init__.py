"""Learnable N:M sparsity masks."""

from .layers import add_masks, advance_masks, harden_masks, masked_layers, retained_energy
from .learnable import NMMask, PatternMask, SubsetMask
from .patterns import is_nm_mask, magnitude_mask, nm_patterns

__all__ = [
    "NMMask",
    "PatternMask",
    "SubsetMask",
    "add_masks",
    "advance_masks",
    "harden_masks",
    "is_nm_mask",
    "magnitude_mask",
    "masked_layers",
    "nm_patterns",
    "retained_energy",
]
