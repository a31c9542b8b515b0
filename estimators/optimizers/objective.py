"""A log-likelihood as a search sees it: what an optimizer needs, EM's steps, and the map of its parameters."""

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor

from .em_steps import EMSteps
from .function import Evaluation, SmoothFunction
from .newton import Ascent, newton_ascent
from .parameter_map import ParameterMap, UserMap

__all__ = ["SAFEGUARD_VARIANCE", "EndRules", "Evaluation", "Objective", "SmoothFunction", "UserMap"]

SAFEGUARD_VARIANCE = 1e-6
"""Least variance of an expert relative to the response's, where none was chosen."""

_CHOSEN_FLOOR = 1e-4  # of variances: a hundredth of the standard deviation of y is no safeguard but a statement


class EndRules(NamedTuple):
    """What a search holds against an end of a climb.

    Attributes:
        num_experts: k.
        least_observations: an expert on fewer determines no more than its own coefficients.
        variance_floor: least variance of an expert relative to the response's.
        finds_lines: whether an expert at the floor is welcome where more rows are on its line than chance would bring.
        keeps_spurious: whether ends are taken by their values alone.
    """

    num_experts: int = 1
    least_observations: int = 1
    variance_floor: float = SAFEGUARD_VARIANCE
    finds_lines: bool = False
    keeps_spurious: bool = False

    @property
    def has_chosen_floor(self) -> bool:
        """Whether the floor is a constraint that was chosen: ends at it are as good as others."""
        return self.variance_floor >= _CHOSEN_FLOOR

    @property
    def is_lowered(self) -> bool:
        """Whether the floor was lowered, for experts on lines, to what double precision tells from zero."""
        return self.finds_lines and self.variance_floor < SAFEGUARD_VARIANCE


class Objective(EMSteps, ParameterMap):
    """The log-likelihood of ``r`` data sets at ``s`` parameter vectors each, ``theta (r, s, P)``.

    Optimizers know it as a :class:`~estimators.optimizers.function.SmoothFunction`, EM as
    :class:`~estimators.optimizers.em_steps.EMSteps`; results read its parameters by its
    :class:`~estimators.optimizers.parameter_map.ParameterMap`.

    Attributes:
        n: observations of a data set.
        num_features: covariates d.
        end_rules: which ends are not to be trusted.
        is_by_autograd: whether derivatives are those of autograd, one parameter vector after another.
        is_batched: whether vectors and data sets are one computation.
    """

    n: int
    num_features: int
    end_rules: EndRules = EndRules()

    @property
    def is_by_autograd(self) -> bool:
        """See the class."""
        return False

    @property
    def is_batched(self) -> bool:
        """See the class."""
        return True

    def log_likelihood(self, theta: Tensor) -> Tensor:
        """Total log-likelihood ``(r, s)``, also where the objective subtracts a penalty from it."""
        return self.value(theta)

    @abstractmethod
    def scores(self, theta: Tensor) -> Tensor:
        """Gradient of each observation's log-likelihood times its weight, ``(n, P)``, at ``theta (P,)``, data set 0."""

    def ascend(self, theta: Tensor, max_iter: int, tol: float, callback: Callable[[Tensor], None] | None) -> Ascent:
        """Climb to maxima from ``theta (r, s, P)``: by Newton's method, or one that suits the function better."""
        return newton_ascent(self, theta, max_iter=max_iter, tol=tol, callback=callback)

    def unwrapped(self, theta: Tensor) -> tuple[Tensor, "Objective"]:
        """The vectors ``(r, s, P)`` and the objective without any penalty around it."""
        return theta, self

    def at_floor(self, theta: Tensor) -> Tensor:
        """Which parameters stand at a variance floor, of the shape of ``theta (r, s, P)``."""
        return theta <= self.lower

    @property
    def is_zeroed(self) -> Tensor:
        """None: only penalties set parameters to zero."""
        return torch.zeros(self.num_params, dtype=torch.bool, device=self.lower.device)

    def without_cache(self) -> Self:
        """A copy without what evaluations have stored on the way: what a result keeps."""
        return copy.copy(self)
