"""The objective of models with linear predictors: softmax gates of linear scores, experts with one linear location."""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mixkit.experts import LocationExperts
from mixkit.experts.predictors import ConstantPredictor, LinearPredictor
from mixkit.gates import Gate
from mixkit.gates.normalizers import Softmax
from mixkit.gates.scores import ConstantScore, LinearScore
from mixkit.gates.temperatures import FixedTemperature
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import ParameterRecord, has_form, records_of

from ...data.dataset import Data
from ...data.units import Units
from ...optimizers.objective import Evaluation, Objective, UserMap
from ..user_map import make_user_map
from .complete_hessian import complete_hessian
from .design import Chunk, Design, Scaling
from .hessian import assemble_hessian, curvature_sums
from .layout import Coefficients, Layout
from .likelihood import Posterior, log_joint, posterior, slopes, weighted, weighted_units
from .likelihood import total as total_of
from .m_step import NewtonStep, expert_step, gate_step, gate_sums
from .unit_hessian import assemble_unit_hessian, unit_curvature_sums, unit_scores
from .units import linear_map, to_standardized, to_user_units

__all__ = ["LinearObjective"]

_GATE_STEPS_FROM_START = 3
_HESSIANS: dict[bool, tuple[Callable[..., Any], Callable[..., Tensor]]] = {
    False: (curvature_sums, assemble_hessian),
    True: (unit_curvature_sums, assemble_unit_hessian),
}
"""Sums over a chunk's units and the Hessian from them, by whether rows share experts."""


