"""The objective of softmax gates over experts of several linear locations, or of several families."""

import copy
import math

import torch
from torch import Tensor

from mixkit.gates.scores import LinearScore
from mixkit.gates.selections import Dense
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import ParameterRecord, has_form, records_of

from ...data.dataset import Data
from ...optimizers.linalg import solve_ascent
from ...optimizers.objective import Evaluation, Objective, UserMap
from ..floors import lower_bound
from ..packed_symmetric import block_matrix
from ..softmax_gate.blocks import SCORE_NAMES, named_coefficients
from ..softmax_gate.design import Chunk, Design, Scaling
from ..softmax_gate.likelihood import against, times_design, weighted, weighted_units
from ..softmax_gate.likelihood import total as total_of
from ..softmax_gate.objective import is_linear_score
from ..softmax_gate.unit_hessian import score_spread
from ..user_map import make_user_map
from .derivatives import Point, complete_pairs, observed_pairs, slope_rows
from .families import blocks_of, joined
from .row_layout import RowLayout
from .starts import first_rows
from .unit_scores import complete_scores, score_places, unit_gate_slopes, unit_slopes

__all__ = ["MultiLinearObjective"]

_STEPS_FROM_START = 4
_LARGEST_MOVE = 5.0  # in units of standardized covariates, per M-step


