"""Objectives of standardized covariates and responses, in the parameters of the model of the data as they are.

A search needs covariates and responses of mean near zero and variance near one: from a year, or a dose in thousands, no
start is a good one, and steps of one length suit no parameter. Where a change of units is a change of parameters, the
search sees standardized data, and only what is read of it is in the units of the data, as in the objectives with a
design of their own (:mod:`estimators.objectives.softmax_gate`).
"""

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mixkit import linear_gaussian_experts
from mixkit.experts.predictors import LinearPredictor, Predictor
from mixkit.gates.scores import ModuleScore
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import has_form

from ..data.dataset import Data
from ..objectives.autograd import AutogradObjective
from ..objectives.softmax_gate.design import moments
from ..objectives.softmax_gate.objective import is_linear_predictor
from ..optimizers.newton import Ascent
from ..optimizers.objective import Evaluation, Objective, UserMap
from ..penalties.wrapper import Wrapper
from .module_units import AffineMap, OutputUnits, module_map
from .pattern_units import kept_by_patterns, restore_patterned, shared_response, shared_scale, with_units
from .response_units import ResponseUnits, response_units, restore_spread
from .standardization import Coordinates, restore_coordinates

__all__ = ["StandardizedObjective", "Units"]

_MOST_PARAMETERS = 2000  # for which the map of parameters is a matrix


class Units(NamedTuple):
    """How data sets are standardized: covariates by ``center``, ``scale (r, d)``, the response by its own units."""

    center: Tensor
    scale: Tensor
    response: ResponseUnits

    def data(self, data: Data) -> Data:
        """The data in these units."""
        return Coordinates(self.center, self.scale).data(data)._replace(y=self.response.standardized(data.y))

    @classmethod
    def candidates(cls, model: MixtureOfExperts, data: Data) -> Iterator["Units"]:
        """Units to try, the most standard ones first."""
        zero, one = torch.zeros_like(data.x[:, 0]), torch.ones_like(data.x[:, 0])
        covariates = [(zero, one)]
        known = _gate_coordinates(model, data)
        if known is not None:
            center, scale = known
            covariates = [(center, scale), (zero, scale), (center, one), (zero, one)]
        own = response_units(model.experts, data.y, data.weight)
        none = ResponseUnits.none(data.y)
        responses = [none] if own is None else [own, ResponseUnits(none.mean, own.scale), none]
        allowed = [shared_response(model, response) for response in responses]
        for center, scale in covariates:
            for response in (response for response in allowed if response is not None):
                yield _with_offset(cls(center, scale, response), model)


def _with_offset(units: Units, model: MixtureOfExperts) -> Units:
    """The units with an offset, the first column behind the covariates, in the scale of the response."""
    if not model.has_offset:
        return units
    center, scale = units.center.clone(), units.scale.clone()
    center[:, -model.num_known], scale[:, -model.num_known] = 0.0, units.response.scale
    return units._replace(center=center, scale=scale)


def _gate_coordinates(model: MixtureOfExperts, data: Data) -> tuple[Tensor, Tensor] | None:
    """Center and scale ``(r, d)`` of covariates as far as the gate allows them to change; known columns stay."""
    seen = model.covariates(data.x)
    if isinstance(model.gate.score, ModuleScore):
        center, scale = moments(seen, None, 1)
    else:
        found = Coordinates.of(_with_plain_experts(model, seen.shape[-1]), data._replace(x=seen))
        if found is None:
            return None
        center, scale = found.center, found.scale
    center, scale = kept_by_patterns(model, center, scale)
    if model.gate.score.can_scale or isinstance(model.gate.score, ModuleScore):
        scale = shared_scale(model, scale, moments(seen, None, 1)[1])
    last = center.new_zeros((len(center), model.num_known))
    return torch.cat([center, last], -1), torch.cat([scale, last + 1.0], -1)


def _with_plain_experts(model: MixtureOfExperts, num_features: int) -> MixtureOfExperts:
    """The gate itself, no copy, before experts that allow all changes of coordinates."""
    settings = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(0)}
    experts = linear_gaussian_experts(num_features, model.num_experts, **settings)  # type: ignore[arg-type]
    return MixtureOfExperts(model.gate, experts)


