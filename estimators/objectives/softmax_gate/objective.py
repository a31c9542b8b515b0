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
from ..floors import lower_bound
from ..user_map import make_user_map
from .blocks import PREDICTOR_NAMES, SCORE_NAMES, CoefficientRows, named_coefficients, pinned_rows
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
_LEAST_VARIANCE = 1e-12  # of rough locations, from which fits start


class LinearObjective(Objective):
    """Log-likelihood with exact derivatives by matrix products, on standardized data, in chunks.

    Args:
        model: a model for which :meth:`supports` holds.
        x: ``(r, n, d)``.
        y: ``(r, n)``.
        weight: ``(r, n)`` or None.
        units: which rows share an expert, those of a unit together; None where each has its own.
        variance_floor: least variance (squared scale) of an expert, relative to the response's.
        pinned_columns: covariates ``(d,)`` bool whose coefficients stay zero (constant or collinear ones); of models
            with a pattern coefficients ``(2, k, d)``, those of the gate and of the experts.
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
        x, y, offset, observed = _rows_of(experts, x, y)
        names = experts.constant_names
        self.scale_constant = names.index(experts.scale_name) if experts.scale_name else None
        self.temperature = _temperature(model.gate)
        self.records = {record.name: record for record in records_of(model)}
        self._parts = model.gate.score, experts.predictor
        gate, expert = _coefficient_rows(model, pinned_columns, x.shape[2])
        self.scaling = Scaling.of(x, y, weight, scale_response=self.scale_constant is not None)
        if not (gate.is_plain and expert.is_plain):
            self.scaling = self.scaling.centered_at_zero(~(gate.can_shift & expert.can_shift), x)
        shared = [getattr(experts, name).shape[-1] == 1 and self.k > 1 for name in names]
        self.layout = Layout(gate, expert, shared, selection=model.gate.selection, scaling=self.scaling)
        if not self.layout.is_plain:
            self.layout = self.layout.with_known(self._known(gate, expert))
        self.num_params = self.layout.num_params
        pairs = (2 * self.k - 1) * self.k
        self.design = Design(x, observed, weight, self.scaling, pairs, offset, units)
        self.total_weight = x.new_full((x.shape[0],), float(self.n)) if weight is None else weight.sum(-1)
        self.lower = self._lower(model, variance_floor)
        self._step = expert_step(experts)

    def _known(self, gate: CoefficientRows, expert: CoefficientRows) -> Coefficients:
        """Coefficients where those that are free are zero in the units of the data, ``(r, 1, k, D)``."""
        rows = [part.fixed.expand(len(self.data.x), 1, -1, -1) for part in (gate, expert)]
        zero = rows[0].new_zeros((*rows[0].shape[:3], 1))
        raw = Coefficients(rows[0], rows[1], [zero] * len(self.experts.constant_names))
        known = to_standardized(raw, self.scaling, self.temperature, self.scale_constant)
        return known._replace(constants=raw.constants)

    @staticmethod
    def supports(model: MixtureOfExperts) -> bool:
        """Whether the model has the form this objective computes."""
        gate, experts = model.gate, model.experts
        return (
            is_linear_score(gate)
            and gate.selection.reads_scores_alone
            and isinstance(experts, LocationExperts)
            and experts.is_consistent
            and is_linear_predictor(experts.predictor)
            and all(parameter.requires_grad for parameter in model.parameters())
        )

    def _lower(self, model: MixtureOfExperts, variance_floor: float) -> Tensor:
        like = self.data.x
        lower = Coefficients(
            like.new_full((1, 1, self.k, self.layout.width), -math.inf),
            like.new_full((1, 1, self.k, self.layout.width), -math.inf),
            [like.new_full((1, 1, self.k, 1), -math.inf) for _ in self.experts.constant_names],
        )
        for name, constant in zip(self.experts.constant_names, lower.constants, strict=True):
            record = self.records[f"experts.{name}"]
            if record.has_floor and self.scale_constant is not None:  # responses are standardized
                constant.fill_(0.5 * math.log(variance_floor))
            elif record.has_floor:
                constant[0, 0, :, 0] = lower_bound(record, model, (self.k,), self.data.y, variance_floor)
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
        """All zero but for experts whose locations have their own units: weighted means and scales of rough ones."""
        zeros = responsibilities.new_zeros((*responsibilities.shape[:2], self.num_params))
        first = self.layout.unpack(zeros)
        if self.scale_constant is not None:
            return first
        total, mean, square = (zeros.new_zeros((*zeros.shape[:2], self.k)) for _ in range(3))
        for chunk in self.design.chunks():
            rough = self.experts.start_locations(chunk.y)[0]
            rough = rough if chunk.offset is None else rough - chunk.offset
            share = weighted(responsibilities[..., chunk.rows], chunk)
            share, rough = torch.where(rough.isnan(), 0.0, share), rough.nan_to_num(0.0)
            total, mean = total + share.sum(-1), mean + (share * rough).sum(-1)
            square = square + (share * rough.square()).sum(-1)
        total = total.clamp(min=torch.finfo(total.dtype).tiny)
        first.expert[..., -1] = mean / total
        if self.experts.floor_name is not None:
            variance = square / total - (mean / total).square()
            place = self.experts.constant_names.index(self.experts.floor_name)
            first.constants[place][..., 0] = 0.5 * variance.clamp(min=_LEAST_VARIANCE).log()
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
        blocks = [self.layout.relative(gate), torch.cat([slope, intercept], -1), *constants]
        gate, expert, *constants = (block.expand(len(self.data.x), -1, -1, -1) for block in blocks)
        return self._packed(Coefficients(gate, expert, constants))

    def _packed(self, user: Coefficients) -> Tensor:
        """The parameter vectors of coefficients in the units of the data."""
        standard = to_standardized(user, self.scaling, self.temperature, self.scale_constant)
        if not self.layout.is_plain:
            standard = standard._replace(gate=self.layout.relative(standard.gate))
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
        return self._in_units(self.layout, theta, self.scaling)

    def _in_units(self, layout: Layout, theta: Tensor, scaling: Scaling) -> Coefficients:
        user = to_user_units(layout.unpack(theta), scaling, self.temperature, self.scale_constant)
        return user if layout.is_plain else user._replace(gate=layout.relative(user.gate))

    def transfer(self, theta: Tensor, source: Objective) -> Tensor:
        """The same user parameters under this data's standardization."""
        theta, source = source.unwrapped(theta)
        if not isinstance(source, LinearObjective):
            raise TypeError(f"source must be a LinearObjective, got {type(source).__name__}")
        return self._packed(source.user_coefficients(theta))

    def parameters(self, theta: Tensor, index: int = 0) -> dict[str, Tensor]:
        """Parameters of an unbatched model by name, in the units of data set ``index``."""
        user = self._user_of(theta[None, None], index)
        gate, expert = user.gate[0, 0], user.expert[0, 0]
        score, predictor = self._parts
        values = {
            **named_coefficients(score, "gate.score", SCORE_NAMES, gate),
            **named_coefficients(predictor, "experts.predictor", PREDICTOR_NAMES, expert),
        }
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
        x, _, offset, observed = _rows_of(self.experts, data.x, data.y)
        twin.data, twin.n = data, x.shape[1]
        twin.total_weight = x.new_full((x.shape[0],), float(twin.n)) if data.weight is None else data.weight.sum(-1)
        pairs = (2 * self.k - 1) * self.k
        twin.design = Design(x, observed, data.weight, self.scaling, pairs, offset, data.units)
        return twin

    def on_sets(self, sets: Tensor) -> "LinearObjective":
        """The log-likelihood of some of the data sets, in the same parameters."""
        twin = copy.copy(self)
        twin.data = self.data.sets(sets)
        twin.scaling = Scaling(*(part[sets] for part in self.scaling))
        twin.layout = self.layout.on_sets(sets, twin.scaling)
        twin.total_weight = self.total_weight[sets]
        twin.design = self.design.on_sets(sets)
        return twin

    def _user_of(self, theta: Tensor, index: int) -> Coefficients:
        """Coefficients in the units of data set ``index``, of ``theta (1, s, P)``."""
        scaling = Scaling(*(part[index : index + 1] for part in self.scaling))
        layout = self.layout.on_sets(torch.arange(index, index + 1), scaling)
        return self._in_units(layout, theta, scaling)

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
        score, predictor = self._parts
        named = named_coefficients(score, "gate.score", SCORE_NAMES, gate)
        named |= named_coefficients(predictor, "experts.predictor", PREDICTOR_NAMES, expert)
        places = {name: named[name] for name in self.records if name in named}  # in reading order
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


def _rows_of(experts: LocationExperts, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Covariates, response, offset ``(r, n)``, and what densities read of a row.

    The offset is subtracted from the response where that is the same.
    """
    d = x.shape[-1] - len(experts.known_columns)
    offset = x[..., d] if experts.has_offset else None
    if offset is not None and experts.scale_name is not None:
        y, offset = y - offset, None
    return x[..., :d], y, offset, experts.observed(x, y)


def _coefficient_rows(model: MixtureOfExperts, pinned: Tensor, d: int) -> tuple[CoefficientRows, CoefficientRows]:
    """Those of the gate and of the experts, of a model of d covariates."""
    score, predictor = model.gate.score, model.experts.get_submodule("predictor")
    gate, experts = (pinned_rows(pinned, model.num_experts, d, part) for part in (0, 1))
    has_weight, has_slope = has_form(score, LinearScore), has_form(predictor, LinearPredictor)
    k = model.num_experts
    return (
        CoefficientRows.of(score, k, gate, has_slopes=has_weight, is_relative=True),
        CoefficientRows.of(predictor, k, experts, has_slopes=has_slope, is_relative=False),
    )


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
