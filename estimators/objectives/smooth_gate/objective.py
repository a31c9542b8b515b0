"""The objective of linear experts behind any smooth gate: batched, with exact derivatives."""

import copy

import torch
from torch import Tensor

from mixkit.experts import LocationExperts
from mixkit.experts.base import DensityTerms
from mixkit.experts.predictors import LinearPredictor
from mixkit.gates.selections import Dense
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import has_form

from ...data.dataset import Data
from ...optimizers.linalg import solve_ascent
from ...optimizers.objective import Evaluation
from ..autograd import AutogradObjective
from ..softmax_gate.blocks import PREDICTOR_NAMES, CoefficientRows, full_places
from ..softmax_gate.design import Chunk, Design, Scaling
from ..softmax_gate.layout import Coefficients, Layout
from ..softmax_gate.likelihood import Posterior, times_design, weighted, weighted_units
from ..softmax_gate.m_step import expert_step
from ..softmax_gate.objective import is_linear_predictor
from .gate_derivatives import GateDerivatives, GateFunction
from .hessian import State, chunk_sums, expert_rows, gate_rows, gate_spread

__all__ = ["SmoothGateObjective"]

_GATE_STEPS_FROM_START = 10
_FRACTIONS = (1.0, 0.5, 0.2, 0.05, 0.01)


