"""Stochastic gradient steps for any model, along Newton's direction at the start."""

import copy

import torch
from torch import Tensor

from ..data.dataset import Data
from ..objectives.autograd import AutogradObjective
from ..optimizers.linalg import damped_cholesky
from .recursion import Recursion

__all__ = ["LARGEST_HESSIAN", "GradientRecursion"]

LARGEST_HESSIAN = 400  # parameters; with more, the gradient's own size scales the steps
_DAMPING = 1e-2
_LONGEST = 0.5  # a step's largest entry
_SQUARES = 0.99  # memory of the squared gradients


class GradientRecursion(Recursion):
    r"""Steps :math:`\theta_t = \theta_{t-1} + \gamma_t A\, \bar g_t`, :math:`\bar g_t` the block's mean score.

    A is the inverse of the observed information per row at the start, damped; for models of more than 400 parameters
    one over the root of the mean squared gradient (RMSProp), whatever the information is. With averaging, A has no part
    in the variance of the result to first order.

    Source: Polyak and Juditsky (1992), SIAM J. Control and Optimization 30, 838-855.
    """

    objective: AutogradObjective

    def __init__(self, objective: AutogradObjective, theta: Tensor, blocks_seen: float, power: float) -> None:
        super().__init__(objective, theta, blocks_seen, power)
        self._factor: Tensor | None = None
        self._squares: Tensor | None = None
        if objective.num_params <= LARGEST_HESSIAN:
            information = -objective.evaluate(theta).hessian[0, 0] / objective.total_weight
            self._factor, _ = damped_cholesky(information, information.new_full((), _DAMPING))

    def advance(self, data: Data) -> float:
        """One block."""
        objective = copy.copy(self.objective)
        objective.data, objective.n = data, data.x.shape[1]
        weight = float(data.x.shape[1]) if data.weight is None else float(data.weight.sum())
        rate = self._rate()
        if weight == 0.0:
            return 0.0
        value, gradient = _value_and_gradient(objective, self.theta[0, 0])
        step = rate * self._direction(gradient / weight)
        step = torch.where(torch.isfinite(step), step, 0.0)
        self._moved(self.theta + step.clamp(-_LONGEST, _LONGEST))
        return value

    def _direction(self, gradient: Tensor) -> Tensor:
        if self._factor is not None:
            return torch.cholesky_solve(gradient.unsqueeze(-1), self._factor).squeeze(-1)
        squares = gradient.square()
        memory = squares if self._squares is None else self._squares
        self._squares = _SQUARES * memory + (1.0 - _SQUARES) * squares
        return 0.1 * gradient / (self._squares.sqrt() + 1e-12)


def _value_and_gradient(objective: AutogradObjective, vector: Tensor) -> tuple[float, Tensor]:
    leaf = vector.detach().clone().requires_grad_()
    value = objective.total(leaf, 0)
    (gradient,) = torch.autograd.grad(value, leaf)
    return float(value.detach()), gradient
