"""The objective of any model: derivatives by autograd; M-steps in closed form where there is one, else by L-BFGS."""

import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from mixkit.mixture import ExpertMixture, MixtureOfExperts

from ..data.dataset import Data
from ..data.unit_posterior import log_joint, unit_log_prob, unit_log_responsibilities
from ..optimizers.lbfgs import maximize
from ..optimizers.newton import Ascent
from ..optimizers.objective import Evaluation, Objective, UserMap
from .closed_form import fit_weighted
from .floors import location_variance
from .parameter_vector import ParameterVector

__all__ = ["AutogradObjective"]

_M_STEP_ITERATIONS = 10
_START_ITERATIONS = 50
_LBFGS_TOLERANCE = 1e-6


class AutogradObjective(Objective):
    """Log-likelihood of an unbatched model of any gate and experts; the batch of parameter vectors is a loop.

    Args:
        model: a model; it is copied.
        data: observations.
        variance_floor: least variance of Gaussian experts, relative to the response's.
    """

    def __init__(self, model: MixtureOfExperts, data: Data, *, variance_floor: float) -> None:
        self.model = copy.deepcopy(model).to(torch.float64)
        self.model.eval()
        self.data, self.n, self.num_features = data, *data.x.shape[1:]
        self.vector = ParameterVector(self.model)
        self.num_params = self.vector.size
        self._log_prob(self.vector.read(self.model), 0)  # what is wrong with model and data together shows here
        self.total_weight = data.x.new_full((len(data.x),), float(self.n))
        if data.weight is not None:
            self.total_weight = data.weight.sum(-1)
        self.variance_floor = (variance_floor * location_variance(self.model.experts, data.y)).clamp(min=1e-300)
        self.lower = self.vector.lower_bounds(self.model, data.y, variance_floor)

    def _row_weights(self, index: int) -> Tensor:
        """``(n, 1)``."""
        weight = torch.ones_like(self.data.x[index, :, 0]) if self.data.weight is None else self.data.weight[index]
        return weight.unsqueeze(-1)

    def _unit_weights(self, index: int) -> Tensor:
        """``(g,)``."""
        weight = self.data.unit_weight
        return self.data.x.new_ones(self.data.num_units) if weight is None else weight[index]

    def _log_prob(self, vector: Tensor, index: int) -> Tensor:
        """Of the units, ``(g,)``."""
        law = functional_call(self.model, self.vector.to_parameters(vector), (self.data.x[index],))
        if self.data.units is None:
            return law.log_prob(self.data.y[index])
        return unit_log_prob(self._joint(law, index))

    def _joint(self, law: ExpertMixture, index: int) -> Tensor:
        """Log weights plus log-densities of the units, ``(g, k)``."""
        power = None if self.data.units is None else self.data.units.power
        return log_joint(law, self.data.y[index], self.data.units, None if power is None else power[index])

    def total(self, vector: Tensor, index: int) -> Tensor:
        """Log-likelihood; NaN, which every ascent steps back from, where the scores of a trial step overflow."""
        try:
            return (self._unit_weights(index) * self._log_prob(vector, index)).sum()
        except ValueError:
            return torch.nan * vector.square().sum()

    def _map(self, theta: Tensor, function: Callable[[Tensor, int], Tensor]) -> Tensor:
        rows = [torch.stack([function(vector, r) for vector in theta[r]]) for r in range(len(theta))]
        return torch.stack(rows)

    @property
    def is_by_autograd(self) -> bool:
        """It is."""
        return True

    @property
    def is_batched(self) -> bool:
        """One vector after another."""
        return False

    def value(self, theta: Tensor) -> Tensor:
        """Total log-likelihood ``(r, s)``."""
        with torch.no_grad():
            return self._map(theta, self.total)

    def gradient(self, theta: Tensor) -> Tensor:
        """Gradient of the log-likelihood, ``(r, s, P)``."""

        def one(vector: Tensor, index: int) -> Tensor:
            leaf = vector.detach().clone().requires_grad_()
            return torch.autograd.grad(self.total(leaf, index), leaf)[0]

        return self._map(theta, one)

    def evaluate(self, theta: Tensor) -> Evaluation:
        """Log-likelihood with exact gradient and Hessian, from P + 1 backward passes."""
        cells = [[self._derivatives(vector, r) for vector in theta[r]] for r in range(len(theta))]
        return Evaluation(*(torch.stack([torch.stack([cell[i] for cell in row]) for row in cells]) for i in range(3)))

    def _derivatives(self, vector: Tensor, index: int) -> tuple[Tensor, Tensor, Tensor]:
        leaf = vector.detach().clone().requires_grad_()
        value = self.total(leaf, index)
        (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
        hessian = torch.stack([torch.autograd.grad(entry, leaf, retain_graph=True)[0] for entry in gradient])
        return value.detach(), gradient.detach(), 0.5 * (hessian + hessian.mT)

    def scores(self, theta: Tensor) -> Tensor:
        """Gradient of each unit's log-likelihood, ``(g, P)``, at one parameter vector ``(P,)`` of data set 0."""
        leaf = theta.detach().clone().requires_grad_()
        terms = self._unit_weights(0) * self._log_prob(leaf, 0)
        # The gradient of a weighted sum is linear in the weights: its derivatives in them are P passes, not n.
        weights = torch.ones_like(terms, requires_grad=True)
        (gradient,) = torch.autograd.grad(terms, leaf, weights, create_graph=True)
        return torch.stack([torch.autograd.grad(entry, weights, retain_graph=True)[0] for entry in gradient], -1)

    def expected_counts(self, theta: Tensor) -> Tensor:
        """Total responsibility of each expert, ``(r, s, k)``."""
        return self._map(theta, lambda vector, r: (self._responsibilities(vector, r)[1] * self._row_weights(r)).sum(0))

    def _responsibilities(self, vector: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """Log-likelihood, and the responsibilities of each row's unit ``(n, k)``."""
        y, weight, units = self.data.y[index], self._unit_weights(index), self.data.units
        with torch.no_grad():
            try:
                law = functional_call(self.model, self.vector.to_parameters(vector), (self.data.x[index],))
            except ValueError:  # scores that overflow
                return vector.new_full((), torch.nan), weight.new_zeros((self.n, self.model.num_experts))
            if units is not None:
                joint = self._joint(law, index)
                resp = units.on_rows(unit_log_responsibilities(joint).exp().mT).mT
                return (weight * unit_log_prob(joint)).sum(), resp
            return (weight * law.log_prob(y)).sum(), law.log_responsibilities(y).exp()

    def em_step(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """One E-step and M-step of each parameter vector."""
        values, vectors = theta.new_empty(theta.shape[:2]), torch.empty_like(theta)
        for r, s in np.ndindex(*theta.shape[:2]):
            values[r, s], resp = self._responsibilities(theta[r, s], r)
            is_lost = not bool(torch.isfinite(values[r, s]))  # no start for an M-step: it stays, and is dropped
            vectors[r, s] = theta[r, s] if is_lost else self._maximize(theta[r, s], resp, r, _M_STEP_ITERATIONS)
        return values, self.project(vectors)

    def from_responsibilities(self, responsibilities: Tensor) -> Tensor:
        """M-steps from the model's own parameters, with the responsibilities held fixed."""
        start = self.vector.read(self.model)
        shape = responsibilities.shape[:2]
        theta = start.expand(*shape, -1).clone()
        for r, s in np.ndindex(*shape):
            theta[r, s] = self._maximize(start, responsibilities[r, s].mT, r, _START_ITERATIONS)
        return self.project(theta)

    def _maximize(self, vector: Tensor, resp: Tensor, index: int, max_iter: int) -> Tensor:
        """Raise the expected complete log-likelihood: experts in closed form where they have it, the rest by L-BFGS."""
        model = copy.deepcopy(self.model)
        self.vector.write(vector, model)
        x, y, units = self.data.x[index], self.data.y[index], self.data.unit_rows
        of_units = None if units is None else resp[units] * self._unit_weights(index).unsqueeze(-1)
        resp = resp * self._row_weights(index)
        is_done = fit_weighted(model.experts, x, y, resp, self.variance_floor)
        vector = self.vector.read(model)

        def expected(leaf: Tensor) -> Tensor:
            law = functional_call(self.model, self.vector.to_parameters(leaf), (x,))
            if of_units is None:
                return _expected(resp, law.log_weights if is_done else law.log_weights + _densities(law, y))
            gate = _expected(of_units, law.log_weights[units])
            return gate if is_done else gate + _expected(resp, _densities(law, y))

        return maximize(expected, vector, self.lower, max_iter)

    def damped_m_step(self, theta: Tensor, candidate: Tensor, fraction: float) -> Tensor:
        """Shorten the whole step."""
        return theta + fraction * (candidate - theta)

    def climb(self, theta: Tensor, max_iter: int) -> Ascent:
        """L-BFGS on the log-likelihood itself from each of ``theta (r, s, P)``: for models too large for Hessians.

        Converged means a gradient, per observation, below 1e-6 in every entry; the predicted gain is not known (NaN).
        """
        ends = torch.empty_like(theta)
        for r, s in np.ndindex(*theta.shape[:2]):
            ends[r, s] = maximize(partial(self.total, index=r), theta[r, s], self.lower, max_iter)
        gradient, value = self.gradient(ends), self.value(ends)
        converged = gradient.abs().amax(-1) < _LBFGS_TOLERANCE * self.total_weight.unsqueeze(-1)
        evaluation = Evaluation(value, gradient, value.new_empty((*value.shape, 0, 0)))
        return Ascent(ends, value, torch.full_like(value, torch.nan), converged, max_iter, evaluation)

    def read(self, model: MixtureOfExperts) -> Tensor:
        """The parameter vector ``(1, 1, P)`` of a model."""
        return self.vector.read(model)[None, None]

    def parameters(self, theta: Tensor, index: int = 0) -> dict[str, Tensor]:
        """The module's trainable parameters by name."""
        return self.vector.to_parameters(theta)

    def transfer(self, theta: Tensor, source: Objective) -> Tensor:
        """The parameters as they are."""
        theta, _ = source.unwrapped(theta)
        return self.project(theta)

    def user_map(self) -> UserMap:
        """The module's own parameters, scales in place of their logarithms."""
        return self.vector.user_map(self.lower)


def _densities(law: ExpertMixture, y: Tensor) -> Tensor:
    return law.components.log_prob(y.unsqueeze(1))


def _expected(resp: Tensor, terms: Tensor) -> Tensor:
    return (resp * torch.where(resp > 0, terms, 0.0)).sum()