class _Restorer:
    """Makes models of standardized data of one data set models of the data themselves.

    Attributes:
        is_possible: whether the model's parts can make up for the change of units.
    """

    def __init__(self, model: MixtureOfExperts, data: Data, units: Units, index: int) -> None:
        one = slice(index, index + 1)
        x, z = data.x[index], units.data(data).x[index]
        self.units = Units(units.center[one], units.scale[one], ResponseUnits(*(part[one] for part in units.response)))
        self.num_known = model.num_known
        response = self.units.response
        plain = OutputUnits(torch.zeros_like(response.mean[0]), torch.ones_like(response.scale[0]))
        self.maps: dict[str, AffineMap | None] = {}
        if isinstance(model.gate.score, ModuleScore):
            seen, near = (model.covariates(part.unsqueeze(0))[0] for part in (x, z))
            same = OutputUnits(x.new_zeros(()), x.new_ones(()))
            self.maps["gate.score"] = module_map(model.gate.score, seen, near, same)
        for name, part in model.experts.named_modules():
            if isinstance(part, Predictor) and not is_linear_predictor(part):
                own = OutputUnits(response.mean[0], response.scale[0]) if name == "predictor" else plain
                self.maps[f"experts.{name}"] = module_map(part, x, z, own)
        frozen = [part for part in _linear_predictors(model) if not all(p.requires_grad for p in part.parameters())]
        self.is_possible = not frozen and all(found is not None for found in self.maps.values())

    @torch.no_grad()
    def restore(self, model: MixtureOfExperts) -> None:
        """Change a model in place."""
        units = self.units
        for name, found in self.maps.items():
            if found is not None:
                _apply(found, model.get_submodule(name))
        if "gate.score" not in self.maps:
            d = units.center.shape[-1] - self.num_known
            restore_coordinates(_with_plain_experts(model, d), units.center[0, :d], units.scale[0, :d])
        for part in _linear_predictors(model):
            _restore_linear(part, units, is_response=part is getattr(model.experts, "predictor", None))
        restore_spread(model.experts, units.response.scale[0])


def _apply(found: AffineMap, module: nn.Module) -> None:
    parameters = list(module.parameters())
    vector = nn.utils.parameters_to_vector(parameters)
    nn.utils.vector_to_parameters(found.matrix.to(vector) @ vector + found.offset.to(vector), parameters)


def _linear_predictors(model: MixtureOfExperts) -> list[Predictor]:
    return [part for part in model.experts.modules() if isinstance(part, Predictor) and is_linear_predictor(part)]


def _restore_linear(part: Predictor, units: Units, *, is_response: bool) -> None:
    """Slopes and intercepts of standardized covariates in place as those of the data; of the response too."""
    if isinstance(part, LinearPredictor) and part.pattern is not None:
        d, response = part.num_features, (units.response.mean[0], units.response.scale[0])
        restore_patterned(part, units.center[0, :d], units.scale[0, :d], response if is_response else None)
        return
    intercept = part.get_parameter("intercept")
    if is_response:
        mean, scale = units.response.mean[0], units.response.scale[0]
        intercept.mul_(scale).add_(mean)
    if has_form(part, LinearPredictor):
        center, width = units.center[0, : part.num_features], units.scale[0, : part.num_features]
        if is_response:
            part.slope.mul_(scale.unsqueeze(-1) if scale.ndim else scale)
        part.slope.div_(width)
        intercept.sub_(part.slope @ center)


