"""The objective of a model: the fastest that supports it."""

from torch import Tensor

from mixkit.experts import LaplaceExperts
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import has_form

from ..data.dataset import Data
from ..optimizers.objective import Objective
from .autograd import AutogradObjective
from .multi_location.objective import MultiLinearObjective
from .smooth_gate.objective import SmoothGateObjective
from .softmax_gate.laplace_experts import LaplaceObjective
from .softmax_gate.objective import LinearObjective

__all__ = ["fixes_columns", "make_objective"]


def make_objective(model: MixtureOfExperts, data: Data, variance_floor: float, pinned: Tensor) -> Objective:
    """The fastest objective that supports the model."""
    if LinearObjective.supports(model):
        form = LaplaceObjective if has_form(model.experts, LaplaceExperts) else LinearObjective
        return form(model, *data, variance_floor=variance_floor, pinned_columns=pinned)
    if MultiLinearObjective.supports(model):
        return MultiLinearObjective(model, data, variance_floor=variance_floor, pinned_columns=pinned)
    if SmoothGateObjective.supports(model):
        return SmoothGateObjective(model, data, variance_floor=variance_floor)
    return AutogradObjective(model, data, variance_floor=variance_floor)


def fixes_columns(model: MixtureOfExperts) -> bool:
    """Whether the objective of the model fixes the coefficients of dependent columns at zero."""
    return LinearObjective.supports(model) or MultiLinearObjective.supports(model)