class MultiLinearObjective(Objective):
    """Log-likelihood of all data sets and starts at once, in chunks, with exact derivatives by matrix products.

    Everything linear in the covariates is a row of one coefficient matrix ``(g + arguments, D)``: the g = k - 1 free
    gate scores, then the arguments of the experts' densities, block by block
    (:mod:`estimators.objectives.multi_location.families`). Covariates are standardized, responses are not. The
    parameter vector holds the free entries row by row.

    Args:
        model: a model for which :meth:`supports` holds.
        data: observations.
        variance_floor: least squared scale of an expert whose family has a floor, relative to that of its response.
        pinned_columns: covariates ``(d,)`` bool whose coefficients stay zero (constant or collinear ones); of models
            with a pattern coefficients ``(1 + f, k, d)``, those of the gate and of each family.
    """

    def __init__(self, model: MixtureOfExperts, data: Data, *, variance_floor: float, pinned_columns: Tensor) -> None:
        blocks = blocks_of(model.experts)
        if blocks is None:
            raise TypeError(f"model.experts must have linear predictors, got {type(model.experts).__name__}")
        self.data, self.blocks, self.k = data, blocks, model.num_experts
        _, self.n, self.num_features = data.x.shape
        self._score = model.gate.score
        self.records = {record.name: record for record in records_of(model)}
        self.temperature = float(model.gate.temperature.value)  # type: ignore[arg-type]
        self.scaling = Scaling.of(data.x, data.y, data.weight, scale_response=False)
        self.rows = RowLayout.of(model, blocks, pinned_columns, self.num_features)
        if not self.rows.is_plain:
            self.scaling = self.scaling.centered_at_zero(~self.rows.can_shift, data.x)
            self.rows = self.rows.with_known(self._standardized(self.rows.fixed.expand(len(data.x), 1, -1, -1)))
        self.num_scores, self.num_params = self.rows.num_scores, self.rows.num_params
        m = len(self.rows.index)
        size = m * (m + 1) // 2 + 4 * m
        self.design = Design(data.x, data.y, data.weight, self.scaling, size, units=data.units)
        total = data.x.new_full((len(data.x),), float(self.n))
        self.total_weight = total if data.weight is None else data.weight.sum(-1)
        self.lower = self._lower(model, variance_floor)

    @staticmethod
    def supports(model: MixtureOfExperts) -> bool:
        """Whether the model has the form this objective computes."""
        gate = model.gate
        return (
            is_linear_score(gate)
            and has_form(gate.selection, Dense)
            and all(parameter.requires_grad for parameter in gate.parameters())
            and blocks_of(model.experts) is not None
        )

    def _lower(self, model: MixtureOfExperts, variance_floor: float) -> Tensor:
        lower = self.data.y.new_full((self.num_params + 1,), -math.inf)
        for record, place in self._placed():
            lower[place] = lower_bound(record, model, tuple(place.shape), self.data.y, variance_floor)
        return lower[:-1]

    def _placed(self) -> list[tuple[ParameterRecord, Tensor]]:
        """Records with the places of their entries in the vector."""
        places = self.rows.index
        gate = self._gate_rows(places, self.num_params)
        own = named_coefficients(self._score, "gate.score", SCORE_NAMES, gate)
        placed = [(record, own[name]) for name, record in self.records.items() if name in own]
        for block in self.blocks:
            placed += block.placed(places[self.num_scores :][block.rows], self.records)
        return placed

    def _unpack(self, theta: Tensor) -> Tensor:
        """Coefficients ``(r, s, m, D)``, zero where they are not free."""
        return self.rows.unpack(theta)

    def _gate_rows(self, rows: Tensor, reference: float) -> Tensor:
        """The gate's rows ``(k, D)`` among all, the last ``reference`` where it is not among them."""
        gate = rows[: self.num_scores]
        return gate if len(gate) == self.k else torch.cat([gate, rows.new_full((1, rows.shape[-1]), reference)])

    def _arguments(self, coefficients: Tensor, chunk: Chunk) -> tuple[Tensor, list[Tensor]]:
        """Log gate weights ``(r, s, k, b)``, and the arguments of every block's densities ``(r, s, k, a, c)``."""
        g = self.num_scores
        if chunk.units is None:
            rows = times_design(coefficients, chunk.design)
            free, rows = rows[:, :, :g], rows[:, :, g:]
        else:
            free = times_design(coefficients[:, :, :g], chunk.gate_design)
            rows = times_design(coefficients[:, :, g:], chunk.design)
        reference = free.new_zeros((*free.shape[:2], self.k - g, free.shape[-1]))
        scores = torch.cat([free, reference], 2)
        parts = []
        for block in self.blocks:
            own = rows[:, :, block.rows]
            parts.append(own.reshape(*own.shape[:2], block.k, block.num_arguments, own.shape[-1]))
        return torch.log_softmax(scores, 2), parts

    def _log_joint(self, coefficients: Tensor, chunk: Chunk) -> Tensor:
        log_weights, parts = self._arguments(coefficients, chunk)
        densities = [block.log_density(chunk.y, part) for block, part in zip(self.blocks, parts, strict=True)]
        return log_weights + chunk.pooled(joined(self.blocks, densities))

    def _point(self, coefficients: Tensor, chunk: Chunk, given: Tensor | None = None) -> Point:
        """The E-step at one chunk; ``given`` responsibilities ``(r, s, k, n)`` take the place of its own."""
        log_weights, parts = self._arguments(coefficients, chunk)
        terms = [block.terms(chunk.y, part) for block, part in zip(self.blocks, parts, strict=True)]
        joint = log_weights + chunk.pooled(joined(self.blocks, [term.log_prob for term in terms]))
        log_prob = torch.logsumexp(joint, 2)
        own = torch.exp(joint - log_prob.unsqueeze(2)) if given is None else None
        resp = given[..., chunk.rows] if own is None else chunk.on_rows(own)  # type: ignore[index]
        return Point(log_prob, log_weights.exp(), resp, terms, self.num_scores)

    def _slopes(self, point: Point) -> tuple[Tensor, Tensor]:
        """Rows ``r_j, r_j f_j'``, and first derivatives in all predictors, ``(r, s, m, c)`` each."""
        rows = slope_rows(point, self.blocks)
        gradient = rows.clone()
        gradient[:, :, : self.num_scores] -= point.weights[:, :, : self.num_scores]
        return rows, gradient

    def value(self, theta: Tensor) -> Tensor:
        """Total log-likelihood ``(r, s)``."""
        coefficients, total = self._unpack(theta), theta.new_zeros(theta.shape[:2])
        for chunk in self.design.chunks():
            total += total_of(torch.logsumexp(self._log_joint(coefficients, chunk), 2), chunk)
        return total

    def evaluate(self, theta: Tensor) -> Evaluation:
        """Log-likelihood with exact gradient and Hessian."""
        if self.data.units is not None:
            return self._complete(theta, None, with_spread=True)
        coefficients = self._unpack(theta)
        value, gradient = theta.new_zeros(theta.shape[:2]), torch.zeros_like(coefficients)
        pairs = theta.new_zeros(())
        for chunk in self.design.chunks():
            point = self._point(coefficients, chunk)
            rows, slopes = self._slopes(point)
            value += total_of(point.log_prob, chunk)
            gradient += against(weighted(slopes, chunk), chunk.design.mT)
            pairs = pairs + against(weighted(observed_pairs(point, self.blocks, rows), chunk), chunk.outer)
        hessian = block_matrix(pairs, len(self.rows.index), self.design.width)
        return Evaluation(value, self.rows.pull_gradient(gradient), self.rows.pull_hessian(hessian))

    def complete(self, theta: Tensor, given: Tensor | None = None) -> Evaluation:
        """Log-likelihood and gradient, with the Hessian of the complete data: that of an M-step's objective."""
        return self._complete(theta, given)

    def _complete(self, theta: Tensor, given: Tensor | None, *, with_spread: bool = False) -> Evaluation:
        """That, or with the covariance of the complete data's scores the Hessian where rows share experts."""
        coefficients = self._unpack(theta)
        value, gradient = theta.new_zeros(theta.shape[:2]), torch.zeros_like(coefficients)
        sums: list[Tensor] = []
        spread = theta.new_zeros(())
        for chunk in self.design.chunks():
            point = self._point(coefficients, chunk, given)
            value += total_of(point.log_prob, chunk)
            gradient += self._gradient(point, chunk)
            own = self._complete_sums(point, chunk)
            sums = [a + b for a, b in zip(sums, own, strict=True)] if sums else own
            if with_spread:
                scores = complete_scores(point, self.blocks, chunk)
                spread = spread + score_spread(chunk, chunk.of_units(point.responsibilities), scores)
        hessian = self._block_diagonal(sums, value)
        if with_spread:
            places = score_places(self.blocks, self.num_scores, self.design.width).to(theta.device)
            hessian = hessian + spread[..., places, :][..., places]
        return Evaluation(value, self.rows.pull_gradient(gradient), self.rows.pull_hessian(hessian))

    def _gradient(self, point: Point, chunk: Chunk) -> Tensor:
        """Of the chunk's log-likelihood in all coefficients, ``(r, s, m, D)``."""
        if chunk.units is None:
            return against(weighted(self._slopes(point)[1], chunk), chunk.design.mT)
        gate, experts = unit_gate_slopes(point, chunk), slope_rows(point, self.blocks)[:, :, self.num_scores :]
        parts = [(weighted_units(gate, chunk), chunk.gate_design), (weighted(experts, chunk), chunk.design)]
        return torch.cat([against(rows, design.mT) for rows, design in parts], 2)

    def _complete_sums(self, point: Point, chunk: Chunk) -> list[Tensor]:
        """The chunk's contribution to the blocks of the complete data's Hessian."""
        parts = complete_pairs(point, self.blocks)
        gate = [against(weighted_units(parts.pop(0), chunk), chunk.gate_outer)] if self.num_scores else []
        return gate + [against(weighted(part, chunk), chunk.outer) for part in parts]

    def _block_diagonal(self, sums: list[Tensor], like: Tensor) -> Tensor:
        width, parts = self.design.width, list(sums)
        size = len(self.rows.index) * width
        hessian = like.new_zeros((*like.shape, size, size))
        place = 0
        if self.num_scores:
            place = self.num_scores * width
            hessian[..., :place, :place] = block_matrix(parts.pop(0), self.num_scores, width)
        for block in (block for block in self.blocks if block.num_arguments):
            packed, own = parts.pop(0).unflatten(2, (block.k, -1)), block.num_arguments * width
            for local in range(block.k):
                at = slice(place, place + own)
                hessian[..., at, at] = block_matrix(packed[:, :, local], block.num_arguments, width)
                place += own
        return hessian

    def scores(self, theta: Tensor) -> Tensor:
        """Gradient of each unit's log-likelihood times its weight, ``(g, P)``, at ``theta (P,)``, data set 0."""
        coefficients = self._unpack(theta.expand(len(self.data.x), 1, -1))
        rows = []
        for chunk in self.design.chunks():
            if chunk.units is not None:
                own = unit_slopes(self._point(coefficients, chunk), self.blocks, chunk)[0, 0]
                rows.append(self.rows.pull_gradient(own.movedim(-1, 0)))
                continue
            slopes = weighted(self._slopes(self._point(coefficients, chunk))[1], chunk)[0, 0]
            rows.append(self.rows.pull_gradient(torch.einsum("mc,dc->cmd", slopes, chunk.design[0])))
        return torch.cat(rows)

    def expected_counts(self, theta: Tensor) -> Tensor:
        """Total responsibility of each expert, ``(r, s, k)``."""
        coefficients, total = self._unpack(theta), theta.new_zeros((*theta.shape[:2], self.k))
        for chunk in self.design.chunks():
            resp = torch.softmax(self._log_joint(coefficients, chunk), 2)
            total += weighted(chunk.on_rows(resp), chunk).sum(-1)
        return total

    def em_step(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The E-step, and one damped Newton step of the gate and of every expert for an M-step."""
        return self._em(theta, None)

    def _em(self, theta: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor]:
        at = self.complete(theta, given)
        step = solve_ascent(at.gradient, at.hessian).clamp(-_LARGEST_MOVE, _LARGEST_MOVE)
        return at.value, self.project(theta + step)

    def damped_m_step(self, theta: Tensor, candidate: Tensor, fraction: float) -> Tensor:
        """Shorten the whole step."""
        return theta + fraction * (candidate - theta)

    def from_responsibilities(self, responsibilities: Tensor) -> Tensor:
        """Weighted regressions of rough locations, then Newton steps with the responsibilities held fixed."""
        theta = self.project(self.rows.pack_means(first_rows(self.design, self.blocks, responsibilities, self.rows)))
        for _ in range(_STEPS_FROM_START):
            _, theta = self._em(theta, responsibilities)
        return theta

    def read(self, model: MixtureOfExperts) -> Tensor:
        """The parameter vectors ``(r, 1, P)`` of a model, one for each data set's units."""
        d, score = self.num_features, model.gate.score
        bias = score.bias.detach().double()  # type: ignore[union-attr]
        weight = score.weight.detach().double() if has_form(score, LinearScore) else bias.new_zeros((self.k, d))
        gate = torch.cat([weight, bias.unsqueeze(-1)], -1) / self.temperature
        blocks = blocks_of(model.experts)
        if blocks is None or [type(b.family) for b in blocks] != [type(b.family) for b in self.blocks]:
            raise TypeError(f"the model must have the experts of the objective, got {type(model.experts).__name__}")
        if self.num_scores < self.k:
            gate = (gate - gate[-1])[:-1]
        raw = torch.cat([gate, *(block.read(d) for block in blocks)])
        return self._packed(raw.to(self.lower)[None, None])

    def _packed(self, rows: Tensor) -> Tensor:
        """The parameter vectors of coefficients ``(r, s, m, D)`` in the units of the data."""
        return self.project(self.rows.pack(self.rows.relative(self._standardized(self.rows.relative(rows)))))

    def _standardized(self, rows: Tensor) -> Tensor:
        """Coefficients ``(r, s, m, D)`` of standardized covariates, from those in the units of the data."""
        mean, std = self.scaling.x_mean[:, None, None], self.scaling.x_std[:, None, None]
        intercept = rows[..., -1:] + (rows[..., :-1] * mean).sum(-1, keepdim=True)
        return torch.cat([rows[..., :-1] * std, intercept], -1)

    def _in_units(self, theta: Tensor, index: int) -> Tensor:
        """Coefficients ``(s, m, D)`` in the units of data set ``index``, of ``theta (s, P)``."""
        rows = self.rows.on_set(index).unpack(theta[None])[0]
        slope = rows[..., :-1] / self.scaling.x_std[index]
        intercept = rows[..., -1:] - (slope * self.scaling.x_mean[index]).sum(-1, keepdim=True)
        user = torch.cat([slope, intercept], -1)
        factor = torch.ones_like(user[..., :1])
        factor[..., : self.num_scores, :] = self.temperature
        return self.rows.relative(factor * user)

    def transfer(self, theta: Tensor, source: Objective) -> Tensor:
        """The same parameters under this data's standardization."""
        theta, source = source.unwrapped(theta)
        if not isinstance(source, MultiLinearObjective):
            raise TypeError(f"source must be a MultiLinearObjective, got {type(source).__name__}")
        rows = torch.stack([source._in_units(vectors, index) for index, vectors in enumerate(theta)])
        rows[:, :, : self.num_scores] /= self.temperature
        return self._packed(rows)

    def parameters(self, theta: Tensor, index: int = 0) -> dict[str, Tensor]:
        """The model's parameters by name at one vector ``(P,)`` of data set ``index``, differentiable in it."""
        rows = self._in_units(theta[None], index)[0]
        gate = self._gate_rows(rows, 0.0)
        values = named_coefficients(self._score, "gate.score", SCORE_NAMES, gate)
        for block in self.blocks:
            values |= block.parameters(rows[self.num_scores :][block.rows])
        return values

    def user_map(self) -> UserMap:
        """Gate, slopes and intercepts in the units of the data; constants that are logarithms on their own scale."""
        size, zero = self.num_params, self.lower.new_zeros(self.num_params)
        basis = torch.cat([zero[None], torch.eye(size, dtype=zero.dtype, device=zero.device)])
        images = self.rows.pack(self._in_units(basis, 0))
        return make_user_map(self._placed(), images[0], (images[1:] - images[:1]).mT)

    def without_cache(self) -> "MultiLinearObjective":
        """A copy without the stored outer products."""
        twin = copy.copy(self)
        twin.design = copy.copy(self.design)
        return twin