class StandardizedObjective(Wrapper):
    """The log-likelihood of the data, as a function of the parameters of a model of standardized data.

    Args:
        base: the log-likelihood of standardized data.
        data: the data themselves.
        units: how they are standardized.
        matrix: ``(r, P, P)``: parameters of the model are ``matrix @ theta + offset``.
        offset: ``(r, P)``.
    """

    base: AutogradObjective

    def __init__(self, base: AutogradObjective, data: Data, units: Units, matrix: Tensor, offset: Tensor) -> None:
        super().__init__(base)
        self.data, self.matrix, self.offset = data, matrix, offset
        logs = units.response.scale.log()
        self._log_jacobian = -self.total_weight * (logs if logs.ndim == 1 else logs.sum(-1))

    @classmethod
    def of(cls, model: MixtureOfExperts, data: Data, variance_floor: float, whole: AutogradObjective) -> Objective:
        """That of a model, in the most standard units that its parts can make up for; ``whole`` if in none."""
        if not 0 < whole.num_params <= _MOST_PARAMETERS:
            return whole
        double = copy.deepcopy(model).to(torch.float64).eval()
        for units in Units.candidates(double, data):
            restorers = [_Restorer(double, data, units, index) for index in range(len(data.x))]
            if all(restorer.is_possible for restorer in restorers):
                near = with_units(model, units.scale[0], units.response.scale[0])
                base = type(whole)(near, units.data(data), variance_floor=variance_floor)
                maps = [_vector_map(base, double, restorer) for restorer in restorers]
                matrix, offset = (torch.stack(parts) for parts in zip(*maps, strict=True))
                return cls(base, data, units, matrix, offset)
        return whole

    def raw(self, theta: Tensor) -> Tensor:
        """Parameters of models of the data themselves, of ``theta (r, s, P)``."""
        return theta @ self.matrix.mT + self.offset.unsqueeze(1)

    def standard(self, raw: Tensor) -> Tensor:
        """The inverse of :meth:`raw`."""
        return torch.linalg.solve(self.matrix, (raw - self.offset.unsqueeze(1)).mT).mT

    def value(self, theta: Tensor) -> Tensor:
        """Total log-likelihood ``(r, s)``."""
        return self.base.value(theta) + self._log_jacobian.unsqueeze(-1)

    def log_likelihood(self, theta: Tensor) -> Tensor:
        """Total log-likelihood ``(r, s)``."""
        return self.value(theta)

    def evaluate(self, theta: Tensor) -> Evaluation:
        """Log-likelihood with gradient and Hessian."""
        at = self.base.evaluate(theta)
        return at._replace(value=at.value + self._log_jacobian.unsqueeze(-1))

    def em_step(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The wrapped objective's."""
        value, candidate = self.base.em_step(theta)
        return value + self._log_jacobian.unsqueeze(-1), candidate

    def climb(self, theta: Tensor, max_iter: int) -> Ascent:
        """L-BFGS on the log-likelihood, for models too large for Hessians."""
        end = self.base.climb(theta, max_iter)
        value = end.value + self._log_jacobian.unsqueeze(-1)
        return end._replace(value=value, evaluation=end.evaluation._replace(value=value))

    def total(self, vector: Tensor, index: int) -> Tensor:
        """Log-likelihood of data set ``index`` at one vector, differentiable in it."""
        return self.base.total(vector, index) + self._log_jacobian[index]

    def read(self, model: MixtureOfExperts) -> Tensor:
        """The parameter vectors ``(r, 1, P)`` of a model, one for each data set's units."""
        raw = self.base.read(model)
        return self.project(self.standard(raw.expand(len(self.data.x), -1, -1)))

    def parameters(self, theta: Tensor, index: int = 0) -> dict[str, Tensor]:
        """The model's parameters by name, in the units of data set ``index``."""
        place = index if len(self.matrix) > 1 else 0
        return self.base.parameters(self.matrix[place] @ theta + self.offset[place], index)

    def transfer(self, theta: Tensor, source: Objective) -> Tensor:
        """The same parameters of models, in these units."""
        theta, source = source.unwrapped(theta)
        raw = source.raw(theta) if isinstance(source, StandardizedObjective) else theta
        return self.project(self.standard(raw))

    def unwrapped(self, theta: Tensor) -> tuple[Tensor, Objective]:
        """The vectors and this objective: a change of units is no penalty."""
        return theta, self

    def user_map(self) -> UserMap:
        """That of the wrapped objective after the change of units."""
        own = self.base.user_map()
        matrix = self.matrix[0] if own.matrix is None else own.matrix @ self.matrix[0]
        return own._replace(matrix=matrix, offset=own.linear(self.offset[0]))


def _vector_map(base: AutogradObjective, model: MixtureOfExperts, restorer: _Restorer) -> tuple[Tensor, Tensor]:
    """Matrix ``(P, P)`` and offset ``(P,)`` of what a restorer does to parameter vectors, found on a basis."""
    basis = torch.cat([base.lower.new_zeros((1, base.num_params)), torch.eye(base.num_params).to(base.lower)])
    images, scratch = [], copy.deepcopy(model)
    for vector in basis:
        base.vector.write(vector, scratch)
        restorer.restore(scratch)
        images.append(base.vector.read(scratch))
    found = torch.stack(images)
    return (found[1:] - found[:1]).mT, found[0]
