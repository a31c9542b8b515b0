"""Voronoi cells and losses between mixing measures, distances between densities; start with ``loss.py``."""

from mixkit.gates.invariance import GateInvariance

from .blocks import AtomErrors, BlockErrors, atom_errors, block_errors
from .cells import voronoi_cells
from .distances import DensityDistances, density_distances
from .loss import VoronoiLoss, exact_loss, overspecified_loss, rbar, voronoi_loss

__all__ = [
    "AtomErrors",
    "BlockErrors",
    "DensityDistances",
    "GateInvariance",
    "VoronoiLoss",
    "atom_errors",
    "block_errors",
    "density_distances",
    "exact_loss",
    "overspecified_loss",
    "rbar",
    "voronoi_cells",
    "voronoi_loss",
]