class SmoothGateObjective(AutogradObjective):
    """Log-likelihood of experts with linear predictors behind any gate whose parts treat rows of x alone.

    The parameter vector is that of :class:`~estimators.objectives.autograd.AutogradObjective`, and so are all its
    values: this is the same computed for all data sets and starts at once. Derivatives in the gate's few parameters
        are by
    autograd (:mod:`estimators.objectives.smooth_gate.gate_derivatives`), all others by matrix products
    (:mod:`estimators.objectives.smooth_gate.hessian`).

    Args:
        model: a model for which :meth:`supports` holds; it is copied.
        data: observations.
        variance_floor: least variance of Gaussian experts, relative to the response's.
    """

    def __init__(self, model: MixtureOfExperts, data: Data, *, variance_floor: float) -> None:
        super().__init__(model, data, variance_floor=variance_floor)
        experts = self.model.experts
        if not isinstance(experts, LocationExperts):
            raise TypeError(f"model.experts must be a mixkit.experts.LocationExperts, got {type(experts).__name__}")
        self.experts, self.k = experts, model.num_experts
        self._gate = GateFunction(self.model.gate, self.vector)
        self._layout = _expert_layout(experts, data.x)
        self._expert_positions = _positions(experts, self.vector.positions, self._layout, self.vector.size)
        self._order = torch.cat([self._gate.positions, self._expert_entries().flatten()])
        rows = 4 * self.k * (len(self._gate.positions) + self._layout.width + 4)
        self._design = Design(data.x, data.y, data.weight, _unit_scaling(data), rows, units=data.units)
        self._step = expert_step(experts)

    @staticmethod
    def supports(model: MixtureOfExperts) -> bool:
        """Whether the model has the form this objective computes."""
        experts = model.experts
        return (
            GateFunction.supports(model.gate)
            and isinstance(experts, LocationExperts)
            and experts.is_consistent
            and not experts.known_columns
            and is_linear_predictor(experts.predictor)
            and all(parameter.requires_grad for parameter in experts.parameters())
        )

    def _expert_entries(self) -> Tensor:
        """Where in the vector each parameter of the experts is, P for those held at zero, ``(k, D + q)``."""
        layout, size = self._layout, self.vector.size
        places = torch.cat([self._expert_positions, torch.tensor([size])])[layout.index]
        block = self.k * layout.width
        slopes = places[block : 2 * block].reshape(self.k, layout.width)
        return torch.cat([slopes, places[2 * block :].reshape(-1, self.k).mT], -1)

    def _split(self, theta: Tensor) -> tuple[Tensor, Coefficients]:
        """The gate's vector ``(r, s, G)`` and the experts' coefficients."""
        return theta[..., self._gate.positions], self._layout.unpack(theta[..., self._expert_positions])

    def _density_terms(self, chunk: Chunk, coefficients: Coefficients) -> DensityTerms:
        eta = times_design(coefficients.expert, chunk.design)
        return self.experts.density_terms(chunk.y, eta, *coefficients.constants)

    def _log_joint(self, chunk: Chunk, theta: Tensor) -> Tensor:
        gamma, coefficients = self._split(theta)
        eta = times_design(coefficients.expert, chunk.design)
        density = self.experts.log_density(chunk.y, eta, *coefficients.constants)
        return torch.log_softmax(self._gate(gamma, _covariates(chunk)), -2) + chunk.pooled(density)

    @property
    def is_batched(self) -> bool:
        """They are."""
        return True

    def without_cache(self) -> "SmoothGateObjective":
        """A copy without the stored outer products."""
        twin = copy.copy(self)
        twin._design = copy.copy(self._design)
        return twin

    @torch.no_grad()
    def value(self, theta: Tensor) -> Tensor:
        """Total log-likelihood ``(r, s)``."""
        total = theta.new_zeros(theta.shape[:2])
        for chunk in self._design.chunks():
            log_prob = torch.logsumexp(self._log_joint(chunk, theta), -2, keepdim=True)
            total += weighted_units(log_prob, chunk).sum((-1, -2))
        return total

    def evaluate(self, theta: Tensor) -> Evaluation:
        """Log-likelihood with exact gradient and Hessian."""
        size = len(self._order)
        value = theta.new_zeros(theta.shape[:2])
        gradient, hessian = theta.new_zeros((*value.shape, size)), theta.new_zeros((*value.shape, size, size))
        gamma, coefficients = self._split(theta.detach())
        for chunk in self._design.chunks():
            log_prob, state, gate = self._at(chunk, gamma, coefficients)
            sums = chunk_sums(chunk, state, gate)
            value += weighted_units(log_prob.unsqueeze(-2), chunk).sum((-1, -2))
            gradient += sums.gradient
            hessian += sums.hessian
        return Evaluation(value, self._pulled(gradient), self._pulled(self._pulled(hessian).mT))

    def _at(self, chunk: Chunk, gamma: Tensor, coefficients: Coefficients) -> tuple[Tensor, State, GateDerivatives]:
        """Log-likelihoods ``(r, s, b)``, what the chunk says, and the derivatives of the gate."""
        leaf = gamma.clone().requires_grad_()
        with torch.enable_grad():
            logits = self._gate(leaf, _covariates(chunk))
        log_weights = torch.log_softmax(logits.detach(), -2)
        terms = self._density_terms(chunk, coefficients)
        joint = log_weights + chunk.pooled(terms.log_prob)
        log_prob = torch.logsumexp(joint, -2)
        state = State(log_weights.exp(), torch.exp(joint - log_prob.unsqueeze(-2)), terms)
        gate = self._gate.derivatives(logits, leaf, weighted_units(state.responsibilities - state.weights, chunk))
        return log_prob, state, gate

    def _pulled(self, full: Tensor) -> Tensor:
        """From the order gate, experts in the last dimension to that of the vector; tied entries are summed."""
        out = full.new_zeros((*full.shape[:-1], self.num_params + 1))
        return out.index_add(-1, self._order.to(full.device), full)[..., :-1]

    def gradient(self, theta: Tensor) -> Tensor:
        """Gradient of the log-likelihood, ``(r, s, P)``."""
        return self.evaluate(theta).gradient

    def scores(self, theta: Tensor) -> Tensor:
        """Gradient of each unit's log-likelihood, ``(g, P)``, at one parameter vector ``(P,)`` of data set 0."""
        gamma, coefficients = self._split(theta.detach().expand(len(self.data.x), 1, -1))
        rows = []
        for chunk in self._design.chunks():
            _, state, gate = self._at(chunk, gamma, coefficients)
            experts = expert_rows(chunk, state).flatten(2, 3)
            full = weighted_units(torch.cat([gate_rows(state, gate), experts], -2), chunk)
            rows.append(self._pulled(full[0, 0].mT))
        return torch.cat(rows)

    @torch.no_grad()
    def expected_counts(self, theta: Tensor) -> Tensor:
        """Total responsibility of each expert, ``(r, s, k)``."""
        total = theta.new_zeros((*theta.shape[:2], self.k))
        for chunk in self._design.chunks():
            total += weighted(chunk.on_rows(torch.softmax(self._log_joint(chunk, theta), -2)), chunk).sum(-1)
        return total

    def em_step(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """One E-step and M-step of all vectors; L-BFGS for each where the experts' M-step has no closed form."""
        if not self._step.is_exact:
            return super().em_step(theta)
        with torch.no_grad():
            joint = torch.cat([self._log_joint(chunk, theta) for chunk in self._design.chunks()], -1)
        log_prob = torch.logsumexp(joint, -2, keepdim=True)
        resp, weight = torch.exp(joint - log_prob), self.data.unit_weight
        resp = resp if self.data.units is None else self.data.units.on_rows(resp)
        total = log_prob.squeeze(-2) if weight is None else weight[:, None] * log_prob.squeeze(-2)
        return total.sum(-1), self._m_step(theta, resp, 1)

    def from_responsibilities(self, responsibilities: Tensor) -> Tensor:
        """M-steps from the model's own parameters, with the responsibilities held fixed."""
        if not self._step.is_exact:
            return super().from_responsibilities(responsibilities)
        start = self.vector.read(self.model).expand(*responsibilities.shape[:2], -1)
        return self._m_step(start, responsibilities, _GATE_STEPS_FROM_START)

    def _m_step(self, theta: Tensor, resp: Tensor, gate_steps: int) -> Tensor:
        """Experts in closed form, the gate by Newton steps that never lower the expected log-likelihood."""
        gamma, coefficients = self._split(theta)
        for _ in range(gate_steps):
            gamma = self._gate_step(gamma, resp)
        moved = theta.clone()
        moved[..., self._gate.positions] = gamma
        moved[..., self._expert_positions] = self._layout.pack(self._fitted_experts(coefficients, resp))
        return self.project(moved)

    def _fitted_experts(self, coefficients: Coefficients, resp: Tensor) -> Coefficients:
        sums: list[Tensor] = []
        for chunk in self._design.chunks():
            r = resp[..., chunk.rows]
            state = Posterior(r.sum(-2), r, r, self._density_terms(chunk, coefficients))
            part = self._step.sums(chunk, state, self._layout)
            sums = [a + b for a, b in zip(sums, part, strict=True)] if sums else list(part)
        return self._step.update(coefficients, tuple(sums), self._layout)

    def _gate_step(self, gamma: Tensor, resp: Tensor) -> Tensor:
        """One damped Newton step of the gate's part of the expected log-likelihood, shortened until it gains."""
        if gamma.shape[-1] == 0:
            return gamma
        value, gradient, hessian = self._gate_evaluation(gamma, resp)
        step = solve_ascent(gradient, hessian)
        waiting = torch.ones_like(value, dtype=torch.bool)
        for fraction in _FRACTIONS:
            trial = gamma + torch.where(waiting.unsqueeze(-1), fraction * step, 0.0)
            waiting = waiting & ~(self._gate_value(trial, resp) >= value)
            gamma = torch.where(waiting.unsqueeze(-1), gamma, trial)
            if not bool(waiting.any()):
                break
        return gamma

    @torch.no_grad()
    def _gate_value(self, gamma: Tensor, resp: Tensor) -> Tensor:
        parts = [
            _expected_sum(torch.log_softmax(self._gate(gamma, _covariates(chunk)), -2), _of_units(resp, chunk), chunk)
            for chunk in self._design.chunks()
        ]
        return torch.stack(parts).sum(0)

    def _gate_evaluation(self, gamma: Tensor, resp: Tensor) -> Evaluation:
        """The gate's part of the expected log-likelihood, with derivatives."""
        value, gradient = gamma.new_zeros(gamma.shape[:2]), torch.zeros_like(gamma)
        hessian = gamma.new_zeros((*gamma.shape, gamma.shape[-1]))
        for chunk in self._design.chunks():
            leaf, r = gamma.detach().clone().requires_grad_(), _of_units(resp, chunk)
            with torch.enable_grad():
                logits = self._gate(leaf, _covariates(chunk))
            log_weights = torch.log_softmax(logits.detach(), -2)
            w = log_weights.exp()
            found = self._gate.derivatives(logits, leaf, weighted_units(r - w, chunk))
            value += _expected_sum(log_weights, r, chunk)
            gradient += found.gradient
            hessian += found.hessian - gate_spread(chunk, found.jacobian, w)
        return Evaluation(value, gradient, hessian)


def _expected_sum(log_weights: Tensor, resp: Tensor, chunk: Chunk) -> Tensor:
    return weighted_units(torch.where(resp > 0, resp * log_weights, 0.0), chunk).sum((-1, -2))


def _of_units(resp: Tensor, chunk: Chunk) -> Tensor:
    """Responsibilities of the chunk's units ``(r, s, k, b)``, from those at all rows ``(r, s, k, n)``."""
    return chunk.of_units(resp[..., chunk.rows])


def _covariates(chunk: Chunk) -> Tensor:
    """What the gate reads, ``(r, b, d)``."""
    return chunk.gate_design[:, :-1].mT


def _unit_scaling(data: Data) -> Scaling:
    """None: a gate reads covariates as they are."""
    zero, one = torch.zeros_like(data.x[:, 0]), torch.ones_like(data.x[:, 0])
    return Scaling(zero, one, torch.zeros_like(data.y[:, 0]), torch.ones_like(data.y[:, 0]))


def _expert_layout(experts: LocationExperts, x: Tensor) -> Layout:
    """The experts' parameters in a vector of their own, in front of which no gate stands."""
    k, d = experts.num_experts, x.shape[-1]
    none = torch.zeros((k, d), dtype=torch.bool, device=x.device)
    has_slope = has_form(experts.predictor, LinearPredictor)
    expert = CoefficientRows.of(experts.predictor, k, none, has_slopes=has_slope, is_relative=False)
    shared = [getattr(experts, name).shape[-1] == 1 and k > 1 for name in experts.constant_names]
    zero = x.new_zeros((1, d))
    scaling = Scaling(zero, zero + 1.0, zero[:, :0].sum(-1), zero[:, :0].sum(-1) + 1.0)
    layout = Layout(expert.without(), expert, shared, selection=Dense(), scaling=scaling)
    if layout.is_plain:
        return layout
    zeros = [x.new_zeros((1, 1, k, 1)) for _ in experts.constant_names]
    return layout.with_known(Coefficients(x.new_zeros((1, 1, k, d + 1)), expert.fixed[None, None], zeros))


def _positions(experts: LocationExperts, places: dict[str, Tensor], layout: Layout, size: int) -> Tensor:
    """Where in the model's vector, of ``size`` entries, each parameter of the layout is."""
    rows = full_places(experts.predictor, "experts.predictor", PREDICTOR_NAMES, places, (layout.k, layout.width, size))
    constants = [places[f"experts.{name}"].flatten().expand(layout.k) for name in experts.constant_names]
    full = torch.cat([rows.flatten(), rows.flatten(), *constants])
    found = torch.empty(layout.num_params, dtype=torch.long)
    is_free = layout.index.cpu() < layout.num_params
    found[layout.index.cpu()[is_free]] = full[is_free]
    return found
