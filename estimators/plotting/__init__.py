"""Pictures of fits (extra ``plot``): climbs, uncertainty, criteria; start with ``climbs.py``."""

from .climbs import plot_history, plot_starts
from .selection import plot_dendrogram, plot_selection
from .uncertainty import plot_bootstrap, plot_profile

__all__ = [
    "plot_bootstrap",
    "plot_dendrogram",
    "plot_history",
    "plot_profile",
    "plot_selection",
    "plot_starts",
]
