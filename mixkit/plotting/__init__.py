"""Pictures of a fitted mixture of experts (extra ``plot``); nothing here changes matplotlib's global style."""

from .calibration import plot_calibration, plot_qq, plot_residuals
from .canvas import expert_colors
from .fit import plot_fit
from .gate import plot_gate, plot_gate_map
from .responsibilities import plot_responsibilities

__all__ = [
    "expert_colors",
    "plot_calibration",
    "plot_fit",
    "plot_gate",
    "plot_gate_map",
    "plot_qq",
    "plot_residuals",
    "plot_responsibilities",
]