class LinearObjective(Objective):
    """Log-likelihood with exact derivatives by matrix products, on standardized data, in chunks.

    Args:
        model: a model for which :meth:`supports` holds.
        x: ``(r, n, d)``.
        y: ``(r, n)``.
        weight: ``(r, n)`` or None.
        units: which rows share an expert, those of a unit together; None where each has its own.
        variance_floor: least variance (squared scale) of an expert, relative to the response's.
        pinned_columns: covariates ``(d,)`` bool whose coefficients stay zero (constant or collinear ones).
    """

    def __init__(
        self,
        model: MixtureOfExperts,
        x: Tensor,
        y: Tensor,
        weight: Tensor | None,
        units: Units | None = None,
        *,
        variance_floor: float,
        pinned_columns: Tensor,
    ) -> None:
        experts = model.experts
        if not isinstance(experts, LocationExperts):
            raise TypeError(f"model.experts must be a mixkit.experts.LocationExperts, got {type(experts).__name__}")
        self.data = Data(x, y, weight, units)
        self.experts, self.k, self.n = experts, model.num_experts, x.shape[1]
        self.num_features = x.shape[2]
        x, y, offset = _without_offset(experts, x, y)
        pinned_columns = pinned_columns[: x.shape[2]]
        names = experts.constant_names
        self.scale_constant = names.index(experts.scale_name) if experts.scale_name else None
        self.temperature = _temperature(model.gate)
        self.has_gate_weight = has_form(model.gate.score, LinearScore)
        self.has_slope = has_form(experts.predictor, LinearPredictor)
        self.records = {record.name: record for record in records_of(model)}
        self.scaling = Scaling.of(x, y, weight, scale_response=self.scale_constant is not None)
        free = torch.cat([~pinned_columns, pinned_columns.new_ones(1)])
        intercept_only = torch.zeros_like(free)
        intercept_only[-1] = True
        self.layout = Layout(
            self.k,
            free if self.has_gate_weight else intercept_only,
            free if self.has_slope else intercept_only,
            [getattr(experts, name).shape[-1] == 1 and self.k > 1 for name in names],
            has_reference=True,
            selection=model.gate.selection,
            scaling=self.scaling,
        )
        self.num_params = self.layout.num_params
        pairs = (2 * self.k - 1) * self.k
        self.design = Design(x, y, weight, self.scaling, pairs, offset, units)
        self.total_weight = x.new_full((x.shape[0],), float(self.n)) if weight is None else weight.sum(-1)
        self.lower = self._lower(x, variance_floor)
        self._step = expert_step(experts)

    @staticmethod
    def supports(model: MixtureOfExperts) -> bool:
        """Whether the model has the form this objective computes."""
        gate, experts = model.gate, model.experts
        return (
            is_linear_score(gate)
            and gate.selection.reads_scores_alone
            and isinstance(experts, LocationExperts)
            and experts.is_consistent
            and experts.floor_name is None
            and is_linear_predictor(experts.predictor)
            and all(parameter.requires_grad for parameter in model.parameters())
        )

    def _lower(self, like: Tensor, variance_floor: float) -> Tensor:
        lower = Coefficients(
            like.new_full((1, 1, self.k, self.layout.width), -math.inf),
            like.new_full((1, 1, self.k, self.layout.width), -math.inf),
            [like.new_full((1, 1, self.k, 1), -math.inf) for _ in self.experts.constant_names],
        )
        for name, constant in zip(self.experts.constant_names, lower.constants, strict=True):
            if self.records[f"experts.{name}"].has_floor:
                constant.fill_(0.5 * math.log(variance_floor))
        return self.layout.pack(lower)[0, 0]

    def _log_jacobian(self) -> Tensor:
        """What standardizing the response adds to the total log-likelihood, ``(r, 1)``."""
        return -(self.total_weight * self.scaling.y_std.log()).unsqueeze(-1)

    def value(self, theta: Tensor) -> Tensor:
        """Total log-likelihood ``(r, s)``."""
        coefficients = self.layout.unpack(theta)
        total = theta.new_zeros(theta.shape[:2])
        for chunk in self.design.chunks():
            log_prob = torch.logsumexp(log_joint(chunk, coefficients, self.layout, self.experts), -2)
            total += total_of(log_prob, chunk)
        return total + self._log_jacobian()

    def evaluate(self, theta: Tensor) -> Evaluation:
        """Log-likelihood with exact gradient and Hessian."""
        layout, coefficients = self.layout, self.layout.unpack(theta)
        total = theta.new_zeros(theta.shape[:2])
        gradient = theta.new_zeros((*theta.shape[:2], len(layout.index)))
        curvature = None
        sums_of, assembled = _HESSIANS[self.data.units is not None]
        for chunk in self.design.chunks():
            state = posterior(chunk, coefficients, layout, self.experts)
            total += total_of(state.log_prob, chunk)
            gradient += slopes(chunk, state).flatten()
            curvature = _added(curvature, sums_of(chunk, state, layout))
        hessian = assembled(curvature, layout)
        return Evaluation(total + self._log_jacobian(), layout.pull_gradient(gradient), layout.pull_hessian(hessian))

    def expected_counts(self, theta: Tensor) -> Tensor:
        """Total responsibility of each expert, ``(r, s, k)``."""
        coefficients, total = self.layout.unpack(theta), theta.new_zeros((*theta.shape[:2], self.k))
        for chunk in self.design.chunks():
            joint = log_joint(chunk, coefficients, self.layout, self.experts)
            total += weighted(chunk.on_rows(torch.softmax(joint, -2)), chunk).sum(-1)
        return total

    def scores(self, theta: Tensor) -> Tensor:
        """Gradient of each unit's log-likelihood, ``(g, P)``, at one parameter vector ``(P,)`` of data set 0."""
        coefficients = self.layout.unpack(theta[None, None])
        rows = []
        for chunk in self.design.chunks():
            state = posterior(chunk, coefficients, self.layout, self.experts)
            rows.append(self.layout.pull_gradient(_unit_slopes(chunk, state)))
        return torch.cat(rows)

    def em_step(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """One E-step and M-step."""
        return self._em(theta, None)

    def _em(self, theta: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor]:
        layout = self.layout if given is None else self.layout.without_selection()
        coefficients = layout.unpack(theta)
        total = theta.new_zeros(theta.shape[:2])
        gate, expert = None, None
        for chunk in self.design.chunks():
            state = posterior(chunk, coefficients, layout, self.experts)
            if given is not None:
                state = state._replace(responsibilities=given[..., chunk.rows])
            total += total_of(state.log_prob, chunk)
            gate = _added(gate, gate_sums(chunk, state, layout)) if layout.num_gate_rows else None
            expert = _added(expert, self._step.sums(chunk, state, layout))
        updated = self._step.update(coefficients, expert, layout)  # type: ignore[arg-type]
        if gate is not None:
            updated = updated._replace(gate=gate_step(coefficients.gate, gate, layout))
        return total + self._log_jacobian(), self.project(layout.pack(updated))

    def complete(self, theta: Tensor) -> Evaluation:
        """Log-likelihood and gradient, with the Hessian of the complete data: that of an M-step's objective."""
        layout, coefficients = self.layout, self.layout.unpack(theta)
        total, step = theta.new_zeros(theta.shape[:2]), NewtonStep()
        gradient = theta.new_zeros((*theta.shape[:2], len(layout.index)))
        gate, expert = None, None
        for chunk in self.design.chunks():
            state = posterior(chunk, coefficients, layout, self.experts)
            total += total_of(state.log_prob, chunk)
            gradient += slopes(chunk, state).flatten()
            gate = _added(gate, gate_sums(chunk, state, layout)) if layout.num_gate_rows else None
            expert = _added(expert, step.sums(chunk, state, layout))
        hessian = complete_hessian(None if gate is None else gate.hessian, expert[1], layout)  # type: ignore[index]
        return Evaluation(total + self._log_jacobian(), layout.pull_gradient(gradient), layout.pull_hessian(hessian))

    def damped_m_step(self, theta: Tensor, candidate: Tensor, fraction: float) -> Tensor:
        """Shorten the gate's step; the experts' too unless their M-step is exact."""
        mixed = theta + fraction * (candidate - theta)
        if not self._step.is_exact:
            return mixed
        gate = self.layout.num_gate_params
        return torch.cat([mixed[..., :gate], candidate[..., gate:]], -1)

    def from_responsibilities(self, responsibilities: Tensor) -> Tensor:
        """M-steps from a flat gate, level experts and standard constants, the responsibilities held fixed."""
        theta = self.project(self.layout.pack(self._first(responsibilities)))
        for _ in range(_GATE_STEPS_FROM_START):
            _, theta = self._em(theta, responsibilities)
        return theta

    def _first(self, responsibilities: Tensor) -> Coefficients:
        """All zero but the intercepts of experts whose locations have their own units: weighted means of rough ones."""
        zeros = responsibilities.new_zeros((*responsibilities.shape[:2], self.num_params))
        first = self.layout.unpack(zeros)
        if self.scale_constant is not None:
            return first
        total, mean = zeros.new_zeros((*zeros.shape[:2], self.k)), zeros.new_zeros((*zeros.shape[:2], self.k))
        for chunk in self.design.chunks():
            share = weighted(responsibilities[..., chunk.rows], chunk)
            rough = self.experts.start_locations(chunk.y)[0]
            rough = rough if chunk.offset is None else rough - chunk.offset
            total, mean = total + share.sum(-1), mean + (share * rough).sum(-1)
        first.expert[..., -1] = mean / total.clamp(min=torch.finfo(total.dtype).tiny)
        return first

    def read(self, model: MixtureOfExperts) -> Tensor:
        """The parameter vectors ``(r, 1, P)`` of a model, one for each data set's units, or of a batch of r models."""
        k, d = self.k, self.layout.width - 1
        score, experts = model.gate.score, self._same_family(model)
        bias = score.bias.detach().to(self.lower)  # type: ignore[union-attr]
        bias = bias.reshape(-1, 1, k, 1)
        weight = _block(getattr(score, "weight", None), bias, d)
        gate = torch.cat([weight, bias], -1)
        intercept = experts.predictor.intercept.detach().to(self.lower).reshape(-1, 1, k, 1)  # type: ignore[operator]
        slope = _block(getattr(experts.predictor, "slope", None), intercept, d)
        constants = [self._constant(getattr(experts, name)) for name in experts.constant_names]
        blocks = [gate - gate[..., -1:, :], torch.cat([slope, intercept], -1), *constants]
        gate, expert, *constants = (block.expand(len(self.data.x), -1, -1, -1) for block in blocks)
        raw = Coefficients(gate, expert, constants)
        standard = to_standardized(raw, self.scaling, self.temperature, self.scale_constant)
        return self.project(self.layout.pack(standard))

    def _constant(self, value: Tensor) -> Tensor:
        rows = value.detach().to(self.lower)
        return rows.reshape(-1, 1, rows.shape[-1], 1).expand(-1, 1, self.k, 1)

    def _same_family(self, model: MixtureOfExperts) -> LocationExperts:
        if not isinstance(model.experts, type(self.experts)):
            raise TypeError(f"the model must have {type(self.experts).__name__}, got {type(model.experts).__name__}")
        return model.experts

    def user_coefficients(self, theta: Tensor) -> Coefficients:
        """Coefficients ``(r, s, k, D)`` in the units of the data; the reference expert's gate row is zero."""
        return to_user_units(self.layout.unpack(theta), self.scaling, self.temperature, self.scale_constant)

    def transfer(self, theta: Tensor, source: Objective) -> Tensor:
        """The same user parameters under this data's standardization."""
        theta, source = source.unwrapped(theta)
        if not isinstance(source, LinearObjective):
            raise TypeError(f"source must be a LinearObjective, got {type(source).__name__}")
        user = source.user_coefficients(theta)
        return self.project(
            self.layout.pack(to_standardized(user, self.scaling, self.temperature, self.scale_constant))
        )

    def parameters(self, theta: Tensor, index: int = 0) -> dict[str, Tensor]:
        """Parameters of an unbatched model by name, in the units of data set ``index``."""
        user = self._user_of(theta[None, None], index)
        gate, expert = user.gate[0, 0], user.expert[0, 0]
        values = {"gate.score.bias": gate[:, -1], "experts.predictor.intercept": expert[:, -1]}
        if self.has_gate_weight:
            values["gate.score.weight"] = gate[:, :-1]
        if self.has_slope:
            values["experts.predictor.slope"] = expert[:, :-1]
        for name, constant in zip(self.experts.constant_names, user.constants, strict=True):
            shared = getattr(self.experts, name).shape[-1] == 1
            values[f"experts.{name}"] = constant[0, 0, :1, 0] if shared else constant[0, 0, :, 0]
        return values

    def without_cache(self) -> "LinearObjective":
        """A copy without the stored outer products."""
        twin = copy.copy(self)
        twin.design = copy.copy(self.design)
        return twin

    def on_rows(self, data: Data) -> "LinearObjective":
        """The log-likelihood of other rows in the same parameters: standardized by the moments of these."""
        twin = copy.copy(self)
        x, y, offset = _without_offset(self.experts, data.x, data.y)
        twin.data, twin.n = data, x.shape[1]
        twin.total_weight = x.new_full((x.shape[0],), float(twin.n)) if data.weight is None else data.weight.sum(-1)
        pairs = (2 * self.k - 1) * self.k
        twin.design = Design(x, y, data.weight, self.scaling, pairs, offset, data.units)
        return twin

    def on_sets(self, sets: Tensor) -> "LinearObjective":
        """The log-likelihood of some of the data sets, in the same parameters."""
        twin = copy.copy(self)
        twin.data = self.data.sets(sets)
        twin.scaling = Scaling(*(part[sets] for part in self.scaling))
        twin.layout = self.layout.with_scaling(twin.scaling)
        twin.total_weight = self.total_weight[sets]
        twin.design = self.design.on_sets(sets)
        return twin

    def _user_of(self, theta: Tensor, index: int) -> Coefficients:
        """Coefficients in the units of data set ``index``, of ``theta (1, s, P)``."""
        scaling = Scaling(*(part[index : index + 1] for part in self.scaling))
        return to_user_units(self.layout.unpack(theta), scaling, self.temperature, self.scale_constant)

    def user_map(self) -> UserMap:
        """Gate, slopes and intercepts in the units of the data; constants that are logarithms on their own scale."""

        def user(vectors: Tensor) -> Tensor:
            return self.layout.pack(self._user_of(vectors[None], 0))[0]

        zero = self.lower.new_zeros(self.num_params)
        return make_user_map(self._placed(), user(zero[None])[0], linear_map(user, zero))

    def _placed(self) -> list[tuple[ParameterRecord, Tensor]]:
        """Records with the places of their entries in the vector."""
        block, width = self.k * self.layout.width, self.layout.width
        gate, expert = (self.layout.index[i * block : (i + 1) * block].reshape(self.k, width) for i in (0, 1))
        places = {
            "gate.score.weight": gate[:, :-1],
            "gate.score.bias": gate[:, -1],
            "experts.predictor.slope": expert[:, :-1],
            "experts.predictor.intercept": expert[:, -1],
        }
        for position, name in enumerate(self.experts.constant_names):
            rows = self.layout.constant_positions[position * self.k : (position + 1) * self.k]
            shared = getattr(self.experts, name).shape[-1] == 1
            places[f"experts.{name}"] = self.layout.index[rows[:1] if shared else rows]
        return [(self.records[name], place) for name, place in places.items() if name in self.records]


def is_linear_score(gate: Gate) -> bool:
    """Whether a gate is a softmax of linear or constant scores with a bias, at one fixed temperature."""
    return (
        (has_form(gate.score, LinearScore) or has_form(gate.score, ConstantScore))
        and gate.score.bias is not None
        and has_form(gate.normalizer, Softmax)
        and has_form(gate.temperature, FixedTemperature)
    )


def is_linear_predictor(predictor: object) -> bool:
    """Whether locations are linear in the covariates, or constant."""
    return has_form(predictor, LinearPredictor) or has_form(predictor, ConstantPredictor)


def _without_offset(experts: LocationExperts, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Covariates, response and offset ``(r, n)``, subtracted from the response where that is the same."""
    if not experts.has_offset:
        return x, y, None
    if experts.scale_name is not None:
        return x[..., :-1], y - x[..., -1], None
    return x[..., :-1], y, x[..., -1]


def _temperature(gate: Gate) -> float:
    return float(gate.temperature.value)  # type: ignore[arg-type]


def _block(value: Tensor | None, like: Tensor, d: int) -> Tensor:
    if value is None:
        return like.new_zeros((*like.shape[:-1], d))
    return value.detach().to(like).reshape(-1, 1, like.shape[-2], d)


def _added(total, part):  # type: ignore[no-untyped-def]
    if total is None:
        return part
    added = [a + b for a, b in zip(total, part, strict=True)]
    return type(part)(*added) if hasattr(part, "_fields") else tuple(added)


def _unit_slopes(chunk: Chunk, state: Posterior) -> Tensor:
    """Gradient of each unit's log-likelihood times its weight in the full coefficient vector, ``(b, F)``."""
    own = chunk.of_units(state.responsibilities)
    r, w = (weighted_units(part, chunk)[0, 0] for part in (own, state.weights))
    gate = ((r - w).unsqueeze(1) * chunk.gate_design[0]).flatten(0, 1)
    scores, width = unit_scores(chunk, state.terms)[0, 0], chunk.design.shape[1]  # (k, D + q, b)
    expert, constants = scores[:, :width], scores[:, width:]
    parts = [(r.unsqueeze(1) * expert).flatten(0, 1), *(r * constant for constant in constants.unbind(1))]
    return torch.cat([gate, *parts]).mT
